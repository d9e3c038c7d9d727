"""What an event is about: which object to fetch, and nothing else of its body."""

import json
from typing import Any

import pytest

from providers.paypal.events import FAMILIES, SUBSCRIBED, interpret


@pytest.mark.parametrize(
    ("event_type", "resource", "wanted"),
    [
        ("CHECKOUT.ORDER.APPROVED", {"id": "ORDER1"}, "ORDER1"),
        ("PAYMENT.AUTHORIZATION.VOIDED", {"id": "HOLD1"}, "authorization:HOLD1"),
        (
            "PAYMENT.CAPTURE.COMPLETED",
            {"id": "CAP1", "supplementary_data": {"related_ids": {"order_id": "ORDER1"}}},
            "ORDER1",
        ),
        ("PAYMENT.CAPTURE.DENIED", {"id": "CAP1", "links": []}, "capture:CAP1"),
        (
            "PAYMENT.CAPTURE.REFUNDED",
            {"id": "REF1", "links": [{"rel": "up", "href": "https://api.paypal.com/v2/payments/captures/CAP1"}]},
            "refund:REF1",
        ),
        ("PAYMENT.REFUND.PENDING", {"id": "REF1"}, "refund:REF1"),
        ("CUSTOMER.DISPUTE.CREATED", {"dispute_id": "PP-D-1"}, "dispute:PP-D-1"),
        ("BILLING.SUBSCRIPTION.ACTIVATED", {"id": "I-1"}, None),
        ("PAYMENT.SALE.COMPLETED", {"id": "SALE1"}, None),
    ],
)
def test_each_family_leads_to_its_object(event_type: str, resource: dict[str, Any], wanted: str | None) -> None:
    """An order by its id, what belongs to one by its kind, subscriptions to nothing yet."""
    body = json.dumps({"id": "WH-1", "event_type": event_type, "resource": resource}).encode()
    hint = interpret(body)
    assert (hint.provider_payment_id, hint.known_type) == (wanted, True)


def test_an_unknown_family_is_kept_and_an_odd_id_is_not_an_event() -> None:
    """A new type is acknowledged; an id that would not be one in a path is refused."""
    assert interpret(json.dumps({"id": "W", "event_type": "VAULT.NEW", "resource": {}}).encode()).known_type is False
    for odd in ("../x", "a/b", "", "x" * 65, "a b"):
        body = json.dumps({"id": "W", "event_type": "CHECKOUT.ORDER.APPROVED", "resource": {"id": odd}}).encode()
        with pytest.raises(ValueError, match="id"):
            interpret(body)
    assert all(each.startswith(tuple(FAMILIES)) for each in SUBSCRIBED)
