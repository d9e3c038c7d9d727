"""How facts come to be: strategies over few keys, so that views of one fact meet, repeat and contradict in rank.

A history is a list of what a provider showed, each a `Facts`. Whatever it holds, its merge is what is known.
"""

from collections.abc import Iterable
from functools import reduce

from hypothesis import strategies as st

from gateway.domain.declines import Decline, DeclineReason
from gateway.domain.movements import (
    RANKS,
    Attempt,
    AttemptStatus,
    Closure,
    Facts,
    Movement,
    MovementKind,
    MovementStatus,
    ProviderObject,
)
from gateway.domain.risk import RiskLevel, RiskSignal
from gateway.domain.states import COMMAND_EDGES, CommandState

ACCOUNT = "acct_1"
OBJECTS = st.sampled_from(["obj_1", "obj_2"])
OPERATIONS = st.sampled_from([None, "op_1", "op_2"])
RISKS = [None, RiskSignal(RiskLevel.NORMAL), RiskSignal(RiskLevel.NORMAL, 7), RiskSignal(RiskLevel.HIGHEST, 5)]

STATUSES = {
    kind: [status for status in MovementStatus if (kind, status) in RANKS]  # in the enum's order, not in rank
    for kind in MovementKind
}


@st.composite
def movements(draw: st.DrawFn, kinds: Iterable[MovementKind] = tuple(MovementKind)) -> Movement:
    """A movement under one of few keys, at any status of its kind."""
    kind = draw(st.sampled_from(list(kinds)))
    return Movement(
        account_id=ACCOUNT,
        kind=kind,
        provider_movement_id=draw(st.sampled_from(["mov_1", "mov_2"])),
        amount_minor=draw(st.sampled_from([0, 40, 60, 100])),
        currency="USD",
        status=draw(st.sampled_from(STATUSES[kind])),
        operation_id=draw(OPERATIONS),
        provider_time_us=draw(st.sampled_from([None, 0, 5])),
        reason=draw(st.sampled_from(["", "requested"])),
        parent_id=draw(st.sampled_from([None, "mov_1", "mov_2"])),
    )


def holds() -> st.SearchStrategy[Movement]:
    """One of few holds, with any parent among them, or one that nobody has seen."""
    return st.builds(
        Movement,
        st.just(ACCOUNT),
        st.just(MovementKind.AUTHORIZATION),
        st.sampled_from("abcd"),
        st.sampled_from([40, 100]),
        st.just("USD"),
        st.sampled_from(STATUSES[MovementKind.AUTHORIZATION]),
        parent_id=st.sampled_from([None, *"abcdz"]),
    )


@st.composite
def attempts(draw: st.DrawFn) -> Attempt:
    """A try to confirm one of two objects."""
    return Attempt(
        account_id=ACCOUNT,
        provider_payment_id=draw(OBJECTS),
        ordinal=draw(st.integers(1, 3)),
        status=draw(st.sampled_from(AttemptStatus)),
        operation_id=draw(OPERATIONS),
        decline=draw(st.sampled_from([None, Decline(DeclineReason.DECLINED), Decline(DeclineReason.LIMIT_EXCEEDED)])),
        risk=draw(st.sampled_from(RISKS)),
    )


def objects() -> st.SearchStrategy[ProviderObject]:
    """One of two provider objects, open or closed."""
    return st.builds(ProviderObject, st.just(ACCOUNT), OBJECTS, st.sampled_from(Closure))


def snapshots() -> st.SearchStrategy[Facts]:
    """What a provider shows at one moment: any few facts."""
    return st.builds(
        lambda *facts: Facts().merge(Facts(*facts)),
        st.lists(movements(), max_size=3).map(tuple),
        st.lists(attempts(), max_size=2).map(tuple),
        st.lists(objects(), max_size=2).map(tuple),
    )


def histories(*, max_size: int = 5) -> st.SearchStrategy[list[Facts]]:
    """What was seen, in some order."""
    return st.lists(snapshots(), min_size=1, max_size=max_size)


def known_after(history: Iterable[Facts]) -> Facts:
    """All that a history tells."""
    return reduce(Facts.merge, history, Facts())


@st.composite
def entries(draw: st.DrawFn) -> list[list[CommandState]]:
    """How the states of a create and its confirms go on, step by step: only legal edges, one new command at a time."""
    steps: list[list[CommandState]] = [[CommandState.SENDING]]
    for _ in range(draw(st.integers(0, 5))):
        now = list(steps[-1])
        place = draw(st.integers(0, len(now)))
        if place == len(now):
            now.append(CommandState.SENDING)
        elif onward := sorted(COMMAND_EDGES[now[place]]):
            now[place] = draw(st.sampled_from(onward))
        steps.append(now)
    return steps
