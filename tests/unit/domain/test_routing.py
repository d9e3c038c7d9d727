"""Rules choose: the same for the same question, by the first that matches, and only what can take the payment."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.modes import ProviderMode
from gateway.domain.providers import AccountHealth, Capabilities
from gateway.domain.routes import ATTEMPTS_KEPT_MAX, AttemptOutcome, FailoverOn, Route
from gateway.domain.routing import (
    Feature,
    Question,
    RoutingRule,
    Standing,
    _covers,
    choose,
    matches,
    problems_of,
)

ABLE = Capabilities(
    provider="paper",
    currencies=frozenset({"EUR", "USD"}),
    capture_methods=frozenset({"AUTOMATIC", "MANUAL"}),
    confirmation_methods=frozenset({"AUTOMATIC", "MANUAL"}),
    partial_capture=True,
    multiple_capture=True,
    refunds=True,
    partial_refund=True,
    key_window_s=1,
    absence_is_consistent=True,
    flight_s_max=1,
    amount_minor_max=1_000_000,
)
QUESTION = Question("acme", "EUR", 1_000, "card_ok", "DE", "AUTOMATIC", "AUTOMATIC", "acme/order/1")
NAMES = ("a", "b", "c")
STANDINGS = {name: Standing(name, ABLE) for name in NAMES}


def rule(**told: Any) -> RoutingRule:
    """A rule over three accounts."""
    return RoutingRule(**{"name": "r", "accounts": NAMES, **told})


def chosen(
    rules: list[RoutingRule], question: Question = QUESTION, changed: dict[str, Standing] | None = None
) -> tuple[str, ...]:
    """The candidates, in order."""
    route = choose(rules, question, STANDINGS | (changed or {}))
    return () if route is None else route.candidates


@pytest.mark.parametrize(
    ("condition", "fits"),
    [
        ({}, True),
        ({"tenants": frozenset({"acme"})}, True),
        ({"tenants": frozenset({"other"})}, False),
        ({"currencies": frozenset({"USD"})}, False),
        ({"amount_minor_min": 1_000}, True),
        ({"amount_minor_min": 1_001}, False),
        ({"amount_minor_max": 1_000}, True),
        ({"amount_minor_max": 999}, False),
        ({"payment_methods": ("pm_*", "card_*")}, True),
        ({"payment_methods": ("pm_*",)}, False),
        ({"payer_countries": frozenset({"DE", "AT"})}, True),
        ({"payer_countries": frozenset({"FR"})}, False),
        ({"tenants": frozenset({"acme"}), "currencies": frozenset({"USD"})}, False),
    ],
)
def test_every_condition_must_hold(condition: dict[str, Any], fits: bool) -> None:
    """Each by itself, and together."""
    assert matches(rule(**condition), QUESTION) is fits


def test_the_first_rule_that_matches_decides() -> None:
    """Also where its accounts cannot: another rule is another commercial decision."""
    first = rule(name="first", accounts=("b",))
    assert chosen([rule(name="usd", currencies=frozenset({"USD"})), first, rule(name="rest")]) == ("b",)
    drained = {"b": replace(STANDINGS["b"], mode=ProviderMode.DRAINING)}
    assert chosen([first, rule(name="rest")], changed=drained) == ()
    assert choose([rule(tenants=frozenset({"other"}))], QUESTION, STANDINGS) is None


@pytest.mark.parametrize(
    ("standing", "why"),
    [
        (Standing("a", ABLE, mode=ProviderMode.DRAINING), "its mode is DRAINING"),
        (Standing("a", ABLE, mode=ProviderMode.MAINTENANCE), "its mode is MAINTENANCE"),
        (Standing("a", replace(ABLE, currencies=frozenset({"USD"}))), "it takes no EUR"),
        (Standing("a", replace(ABLE, capture_methods=frozenset({"MANUAL"}))), "it offers no AUTOMATIC capture"),
        (Standing("a", replace(ABLE, confirmation_methods=frozenset())), "it offers no AUTOMATIC confirmation"),
        (Standing("a", replace(ABLE, amount_minor_max=999)), "it takes at most 999 minor units"),
        (Standing("a", replace(ABLE, multiple_capture=False)), "it lacks MULTIPLE_CAPTURE"),
    ],
)
def test_who_cannot_take_it_is_left_out_and_told(standing: Standing, why: str) -> None:
    """With the reason, in words that a timeline shows."""
    route = choose([rule(requires=frozenset({Feature.MULTIPLE_CAPTURE}))], QUESTION, STANDINGS | {"a": standing})
    assert route is not None
    assert (route.candidates, route.why[1]) == (("b", "c"), f"a is left out: {why}")


def test_an_open_breaker_holds_an_account_back_and_not_out() -> None:
    """Where nobody else is left it is asked all the same: it refuses by itself, or has come back."""
    opened = {name: replace(STANDINGS[name], health=AccountHealth.OPEN) for name in NAMES}
    assert chosen([rule()], changed={"a": opened["a"]}) == ("b", "c", "a")
    assert chosen([rule()], changed=opened) == NAMES


seeds = st.text(max_size=30)
weights = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 100), min_size=3).filter(lambda w: sum(w.values()) > 0)


@given(seed=seeds, weights=weights)
def test_a_repeat_chooses_the_same(seed: str, weights: dict[str, int]) -> None:
    """Every account once, in an order that depends on the seed and the rule alone; a weight of nothing comes last."""
    question = replace(QUESTION, seed=seed)
    order = chosen([rule(weights=weights)], question)
    assert order == chosen([rule(weights=dict(reversed(weights.items())))], question)
    assert sorted(order) == sorted(NAMES)
    positive = [name for name in order if weights[name]]
    assert list(order[: len(positive)]) == positive


@given(seed=seeds, weights=weights, gone=st.sampled_from(NAMES))
def test_who_is_left_out_moves_nobody_else(seed: str, weights: dict[str, int], gone: str) -> None:
    """Draining one account changes the choice of no payment that another account had."""
    question, drained = replace(QUESTION, seed=seed), replace(STANDINGS[gone], mode=ProviderMode.DRAINING)
    before = [name for name in chosen([rule(weights=weights)], question) if name != gone]
    assert list(chosen([rule(weights=weights)], question, {gone: drained})) == before


def test_weights_are_kept_over_many_payments() -> None:
    """Of 10,000 orders each account is first about as often as its weight says."""
    weighted = rule(weights={"a": 70, "b": 30, "c": 0})
    first = Counter(chosen([weighted], replace(QUESTION, seed=f"acme/order/{n}"))[0] for n in range(10_000))
    assert abs(first["a"] - 7_000) < 200
    assert first["c"] == 0


# Checked at the start

ACCOUNTS = frozenset(NAMES)


@pytest.mark.parametrize(
    ("broken", "at", "said"),
    [
        (rule(accounts=()), "routing.rules[0].accounts", "is empty"),
        (rule(accounts=("a", "nowhere")), "routing.rules[0].accounts", "no [providers.nowhere]"),
        (rule(accounts=("a", "a")), "routing.rules[0].accounts", "twice"),
        (rule(accounts=tuple(f"a{n}" for n in range(9))), "routing.rules[0].accounts", "at most 8"),
        (rule(weights={"a": 1, "b": 1}), "routing.rules[0].weights", "c has none"),
        (rule(weights={"a": 0, "b": 0, "c": 0}), "routing.rules[0].weights", "sum to nothing"),
        (rule(weights={"a": -1, "b": 2, "c": 0}), "routing.rules[0].weights", "0 or more"),
        (rule(weights={"a": 1, "b": 1, "c": 1, "d": 1}), "routing.rules[0].weights", "not among"),
        (rule(amount_minor_min=5), "routing.rules[0].currencies", "one currency"),
        (
            rule(amount_minor_min=5, amount_minor_max=4, currencies=frozenset({"EUR"})),
            "routing.rules[0].amount_minor_min",
            "no amount is both",
        ),
        (rule(payer_countries=frozenset({"Germany"})), "routing.rules[0].payer_countries", "ISO 3166-1"),
    ],
)
def test_each_problem_names_its_setting_and_the_way_out(broken: RoutingRule, at: str, said: str) -> None:
    """One line each, beginning with the setting."""
    told = [line for line in problems_of([broken], ACCOUNTS) if line.startswith(f"{at}: ")]
    assert any(said in line for line in told), list(problems_of([broken], ACCOUNTS))


def test_sound_rules_have_no_problem() -> None:
    """Narrow before wide, each with a name of its own."""
    narrow = rule(name="narrow", currencies=frozenset({"EUR"}), amount_minor_min=5, weights={"a": 1, "b": 1, "c": 0})
    assert list(problems_of([narrow, rule(name="wide")], ACCOUNTS)) == []


def test_a_rule_that_is_never_reached_is_told() -> None:
    """And so are two rules of one name."""
    wide, narrow = rule(name="wide"), rule(name="narrow", currencies=frozenset({"EUR"}))
    (told,) = problems_of([wide, narrow], ACCOUNTS)
    assert told.startswith("routing.rules[1]: is never reached, since rule 'wide'")
    names = [line for line in problems_of([narrow, replace(wide, name="narrow")], ACCOUNTS) if ".name: " in line]
    assert len(names) == 1


sets = st.frozensets(st.sampled_from(["x", "y", "z"]), max_size=2)
bounds = st.none() | st.integers(1, 4)
rules = st.builds(
    RoutingRule,
    name=st.just("r"),
    accounts=st.just(NAMES),
    tenants=sets,
    currencies=sets,
    amount_minor_min=bounds,
    amount_minor_max=bounds,
    payment_methods=st.lists(st.sampled_from(["x", "y", "x*", "*"]), max_size=2).map(tuple),
    payer_countries=sets,
)
questions = st.builds(
    Question,
    tenant_id=st.sampled_from("xyz"),
    currency=st.sampled_from("xyz"),
    amount_minor=st.integers(1, 5),
    payment_method=st.sampled_from(["x", "y", "xx"]),
    payer_country=st.sampled_from(["x", "y", "z", ""]),
    capture_method=st.just("AUTOMATIC"),
    confirmation_method=st.just("AUTOMATIC"),
    seed=st.just("s"),
)


@given(rules, rules, questions)
def test_never_reached_is_never_said_wrongly(wide: RoutingRule, narrow: RoutingRule, question: Question) -> None:
    """Where one rule is held to cover another, it matches whatever the other one does."""
    if _covers(wide, narrow) and matches(narrow, question):
        assert matches(wide, question)


# The route that is kept


def test_a_route_is_bounded_and_never_forgets_whom_it_left() -> None:
    """However often it was tried, its attempts are the last ones, and its accounts left are all of them."""
    route = Route("r", ("why",), NAMES, frozenset(FailoverOn), attempts_max=3).declined_by("a", "DECLINED", 0)
    for number in range(3 * ATTEMPTS_KEPT_MAX):
        route = route.ended_at("b", AttemptOutcome.NOT_SENT, "x" * 999, number)
    assert (len(route.attempts), route.left) == (ATTEMPTS_KEPT_MAX, ("a",))
    assert all(len(each.detail) <= 200 for each in route.attempts)


@pytest.mark.parametrize(
    ("on", "most", "tried", "goes_to"),
    [
        (FailoverOn.SOFT_DECLINE, 3, {"a"}, "b"),
        (FailoverOn.SOFT_DECLINE, 3, {"a", "b"}, "c"),
        (FailoverOn.SOFT_DECLINE, 2, {"a", "b"}, None),
        (FailoverOn.SOFT_DECLINE, 3, set(NAMES), None),
        (FailoverOn.NOT_SENT, 3, {"a"}, None),
    ],
)
def test_the_next_account_is_within_the_rule(on: FailoverOn, most: int, tried: set[str], goes_to: str | None) -> None:
    """Only after what the rule names, to as many accounts as it says, and to none twice."""
    route = Route("r", (), NAMES, frozenset({FailoverOn.SOFT_DECLINE}), attempts_max=most)
    assert route.next_account(on, tried) == goes_to
