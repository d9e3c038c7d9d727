"""A failover pays once in every run, and each of its rules is what one run hangs on."""

import pytest

from gateway.domain.states import CommandState
from tests.model.failover import FailoverRule, Place, TwoProviders, World
from tests.model.search import search

SECOND_BELT = FailoverRule.NOT_AFTER_UNKNOWN
MISSED = [rule for rule in FailoverRule if rule is not SECOND_BELT]


def test_no_run_of_a_failover_pays_twice_and_every_run_can_end() -> None:
    """With every rule on: at most one effect for the intent, and an end within reach from everywhere."""
    found = search(TwoProviders())
    assert not found.complaint, "\n".join((*found.trace, found.complaint))
    assert found.states > 50


@pytest.mark.parametrize("rule", MISSED, ids=[rule.name for rule in MISSED])
def test_each_rule_of_a_failover_is_missed_when_it_is_off(rule: FailoverRule) -> None:
    """Without it a short run pays at both."""
    found = search(TwoProviders({rule}), live=False)
    assert found.complaint == "DOUBLE EFFECT: one intent, paid 2 times", rule
    assert len(found.trace) <= 12


def test_what_a_caller_was_told_is_a_second_belt() -> None:
    """A confirmed cancellation makes it safe also after UNKNOWN; the rule keeps the word that the caller was given."""
    assert not search(TwoProviders({SECOND_BELT}), live=False).complaint


@pytest.mark.parametrize("how", ["after NOT_SENT", "after a cancelled decline"])
def test_the_model_reaches_the_second_provider(how: str) -> None:
    """A search that finds nothing has been there both ways."""

    class Reaching(TwoProviders):
        def wrong(self, state: World) -> str:
            cancelled = state.book is Place.CANCELLED
            there = any(each.state is CommandState.SUCCEEDED for each in state.seconds)
            return "reached" if there and cancelled == (how == "after a cancelled decline") else ""

    assert search(Reaching(), live=False).complaint == "reached"
