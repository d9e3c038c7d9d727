"""Payments of connected accounts: made, told of and found again in the account that they are of, and in no other."""

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.verification import verify
from obol.v1 import operations_pb2 as ops
from obol.v1 import payment_pb2
from tests.databases import sqlite_url
from tests.integration.operators import at_rest, operate
from tests.stripe.house import ACCOUNT, OURS, PLATFORM, THEIRS, StripeHouse, house_before, stripe_in

State = payment_pb2.PaymentState
Received = ops.CallbackState
INTENTS = "/v1/payment_intents"


def place_of(payment: Any) -> tuple[str, str]:
    """(PaymentIntent, account) as our name of its place has them."""
    bare, _, account = payment.provider_reference.provider_payment_id.partition("@")
    return bare, account


async def shown(house: StripeHouse, intent: str, account: str = "") -> tuple[int, Any]:
    """Stripe's answer to whoever reads the PaymentIntent in `account`, the platform's own unless told."""
    headers = {"Authorization": f"Bearer {PLATFORM.api_key}"} | ({"Stripe-Account": account} if account else {})
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{house.stripe.url}/v1/payment_intents/{intent}", headers=headers) as answer,
    ):
        return answer.status, await answer.json()


async def told(house: StripeHouse, event_id: str, intent: Any, account: str) -> Any:
    """The callback, once it rests, of an event that Stripe signed: the PaymentIntent, in `account`."""
    event = {
        **{"id": event_id, "object": "event", "type": "payment_intent.succeeded", "created": 1, "livemode": False},
        **{"account": account, "data": {"object": intent}},
    }
    assert await house.deliver(json.dumps(event).encode()) == 200
    return await at_rest(house.operations, event_id)


async def verified(house: StripeHouse) -> None:
    """The books agree."""
    report = await verify(house.database_url, effect_log=house.stripe.folder / "effects.jsonl", healed=True)
    assert report.violations == []


async def test_a_payment_of_a_connected_account_lives_there_alone(tmp_path: Path) -> None:
    """The header goes with every request, the effect is in that account, and only that account's events are of it."""
    async with (
        stripe_in(tmp_path) as stripe,
        house_before(stripe, sqlite_url(tmp_path), tmp_path, connected=(OURS, THEIRS)) as house,
    ):
        paid = await house.create("k1", connected_account=OURS)
        intent, account = place_of(paid)
        assert (paid.state, account) == (State.PAYMENT_STATE_CAPTURED, OURS)
        writes = [each for each in stripe.heard if each.method == "POST"]
        assert writes
        assert {each.headers.get("stripe-account") for each in writes} == {OURS}
        assert [(await shown(house, intent, at))[0] for at in (OURS, THEIRS, "")] == [200, 404, 404]

        # There is news that nobody has told yet: who believes the wrong account's event finds it.
        await house.control(f"payments/{intent}/refund", {"amount": 300})
        object_ = (await shown(house, intent, OURS))[1]
        stray = await told(house, "evt_second", object_, THEIRS)
        assert (stray.state, stray.note) == (
            Received.CALLBACK_STATE_QUARANTINED,
            "the provider has no such object",
        )
        assert (await told(house, "evt_stranger", object_, "acct_stranger")).state == Received.CALLBACK_STATE_IGNORED
        assert (await told(house, "evt_platform", object_, ACCOUNT)).state == Received.CALLBACK_STATE_QUARANTINED
        assert (await house.get(paid.payment_id)).money.refunded.amount_minor == 0
        assert (await told(house, "evt_own", object_, OURS)).state == Received.CALLBACK_STATE_APPLIED
        assert (await house.get(paid.payment_id)).money.refunded.amount_minor == 300
        await verified(house)


@pytest.mark.parametrize("fault", ["lost_after", "lost_before"])
async def test_a_lost_answer_is_found_in_the_connected_account(fault: str, tmp_path: Path) -> None:
    """UNKNOWN, then CAPTURED by recovery, once, there; and what Stripe itself tells of it by its webhook is applied."""
    async with (
        stripe_in(tmp_path, webhooks=True) as stripe,
        house_before(stripe, sqlite_url(tmp_path), tmp_path, connected=(THEIRS, OURS)) as house,
    ):
        await house.control("webhooks", {"mode": "off"})
        await house.control("faults", {"next": [{"fault": fault, "match": "create"}]})
        unknown = await house.create("k1", connected_account=OURS)
        assert unknown.state == State.PAYMENT_STATE_UNKNOWN
        found = await house.until(unknown.payment_id, State.PAYMENT_STATE_CAPTURED)
        intent, account = place_of(found)
        assert account == OURS
        assert [each["kind"] for each in stripe.effects()] == ["capture"]
        asked = [(each.method, each.headers.get("stripe-account")) for each in stripe.heard if each.path == INTENTS]
        assert {account for method, account in asked if method == "GET"} == {None, OURS, THEIRS}
        # What took effect was not sent again; what did not was, there.
        sent = [OURS] if fault == "lost_after" else [OURS, OURS]
        assert [account for method, account in asked if method == "POST"] == sent
        assert (await shown(house, intent, OURS))[0] == 200
        await house.control("webhooks", {"mode": "normal"})
        await house.control(f"payments/{intent}/refund", {"amount": 1_000})
        await house.until(found.payment_id, State.PAYMENT_STATE_REFUNDED)
        await verified(house)


async def test_an_event_of_an_account_that_is_connected_later_is_replayed_as_it_was_kept(tmp_path: Path) -> None:
    """Nobody could read it when it came: IGNORED, and kept; once the account is named, a replay applies it."""
    url = sqlite_url(tmp_path)
    async with stripe_in(tmp_path) as stripe:
        async with house_before(stripe, url, tmp_path, connected=(OURS,)) as house:
            paid = await house.create("k1", connected_account=OURS)
            intent, _ = place_of(paid)
        async with house_before(stripe, url, tmp_path) as house:
            await house.control(f"payments/{intent}/refund", {"amount": 300})
            kept = await told(house, "evt_1", (await shown(house, intent, OURS))[1], OURS)
            assert kept.state == Received.CALLBACK_STATE_IGNORED
        async with house_before(stripe, url, tmp_path, connected=(OURS,)) as house:
            done = await operate(house.operations, "ReplayCallback", callback_id=kept.callback_id)
            assert done.callback.state == Received.CALLBACK_STATE_APPLIED
            assert [(m.kind, m.amount.amount_minor) for m in done.movements] == [("REFUND", 300)]
            assert (await house.get(paid.payment_id)).money.refunded.amount_minor == 300
            await verified(house)
