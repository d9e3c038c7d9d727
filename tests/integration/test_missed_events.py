"""What no delivery brought is fetched from the provider's event list, once, and says where it came from."""

import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.app.settings import EventSettings, ReconciliationSettings
from gateway.verification import verify
from obol.v1 import provider_callbacks_pb2
from tests.integration.house import QUICK, House, State, eventually, open_house
from tests.store.looking import rows

EVENTS = EventSettings(poll_s=0.1, lag_s=0.0, page=3, pages_per_turn=2)
# Recovery has nothing to do with it: only the list can bring what these tests wait for.
PATIENT = replace(QUICK, pending_check_first_s=3_600.0, pending_check_s_max=3_600.0)


@pytest.fixture
async def house(database_url: str, tmp_path: Path) -> AsyncIterator[House]:
    """A gateway whose provider delivers nothing."""
    async with open_house(
        database_url, tmp_path, engine=PATIENT, events=EVENTS, reconciliation=ReconciliationSettings(poll_s=0.1)
    ) as opened:
        yield opened
    report = await verify(database_url, effect_log=opened.sandbox_dir / "effects.jsonl")
    assert report.violations == []


async def inbox(house: House) -> list[tuple[Any, ...]]:
    """(event, state, headers) of every callback."""
    return await rows(house.database_url, "SELECT event_id, state, headers FROM callbacks ORDER BY received_time_us")


async def test_a_payment_reaches_its_state_through_the_list(house: House) -> None:
    """A refund in the dashboard and a dispute, and not one callback: both are known soon, from the event list."""
    payment = await house.create()
    reference = payment.provider_reference.provider_payment_id
    await house.control(f"/control/payments/{reference}/refund", {"amount": 400})
    await house.until(payment.payment_id, State.PAYMENT_STATE_PARTIALLY_REFUNDED)
    await house.control(f"/control/payments/{reference}/dispute", {"amount": 100})
    after = await eventually(lambda: house.get(payment.payment_id), lambda found: found.dispute_state != 1)
    assert after.money.refunded.amount_minor == 400
    found = await inbox(house)
    assert {json.loads(headers)["obol-provenance"] for _, _, headers in found} == {"event list"}
    (actors,) = {
        actor for (actor,) in await rows(house.database_url, "SELECT actor FROM audit WHERE result = 'FETCHED'")
    }
    assert actors == "system:events"


async def test_an_event_comes_once_whoever_brings_it(house: House) -> None:
    """Delivered after it was fetched it is a duplicate; fetched after it was delivered it is no news."""
    payment = await house.create()
    reference = payment.provider_reference.provider_payment_id
    await eventually(lambda: inbox(house), bool)
    found = await inbox(house)
    event_id = found[0][0]
    request = provider_callbacks_pb2.DeliverCallbackRequest(
        provider="sandbox", account_id="acct_main", event_id=event_id, event_type="payment.captured", body=b"{}"
    )
    assert (await house.callbacks.DeliverCallback(request, metadata=(("obol-actor", "sidecar"),), timeout=5)).duplicate
    request.event_id, request.body = "sevt_later", await _event_body(house, reference)
    answer = await house.callbacks.DeliverCallback(request, metadata=(("obol-actor", "sidecar"),), timeout=5)
    assert not answer.duplicate
    ids = [event for event, _, _ in await inbox(house)]
    assert len(ids) == len(set(ids))


async def test_many_events_are_read_page_by_page_and_none_is_left(house: House) -> None:
    """Several turns' worth of events: every one of the list ends in the inbox."""
    for number in range(12):
        await house.create(f"key-{number}")
    listed = await _listed(house)
    assert len(listed) > EVENTS.page * EVENTS.pages_per_turn
    await eventually(lambda: inbox(house), lambda found: {event for event, _, _ in found} == listed)


async def test_a_cursor_that_the_provider_has_forgotten_begins_anew_and_the_gap_is_reconciled(house: House) -> None:
    """The list is read from the oldest kept, and a reconciliation is queued for what is kept no more."""
    await house.create()
    await eventually(lambda: inbox(house), bool)
    await rows(house.database_url, "UPDATE event_cursors SET after_event_id = 'sevt_forgotten'")
    await eventually(
        lambda: rows(house.database_url, "SELECT state, idempotency_key FROM reconciliations"),
        lambda found: [state for state, _ in found] == ["DONE"],
    )
    ((_, key),) = await rows(house.database_url, "SELECT state, idempotency_key FROM reconciliations")
    assert key.startswith("system:event-gap:acct_main:")
    payment = await house.create("later")
    reference = payment.provider_reference.provider_payment_id
    await house.control(f"/control/payments/{reference}/refund", {"amount": 1})
    await house.until(payment.payment_id, State.PAYMENT_STATE_PARTIALLY_REFUNDED)


async def test_a_young_event_is_left_to_its_delivery(database_url: str, tmp_path: Path) -> None:
    """Nothing younger than the lag is fetched, however often the list is asked; nor what is older than the account."""
    settings = replace(EVENTS, lag_s=3_600.0)
    async with open_house(database_url, tmp_path, engine=PATIENT, events=settings) as house:
        await house.create()
        await eventually(
            lambda: rows(database_url, "SELECT epoch, after_event_id FROM event_cursors"),
            lambda found: bool(found) and found[0][0] >= 3,
        )
        assert await inbox(house) == []
        assert await rows(database_url, "SELECT after_event_id FROM event_cursors") == [("",)]
    # The same list without a lag, by a gateway to which all of it is older than the account.
    later_us = int(time.time() + 3_600) * 1_000_000
    await rows(database_url, f"UPDATE event_cursors SET first_time_us = {later_us}")
    async with open_house(database_url, tmp_path, engine=PATIENT, events=EVENTS) as house:
        await eventually(
            lambda: rows(database_url, "SELECT after_event_id FROM event_cursors"), lambda found: found != [("",)]
        )
        assert await inbox(house) == []


async def _listed(house: House) -> set[str]:
    """The ids of the provider's whole event list."""
    return {event["id"] for event in await _events(house)}


async def _events(house: House) -> list[dict[str, Any]]:
    import aiohttp

    headers = {"Authorization": "Bearer sandbox-key-main"}
    url = f"{house.sandbox_url}/v1/events?limit=100"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        found: list[dict[str, Any]] = (await answer.json())["data"]
        return found


async def _event_body(house: House, reference: str) -> bytes:
    """An event about the payment, under an id of its own."""
    (event,) = [each for each in await _events(house) if each["data"]["object"]["id"] == reference][:1]
    return json.dumps(event | {"id": "sevt_later"}).encode()
