"""A completion that dies, or is cancelled, at any point: the approved order is captured once, and everybody is told.

Who completes is nobody's call: an event, recovery or a sync. Here a completion is what is interrupted, by itself or on
an event's way to being applied, and what comes after it is another process.
"""

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from gateway.app.callbacks import Delivery
from gateway.app.completing import completion_of
from gateway.app.identity import operation_id_of
from gateway.app.requests import CreatePayment
from gateway.domain.commands import CommandKind
from gateway.domain.errors import ObolError
from gateway.domain.states import CommandState, PaymentState
from gateway.verification import verify
from obol.v1 import payment_gateway_pb2 as pb
from providers.registry import AccountRegistry, build_accounts
from providers.secret import Secret
from providers.settings import AccountsSettings, ProviderAccountSettings
from simulators.paypal.server import running
from simulators.paypal.settings import Merchant, PayPalSettings
from store import open_store
from tests.crash.rig import (
    ACCOUNT,
    POINTS,
    Interruption,
    SimulatedCrash,
    caller_of,
    change,
    effects_of,
    outlive_leases,
    resolve,
    rows,
    runtime_on,
)
from tests.databases import postgresql_url, sqlite_url

CASES = [(point, interruption, "sqlite") for point in POINTS for interruption in ("crash", "cancel")] + [
    ("claim.after", "crash", "postgresql"),
    ("send.after", "crash", "postgresql"),
]
"""`cancel`: of whoever had it completed, a caller of SyncPayment or an event's application."""


def accounts_at(url: str) -> AccountRegistry:
    """Our account at the imitation."""
    merchant = Merchant()
    settings = ProviderAccountSettings(
        ACCOUNT,
        "paypal",
        url,
        Secret(merchant.client_secret),
        merchant.merchant_id,
        options={"client_id": merchant.client_id},
    )
    return build_accounts(AccountsSettings((settings,), ACCOUNT))


@pytest.mark.parametrize(("point", "interruption", "engine"), CASES)
async def test_a_completion_interrupted_anywhere_captures_once(
    point: str, interruption: str, engine: str, tmp_path: Path
) -> None:
    """Interrupted at the point, recovered by another process: CAPTURED, one effect, both commands SUCCEEDED."""
    url = sqlite_url(tmp_path) if engine == "sqlite" else postgresql_url()
    log, caller = tmp_path / "paypal" / "effects.jsonl", caller_of("complete")
    async with running(PayPalSettings(data_dir=tmp_path / "paypal", port=0)) as paypal_url:
        store, accounts = await open_store(url), accounts_at(paypal_url)
        survivor = runtime_on(store, accounts)
        reply = await survivor.commands.create(caller, CreatePayment("it", 1_000, "EUR"), 10)
        payment = pb.CreatePaymentResponse.FromString(reply.body).payment
        await approved(payment.next_action.redirect_url)
        payment_id = str(payment.payment_id)

        stop = Interruption(point, crash=interruption == "crash")
        stopped = runtime_on(store, accounts, stop)
        call = asyncio.ensure_future(stopped.commands.complete(caller.tenant_id, payment_id))
        reached = asyncio.ensure_future(stop.reached.wait())
        await asyncio.wait((call, reached), return_when=asyncio.FIRST_COMPLETED)
        assert stop.reached.is_set(), f"never came to {point}"
        if interruption == "cancel":
            call.cancel()
            stop.resume.set()
        reached.cancel()
        outcome = (await asyncio.gather(call, return_exceptions=True))[0]
        assert outcome is None or isinstance(outcome, SimulatedCrash | asyncio.CancelledError | ObolError), outcome

        if interruption == "crash" or point.endswith(".lost"):
            await outlive_leases(url)
        await survivor.recovery.run_once()
        await survivor.commands.sync(caller, payment_id, None)
        await resolve(survivor)
        done = await store.load(caller.tenant_id, payment_id)
        assert done is not None
        assert done.payment.state is PaymentState.CAPTURED
        assert effects_of(log, "complete") == ["capture"]
        states = {(command.kind, command.state) for command in done.commands}
        assert states == {
            (CommandKind.CREATE, CommandState.SUCCEEDED),
            (CommandKind.COMPLETE, CommandState.SUCCEEDED),
        }
        await survivor.drain(5)
        await store.close()
        await accounts.close()
    report = await verify(url, effect_log=log, healed=True)
    assert report.violations == []
    assert report.unresolved == 0


EVENT_POINTS = ("claim.before", "claim.after", "send.after", "change_callback.before", "change_callback.lost")


@pytest.mark.parametrize("point", EVENT_POINTS)
async def test_an_event_is_applied_once_its_payment_is_completed(point: str, tmp_path: Path) -> None:
    """Its process dies on the way: it is not APPLIED, and the next one completes under the same key."""
    url, log, caller = sqlite_url(tmp_path), tmp_path / "paypal" / "effects.jsonl", caller_of("event")
    async with running(PayPalSettings(data_dir=tmp_path / "paypal", port=0)) as paypal_url:
        store, accounts = await open_store(url), accounts_at(paypal_url)
        survivor = runtime_on(store, accounts)
        reply = await survivor.commands.create(caller, CreatePayment("it", 1_000, "EUR"), 10)
        payment = pb.CreatePaymentResponse.FromString(reply.body).payment
        await approved(payment.next_action.redirect_url)
        made = await store.load(caller.tenant_id, payment.payment_id)
        assert made is not None
        event_type, order_id = "CHECKOUT.ORDER.APPROVED", made.payment.provider_payment_id
        body = json.dumps({"id": "WH-1", "event_type": event_type, "resource": {"id": order_id}}).encode()
        await survivor.callbacks.deliver(caller, Delivery("paypal", ACCOUNT, "WH-1", event_type, body, {}, 0))

        stop = Interruption(point, crash=True)
        with suppress(SimulatedCrash):
            await runtime_on(store, accounts, stop).applier.run_once()
        assert stop.reached.is_set(), f"never came to {point}"
        if not point.endswith(".lost"):
            ((state, note),) = await rows(url, "SELECT state, note FROM callbacks")
            assert (state, note) == ("RECEIVED", "")

        for _ in range(2):
            await outlive_leases(url)
            await change(url, "UPDATE callbacks SET next_attempt_us = 1 WHERE state = 'WAITING'")
            await survivor.applier.run_once()
            await resolve(survivor)
        ((state,),) = await rows(url, "SELECT state FROM callbacks")
        assert state == "APPLIED"
        done = await store.load(caller.tenant_id, payment.payment_id)
        assert done is not None
        assert done.payment.state is PaymentState.CAPTURED
        assert effects_of(log, "event") == ["capture"]
        completions = [each for each in done.commands if each.kind is CommandKind.COMPLETE]
        assert [(each.idempotency_key, each.state) for each in completions] == [
            (f"system:complete:{payment.payment_id}:1", CommandState.SUCCEEDED)
        ]
        await survivor.drain(5)
        await store.close()
        await accounts.close()
    report = await verify(url, effect_log=log, healed=True)
    assert report.violations == []


async def test_a_completion_that_a_restore_lost_stays_in_sight(tmp_path: Path) -> None:
    """What asked for it waits, saying why, and rests at last where a person finds it; it never counts as completed."""
    url, log, caller = sqlite_url(tmp_path), tmp_path / "paypal" / "effects.jsonl", caller_of("lost")
    async with running(PayPalSettings(data_dir=tmp_path / "paypal", port=0)) as paypal_url:
        store, accounts = await open_store(url), accounts_at(paypal_url)
        survivor = runtime_on(store, accounts)
        reply = await survivor.commands.create(caller, CreatePayment("it", 1_000, "EUR"), 10)
        payment = pb.CreatePaymentResponse.FromString(reply.body).payment
        await approved(payment.next_action.redirect_url)
        made = await store.load(caller.tenant_id, payment.payment_id)
        assert made is not None
        wish = completion_of(made, 0)
        assert wish is not None
        lost = (caller.tenant_id, operation_id_of(wish, 1), ACCOUNT, payment.payment_id, "order", "rec_1", "", 1)
        await change(url, f"INSERT INTO lost_operations VALUES {lost}")
        event_type, order_id = "CHECKOUT.ORDER.APPROVED", made.payment.provider_payment_id
        body = json.dumps({"id": "WH-1", "event_type": event_type, "resource": {"id": order_id}}).encode()
        await survivor.callbacks.deliver(caller, Delivery("paypal", ACCOUNT, "WH-1", event_type, body, {}, 0))
        await survivor.applier.run_once()
        assert await rows(url, "SELECT state, note FROM callbacks") == [
            ("WAITING", "completion put off: LOST_IN_RESTORE")
        ]
        await survivor.commands.sync(caller, payment.payment_id, None)
        await change(url, "UPDATE callbacks SET next_attempt_us = 1, received_time_us = 1")
        await survivor.applier.run_once()
        assert await rows(url, "SELECT state, note FROM callbacks") == [
            ("QUARANTINED", "given up: completion put off: LOST_IN_RESTORE")
        ]
        standing = await store.get_payment(caller.tenant_id, payment.payment_id)
        assert standing is not None
        assert standing.state is PaymentState.REQUIRES_ACTION
        assert effects_of(log, "lost") == []
        await survivor.drain(5)
        await store.close()
        await accounts.close()


async def approved(link: str) -> None:
    """The payer approves."""
    async with aiohttp.ClientSession() as session, session.post(link, json={"outcome": "approve"}) as answer:
        assert answer.status == 200, json.dumps(await answer.json())
