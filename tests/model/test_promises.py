"""Every run of the engine's model keeps its promises, and each rule is what one of them hangs on."""

import pytest

from gateway.app.settings import EngineSettings
from gateway.domain.states import CommandState
from providers.sandbox.capabilities import CAPABILITIES
from tests.model.built import not_built
from tests.model.machine import Obol
from tests.model.rules import PLACES, Assumption, Rule
from tests.model.scenarios import (
    BOTH_CAPTURE_GUARDS_OFF,
    CREATE,
    HOLD_ALL_THE_SAME,
    REFUND_60_60,
    SECOND_BELTS,
    TRACE_STEPS_MAX,
    WORLDS,
    Scenario,
    dropped,
    switched_off,
)
from tests.model.search import search
from tests.model.state import Bounds, Outcome, Phase, State

MODELLED = sorted(
    set(CommandState) - {CommandState.PENDING, CommandState.REQUIRES_ACTION, CommandState.REVERSED}, key=str
)
MISSED = [rule for rule in Rule if rule not in SECOND_BELTS]


@pytest.mark.parametrize("name", WORLDS)
def test_no_run_breaks_a_promise_and_every_run_can_end(name: str) -> None:
    """With every rule on, no state within the bounds is wrong, and from each an end can be reached without faults."""
    found = Scenario(WORLDS[name]).search()
    assert not found.complaint, "\n".join((*found.trace, found.complaint))


def test_what_is_built_keeps_the_promises() -> None:
    """With the rules that the code keeps today, no run breaks a promise."""
    missing = not_built()
    found = Scenario(CREATE, missing).search()
    assert not found.complaint, "\n".join((f"not built: {', '.join(missing)}", *found.trace, found.complaint))


@pytest.mark.parametrize("rule", MISSED, ids=[rule.name for rule in MISSED])
def test_each_rule_is_missed_when_it_is_off(rule: Rule) -> None:
    """Without the rule a short run breaks a promise, or cannot end."""
    found = switched_off(rule).search()
    assert found.complaint
    assert len(found.trace) <= TRACE_STEPS_MAX


@pytest.mark.parametrize("rule", SECOND_BELTS, ids=[rule.name for rule in SECOND_BELTS])
def test_a_second_belt_is_not_missed_while_the_first_holds(rule: Rule) -> None:
    """Without the rule nothing is found: docs/model.md says what carries its weight, and why it stays."""
    assert not switched_off(rule).search().complaint


def test_captures_need_one_of_their_two_guards() -> None:
    """Without exclusion and without reservation two captures of 60 take 120 of 100."""
    assert BOTH_CAPTURE_GUARDS_OFF.search().complaint == "OVER-CAPTURE: 120 of 100"


@pytest.mark.parametrize("assumption", Assumption, ids=[assumption.name for assumption in Assumption])
def test_each_assumption_is_one(assumption: Assumption) -> None:
    """In a world where the assumption does not hold, the rules alone do not keep the promises."""
    found = dropped(assumption).search()
    assert found.complaint
    assert len(found.trace) <= TRACE_STEPS_MAX


@pytest.mark.parametrize("name", HOLD_ALL_THE_SAME)
def test_what_makes_up_for_a_broken_rule(name: str) -> None:
    """A caller may break its rule where nothing of its is out, or its order is unique; a sure look makes up for age."""
    found = HOLD_ALL_THE_SAME[name].search()
    assert not found.complaint, "\n".join((*found.trace, found.complaint))


@pytest.mark.parametrize("state", MODELLED)
def test_the_model_reaches_every_state_that_it_has(state: CommandState) -> None:
    """A search that finds nothing has looked at commands in every state, so that it is not empty."""

    class Reaching(Obol):
        def wrong(self, at: State) -> str:
            return "reached" if at.rows[0].state is state else ""

    assert search(Reaching(CREATE), live=False).complaint == "reached"


@pytest.mark.parametrize("outcome", Outcome)
def test_the_model_reaches_every_outcome(outcome: Outcome) -> None:
    """Every outcome of a send and of a look is met by a process that holds the operation, of a resend where it can."""

    class Reaching(Obol):
        def wrong(self, at: State) -> str:
            met = any(
                worker.phase is Phase.ANSWERED
                and worker.holds
                and worker.outcome is outcome
                and worker.resend is resend
                for worker in at.workers
            )
            return "reached" if met else ""

    resend = outcome not in (Outcome.FOUND, Outcome.NEVER_EXECUTED, Outcome.NOTHING)
    assert search(Reaching(CREATE), live=False).complaint == "reached"


def test_likeness_hides_nothing() -> None:
    """Interchangeable processes and forgotten leftovers change the number of states, not the findings."""

    class Raw(Obol):
        def plain(self, state: State) -> State:
            return state

        def likeness(self, state: State) -> State:
            return state

    bounds = Bounds(commands=1)
    assert not search(Raw(bounds)).complaint
    assert search(Raw(bounds, {Rule.START_RESEND_LEASE})).complaint
    assert search(Raw(REFUND_60_60, {Rule.RESERVATION})).complaint


def test_every_rule_has_its_place() -> None:
    """Each rule of the model names where the code keeps it."""
    assert PLACES.keys() == set(Rule)


def test_the_margin_is_longer_than_a_resend_can_take() -> None:
    """By the real settings a resend that starts in time lands while the provider still knows the key."""
    settings = EngineSettings()
    lease_s = settings.lease_s + 2 * (settings.provider_timeout_s + settings.admission_wait_s)
    flight_s = CAPABILITIES.flight_s_max + settings.provider_timeout_s
    assert lease_s + settings.send_window_s + flight_s < settings.key_window_margin_s
