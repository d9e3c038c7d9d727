"""What recovery may and may not conclude: the cases that reviews and torture brought up, each as it was found."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from gateway.app.requests import CreatePayment, RefundPayment
from gateway.domain.observations import ObservationKind
from gateway.domain.states import CommandState, PaymentState
from gateway.domain.storage import Aggregate, Store
from obol.v1 import payment_gateway_pb2 as pb
from providers.registry import AccountRegistry
from simulators.sandbox.server import running
from simulators.sandbox.settings import SandboxSettings
from store import open_store
from tests.crash.rig import (
    Interruption,
    SimulatedCrash,
    accounts_at,
    caller_of,
    effects_of,
    outlive_leases,
    resolve,
    runtime_on,
)
from tests.databases import sqlite_url

CALLER = caller_of("t1")


@dataclass
class Scene:
    """A captured payment of 1,000, and what is around it."""

    url: str
    sandbox_url: str
    log: Path
    store: Store
    accounts: AccountRegistry
    payment_id: str

    async def aggregate(self) -> Aggregate:
        """The payment as it stands."""
        found = await self.store.load(CALLER.tenant_id, self.payment_id)
        assert found is not None
        return found

    async def die_refunding(self, point: str, amount_minor: int) -> None:
        """A process that dies at `point` of a refund, whose lease is over."""
        dying = runtime_on(self.store, self.accounts, Interruption(point, crash=True))
        with pytest.raises(SimulatedCrash):
            await dying.commands.refund(CALLER, RefundPayment("r", self.payment_id, amount_minor, "EUR"), 20)
        await outlive_leases(self.url)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A captured payment on SQLite."""
    url = sqlite_url(tmp_path)
    async with running(SandboxSettings(data_dir=tmp_path / "sandbox", port=0)) as sandbox_url:
        store, accounts = await open_store(url), accounts_at(sandbox_url)
        runtime = runtime_on(store, accounts)
        reply = await runtime.commands.create(CALLER, CreatePayment("c", 1_000, "EUR", payment_method="card_ok"), 20)
        payment_id = pb.CreatePaymentResponse.FromString(reply.body).payment.payment_id
        yield Scene(url, sandbox_url, tmp_path / "sandbox" / "effects.jsonl", store, accounts, payment_id)
        await store.close()
        await accounts.close()


async def test_an_account_that_was_pointed_elsewhere_concludes_nothing(scene: Scene) -> None:
    """The refund is done and its answer lost; another merchant's 404 is no absence: it stays UNKNOWN, and reserved."""
    await scene.die_refunding("send.after", 600)
    elsewhere = accounts_at(scene.sandbox_url, api_key="sandbox-key-other")
    for _ in range(3):
        await runtime_on(scene.store, elsewhere).recovery.run_once()
        await asyncio.sleep(0.3)
    await elsewhere.close()
    found = await scene.aggregate()
    assert [o.state for o in found.operations] == [CommandState.SUCCEEDED, CommandState.UNKNOWN]
    assert found.payment.refundable_minor == 400
    await resolve(runtime_on(scene.store, scene.accounts))
    found = await scene.aggregate()
    assert found.payment.state is PaymentState.PARTIALLY_REFUNDED
    assert effects_of(scene.log, "t1") == ["capture", "refund"]


async def test_a_definite_refusal_of_a_resend_ends_the_refund(scene: Scene) -> None:
    """Claimed and never sent; the money went another way meanwhile: the first resend's refusal is the end."""
    await scene.die_refunding("claim.after", 600)
    reference = (await scene.aggregate()).payment.provider_payment_id
    async with aiohttp.ClientSession() as session:
        url = f"{scene.sandbox_url}/control/payments/{reference}/refund"
        async with session.post(url, json={"amount": 900}) as answer:
            assert answer.status == 200
    await runtime_on(scene.store, scene.accounts).recovery.run_once()
    found = await scene.aggregate()
    refund = next(o for o in found.operations if o.refund_id)
    assert refund.state is CommandState.FAILED
    assert found.payment.reserved_refund_minor == 0
    assert refund.recoveries == 1


async def test_what_another_process_settled_is_not_settled_again(scene: Scene) -> None:
    """A holder that wakes after recovery has settled leaves its reply as evidence: one refund, one final answer."""
    stop = Interruption("settle.before", crash=False)
    sleeper = runtime_on(scene.store, scene.accounts, stop)
    call = asyncio.ensure_future(sleeper.commands.refund(CALLER, RefundPayment("r", scene.payment_id, 600, "EUR"), 20))
    await stop.reached.wait()
    await outlive_leases(scene.url)
    await resolve(runtime_on(scene.store, scene.accounts))
    stop.resume.set()
    reply = await call
    assert reply.replayed
    assert pb.RefundPaymentResponse.FromString(reply.body).refund.amount.amount_minor == 600
    assert effects_of(scene.log, "t1") == ["capture", "refund"]


async def test_a_contradiction_that_was_told_writes_no_version_again(scene: Scene) -> None:
    """Look after look at an account that was pointed elsewhere: one observation, and a version that stands."""
    await scene.die_refunding("send.after", 600)
    elsewhere = accounts_at(scene.sandbox_url, api_key="sandbox-key-other")
    versions = []
    for _ in range(3):
        assert await runtime_on(scene.store, elsewhere).recovery.run_once() == 1
        versions.append((await scene.aggregate()).payment.version)
        await asyncio.sleep(0.4)
    await elsewhere.close()
    assert len(set(versions)) == 1
    seen = await scene.store.read_observations("t1", after_sequence=0, limit=50)
    assert sum(each.kind is ObservationKind.CONTRADICTION for each in seen) == 1
    await resolve(runtime_on(scene.store, scene.accounts))
