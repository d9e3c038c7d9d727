"""Recovery and callbacks die at every point, twice in a row, and the next process ends what is left: once."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.app.callbacks import Delivery
from gateway.app.requests import CreatePayment
from gateway.domain.commands import Caller
from gateway.domain.errors import Unavailable
from gateway.domain.states import PaymentState
from gateway.domain.storage import Store
from gateway.verification import verify
from obol.v1 import payment_gateway_pb2 as pb
from obol.v1 import payment_pb2
from providers.registry import AccountRegistry
from simulators.sandbox.server import running
from simulators.sandbox.settings import SandboxSettings
from store import open_store
from tests.crash.rig import (
    ACCOUNT,
    EFFECT,
    KINDS,
    RESPONSES,
    Interruption,
    SimulatedCrash,
    accounts_at,
    caller_of,
    effects_of,
    make_due,
    outlive_leases,
    prepared,
    resolve,
    rows,
    runtime_on,
)
from tests.databases import postgresql_url, sqlite_url

RECOVERY_POINTS = (
    "take_due.before",
    "take_due.after",
    "load.after",
    "look.before",
    "look.after",
    "start_resend.before",
    "start_resend.lost",
    "start_resend.after",
    "send.before",
    "send.after",
    "settle.before",
    "settle.lost",
    "settle.after",
)
CALLBACK_POINTS = (
    "receive_callback.before",
    "receive_callback.lost",
    "receive_callback.after",
    "take_callbacks.before",
    "take_callbacks.after",
    "load.after",
    "look.before",
    "look.after",
    "settle.before",
    "settle.lost",
    "settle.after",
)
DOUBLE = 2


@dataclass
class Bench:
    """A database of one engine, the provider beside it, and a process that survives."""

    url: str
    sandbox_url: str
    log: Path
    store: Store
    accounts: AccountRegistry


@pytest.fixture(params=["sqlite", "postgresql"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """Everything real; healed and resolved, every invariant holds at the end."""
    url = sqlite_url(tmp_path) if request.param == "sqlite" else postgresql_url()
    log = tmp_path / "sandbox" / "effects.jsonl"
    async with running(SandboxSettings(data_dir=tmp_path / "sandbox", port=0)) as sandbox_url:
        store, accounts = await open_store(url), accounts_at(sandbox_url)
        yield Bench(url, sandbox_url, log, store, accounts)
        await store.close()
        await accounts.close()
    report = await verify(url, effect_log=log, healed=True)
    assert report.violations == []
    assert report.unresolved == 0


@pytest.mark.parametrize("first", ["claim.after", "send.after"])
async def test_recovery_killed_anywhere_and_again_leaves_one_effect(first: str, bench: Bench) -> None:
    """A process died with every kind of command under way; those that come to help die at each point; one ends it."""
    survivor = runtime_on(bench.store, bench.accounts)
    calls = {kind: await prepared(kind, survivor, caller_of(kind)) for kind in KINDS}
    before = {kind: effects_of(bench.log, kind) for kind in KINDS}
    for kind in KINDS:
        dying = runtime_on(bench.store, bench.accounts, Interruption(first, crash=True))
        with pytest.raises(SimulatedCrash):
            await calls[kind](dying)
    reached = set()
    for point in RECOVERY_POINTS:
        for _ in range(DOUBLE):
            await outlive_leases(bench.url)
            await make_due(bench.url)
            stop = Interruption(point, crash=True)
            helper = runtime_on(bench.store, bench.accounts, stop)
            await asyncio.gather(helper.recovery.run_once(), return_exceptions=True)
            if stop.reached.is_set():
                reached.add(point)
    # What was sent is found by a look; what was not is sent again, by one of those that died at it.
    assert {"take_due.after", "load.after", "look.after"} <= reached
    assert ("start_resend.after" in reached) == (first == "claim.after")
    await outlive_leases(bench.url)
    await resolve(survivor)
    for kind in KINDS:
        again = await calls[kind](survivor)
        payment = RESPONSES[kind].FromString(again.body).payment
        assert payment.latest_command.state == payment_pb2.COMMAND_STATE_SUCCEEDED, kind
        assert effects_of(bench.log, kind)[len(before[kind]) :] == [EFFECT[kind]], kind


async def test_a_callback_killed_anywhere_and_again_is_applied_once(bench: Bench) -> None:
    """Each delivery and each application dies twice at its point; the provider repeats what got no 2xx: paid once."""
    survivor = runtime_on(bench.store, bench.accounts)
    waiting = {point: await waiting_payment(bench, point) for point in CALLBACK_POINTS}
    events = {point: await approved(bench, waiting[point]) for point in CALLBACK_POINTS}
    for point in CALLBACK_POINTS:
        for died in range(DOUBLE):
            stop = Interruption(point, crash=True)
            dying = runtime_on(bench.store, bench.accounts, stop)
            try:
                await deliver(dying, events[point])
                await dying.applier.run_once()
            except (SimulatedCrash, Unavailable):
                pass
            # What was committed the first time is not done a second.
            assert stop.reached.is_set() or (died and point in ("settle.lost", "settle.after")), point
            await outlive_leases(bench.url)
        # No 2xx was given, or it was lost on the way: the provider sends it again.
        await deliver(survivor, events[point])
        while await survivor.applier.run_once():
            await outlive_leases(bench.url)
    for point, payment_id in waiting.items():
        found = await bench.store.get_payment(caller_of(point).tenant_id, payment_id)
        assert found is not None
        assert found.state is PaymentState.CAPTURED, point
        assert effects_of(bench.log, point) == ["capture"]
    inbox = await rows(bench.url, "SELECT state, count(*) FROM callbacks GROUP BY state")
    assert [tuple(row) for row in inbox] == [("APPLIED", len(CALLBACK_POINTS))]


async def waiting_payment(bench: Bench, name: str) -> str:
    """A payment of its own tenant that waits for its payer."""
    request = CreatePayment("k", 1_000, "EUR", payment_method="card_requires_action")
    reply = await runtime_on(bench.store, bench.accounts).commands.create(caller_of(name), request, 20)
    return str(pb.CreatePaymentResponse.FromString(reply.body).payment.payment_id)


async def approved(bench: Bench, payment_id: str) -> dict[str, Any]:
    """The payer has approved: the provider's event of it."""
    ((reference,),) = await rows(
        bench.url, "SELECT provider_payment_id FROM payments WHERE payment_id = :id", id=payment_id
    )
    headers = {"Authorization": "Bearer sandbox-key-main"}
    async with aiohttp.ClientSession(headers=headers) as session:
        url = f"{bench.sandbox_url}/customer/{reference}"
        async with session.post(url, json={"outcome": "approve"}) as answer:
            assert answer.status == 200
        async with session.get(f"{bench.sandbox_url}/v1/events?limit=100") as answer:
            newest: dict[str, Any] = (await answer.json())["data"][-1]
            return newest


async def deliver(process: Any, event: dict[str, Any]) -> None:
    """Hand the event over, as the sidecar does."""
    delivery = Delivery("sandbox", ACCOUNT, event["id"], event["type"], json.dumps(event).encode(), {}, 0)
    await process.callbacks.deliver(Caller("", "", "webhook:sandbox", "corr"), delivery)
