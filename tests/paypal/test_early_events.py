"""An event of what PayPal does not show: that proves nothing, so that the event waits, and at last for a person."""

import json
from pathlib import Path
from typing import Any

from gateway.app.hearing import NOT_SHOWN
from obol.v1 import operations_pb2 as ops
from tests.crash.rig import change
from tests.databases import sqlite_url
from tests.integration.house import eventually
from tests.integration.operators import at_rest, operate
from tests.paypal.house import PayPalHouse, open_paypal_house

EVENT = {"id": "WH-early", "event_type": "CUSTOMER.DISPUTE.CREATED", "resource": {"dispute_id": "PP-D-7"}}


async def waiting(house: PayPalHouse) -> Any:
    """The event's callback, once it was heard and put off."""

    async def heard() -> Any:
        return next(iter((await operate(house.operations, "ListCallbacks")).callbacks), None)

    return await eventually(heard, lambda callback: callback is not None and bool(callback.note))


async def test_an_event_that_comes_before_its_object_is_not_ignored(tmp_path: Path) -> None:
    """A dispute that no read shows: it waits and is tried again; past the last try a person has it, with its body."""
    url = sqlite_url(tmp_path)
    async with open_paypal_house(url, tmp_path, webhooks=False) as house:
        assert await house.deliver(json.dumps(EVENT).encode()) == 200
        early = await waiting(house)
        assert (early.state, early.note) == (ops.CALLBACK_STATE_WAITING, NOT_SHOWN)
        await change(url, f"UPDATE callbacks SET received_time_us = received_time_us - {4 * 24 * 3600 * 1_000_000}")
        given_up = await at_rest(house.operations, "WH-early")
        assert (given_up.state, given_up.note) == (ops.CALLBACK_STATE_QUARANTINED, f"given up: {NOT_SHOWN}")
