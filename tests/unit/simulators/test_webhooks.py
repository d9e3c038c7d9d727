"""Every change is told to the receiver: signed, retried, and as often and as late as it was asked for."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import Counter
from typing import Any

import pytest

from simulators.webhooks import DeliveryLimits
from tests.unit.simulators.rig import Caller, Clock, Opened, Receiver, until


def events(receiver: Receiver) -> list[dict[str, Any]]:
    return [json.loads(body) for _, body in receiver.seen]


def signed(headers: dict[str, str], body: bytes, secret: str) -> bool:
    told, given = (part.split("=", 1)[1] for part in headers["Sandbox-Signature"].split(","))
    return given == hmac.new(secret.encode(), f"{told}.".encode() + body, hashlib.sha256).hexdigest()


async def test_an_event_is_signed_with_its_accounts_secret(opened: Opened, receiver: Receiver, clock: Clock) -> None:
    """The signature covers the time and the body under the account's secret; the header names the event."""
    async with opened(webhook_url=receiver.url) as caller:
        paid = await caller.pay()
        await until(lambda: _seen(receiver, 1))
    headers, body = receiver.seen[0]
    event = json.loads(body)
    assert signed(headers, body, "sandbox-signing-main")
    assert not signed(headers, body, "sandbox-signing-other")
    assert headers["Sandbox-Signature"].startswith(f"t={int(clock.now)},v1=")
    assert (headers["Sandbox-Event-Id"], headers["Content-Type"]) == (event["id"], "application/json")
    assert (event["type"], event["account"], event["livemode"]) == ("payment.captured", "acct_main", False)
    assert event["data"]["object"] == paid.body


async def test_every_change_has_its_event(opened: Opened, receiver: Receiver) -> None:
    """Each step of a payment's life is told, whoever took it."""
    async with opened(webhook_url=receiver.url) as caller:
        held = await caller.authorized()
        await caller.post(f"/v1/payments/{held}/capture", {"amount": 100, "final": False})
        await caller.post(f"/v1/payments/{held}/capture")
        refund = (await caller.post(f"/v1/payments/{held}/refunds", {"amount": 9})).body["refunds"][0]["id"]
        await caller.control(f"/refunds/{refund}", {"status": "reversed"})
        dispute = (await caller.control(f"/payments/{held}/dispute", {"status": "inquiry"})).body["disputes"][0]["id"]
        await caller.control(f"/disputes/{dispute}", {"status": "open"})
        await caller.control(f"/disputes/{dispute}", {"status": "won"})
        await caller.control(f"/payments/{held}/reverse-capture")
        await caller.pay("card_declined")
        await caller.control(f"/payments/{await caller.authorized()}/expire")
        await caller.post(f"/v1/payments/{await caller.authorized()}/cancel")
        await caller.pay("card_requires_action")
        await caller.pay("card_processing_then_ok")
        listed = (await caller.get("/v1/events")).body["data"]
        await until(lambda: _seen(receiver, len(listed)))
    assert Counter(event["id"] for event in events(receiver)) == Counter(event["id"] for event in listed)
    assert [event["type"] for event in listed] == [
        "payment.authorized",
        "payment.partially_captured",
        "payment.captured",
        "refund.created",
        "refund.updated",
        "dispute.opened",
        "dispute.updated",
        "dispute.closed",
        "payment.updated",
        "payment.failed",
        "payment.authorized",
        "payment.expired",
        "payment.authorized",
        "payment.cancelled",
        "payment.requires_action",
        "payment.processing",
    ]


async def test_a_refused_event_comes_again_with_a_fresh_signature(
    opened: Opened, receiver: Receiver, clock: Clock
) -> None:
    """Anything but 2xx is retried, and each try is signed at its own time."""
    receiver.statuses = [503, 302, 404]
    limits = DeliveryLimits(backoff_seconds=0.02, backoff_seconds_max=0.02)
    async with opened(webhook_url=receiver.url, delivery=limits) as caller:
        await caller.pay()
        await until(lambda: _seen(receiver, 1))
        clock.now += 60
        await until(lambda: _seen(receiver, 4))
        await until(lambda: _counted(caller, {"retried": 3, "delivered": 1}))
    assert len({event["id"] for event in events(receiver)}) == 1
    times = [headers["Sandbox-Signature"].split(",")[0] for headers, _ in receiver.seen]
    assert times[0] != times[-1]
    assert all(signed(headers, body, "sandbox-signing-main") for headers, body in receiver.seen)


async def test_a_receiver_that_is_not_there_holds_up_nothing(opened: Opened) -> None:
    """Payments are answered; delivery gives up after its attempts, and past its bound drops; the list has it all."""
    limits = DeliveryLimits(attempts_max=2, pending_max=2, backoff_seconds=0.01)
    async with opened(webhook_url="http://127.0.0.1:9/{account}", delivery=limits) as caller:
        await caller.control("/webhooks", {"duplicates": 4})
        await caller.pay()
        await until(lambda: _counted(caller, {"dropped": 3, "retried": 2, "given_up": 2}))
        assert len((await caller.get("/v1/events")).body["data"]) == 1


async def test_duplicates_and_disorder_come_when_asked_for(opened: Opened, receiver: Receiver) -> None:
    """Each event comes as often as told, and with reorder not in the order of the list."""
    async with opened(webhook_url=receiver.url) as caller:
        await caller.control("/webhooks", {"duplicates": 2, "reorder": True, "seed": 3})
        for _ in range(6):
            await caller.pay()
        await until(lambda: _seen(receiver, 18))
        listed = [event["id"] for event in (await caller.get("/v1/events")).body["data"]]
    came = [event["id"] for event in events(receiver)]
    assert Counter(came) == dict.fromkeys(listed, 3)
    assert list(dict.fromkeys(came)) != listed


async def test_silence_can_be_made_up_for(opened: Opened, receiver: Receiver) -> None:
    """With delivery off nothing comes; a redelivery brings one event or all of them."""
    async with opened(webhook_url=receiver.url) as caller:
        await caller.control("/webhooks", {"mode": "off"})
        for _ in range(3):
            await caller.pay()
        await until(lambda: _counted(caller, {"suppressed": 3}))
        await caller.control("/webhooks", {"mode": "normal"})
        listed = [event["id"] for event in (await caller.get("/v1/events")).body["data"]]
        assert (await caller.control("/webhooks/redeliver", {"event_id": listed[1]})).body == {"redelivered": 1}
        await until(lambda: _seen(receiver, 1))
        assert [event["id"] for event in events(receiver)] == [listed[1]]
        await caller.control("/webhooks/redeliver", {"event_id": "all"})
        await until(lambda: _seen(receiver, 4))
        assert (await caller.control("/webhooks/redeliver", {"event_id": "sevt_none"})).status == 404


@pytest.mark.parametrize("key", ["sandbox-key-main", "sandbox-key-other"])
async def test_each_account_has_its_own_address(opened: Opened, receiver: Receiver, key: str) -> None:
    """The account is in the URL's place and in the event, and its own secret signs."""
    async with opened(key, webhook_url=receiver.url) as caller:
        await caller.pay()
        await until(lambda: _seen(receiver, 1))
    name = key.removeprefix("sandbox-key-")
    headers, body = receiver.seen[0]
    assert json.loads(body)["account"] == f"acct_{name}"
    assert signed(headers, body, f"sandbox-signing-{name}")


async def _seen(receiver: Receiver, count: int) -> bool:
    return len(receiver.seen) >= count


async def _counted(caller: Caller, counts: dict[str, int]) -> bool:
    return bool((await caller.control("/webhooks", method="GET")).body["counts"] == counts)
