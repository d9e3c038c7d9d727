"""States are data: every pair of every table is either an edge or refused, and facts can only take edges."""

from enum import StrEnum
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.derivation import derive_dispute_state, derive_payment_state
from gateway.domain.movements import Facts, Movement, MovementKind
from gateway.domain.states import (
    COMMAND_EDGES,
    DISPUTE_EDGES,
    FINAL_COMMAND_STATES,
    LIVE_COMMAND_STATES,
    PAYMENT_EDGES,
    RESERVING_STATES,
    CommandState,
    DisputeState,
    IllegalTransition,
    PaymentState,
    check_edge,
)
from tests.unit.domain.growth import entries, known_after, movements, snapshots

TABLES = [(CommandState, COMMAND_EDGES), (PaymentState, PAYMENT_EDGES), (DisputeState, DISPUTE_EDGES)]
C, P = CommandState, PaymentState
MONEY = {P.PARTIALLY_CAPTURED, P.CAPTURED, P.PARTIALLY_REFUNDED, P.REFUNDED}


def is_legal(before: StrEnum, after: StrEnum) -> bool:
    """Whether the edge is taken without complaint."""
    try:
        check_edge(before, after)
    except IllegalTransition:
        return False
    return True


def test_every_pair_of_every_table_is_an_edge_or_refused() -> None:
    """Every state has its row, staying is legal, and what the row does not have is refused."""
    for states, edges in TABLES:
        assert set(edges) == set(states)
        for before, after in product(states, states):
            assert is_legal(before, after) == (before is after or after in edges[before]), f"{before} -> {after}"


def test_states_of_two_axes_do_not_mix() -> None:
    """A command's FAILED is not a payment's FAILED."""
    for (one, _), (other, _) in product(TABLES, TABLES):
        if one is not other:
            assert not any(is_legal(before, after) for before, after in product(one, other))


@pytest.mark.parametrize(
    ("before", "onward"),
    [
        (C.SENDING, {C.SUCCEEDED, C.FAILED, C.PENDING, C.REQUIRES_ACTION, C.UNKNOWN, C.NOT_SENT}),
        (C.UNKNOWN, {C.SUCCEEDED, C.FAILED, C.PENDING, C.REQUIRES_ACTION}),
        (C.PENDING, {C.SUCCEEDED, C.FAILED, C.REQUIRES_ACTION}),
        (C.REQUIRES_ACTION, {C.SUCCEEDED, C.FAILED, C.PENDING}),
        (C.FAILED, {C.SUCCEEDED}),
        (C.SUCCEEDED, {C.REVERSED}),
        (C.NOT_SENT, {C.SENDING, C.SUCCEEDED, C.FAILED, C.PENDING, C.REQUIRES_ACTION}),
        (C.REVERSED, set()),
    ],
)
def test_a_command_goes_on_as_published(before: CommandState, onward: set[CommandState]) -> None:
    """UNKNOWN is never forgotten as NOT_SENT, FAILED rises on evidence alone, a success is only ever reversed."""
    assert {after for after in CommandState if after is not before and is_legal(before, after)} == onward


def test_a_payment_that_held_or_moved_money_is_never_new_again() -> None:
    """Nothing returns to CREATED that AUTHORIZED or captured."""
    assert not any(is_legal(before, P.CREATED) for before in MONEY | {P.AUTHORIZED})


def test_money_is_never_refused() -> None:
    """Evidence of captured money is legal from every state, also after CANCELLED, EXPIRED and FAILED."""
    assert all(is_legal(before, after) for before, after in product(PaymentState, MONEY - {P.PARTIALLY_CAPTURED}))


def test_final_live_and_reserving_states_do_not_overlap() -> None:
    """What has its reply has no next attempt, and only what may be at the provider without a movement reserves."""
    assert not FINAL_COMMAND_STATES & LIVE_COMMAND_STATES
    assert RESERVING_STATES < LIVE_COMMAND_STATES
    assert set(CommandState) - FINAL_COMMAND_STATES - LIVE_COMMAND_STATES == {C.NOT_SENT}
    assert {C.SUCCEEDED, C.FAILED, C.REVERSED} == FINAL_COMMAND_STATES


@given(grown=st.lists(snapshots(), min_size=1, max_size=6), entry=entries(), data=st.data())
def test_growing_facts_take_only_legal_edges(
    grown: list[Facts], entry: list[list[CommandState]], data: st.DataObject
) -> None:
    """Facts and commands that go on, in any interleaving, never ask for an edge that settling would refuse."""
    facts, asked = Facts(), 0
    state, dispute = derive_payment_state(facts, entry[0]), derive_dispute_state(facts)
    assert (state, dispute) == (P.CREATED, DisputeState.NONE)
    for seen in grown:
        facts = facts.merge(seen)
        asked = min(len(entry) - 1, asked + data.draw(st.integers(0, 2), label="commands go on by"))
        after, dispute_after = derive_payment_state(facts, entry[asked]), derive_dispute_state(facts)
        check_edge(state, after)
        check_edge(dispute, dispute_after)
        state, dispute = after, dispute_after


@given(disputes=st.lists(movements([MovementKind.DISPUTE]), min_size=1, max_size=6))
def test_disputes_side_by_side_take_only_legal_edges(disputes: list[Movement]) -> None:
    """Two disputes of one payment, each going its way, never ask for an edge that is not there."""
    dispute = DisputeState.NONE
    for known in (known_after(Facts((m,)) for m in disputes[: n + 1]) for n in range(len(disputes))):
        after = derive_dispute_state(known)
        check_edge(dispute, after)
        dispute = after
