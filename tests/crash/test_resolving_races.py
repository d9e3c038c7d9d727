"""Resolutions against whoever else holds or held the operation, and where nobody can ever be asked: on both stores."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.app.proposing import Wish
from gateway.app.requests import CancelPayment, CreatePayment, RefundPayment
from gateway.app.runtime import Runtime
from gateway.domain.commands import Caller, CommandKind, Operation
from gateway.domain.errors import Busy, ObolError, Precondition, Reason, Unavailable
from gateway.domain.observations import Source
from gateway.domain.payments import CaptureMethod
from gateway.domain.resolutions import Resolution
from gateway.domain.states import CommandState, PaymentState
from gateway.domain.storage import Aggregate, Store
from gateway.verification import verify
from obol.v1 import payment_gateway_pb2 as pb
from providers.registry import AccountRegistry, build_accounts
from providers.settings import AccountsSettings
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
    runtime_on,
)
from tests.databases import postgresql_url, sqlite_url
from tests.store.looking import rows

CALLER = caller_of("t1")
ANN, BOB = (Caller("", "", name, f"corr-{name}") for name in ("ann", "bob"))
LONG_AGO_US = 48 * 3600 * 1_000_000


@dataclass
class Scene:
    """A payment, and what is around it; `nobody` is a registry without the account."""

    url: str
    log: Path
    store: Store
    accounts: AccountRegistry
    nobody: AccountRegistry

    async def aggregate(self, payment_id: str) -> Aggregate:
        """The payment as it stands."""
        found = await self.store.load(CALLER.tenant_id, payment_id)
        assert found is not None
        return found

    async def operation(self, payment_id: str, kind: CommandKind) -> Operation:
        """Its operation of a kind."""
        return next(o for o in (await self.aggregate(payment_id)).operations if o.kind is kind)

    async def create(self, key: str = "c", **asked: object) -> str:
        """A payment of 1,000."""
        request = CreatePayment(key, 1_000, "EUR", **({"payment_method": "card_ok"} | asked))  # type: ignore[arg-type]  # terms by name
        reply = await runtime_on(self.store, self.accounts).commands.create(CALLER, request, 20)
        return str(pb.CreatePaymentResponse.FromString(reply.body).payment.payment_id)

    async def die_refunding(self, payment_id: str, point: str) -> Operation:
        """A refund whose process died at `point`, found by a recovery that can read nothing: UNKNOWN, long ago."""
        dying = runtime_on(self.store, self.accounts, Interruption(point, crash=True))
        with pytest.raises(SimulatedCrash):
            await dying.commands.refund(CALLER, RefundPayment("r", payment_id, 400, "EUR"), 20)
        return await self.left_unknown(payment_id, CommandKind.REFUND)

    async def left_unknown(self, payment_id: str, kind: CommandKind) -> Operation:
        """The operation after its lease and its longest flight, and after a look that learned nothing."""
        await outlive_leases(self.url)
        await runtime_on(self.store, self.nobody).recovery.run_once()
        await rows(
            self.url,
            f"UPDATE operations SET last_send_us = last_send_us - {LONG_AGO_US}, "
            f"claimed_time_us = claimed_time_us - {LONG_AGO_US} WHERE state = 'UNKNOWN'",
        )
        operation = await self.operation(payment_id, kind)
        assert operation.state is CommandState.UNKNOWN
        return operation


@pytest.fixture(params=["sqlite", "postgresql"])
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    """Both stores; the invariants hold when the test is over."""
    url = sqlite_url(tmp_path) if request.param == "sqlite" else postgresql_url()
    log = tmp_path / "sandbox" / "effects.jsonl"
    async with running(SandboxSettings(data_dir=tmp_path / "sandbox", port=0)) as sandbox_url:
        store, accounts = await open_store(url), accounts_at(sandbox_url)
        yield Scene(url, log, store, accounts, build_accounts(AccountsSettings((), "")))
        await store.close()
        await accounts.close()
    report = await verify(url, effect_log=log if log.exists() else None)
    assert report.violations == []


def wish_for(operation: Operation, resolution: Resolution = Resolution.NOT_EXECUTED, **asked: str) -> Wish:
    """What an operator asks for."""
    return Wish(operation.tenant_id, operation.command_id, resolution, "seen in their dashboard", **asked)


async def both(runtime: Runtime, wish: Wish) -> Aggregate:
    """Ann proposes and Bob approves; the payment afterwards."""
    proposed = await runtime.resolving.resolve(ANN, wish)
    approval = replace(
        wish, provider_result_id="", provider_movement_id="", approve_proposal_id=proposed.proposal.proposal_id
    )
    resolved = await runtime.resolving.resolve(BOB, approval)
    assert resolved.resolved
    return resolved.aggregate


async def refusal(runtime: Runtime, caller: Caller, wish: Wish) -> ObolError:
    """Why a resolution was refused."""
    with pytest.raises(ObolError) as raised:
        await runtime.resolving.resolve(caller, wish)
    return raised.value


async def test_the_first_holder_settles_between_proposal_and_approval(scene: Scene) -> None:
    """It wakes with its answer: kept as evidence and merged, so that the command has ended and nothing is approved."""
    payment_id = await scene.create()
    stop = Interruption("settle.before", crash=False)
    sleeper = runtime_on(scene.store, scene.accounts, stop)
    call = asyncio.ensure_future(sleeper.commands.refund(CALLER, RefundPayment("r", payment_id, 400, "EUR"), 20))
    await stop.reached.wait()
    operation = await scene.left_unknown(payment_id, CommandKind.REFUND)
    runtime = runtime_on(scene.store, scene.nobody)
    proposed = await runtime.resolving.resolve(ANN, wish_for(operation))
    stop.resume.set()
    await call
    approve = wish_for(operation, approve_proposal_id=proposed.proposal.proposal_id)
    error = await refusal(runtime, BOB, approve)
    assert (type(error), error.reason) == (Precondition, Reason.COMMAND_NOT_UNKNOWN)
    assert (await scene.operation(payment_id, CommandKind.REFUND)).state is CommandState.SUCCEEDED
    assert effects_of(scene.log, "t1") == ["capture", "refund"]


async def test_a_late_answer_to_a_resolved_command_is_kept_and_raises_it(scene: Scene) -> None:
    """Two operators ended it as never executed; the first holder's answer is evidence, and its facts outrank them."""
    payment_id = await scene.create()
    stop = Interruption("settle.before", crash=False)
    sleeper = runtime_on(scene.store, scene.accounts, stop)
    call = asyncio.ensure_future(sleeper.commands.refund(CALLER, RefundPayment("r", payment_id, 400, "EUR"), 20))
    await stop.reached.wait()
    operation = await scene.left_unknown(payment_id, CommandKind.REFUND)
    ended = await both(runtime_on(scene.store, scene.nobody), wish_for(operation))
    assert ended.payment.reserved_refund_minor == 0
    stop.resume.set()
    reply = await call
    assert reply.replayed
    assert (await scene.operation(payment_id, CommandKind.REFUND)).state is CommandState.SUCCEEDED
    kept = await rows(scene.url, f"SELECT operation_id FROM evidence WHERE operation_id = '{operation.operation_id}'")
    assert len(kept) == 1


async def test_who_holds_the_lease_is_not_overtaken(scene: Scene) -> None:
    """Recovery has taken the operation and may be about to resend: the approval waits its turn, and nothing changes."""
    payment_id = await scene.create()
    operation = await scene.die_refunding(payment_id, "send.before")
    runtime = runtime_on(scene.store, scene.nobody)
    proposed = await runtime.resolving.resolve(ANN, wish_for(operation))
    approve = wish_for(operation, approve_proposal_id=proposed.proposal.proposal_id)
    await rows(scene.url, "UPDATE operations SET next_attempt_us = 1 WHERE state = 'UNKNOWN'")
    due = await scene.store.take_due(limit=5, lease_s=60)
    assert [o.operation_id for o in due.operations] == [operation.operation_id]
    error = await refusal(runtime, BOB, approve)
    assert (type(error), error.reason) == (Busy, Reason.COMMAND_BUSY)
    await scene.store.reschedule(due.operations[0], next_attempt_s=0, failure="")
    assert (await runtime.resolving.resolve(BOB, approve)).resolved


async def test_what_moves_between_the_look_and_the_take_is_seen(scene: Scene) -> None:
    """A refund elsewhere settles in between: the approval sees it under its lease, and gives the operation back."""
    payment_id = await scene.create()
    operation = await scene.die_refunding(payment_id, "send.before")
    proposed = await runtime_on(scene.store, scene.nobody).resolving.resolve(ANN, wish_for(operation))

    class Moving:
        """The real store, before whose take the payment moves on."""

        def __getattr__(self, name: str) -> Any:
            return getattr(scene.store, name)

        async def take_operation(self, held: Operation, *, lease_s: float) -> Any:
            other = RefundPayment("another", payment_id, 100, "EUR")
            await runtime_on(scene.store, scene.accounts).commands.refund(CALLER, other, 20)
            return await scene.store.take_operation(held, lease_s=lease_s)

    runtime = runtime_on(cast(Store, Moving()), scene.nobody)
    error = await refusal(runtime, BOB, wish_for(operation, approve_proposal_id=proposed.proposal.proposal_id))
    assert error.reason is Reason.PROPOSAL_STALE
    left = await scene.operation(payment_id, CommandKind.REFUND)
    assert (left.state, left.lease_until_us) == (CommandState.UNKNOWN, None)
    assert left.next_attempt_us is not None


async def test_of_many_approvals_one_counts(scene: Scene) -> None:
    """Ten operators approve at once: one settle, one observation; the rest are refused or told the same."""
    payment_id = await scene.create()
    operation = await scene.die_refunding(payment_id, "send.before")
    runtime = runtime_on(scene.store, scene.nobody)
    proposed = await runtime.resolving.resolve(ANN, wish_for(operation))
    approve = wish_for(operation, approve_proposal_id=proposed.proposal.proposal_id)
    calls = (runtime.resolving.resolve(Caller("", "", f"bob-{n}", "corr"), approve) for n in range(10))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(each, ObolError) or each.resolved for each in outcomes)  # type: ignore[union-attr]  # a Resolved
    assert len(await rows(scene.url, "SELECT proposal_id FROM approvals")) == 1
    of_command = f"command_id = '{operation.command_id}' AND kind = 'COMMAND_CONCLUDED'"
    assert len(await rows(scene.url, f"SELECT source FROM observations WHERE {of_command}")) == 1


async def test_a_provider_that_cannot_be_read_now_decides_nothing(scene: Scene) -> None:
    """Configured and unreachable: UNAVAILABLE, since evidence may still come; taken out of the settings, it may end."""
    payment_id = await scene.create()
    operation = await scene.die_refunding(payment_id, "send.before")
    unreachable = accounts_at("http://127.0.0.1:9")
    error = await refusal(runtime_on(scene.store, unreachable), ANN, wish_for(operation))
    await unreachable.close()
    assert (type(error), error.reason) == (Unavailable, Reason.PROVIDER_UNAVAILABLE)
    await both(runtime_on(scene.store, scene.nobody), wish_for(operation))


async def test_a_refund_is_booked_by_word_where_nobody_can_be_asked(scene: Scene) -> None:
    """Facts with source MANUAL under the provider's id: what the provider tells later of it is the same refund."""
    payment_id = await scene.create()
    operation = await scene.die_refunding(payment_id, "send.after")
    payment = (await scene.aggregate(payment_id)).payment
    account = scene.accounts.get(payment.account_id)
    assert account is not None
    found = await account.adapter.fetch(payment.provider_payment_id or "", timeout_s=5)
    refund_id = next(m.provider_movement_id for m in found.snapshot.facts.movements if m.kind == "REFUND")  # type: ignore[union-attr]  # it is there
    wish = wish_for(operation, Resolution.EXECUTED, provider_result_id=refund_id)
    after = await both(runtime_on(scene.store, scene.nobody), wish)
    assert after.payment.state is PaymentState.PARTIALLY_REFUNDED
    assert [r.provider_refund_id for r in after.refunds] == [refund_id]
    history = await scene.store.history("t1", payment_id, after_version=after.payment.version - 1, limit=5)
    assert [entry.source for entry in history] == [Source.MANUAL]
    synced = await runtime_on(scene.store, scene.accounts).commands.sync(CALLER, payment_id, 20)
    assert synced.sums.refunded_minor == 400
    assert len((await scene.aggregate(payment_id)).refunds) == 1


async def test_a_result_of_another_payment_is_refused(scene: Scene) -> None:
    """A refund belongs to one payment: naming another's is a contradiction, also where nobody can be asked."""
    other = await scene.create("other")
    refund = RefundPayment("rr", other, 400, "EUR")
    await runtime_on(scene.store, scene.accounts).commands.refund(CALLER, refund, 20)
    taken_id = (await scene.aggregate(other)).refunds[0].provider_refund_id or ""
    payment_id = await scene.create()
    operation = await scene.die_refunding(payment_id, "send.before")
    wish = wish_for(operation, Resolution.EXECUTED, provider_result_id=taken_id)
    error = await refusal(runtime_on(scene.store, scene.nobody), ANN, wish)
    assert error.reason is Reason.EVIDENCE_CONTRADICTS
    assert other in error.message


async def test_a_create_is_found_at_the_provider_by_the_id_that_is_named(scene: Scene) -> None:
    """An id that does not exist, or another payment's, is refused; the true one brings the provider's own facts."""
    first = await scene.create("first")
    stop = Interruption("send.after", crash=True)
    dying = runtime_on(scene.store, scene.accounts, stop)
    with pytest.raises(SimulatedCrash):
        await dying.commands.create(CALLER, CreatePayment("c", 1_000, "EUR", payment_method="card_ok"), 20)
    ((payment_id,),) = await rows(scene.url, f"SELECT payment_id FROM payments WHERE payment_id <> '{first}'")
    operation = await scene.left_unknown(payment_id, CommandKind.CREATE)
    runtime = runtime_on(scene.store, scene.accounts)
    account = scene.accounts.get(operation.account_id)
    assert account is not None
    taken_id = (await scene.aggregate(first)).payment.provider_payment_id or ""
    for wrong in ("sp_none", taken_id):
        error = await refusal(runtime, ANN, wish_for(operation, Resolution.EXECUTED, provider_result_id=wrong))
        assert error.reason is Reason.EVIDENCE_CONTRADICTS
    assert (await refusal(runtime, ANN, wish_for(operation))).reason is Reason.EVIDENCE_CONTRADICTS
    true = await account.adapter.lookup(payment_id, timeout_s=5)
    wish = wish_for(operation, Resolution.EXECUTED, provider_result_id=true.snapshot.provider_payment_id)  # type: ignore[union-attr]  # it is there
    after = await both(runtime, wish)
    assert after.payment.state is PaymentState.CAPTURED


@pytest.mark.parametrize(
    ("capture", "movement_id", "state"),
    [
        (CaptureMethod.AUTOMATIC, "cap_1", PaymentState.CAPTURED),
        (CaptureMethod.MANUAL, "auth_1", PaymentState.AUTHORIZED),
        (CaptureMethod.AUTOMATIC, "", PaymentState.PROCESSING),
    ],
)
async def test_a_create_by_word_books_what_was_named_and_no_more(
    scene: Scene, capture: CaptureMethod, movement_id: str, state: PaymentState
) -> None:
    """The capture or the hold where it was named; without it the command is done and the money still to be seen."""
    dying = runtime_on(scene.store, scene.accounts, Interruption("claim.after", crash=True))
    request = CreatePayment("c", 1_000, "EUR", payment_method="card_ok", capture_method=capture)
    with pytest.raises(SimulatedCrash):
        await dying.commands.create(CALLER, request, 20)
    ((payment_id,),) = await rows(scene.url, "SELECT payment_id FROM payments")
    operation = await scene.left_unknown(payment_id, CommandKind.CREATE)
    wish = wish_for(operation, Resolution.EXECUTED, provider_result_id="sp_gone", provider_movement_id=movement_id)
    after = await both(runtime_on(scene.store, scene.nobody), wish)
    assert after.commands[0].state is CommandState.SUCCEEDED
    assert after.payment.state is state
    assert after.payment.provider_payment_id == "sp_gone"


async def test_a_cancellation_ends_by_the_word_of_two(scene: Scene) -> None:
    """Executed, it closes the payment; the payment is free for other commands afterwards in both cases."""
    for resolution, state in (
        (Resolution.EXECUTED, PaymentState.CANCELLED),
        (Resolution.NOT_EXECUTED, PaymentState.AUTHORIZED),
    ):
        payment_id = await scene.create(resolution, capture_method=CaptureMethod.MANUAL)
        point = "send.after" if resolution is Resolution.EXECUTED else "claim.after"
        dying = runtime_on(scene.store, scene.accounts, Interruption(point, crash=True))
        with pytest.raises(SimulatedCrash):
            await dying.commands.cancel(CALLER, CancelPayment(f"x{resolution}", payment_id), 20)
        operation = await scene.left_unknown(payment_id, CommandKind.CANCEL)
        after = await both(runtime_on(scene.store, scene.nobody), wish_for(operation, resolution))
        assert after.payment.state is state
        assert after.payment.busy_command_id is None
