"""Stripe's imitation keeps what Stripe documents: keys, declines, money that adds up, events, a search that lags."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from simulators.stripe.methods import METHODS
from simulators.stripe.server import running
from simulators.stripe.settings import StripeSettings, Terms
from simulators.webhooks import DeliveryLimits
from tests.exchanges import MADE_UP
from tests.unit.simulators.rig import Clock, Receiver, until

BY_CONTROL = Terms(processing_seconds=None, refund_seconds=None, dispute_seconds=None)
NEVER_AWAY = {"automatic_payment_methods[enabled]": "true", "automatic_payment_methods[allow_redirects]": "never"}
Json = dict[str, Any]


class Asking:
    """A caller with one key. `post` gives the status, the body and whether it was a replay."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self.url = session, url

    async def post(
        self, path: str, key: str | None = None, account: str | None = None, **fields: str
    ) -> tuple[int, Json, bool]:
        headers = {"Idempotency-Key": key or str(uuid4()), "Authorization": "Bearer sk_test_simulated", **MADE_UP}
        if account:
            headers["Stripe-Account"] = account
        async with self._session.post(f"{self.url}/v1/{path}", data=fields, headers=headers) as answer:
            return answer.status, await answer.json(), answer.headers.get("Idempotent-Replayed") == "true"

    async def get(self, path: str, account: str | None = None) -> tuple[int, Json]:
        headers = {"Authorization": "Bearer sk_test_simulated", **MADE_UP} | (
            {"Stripe-Account": account} if account else {}
        )
        async with self._session.get(f"{self.url}/v1/{path}", headers=headers) as answer:
            return answer.status, await answer.json()

    async def control(self, path: str, body: Json | None = None, method: str = "POST") -> Json:
        async with self._session.request(method, f"{self.url}/control/{path}", json=body) as answer:
            told: Json = await answer.json()
            return told

    async def paid(self, **changed: str) -> Json:
        told = {"amount": "1000", "currency": "usd", "confirm": "true", "payment_method": "pm_card_visa", **NEVER_AWAY}
        _, found, _ = await self.post("payment_intents", **{**told, **changed})
        return found

    async def effects(self) -> list[tuple[str, int]]:
        told = await self.control("effects", method="GET")
        return [(each["kind"], each["amount"]) for each in told["data"]]


Opened = Callable[..., AbstractAsyncContextManager[Asking]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(tmp_path: Path, clock: Clock) -> Opened:
    """Opens an imitation in the test's directory."""

    @asynccontextmanager
    async def open_one(**settings: Any) -> AsyncIterator[Asking]:
        chosen = {"port": 0, "terms": BY_CONTROL, "clock": clock, **settings}
        async with running(StripeSettings(tmp_path, **chosen)) as url, aiohttp.ClientSession() as session:
            yield Asking(session, url)

    return open_one


@pytest.fixture
async def asking(opened: Opened) -> AsyncIterator[Asking]:
    async with opened() as made:
        yield made


async def test_the_first_answer_is_the_answer_of_its_key(asking: Asking) -> None:
    """The same request again is a replay, byte for byte; another one under its key is an error; one effect in all."""
    fields = {"amount": "1000", "currency": "usd", "confirm": "true", "payment_method": "pm_card_visa", **NEVER_AWAY}
    first = await asking.post("payment_intents", key="k", **fields)
    again = await asking.post("payment_intents", key="k", **fields)
    other = await asking.post("payment_intents", key="k", **{**fields, "amount": "2000"})
    assert (first[0], again) == (200, (200, first[1], True))
    assert (other[0], other[1]["error"]["type"]) == (400, "idempotency_error")
    assert await asking.effects() == [("capture", 1000)]


async def test_a_key_in_use_is_a_conflict(asking: Asking) -> None:
    """While the first request runs, the second is told 409; afterwards it is a replay."""
    await asking.control("faults", {"next": [{"fault": "stall", "match": "create"}]})
    fields = {"amount": "1000", "currency": "usd"}
    first = asyncio.create_task(asking.post("payment_intents", key="k", **fields))
    await until(lambda: _injected(asking))
    busy = await asking.post("payment_intents", key="k", **fields)
    assert (busy[0], busy[1]["error"]["code"]) == (409, "idempotency_key_in_use")
    await asking.control("faults", method="DELETE")
    assert ((await first)[0], (await asking.post("payment_intents", key="k", **fields))[2]) == (200, True)


async def _injected(asking: Asking) -> bool:
    return bool((await asking.control("faults", method="GET"))["injected"])


async def test_errors_of_an_execution_are_kept_and_those_of_validation_are_not(asking: Asking) -> None:
    """A decline and a 500 are replayed for their key; a wrong parameter is not, and the key is free."""
    declined = {"amount": "1000", "currency": "usd", "confirm": "true", "payment_method": "pm_card_chargeDeclined"}
    await asking.post("payment_intents", key="d", **declined, **NEVER_AWAY)
    status, body, replayed = await asking.post("payment_intents", key="d", **declined, **NEVER_AWAY)
    assert (status, body["error"]["decline_code"], replayed) == (402, "generic_decline", True)
    await asking.control("faults", {"next": [{"fault": "http_500_after", "match": "create"}]})
    good = {**declined, "payment_method": "pm_card_visa", **NEVER_AWAY}
    answers = [await asking.post("payment_intents", key="f", **good) for _ in range(2)]
    assert [(status, replayed) for status, _, replayed in answers] == [(500, False), (500, True)]
    wrong = await asking.post("payment_intents", key="w", amount="1000", currency="usd", colour="red")
    assert (wrong[0], wrong[1]["error"]["code"]) == (400, "parameter_unknown")
    assert (await asking.post("payment_intents", key="w", amount="1000", currency="usd"))[0] == 200
    assert await asking.effects() == [("capture", 1000)]


async def test_a_key_is_forgotten_after_its_window(opened: Opened, clock: Clock) -> None:
    """A day later the same key is a new request."""
    async with opened() as asking:
        first = await asking.post("payment_intents", key="k", amount="1000", currency="usd")
        clock.now += 24 * 3600 + 1
        second = await asking.post("payment_intents", key="k", amount="1000", currency="usd")
    assert (first[1]["id"] != second[1]["id"], second[2]) == (True, False)


@pytest.mark.parametrize("method", [each for each in METHODS.values() if each.attempt == "decline"], ids=lambda m: m.id)
async def test_a_published_card_declines_as_published(asking: Asking, method: Any) -> None:
    """402 card_error with the code, the PaymentIntent open for another method, and no money moved."""
    body = (await asking.paid(payment_method=method.id))["error"]
    assert (body["type"], body["decline_code"]) == ("card_error", method.decline)
    intent = body["payment_intent"]
    assert (intent["status"], intent["last_payment_error"]["decline_code"]) == (
        "requires_payment_method",
        method.decline,
    )
    _, charge = await asking.get(f"charges/{intent['latest_charge']}")
    assert (charge["status"], charge["outcome"]["risk_level"]) == ("failed", method.risk_level)
    assert await asking.effects() == []


async def test_money_adds_up(asking: Asking) -> None:
    """No capture beyond the hold, no refund beyond the capture; a part captured shows the rest as given back."""
    held = await asking.paid(capture_method="manual")
    too_much = await asking.post(f"payment_intents/{held['id']}/capture", amount_to_capture="1001")
    assert too_much[1]["error"]["code"] == "amount_too_large"
    captured = (await asking.post(f"payment_intents/{held['id']}/capture", amount_to_capture="600"))[1]
    assert (captured["status"], captured["amount_received"]) == ("succeeded", 600)
    _, charge = await asking.get(f"charges/{captured['latest_charge']}?expand[]=refunds")
    (rest,) = charge["refunds"]["data"]
    assert (charge["amount_refunded"], rest["amount"], rest["balance_transaction"]) == (400, 400, None)
    refunds = [await asking.post("refunds", payment_intent=held["id"], amount="400") for _ in range(2)]
    assert [each[0] for each in refunds] == [200, 400]
    assert refunds[1][1]["error"]["code"] == "amount_too_large"
    assert await asking.effects() == [("authorization", 1000), ("capture", 600), ("refund", 400)]


async def test_a_bank_account_holds_no_money(asking: Asking) -> None:
    """A debit is taken or not: with manual capture it is refused, and nothing moves."""
    fields = {"payment_method": "pm_usBankAccount_success", "confirm": "true", "capture_method": "manual"}
    status, told, _ = await asking.post("payment_intents", amount="1000", currency="usd", **fields, **NEVER_AWAY)
    assert (status, told["error"]["code"]) == (400, "payment_intent_incompatible_payment_method")
    assert await asking.effects() == []


async def test_a_trusting_imitation_gives_back_more_than_it_took(opened: Opened) -> None:
    """It compares no refund with what is left: whoever asks for 600 of 1000 twice gets 1200, and 1001 are refused."""
    async with opened(terms=replace(BY_CONTROL, trusting=True)) as asking:
        paid = (await asking.paid())["id"]
        refunds = [
            await asking.post("refunds", payment_intent=paid, amount=amount) for amount in ("600", "600", "1001")
        ]
        assert [each[0] for each in refunds] == [200, 200, 400]
        assert refunds[2][1]["error"]["code"] == "amount_too_large"
        assert await asking.effects() == [("capture", 1000), ("refund", 600), ("refund", 600)]


async def test_a_capture_in_parts_needs_to_be_asked_for(asking: Asking) -> None:
    """Without request_multicapture a capture that is not final is refused."""
    plain = await asking.paid(capture_method="manual")
    refused = await asking.post(f"payment_intents/{plain['id']}/capture", amount_to_capture="1", final_capture="false")
    assert refused[0] == 400
    parts = {"payment_method_options[card][request_multicapture]": "if_available"}
    held = await asking.paid(capture_method="manual", **parts)
    part = (await asking.post(f"payment_intents/{held['id']}/capture", amount_to_capture="300", final_capture="false"))[
        1
    ]
    assert (part["status"], part["amount_capturable"]) == ("requires_capture", 700)
    closed = (await asking.post(f"payment_intents/{held['id']}/cancel"))[1]
    assert (closed["status"], closed["amount_received"]) == ("succeeded", 300)


async def test_an_update_clears_the_last_error(asking: Asking) -> None:
    """As the reference says of last_payment_error."""
    intent = (await asking.paid(payment_method="pm_card_chargeDeclined"))["error"]["payment_intent"]
    updated = (await asking.post(f"payment_intents/{intent['id']}", **{"metadata[a]": "b"}))[1]
    assert (updated["last_payment_error"], updated["metadata"]) == (None, {"a": "b"})


async def test_what_takes_time_happens_by_the_clock(opened: Opened, clock: Clock) -> None:
    """Debits settle, refunds fail after all, disputes open, holds expire."""
    async with opened(terms=Terms()) as asking:
        debit = await asking.paid(payment_method="pm_usBankAccount_success")
        refundable = await asking.paid(payment_method="pm_card_refundFail")
        refund = (await asking.post("refunds", payment_intent=refundable["id"]))[1]
        disputed = await asking.paid(payment_method="pm_card_createDisputeInquiry")
        held = await asking.paid(capture_method="manual")
        assert (debit["status"], refund["status"], held["status"]) == ("processing", "succeeded", "requires_capture")
        clock.now += 7 * 86_400 + 1

        async def done() -> bool:
            found = (await asking.get(f"payment_intents/{held['id']}"))[1]
            return bool(found["status"] == "canceled")

        await until(done)
        assert (await asking.get(f"payment_intents/{debit['id']}"))[1]["status"] == "succeeded"
        assert (await asking.get(f"refunds/{refund['id']}"))[1]["status"] == "failed"
        _, disputes = await asking.get(f"disputes?payment_intent={disputed['id']}")
        assert [each["status"] for each in disputes["data"]] == ["warning_needs_response"]
        assert (await asking.get(f"payment_intents/{held['id']}"))[1]["cancellation_reason"] == "automatic"
        assert ("reversal", 1000) in await asking.effects()


async def test_a_hold_is_disputed_once_it_is_captured(opened: Opened, clock: Clock) -> None:
    """A disputed card whose money is only held: nothing to dispute, and nothing else stands still for it."""
    async with opened(terms=Terms()) as asking:
        held = await asking.paid(payment_method="pm_card_createDispute", capture_method="manual")
        clock.now += 10
        await asyncio.sleep(0.1)
        assert (await asking.get(f"disputes?payment_intent={held['id']}"))[1]["data"] == []
        await asking.post(f"payment_intents/{held['id']}/capture", amount_to_capture="400")
        clock.now += 10

        async def disputed() -> bool:
            return bool((await asking.get(f"disputes?payment_intent={held['id']}"))[1]["data"])

        await until(disputed)
        assert ("dispute", 400) in await asking.effects()


async def test_the_search_lags_and_the_list_does_not(opened: Opened, clock: Clock) -> None:
    """What was just made is in the list; the search shows it a minute later."""
    async with opened() as asking:
        await asking.paid(**{"metadata[order]": "7"})
        query = "payment_intents/search?query=metadata%5B'order'%5D%3A'7'"
        assert len((await asking.get("payment_intents"))[1]["data"]) == 1
        assert (await asking.get(query))[1]["data"] == []
        clock.now += 61
        assert len((await asking.get(query))[1]["data"]) == 1


async def test_lists_page_both_ways(asking: Asking) -> None:
    """Newest first, from any object on, in either direction."""
    made = [(await asking.post("payment_intents", amount="1000", currency="usd"))[1]["id"] for _ in range(5)]
    newest = made[::-1]

    async def ids(query: str) -> list[str]:
        return [each["id"] for each in (await asking.get(f"payment_intents?{query}"))[1]["data"]]

    assert await ids("limit=2") == newest[:2]
    assert await ids(f"limit=2&starting_after={newest[1]}") == newest[2:4]
    assert await ids(f"limit=2&ending_before={newest[4]}") == newest[2:4]
    unknown = await asking.get("payment_intents?starting_after=pi_nowhere")
    assert (unknown[0], unknown[1]["error"]["code"]) == (400, "resource_missing")


async def test_a_connected_account_has_its_own(asking: Asking) -> None:
    """What is made for it is not the platform's, and a stranger's account is refused."""
    status, made, _ = await asking.post("payment_intents", account="acct_connected", amount="1000", currency="usd")
    assert status == 200
    assert (await asking.get(f"payment_intents/{made['id']}"))[0] == 404
    assert (await asking.get(f"payment_intents/{made['id']}", account="acct_connected"))[0] == 200
    assert (await asking.post("payment_intents", account="acct_nobody", amount="1000", currency="usd"))[0] == 403


async def test_events_are_delivered_signed_until_they_are_taken(
    opened: Opened, receiver: Receiver, clock: Clock
) -> None:
    """Each with a signature over its bytes, again after a failure, and in the list with its request's key."""
    limits = DeliveryLimits(backoff_seconds=0.01, backoff_seconds_max=0.05)
    receiver.statuses.extend([500, 500])
    async with opened(webhook_url=receiver.url, delivery=limits) as asking:
        await asking.paid(**{"metadata[a]": "b"})

        async def taken() -> bool:
            return bool((await asking.control("webhooks", method="GET"))["pending"] == 0)

        await until(taken)
        listed = (await asking.get("events"))[1]["data"]
    kinds = {json.loads(body)["type"] for _, body in receiver.seen}
    assert kinds == {"payment_intent.created", "charge.succeeded", "payment_intent.succeeded"}
    assert len(receiver.seen) == 5
    for headers, body in receiver.seen:
        told, _, signature = headers["Stripe-Signature"].partition(",v1=")
        signed = hmac.new(b"whsec_simulated", told[2:].encode() + b"." + body, hashlib.sha256).hexdigest()
        assert (told, signature) == (f"t={int(clock.now)}", signed)
    assert all(each["request"]["idempotency_key"] for each in listed)


async def test_a_restart_forgets_nothing(opened: Opened) -> None:
    """Objects, events, keys and what is still to come stand as they stood."""
    fields = {"amount": "1000", "currency": "usd", "confirm": "true", "payment_method": "pm_card_visa", **NEVER_AWAY}
    async with opened() as asking:
        first = await asking.post("payment_intents", key="k", **fields)
        events = (await asking.get("events"))[1]["data"]
    async with opened() as asking:
        assert await asking.post("payment_intents", key="k", **fields) == (200, first[1], True)
        assert (await asking.get("events"))[1]["data"] == events
        assert await asking.effects() == [("capture", 1000)]
