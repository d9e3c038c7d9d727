"""What recovery may and may not conclude: the cases that reviews and torture brought up, each as it was found."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from gateway.app.recovery import BEFORE_RESTORE, OUT_OF_MEANS
from gateway.app.requests import CreatePayment, RefundPayment
from gateway.app.verdicts import NEVER_EXECUTED
from gateway.domain.commands import Operation, PreparedRequest
from gateway.domain.providers import Absent, Accounts, AdmissionRefused, Lookup
from gateway.domain.states import CommandState, PaymentState
from gateway.domain.storage import Aggregate, Store
from gateway.verification import verify
from obol.v1 import payment_gateway_pb2 as pb
from providers.registry import AccountRegistry
from simulators.sandbox.server import running
from simulators.sandbox.settings import SandboxSettings
from store import open_store
from tests.crash.rig import (
    BRIEF,
    Interruption,
    SimulatedCrash,
    accounts_at,
    blinded,
    caller_of,
    change,
    effects_of,
    make_due,
    outlive_leases,
    resolve,
    rows,
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

    async def operations(self) -> list[Operation]:
        """Every operation of every payment of the tenant."""
        found = await rows(self.url, "SELECT DISTINCT payment_id FROM operations")
        loaded = [await self.store.load(CALLER.tenant_id, str(row[0])) for row in found]
        return [operation for aggregate in loaded if aggregate for operation in aggregate.operations]

    async def said(self, kind: str, command_id: str = "%") -> int:
        """How many observations of a kind there are."""
        statement = "SELECT 1 FROM observations WHERE kind = :kind AND coalesce(command_id, '') LIKE :command"
        return len(await rows(self.url, statement, kind=kind, command=command_id))

    async def contradictions(self) -> int:
        """How often a person was told of a contradiction."""
        return await self.said("CONTRADICTION")

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


async def test_a_contradiction_that_lasts_is_told_once_and_writes_no_version(scene: Scene) -> None:
    """Every look at another merchant's books says the same: one observation, one version, and looks without end."""
    await scene.die_refunding("send.after", 600)
    elsewhere = accounts_at(scene.sandbox_url, api_key="sandbox-key-other")
    versions = []
    for _ in range(4):
        await runtime_on(scene.store, elsewhere).recovery.run_once()
        versions.append((await scene.aggregate()).payment.version)
        await make_due(scene.url)
    await elsewhere.close()
    assert len(set(versions)) == 1
    refund = next(o for o in (await scene.aggregate()).operations if o.refund_id)
    assert refund.recoveries == 4
    assert await scene.contradictions() == 1


async def test_a_contradiction_of_a_pending_operation_is_told_once(scene: Scene) -> None:
    """A refund that is PENDING by its facts is contradicted as one that is UNKNOWN is: once, whatever lies between."""
    request = CreatePayment("p", 1_000, "EUR", payment_method="card_refund_pending")
    runtime = runtime_on(scene.store, scene.accounts)
    reply = await runtime.commands.create(CALLER, request, 20)
    payment_id = pb.CreatePaymentResponse.FromString(reply.body).payment.payment_id
    await runtime.commands.refund(CALLER, RefundPayment("pending", payment_id, 600, "EUR"), 20)
    scene = replace(scene, payment_id=payment_id)
    refund = next(o for o in (await scene.aggregate()).operations if o.refund_id)
    assert refund.state is CommandState.PENDING
    elsewhere = accounts_at(scene.sandbox_url, api_key="sandbox-key-other")
    unreachable = accounts_at("http://127.0.0.1:9")
    for accounts in (elsewhere, elsewhere, unreachable, elsewhere):
        await make_due(scene.url)
        await runtime_on(scene.store, accounts).recovery.run_once()
    await elsewhere.close()
    await unreachable.close()
    assert await scene.contradictions() == 1


@pytest.mark.parametrize("kind", ["create", "refund"])
async def test_a_send_that_lands_after_it_was_held_for_never_executed_rises(kind: str, scene: Scene) -> None:
    """Recovery has proved absence and concluded FAILED; then the sleeper's send lands: SUCCEEDED, told, one effect."""
    sleeper = runtime_on(scene.store, scene.accounts, stop := Interruption("send.before", crash=False))
    late: Any
    if kind == "create":
        late = sleeper.commands.create(CALLER, CreatePayment("late", 700, "EUR", payment_method="card_ok"), 20)
    else:
        late = sleeper.commands.refund(CALLER, RefundPayment("late", scene.payment_id, 600, "EUR"), 20)
    call = asyncio.ensure_future(late)
    await stop.reached.wait()
    await outlive_leases(scene.url, seconds=3_600)  # past the lease, the age for resends and the longest flight
    recovering = runtime_on(scene.store, scene.accounts)
    await recovering.recovery.run_once()
    (operation,) = [o for o in await scene.operations() if o.decline is not None]
    assert (operation.state, operation.decline) == (CommandState.FAILED, NEVER_EXECUTED)
    stop.resume.set()
    reply = await call
    assert reply.replayed  # the first final answer is the command's for ever
    found = await scene.store.load(CALLER.tenant_id, operation.payment_id)
    assert found is not None
    assert next(o.state for o in found.operations if o.operation_id == operation.operation_id) is CommandState.SUCCEEDED
    assert await scene.said("COMMAND_REVERSED", operation.command_id) == 1
    assert effects_of(scene.log, "t1") == (["capture", "capture"] if kind == "create" else ["capture", "refund"])
    report = await verify(scene.url, effect_log=scene.log, healed=True)
    assert report.violations == []


async def test_a_look_that_a_breaker_refused_comes_again_when_it_closes(scene: Scene) -> None:
    """After twenty looks the pause is long; one that nobody was asked in is as short as the breaker's."""
    await scene.die_refunding("send.after", 600)
    await runtime_on(scene.store, unreachable := accounts_at("http://127.0.0.1:9")).recovery.run_once()
    await unreachable.close()
    await change(scene.url, "UPDATE operations SET recoveries = 20")
    await make_due(scene.url)

    class Refusing:
        def __init__(self, accounts: Accounts) -> None:
            self._accounts = accounts

        def get(self, account_id: str) -> Any:
            return Refused(self._accounts.get(account_id))

    class Refused:
        def __init__(self, account: Any) -> None:
            self.account_id, self.provider, self.adapter = account.account_id, account.provider, account.adapter

        async def admit(self, *, wait_s: float) -> Any:
            raise AdmissionRefused("breaker open", saturated=False, retry_after_s=0.2)

    patient = replace(BRIEF, unknown_check_s_max=45.0, recovery_poll_s=0.1)
    for _ in range(2):
        refusing = runtime_on(scene.store, cast(Accounts, Refusing(scene.accounts)), settings=patient)
        assert await refusing.recovery.run_once() == 1
        await asyncio.sleep(0.25)
    assert await runtime_on(scene.store, scene.accounts).recovery.run_once() == 1
    assert (await scene.aggregate()).payment.state is PaymentState.PARTIALLY_REFUNDED


class Blind:
    """The real adapter of a provider that cannot be asked by our reference, or whose look may miss what was written."""

    def __init__(self, adapter: Any, key_window_s: int = 86_400) -> None:
        self._adapter = adapter
        self._key_window_s = key_window_s
        self.capabilities = replace(adapter.capabilities, absence_is_consistent=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    async def lookup(self, payment_id: str, *, timeout_s: float) -> Lookup:
        return Absent(consistent=False)

    def prepare_create(self, *args: Any) -> PreparedRequest:
        prepared: PreparedRequest = self._adapter.prepare_create(*args)
        return replace(prepared, key_window_s=self._key_window_s)


@pytest.mark.parametrize("point", ["claim.after", "send.after"])
async def test_without_a_look_that_cannot_miss_a_young_operation_is_sent_again(point: str, scene: Scene) -> None:
    """The provider cannot be asked: the same request under the same key brings the answer, and one effect."""
    accounts = blinded(scene.accounts, Blind)
    await die_creating(scene, accounts, point)
    assert effects_of(scene.log, "t1") == ["capture"] * (1 + (point == "send.after"))
    runtime = runtime_on(scene.store, accounts)
    await runtime.recovery.run_once()
    assert [o.state for o in await scene.operations()] == [CommandState.SUCCEEDED] * 2
    assert effects_of(scene.log, "t1") == ["capture", "capture"]


@pytest.mark.parametrize(("age_s", "key_window_s"), [(3_600, 86_400), (200, 750)])
async def test_without_a_look_that_cannot_miss_an_old_operation_rests_with_a_person(
    age_s: int, key_window_s: int, scene: Scene
) -> None:
    """Past the age for resends, or near the end of the key window, it is only looked at: UNKNOWN, said once."""
    accounts = blinded(scene.accounts, lambda adapter: Blind(adapter, key_window_s))
    await die_creating(scene, accounts, "claim.after")
    await outlive_leases(scene.url, seconds=age_s)
    seen = []
    for _ in range(3):
        await runtime_on(scene.store, accounts).recovery.run_once()
        (operation,) = [o for o in await scene.operations() if o.state is not CommandState.SUCCEEDED]
        found = await scene.store.load(CALLER.tenant_id, operation.payment_id)
        assert found is not None
        seen.append((operation.state, operation.failure, found.payment.version))
        await make_due(scene.url)
    assert seen == [(CommandState.UNKNOWN, OUT_OF_MEANS, 2)] * 3


async def test_without_a_look_that_cannot_miss_what_is_older_than_a_restore_rests_with_a_person(scene: Scene) -> None:
    """Young as it is, its caller may have acted on an answer that was lost: it is not sent again. Said once."""
    accounts = blinded(scene.accounts, Blind)
    await die_creating(scene, accounts, "claim.after")
    await scene.store.raise_generation(backup_time_us=1, stopped_time_us=1, actor="operator", reason="test")
    for each in scene.accounts.all():
        await scene.store.release_account(each.account_id, actor="operator", reason="cannot list")
    before = effects_of(scene.log, "t1")
    seen = []
    for _ in range(3):
        await runtime_on(scene.store, accounts).recovery.run_once()
        (operation,) = [o for o in await scene.operations() if o.state is not CommandState.SUCCEEDED]
        found = await scene.store.load(CALLER.tenant_id, operation.payment_id)
        assert found is not None
        seen.append((operation.state, operation.failure, found.payment.version))
        await make_due(scene.url)
    assert seen == [(CommandState.UNKNOWN, BEFORE_RESTORE, 2)] * 3
    assert effects_of(scene.log, "t1") == before
    assert effects_of(scene.log, "t1") == ["capture"]


async def die_creating(scene: Scene, accounts: Accounts, point: str) -> None:
    """A process that dies at `point` of a create, whose lease is over."""
    dying = runtime_on(scene.store, accounts, Interruption(point, crash=True))
    with pytest.raises(SimulatedCrash):
        await dying.commands.create(CALLER, CreatePayment("blind", 700, "EUR", payment_method="card_ok"), 20)
    await outlive_leases(scene.url)
