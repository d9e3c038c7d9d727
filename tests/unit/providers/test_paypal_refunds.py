"""Which capture a refund at PayPal is of: one that has enough left by all that is known, or none."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.errors import Precondition, Reason
from gateway.domain.movements import MovementKind
from gateway.domain.payments import CaptureMethod, Payment
from providers.paypal import requests
from providers.paypal.answers import Done, read_answer
from tests.unit.providers.paypal_objects import HOLD, REFERENCE, REFUND, mapping, order, part, payment, received

LATER = replace(REFERENCE, operation_id="op_9", command_id="cmd_9", idempotency_key="key-9")


def given(value: str, capture_id: str = "") -> dict[str, Any]:
    """A refund made in the dashboard, of a capture that it names or not."""
    href = f"https://api-m.paypal.com/v2/payments/captures/{capture_id}"
    links = [{"href": href, "rel": "up", "method": "GET"}] if capture_id else []
    return part(f"R{value}{capture_id}", "COMPLETED", value, links=links)


def taken(*refunds: dict[str, Any]) -> Payment:
    """Six and four dollars captured of ten, with these refunds."""
    captures = [
        part("A", "COMPLETED", "6.00", invoice_id="op_2"),
        part("B", "COMPLETED", "4.00", invoice_id="op_3", final_capture=True),
    ]
    told = order(intent="AUTHORIZE", authorizations=[part(HOLD, "CAPTURED")], captures=captures, refunds=[*refunds])
    return payment(mapping().snapshot(told), capture_method=CaptureMethod.MANUAL)


def refunded_from(of: Payment, amount_minor: int) -> str:
    """The capture that a refund is asked of."""
    return requests.refund(LATER, of, amount_minor, "").path.split("/")[-2]


def most(of: Payment, amount_minor: int) -> str:
    """What the refusal of a refund names."""
    with pytest.raises(Precondition) as refused:
        requests.refund(LATER, of, amount_minor, "")
    assert refused.value.reason is Reason.AMOUNT_EXCEEDS_REFUNDABLE
    return refused.value.details["available_minor"]


def test_what_was_given_back_of_a_capture_is_not_there_any_more() -> None:
    """Five of the six are gone: four come from the other one, one from the first, and five from neither."""
    of = taken(given("5.00", "A"))
    assert (refunded_from(of, 400), refunded_from(of, 100)) == ("B", "A")
    assert most(of, 500) == "400"


def test_a_refund_of_an_unknown_capture_counts_against_each() -> None:
    """Three dollars of one or the other: of the six three may be left, of the four one."""
    of = taken(given("3.00"))
    assert (refunded_from(of, 300), refunded_from(of, 100)) == ("A", "B")
    assert most(of, 400) == "300"


def test_what_is_reserved_counts_against_each() -> None:
    """A refund under way may be of either."""
    of = replace(taken(), reserved_refund_minor=300)
    assert refunded_from(of, 300) == "A"
    assert most(of, 400) == "300"
    assert most(replace(of, reserved_refund_minor=900), 1) == "0"


def test_the_answer_says_which_capture_it_was_of() -> None:
    """By the request: the order that is read after it may lag."""
    asked = requests.refund(LATER, taken(), 400, "")
    done = read_answer(received(201, part(REFUND, "COMPLETED", "4.00", invoice_id="op_9")), asked, mapping())
    assert isinstance(done, Done)
    assert done.movement is not None
    assert (done.movement.kind, done.movement.parent_id) == (MovementKind.REFUND, "B")
