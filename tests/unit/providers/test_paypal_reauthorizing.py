"""Re-authorization at PayPal: a new authorization in the former one's place, and ours only by the answer to our key."""

from dataclasses import replace

import pytest

from gateway.app.verdicts import classify
from gateway.domain.commands import CommandKind, Operation
from gateway.domain.errors import Sent
from gateway.domain.movements import Closure, Facts, MovementKind, MovementStatus
from gateway.domain.payments import CaptureMethod
from gateway.domain.providers import Ambiguous, Declined
from gateway.domain.states import CommandState, PaymentState
from providers.paypal import requests
from providers.paypal.answers import Done, read_answer
from tests.unit.providers.paypal_objects import (
    ACCOUNT,
    HOLD,
    REFERENCE,
    dollars,
    error,
    mapping,
    order,
    part,
    payment,
    received,
)

MANUAL = {"capture_method": CaptureMethod.MANUAL}
HELD = payment(mapping().snapshot(order(intent="AUTHORIZE", authorizations=[part(HOLD, "CREATED")])), **MANUAL)
LATER = replace(REFERENCE, operation_id="op_2", command_id="cmd_2", idempotency_key="key-2")
RAISING = requests.adjust(LATER, HELD, 1_150)
NEWER = part("NEWER", "CREATED", "11.50")


def adjusting(sent: Sent) -> Operation:
    """The re-authorization's operation, while it is under way."""
    return Operation(
        operation_id=LATER.operation_id,
        tenant_id="t1",
        command_id=LATER.command_id,
        step=1,
        payment_id=LATER.payment_id,
        kind=CommandKind.ADJUST,
        provider="paypal",
        account_id=ACCOUNT,
        amount_minor=1_150,
        currency="USD",
        prepared=RAISING,
        state=CommandState.SENDING,
        sent=sent,
        epoch=0,
        claimed_time_us=0,
        lease_until_us=None,
        next_attempt_us=None,
    )


def test_the_answer_is_an_authorization_of_ours_in_the_former_ones_place() -> None:
    """It has the create's invoice id, and is our operation's all the same."""
    done = read_answer(received(201, NEWER), RAISING, mapping())
    assert isinstance(done, Done)
    made = done.movement
    assert made is not None
    assert (made.kind, made.amount_minor) == (MovementKind.AUTHORIZATION, 1_150)
    assert (made.operation_id, made.parent_id) == ("op_2", HOLD)


@pytest.mark.parametrize("told", [part("NEWER", "CREATED", "10.00"), part(HOLD, "CREATED", "11.50")])
def test_an_answer_about_something_else_is_unknown(told: dict[str, object]) -> None:
    """Another amount, or the very authorization that was there."""
    outcome = read_answer(received(201, told), RAISING, mapping())
    assert isinstance(outcome, Ambiguous)
    assert outcome.contradicts


@pytest.mark.parametrize("issue", ["REAUTHORIZATION_NOT_SUPPORTED", "AUTHORIZATION_VOIDED", "TRANSACTION_REFUSED"])
def test_a_refusal_is_definite_of_the_first_send_alone(issue: str) -> None:
    """A hold is re-authorized once: a second send may be refused because the first took effect, its answer lost."""
    outcome = read_answer(received(422, error("UNPROCESSABLE_ENTITY", issue)), RAISING, mapping())
    assert isinstance(outcome, Declined)
    terms = HELD.terms
    first = classify(adjusting(Sent.NO), terms, outcome, resend=False)
    assert (first.state, first.decline) == (CommandState.FAILED, outcome.decline)
    again = classify(adjusting(Sent.MAYBE), terms, outcome, resend=True)
    assert (again.state, again.decline) == (CommandState.UNKNOWN, None)


@pytest.mark.parametrize("former", ["CREATED", "VOIDED", "CAPTURED"])
def test_one_authorization_counts_whatever_paypal_calls_the_former(former: str) -> None:
    """And whose the new one is, the order does not say: it keeps no reference of ours with it."""
    seen = mapping().snapshot(order(intent="AUTHORIZE", authorizations=[part(HOLD, former), NEWER]))
    assert {m.provider_movement_id: m.operation_id for m in seen.facts.movements} == {HOLD: "op_1", "NEWER": None}
    after = payment(seen, **MANUAL)
    assert (after.state, after.sums.authorized_minor, after.capturable_minor) == (PaymentState.AUTHORIZED, 1_150, 1_150)
    assert "/NEWER/" in requests.capture(LATER, after, 1_150, True).path
    assert "/NEWER/" in requests.cancel(LATER, after, "").path


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("former", ["CREATED", "VOIDED"])
def test_authorizations_follow_each_other_by_their_times_in_whatever_order_they_are_listed(
    former: str, newest_first: bool
) -> None:
    """PayPal documents no order of the list: the first made is the create's, and the last made is what is held."""
    listed = [part(HOLD, former), part("NEWER", "CREATED", "11.50", create_time="2026-03-05T10:00:00Z")]
    seen = mapping().snapshot(order(intent="AUTHORIZE", authorizations=listed[::-1] if newest_first else listed))
    told = {m.provider_movement_id: (m.operation_id, m.parent_id, m.status) for m in seen.facts.movements}
    assert told == {
        HOLD: ("op_1", None, MovementStatus.RELEASED),
        "NEWER": (None, HOLD, MovementStatus.SUCCEEDED),
    }
    assert seen.facts.objects[0].closure is Closure.OPEN
    done = read_answer(received(201, listed[1]), RAISING, mapping())
    assert isinstance(done, Done)
    assert done.movement is not None
    after = payment(replace(seen, facts=seen.facts.merge(Facts((done.movement,)))), **MANUAL)
    assert (after.state, after.capturable_minor) == (PaymentState.AUTHORIZED, 1_150)
    assert "/NEWER/" in requests.capture(LATER, after, 1_150, True).path


@pytest.mark.parametrize("newest_first", [False, True])
def test_the_last_made_authorization_says_whether_an_order_is_closed(newest_first: bool) -> None:
    """One that was voided when another took its place says nothing, wherever it stands in the list."""
    listed = [part(HOLD, "CREATED"), part("NEWER", "VOIDED", "11.50", create_time="2026-03-05T10:00:00Z")]
    seen = mapping().snapshot(order(intent="AUTHORIZE", authorizations=listed[::-1] if newest_first else listed))
    assert seen.facts.objects[0].closure is Closure.CANCELLED


def test_an_authorization_without_a_time_keeps_its_place_in_the_list() -> None:
    """PayPal leaves times out of short representations: where one is missing, the list's order is all that is told."""
    untimed = {name: value for name, value in part(HOLD, "VOIDED").items() if name != "create_time"}
    later = part("NEWER", "CREATED", "11.50", create_time="2026-03-05T10:00:00Z")
    for listed in ([untimed, later], [part(HOLD, "VOIDED"), {**later, "create_time": None}]):
        seen = mapping().snapshot(order(intent="AUTHORIZE", authorizations=listed))
        assert {m.provider_movement_id: m.parent_id for m in seen.facts.movements} == {HOLD: None, "NEWER": HOLD}


def amount_of(unit_amount: str, *authorizations: dict[str, object]) -> int:
    """What a snapshot tells as the order's own amount, in cents."""
    shown = order(intent="AUTHORIZE", authorizations=list(authorizations))
    shown["purchase_units"][0]["amount"] = dollars(unit_amount)
    return mapping().snapshot(shown).amount_minor


def test_an_order_that_tells_the_reauthorized_total_is_no_mismatch() -> None:
    """Whether PayPal raises the order's own amount it does not say: then what was asked for is the first hold's."""
    former = part(HOLD, "VOIDED")
    assert amount_of("10.00", former, NEWER) == amount_of("11.50", former, NEWER) == 1_000


def test_any_other_amount_of_an_order_stays_what_it_is() -> None:
    """Not that of what is held; one hold alone; a re-authorization that was never given; one in another currency."""
    former = part(HOLD, "VOIDED")
    assert amount_of("12.00", former, NEWER) == 1_200
    assert amount_of("11.50", NEWER) == 1_150
    for status in ("DENIED", "PENDING"):
        assert amount_of("11.50", part(HOLD, "CREATED"), part("NEWER", status, "11.50")) == 1_150
    foreign = part(HOLD, "VOIDED", amount={"currency_code": "EUR", "value": "10.00"})
    assert amount_of("11.50", foreign, NEWER) == 1_150


@pytest.mark.parametrize("status", ["DENIED", "PENDING"])
def test_one_that_was_not_given_takes_nobodys_place(status: str) -> None:
    """What is held is held still, and is what a capture is of."""
    seen = mapping().snapshot(
        order(intent="AUTHORIZE", authorizations=[part(HOLD, "CREATED"), part("NEWER", status, "11.50")])
    )
    after = payment(seen, **MANUAL)
    assert (after.state, after.capturable_minor) == (PaymentState.AUTHORIZED, 1_000)
    assert f"/{HOLD}/" in requests.capture(LATER, after, 1_000, True).path


@pytest.mark.parametrize("former", ["CREATED", "VOIDED"])
def test_the_order_is_closed_once_the_last_authorization_is_voided(former: str) -> None:
    """The former one's status says nothing of that."""
    seen = mapping().snapshot(
        order(intent="AUTHORIZE", authorizations=[part(HOLD, former), part("NEWER", "VOIDED", "11.50")])
    )
    assert seen.facts.objects[0].closure is Closure.CANCELLED
    assert payment(seen, **MANUAL).state is PaymentState.CANCELLED


def test_an_order_that_lags_behind_the_answer_does_not_count_twice() -> None:
    """The answer shows the new authorization, the order as it is read still shows the former alone."""
    done = read_answer(received(201, NEWER), RAISING, mapping())
    assert isinstance(done, Done)
    assert done.movement is not None
    facts = HELD.facts.merge(replace(HELD.facts, movements=(done.movement,)))
    assert [m.amount_minor for m in facts.standing()] == [1_150]
    assert facts.total_minor(MovementKind.AUTHORIZATION, MovementStatus.SUCCEEDED) == 2_150


def test_the_request_names_the_total_alone() -> None:
    """PayPal takes nothing else with it."""
    assert RAISING.path == f"/v2/payments/authorizations/{HOLD}/reauthorize"
    assert dollars("11.50") == {"currency_code": "USD", "value": "11.50"}
    assert RAISING.body == '{"amount":{"currency_code":"USD","value":"11.50"}}'
