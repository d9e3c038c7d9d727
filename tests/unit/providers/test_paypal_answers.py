"""PayPal's answers, row by row: every status, every issue; nothing that is not understood is a decline."""

import json
from dataclasses import replace

import pytest

from gateway.domain.declines import DeclineReason
from gateway.domain.movements import MovementKind, MovementStatus
from gateway.domain.payments import CaptureMethod
from gateway.domain.providers import Ambiguous, Answered, Declined, NotExecuted, NotSent
from providers.http import Lost, NeverSent
from providers.paypal import requests
from providers.paypal.answers import Done, read_answer
from providers.paypal.declines import ISSUES, PROCESSOR_CODES, UNSETTLED
from providers.refusals import LATE
from tests.paypal_documents import DOCUMENTS, MISSING
from tests.unit.providers.paypal_objects import (
    CAPTURE,
    HOLD,
    REFERENCE,
    REFUND,
    Unmapped,
    create,
    dollars,
    error,
    mapping,
    order,
    part,
    payment,
    received,
)

HELD = payment(
    mapping().snapshot(order(intent="AUTHORIZE", authorizations=[part(HOLD, "CREATED")])),
    capture_method=CaptureMethod.MANUAL,
)
TAKEN = payment(mapping().snapshot(order(captures=[part(CAPTURE, "COMPLETED")])))
LATER = replace(REFERENCE, operation_id="op_2", command_id="cmd_2", idempotency_key="key-2")
REFUNDING = requests.refund(LATER, TAKEN, 400, "late")
CAPTURING = requests.capture(LATER, HELD, 600, True)
VOIDING = requests.cancel(LATER, HELD, "")

NOT_OFFERED = {
    "PLATFORM_FEE_EXCEEDED": "platform fees are not asked for",
    "PLATFORM_FEE_NOT_ENABLED": "platform fees are not asked for",
}
"""Documented issues of the Payments API that no request of ours can bring, each with the reason."""


@pytest.mark.parametrize("issue", sorted(ISSUES))
def test_each_issue_is_the_decline_that_the_table_says(issue: str) -> None:
    """A definite no with its reason and advice, PayPal's own words, and none of it counted as unmapped."""
    unmapped = Unmapped()
    outcome = read_answer(received(422, error("UNPROCESSABLE_ENTITY", issue)), REFUNDING, mapping(unmapped))
    assert isinstance(outcome, Declined)
    assert (outcome.decline.reason, outcome.decline.advice) == ISSUES[issue]
    assert (outcome.decline.provider_code, outcome.decline.provider_message) == (issue, "words")
    assert outcome.of_key
    assert unmapped == []


@pytest.mark.parametrize("issue", sorted(UNSETTLED))
@pytest.mark.parametrize("status", [400, 409, 422])
def test_an_issue_that_settles_nothing_is_no_decline(issue: str, status: int) -> None:
    """It was done before, perhaps by us, or is being done: UNKNOWN, until the order is looked at."""
    names = {400: "INVALID_REQUEST", 409: "RESOURCE_CONFLICT", 422: "UNPROCESSABLE_ENTITY"}
    outcome = read_answer(received(status, error(names[status], issue)), create(), mapping())
    assert isinstance(outcome, Ambiguous)
    assert issue in outcome.failure


def test_an_unknown_issue_is_a_decline_and_counted() -> None:
    """UNMAPPED, with PayPal's own code."""
    unmapped = Unmapped()
    outcome = read_answer(received(422, error("UNPROCESSABLE_ENTITY", "NEW_ISSUE")), create(), mapping(unmapped))
    assert isinstance(outcome, Declined)
    assert outcome.decline.reason is DeclineReason.UNMAPPED
    assert unmapped == [("decline", "NEW_ISSUE")]


def test_every_documented_issue_of_payments_is_mapped() -> None:
    """What PayPal documents for captures, voids and refunds is in a table, or on a list with the reason."""
    path = DOCUMENTS / "payments_payment_v2.json"
    if not path.exists():
        pytest.skip(MISSING)
    found: set[str] = set()

    def walk(value: object) -> None:
        if isinstance(value, dict):
            issue = value.get("issue")
            if isinstance(issue, dict):
                found.update(issue.get("enum", ()))
            for each in value.values():
                walk(each)
        elif isinstance(value, list):
            for each in value:
                walk(each)

    schemas = json.loads(path.read_text())["components"]["schemas"]
    walk({name: schema for name, schema in schemas.items() if name.endswith(("422", "400", "409", "404"))})
    assert len(found) > 40
    assert found - ISSUES.keys() - UNSETTLED.keys() == NOT_OFFERED.keys()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, error("AUTHENTICATION_FAILURE"), NotExecuted),
        (403, error("NOT_AUTHORIZED", "PERMISSION_DENIED"), NotExecuted),
        (404, error("RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID"), Declined),
        (409, error("RESOURCE_CONFLICT", "SOMETHING_ELSE"), Ambiguous),
        (422, error("A_PROXYS_NAME"), Ambiguous),
        (422, ["no object"], Ambiguous),
        (429, error("RATE_LIMIT_REACHED"), NotExecuted),
        (500, error("INTERNAL_SERVER_ERROR"), Ambiguous),
        (502, "<html>", Ambiguous),
        (503, error("SERVICE_UNAVAILABLE"), Ambiguous),
        (504, {}, Ambiguous),
        (200, {"id": "X"}, Ambiguous),
        (204, {}, Ambiguous),
        (302, {}, Ambiguous),
        (418, {}, Ambiguous),
    ],
)
def test_each_status_is_what_the_table_says(status: int, body: object, kind: type) -> None:
    """Credentials, permission and rate are not executed; what is not understood is unknown."""
    assert isinstance(read_answer(received(status, body), create(), mapping()), kind)


def test_a_missing_object_is_no_answer_of_the_key() -> None:
    """An account that was pointed elsewhere does not know what it did before."""
    outcome = read_answer(received(404, error("RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID")), REFUNDING, mapping())
    assert isinstance(outcome, Declined)
    assert not outcome.of_key


def test_a_void_has_no_key() -> None:
    """PayPal keeps no request id of voids: on a resend its no says nothing of the first send."""
    outcome = read_answer(received(422, error("UNPROCESSABLE_ENTITY", "PREVIOUSLY_CAPTURED")), VOIDING, mapping())
    assert isinstance(outcome, Declined)
    assert not outcome.of_key


def test_what_was_not_sent_or_lost_says_so() -> None:
    """The wire's own values pass through; a late one is nobody's fault but ours."""
    late = read_answer(NeverSent("send_before has passed", late=True), create(), mapping())
    assert isinstance(late, NotSent)
    assert late.failure.startswith(LATE)
    assert read_answer(NeverSent("no route"), create(), mapping()) == NotSent("no route")
    assert read_answer(Lost("reset"), create(), mapping()) == Ambiguous("reset")


@pytest.mark.parametrize("changed", ["id", "amount", "currency"])
def test_an_answer_about_something_else_contradicts(changed: str) -> None:
    """Another payment's reference, another amount, another currency: quarantined, never believed."""
    told = order("PAYER_ACTION_REQUIRED")
    unit = told["purchase_units"][0]
    if changed == "id":
        unit["custom_id"] = "pay_2.op_1.cmd_1"
    elif changed == "amount":
        unit["amount"] = dollars("10.01")
    else:
        unit["amount"] = {"currency_code": "EUR", "value": "10.00"}
    outcome = read_answer(received(201, told), create(), mapping())
    assert isinstance(outcome, Ambiguous)
    assert outcome.contradicts


def test_another_merchants_order_contradicts() -> None:
    """With a merchant id configured, an order of somebody else is refused."""
    told = order("PAYER_ACTION_REQUIRED")
    told["purchase_units"][0]["payee"] = {"merchant_id": "SOMEBODYELSE2"}
    outcome = read_answer(received(201, told), create(), mapping(merchant_id="MERCHANTSJM22"))
    assert isinstance(outcome, Ambiguous)
    assert outcome.contradicts


@pytest.mark.parametrize("code", sorted(PROCESSOR_CODES))
def test_each_processors_code_is_the_decline_that_the_table_says(code: str) -> None:
    """A card that its processor refuses: answered with an order whose attempt failed, and why."""
    refused = part(CAPTURE, "DECLINED", processor_response={"response_code": code})
    outcome = read_answer(received(201, order(captures=[refused])), create(), mapping())
    assert isinstance(outcome, Answered)
    (attempt,) = outcome.snapshot.facts.attempts
    assert attempt.decline is not None
    assert (attempt.decline.reason, attempt.decline.advice) == PROCESSOR_CODES[code]


def test_a_capture_and_a_refund_are_read_with_their_operation() -> None:
    """The part that was made, by our operation; its order is read next."""
    for prepared, told, kind in (
        (CAPTURING, part(CAPTURE, "COMPLETED", "6.00", invoice_id="op_2"), MovementKind.CAPTURE),
        (REFUNDING, part(REFUND, "PENDING", "4.00", invoice_id="op_2"), MovementKind.REFUND),
    ):
        done = read_answer(received(201, told), prepared, mapping())
        assert isinstance(done, Done)
        assert done.movement is not None
        assert (done.movement.kind, done.movement.operation_id) == (kind, "op_2")


def test_a_part_of_another_amount_or_operation_contradicts() -> None:
    """The answer has to be about what was asked."""
    for told in (
        part(REFUND, "COMPLETED", "4.01", invoice_id="op_2"),
        part(REFUND, "COMPLETED", "4.00", invoice_id="op_9"),
        part(REFUND, "COMPLETED", "4.00", amount={"currency_code": "EUR", "value": "4.00"}, invoice_id="op_2"),
    ):
        outcome = read_answer(received(201, told), REFUNDING, mapping())
        assert isinstance(outcome, Ambiguous)
        assert outcome.contradicts


def test_a_part_whose_status_nobody_knows_is_unmapped() -> None:
    """Done, with what no table has: UNKNOWN and counted."""
    unmapped = Unmapped()
    told = part(REFUND, "DANCING", "4.00", invoice_id="op_2")
    done = read_answer(received(201, told), REFUNDING, mapping(unmapped))
    assert isinstance(done, Done)
    assert (done.movement, done.unmapped) == (None, ("refund.status=DANCING",))
    assert unmapped == [("refund.status", "DANCING")]


def test_a_void_is_read_with_a_body_and_without() -> None:
    """200 with the authorization, or 204 with nothing."""
    done = read_answer(received(200, part(HOLD, "VOIDED")), VOIDING, mapping())
    assert isinstance(done, Done)
    assert done.movement is not None
    assert done.movement.status is MovementStatus.RELEASED
    assert read_answer(received(204, {}), VOIDING, mapping()) == Done(done.asked, None)
