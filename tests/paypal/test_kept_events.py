"""PayPal's events of what the gateway does not know yet: verified, kept as they came, acknowledged, to be replayed."""

import json
from pathlib import Path

from obol.v1 import operations_pb2 as ops
from tests.databases import sqlite_url
from tests.integration.operators import at_rest, operate
from tests.paypal.house import open_paypal_house
from tests.store.looking import rows

EVENTS = (
    "BILLING.SUBSCRIPTION.CREATED",
    "BILLING.SUBSCRIPTION.ACTIVATED",
    "BILLING.SUBSCRIPTION.CANCELLED",
    "BILLING.SUBSCRIPTION.PAYMENT.FAILED",
    "PAYMENT.SALE.COMPLETED",
    "PAYMENT.SALE.REFUNDED",
)


def event(kind: str) -> bytes:
    """An event's body. A subscription's sale still says its amount in the fields of the first API."""
    resource = (
        {"id": "80021663DE681814L", "state": "completed", "amount": {"total": "3.00", "currency": "EUR"}}
        if "SALE" in kind
        else {"id": "I-BW452GLLEP1G", "status": "ACTIVE", "plan_id": "P-5ML4271244454362WXNWU5NQ", "custom_id": "x"}
    )
    about = {"id": f"WH-{kind}", "event_type": kind, "create_time": "2026-11-25T12:00:00Z", "resource_type": "sale"}
    return json.dumps({**about, "resource": resource}, indent=1).encode()


async def test_events_of_what_is_not_known_yet_are_kept_as_they_came(tmp_path: Path) -> None:
    """2xx, one row each with its bytes, no payment touched; a replay finds them as they were, and does nothing yet."""
    url = sqlite_url(tmp_path)
    async with open_paypal_house(url, tmp_path, webhooks=False) as house:
        for kind in EVENTS:
            assert await house.deliver(event(kind)) == 200
            kept = await at_rest(house.operations, f"WH-{kind}")
            assert (kept.state, kept.note) == (ops.CALLBACK_STATE_IGNORED, f"of no payment: {kind}")
            assert await house.deliver(event(kind)) == 200
            again = await operate(house.operations, "ReplayCallback", callback_id=kept.callback_id)
            assert (again.replayed, again.callback.state) == (True, ops.CALLBACK_STATE_IGNORED)
        held = await rows(url, "SELECT event_type, body FROM callbacks ORDER BY callback_id")
        assert [(kind, bytes(body)) for kind, body in held] == [(kind, event(kind)) for kind in EVENTS]
        assert await rows(url, "SELECT COUNT(*) FROM observations") == [(0,)]
