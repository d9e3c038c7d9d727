"""A payment goes on to the next account where the first declined softly, once its object there is cancelled."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.app.requests import CancelPayment, CapturePayment, ConfirmPayment, RefundPayment
from gateway.domain.commands import CommandKind
from gateway.domain.errors import Busy, Conflict, Reason, Unavailable
from gateway.domain.movements import Closure
from gateway.domain.payments import CaptureMethod
from gateway.domain.routes import FailoverOn
from gateway.domain.states import CommandState, PaymentState
from obol.v1 import payment_pb2
from tests.crash.rig import resolve
from tests.failover.rig import (
    AUTHORIZED,
    CALLER,
    CAPTURED,
    CREATED,
    FAILED,
    MAIN,
    NOWHERE,
    OTHER,
    THIRD,
    Scene,
    created,
    created_and_left,
    rule,
    scene_at,
    tried,
    wish,
)
from tests.store.looking import rows

ONLY_NOT_SENT = frozenset({FailoverOn.NOT_SENT})


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A fresh database and a fresh sandbox."""
    async with scene_at(tmp_path) as made:
        yield made


async def test_a_soft_decline_goes_on_once_its_object_is_cancelled(scene: Scene) -> None:
    """Declined at the first, cancelled there, paid at the second: one command, two operations, one final reply."""
    runtime = scene.runtime(rule())
    payment = await created(runtime, wish("card_declined_at_main"))
    assert (payment.state, payment.provider_reference.account_id) == (CAPTURED, OTHER)
    assert payment.latest_command.kind == payment_pb2.COMMAND_KIND_CREATE
    assert await scene.objects() == {MAIN: 1, OTHER: 1}
    aggregate = await scene.only()
    creates = [(o.step, o.account_id, o.state) for o in aggregate.operations if o.kind is CommandKind.CREATE]
    assert creates == [(1, MAIN, CommandState.FAILED), (2, OTHER, CommandState.SUCCEEDED)]
    assert {o.account_id: o.closure for o in aggregate.payment.facts.objects} == {
        MAIN: Closure.CANCELLED,
        OTHER: Closure.OPEN,
    }
    assert tried(aggregate.payment) == [(MAIN, "DECLINED"), (OTHER, "CHOSEN")]
    assert scene.effects() == [(OTHER, "capture")]
    concluded = await rows(
        scene.url,
        "SELECT command_kind, command_state, payment_state FROM observations WHERE kind = 'COMMAND_CONCLUDED'",
    )
    assert ("CREATE", "SUCCEEDED", "CAPTURED") in concluded
    assert [kind for kind, _, _ in concluded].count("CREATE") == 1
    again = await runtime.commands.create(CALLER, wish("card_declined_at_main"), 10)
    assert again.replayed
    refund = await runtime.commands.refund(CALLER, RefundPayment("r", payment.payment_id), 10)
    assert not refund.replayed
    assert scene.effects()[-1] == (OTHER, "refund")
    await scene.verified()


async def test_the_cancellation_where_nothing_was_held_moves_nothing(scene: Scene) -> None:
    """Declined and cancelled at the first, held and captured at the second: to `obol verify` all of it adds up."""
    runtime = scene.runtime(rule())
    payment = await created(runtime, wish("card_declined_at_main", capture_method=CaptureMethod.MANUAL))
    assert (payment.state, payment.provider_reference.account_id) == (AUTHORIZED, OTHER)
    cancels = [o for o in (await scene.only()).operations if o.kind is CommandKind.CANCEL]
    assert [(each.account_id, each.state) for each in cancels] == [(MAIN, CommandState.SUCCEEDED)]
    await scene.verified()
    await runtime.commands.capture(CALLER, CapturePayment("c", payment.payment_id), 10)
    assert scene.effects() == [(OTHER, "authorization"), (OTHER, "capture")]
    await scene.verified()


@pytest.mark.parametrize("method", ["card_fraud_at_main", "card_declined_unmapped", "no_such_method"])
async def test_a_hard_decline_is_the_answer(scene: Scene, method: str) -> None:
    """Fraud, an unknown code, a request that is wrong: nobody else is asked."""
    payment = await created(scene.runtime(rule()), wish(method))
    assert payment.state == FAILED
    assert set(await scene.objects()) <= {MAIN}
    aggregate = await scene.only()
    assert tried(aggregate.payment) == [(MAIN, "CHOSEN")]
    await scene.verified()


async def test_without_the_rule_a_soft_decline_is_the_answer(scene: Scene) -> None:
    """Only where a rule says so; the object stays open for another method."""
    payment = await created(scene.runtime(rule(on=ONLY_NOT_SENT)), wish("card_declined_at_main"))
    assert (payment.state, payment.provider_reference.account_id) == (FAILED, MAIN)
    assert scene.effects() == []


@pytest.mark.parametrize(("bound", "asked"), [(2, [MAIN, OTHER]), (3, [MAIN, OTHER, THIRD])])
async def test_declined_everywhere_ends_with_the_last_decline(scene: Scene, bound: int, asked: list[str]) -> None:
    """No more accounts than the rule allows; the last one's object stays open, and its decline is the answer."""
    payment = await created(scene.runtime(rule(attempts_max=bound)), wish("card_declined"))
    assert (payment.state, payment.provider_reference.account_id) == (FAILED, asked[-1])
    aggregate = await scene.only()
    assert [o.account_id for o in aggregate.operations if o.kind is CommandKind.CREATE] == asked
    closures = {o.account_id: o.closure for o in aggregate.payment.facts.objects}
    assert closures == dict.fromkeys(asked[:-1], Closure.CANCELLED) | {asked[-1]: Closure.OPEN}
    await scene.verified()


@pytest.mark.parametrize("fault", ["lost_before", "lost_after", "http_500_before"])
async def test_nothing_goes_on_before_the_cancellation_is_confirmed(scene: Scene, fault: str) -> None:
    """Whether the declining account cancelled is unknown: the caller gets the view as of now, and nobody is asked."""
    runtime = scene.runtime(rule())
    await scene.fail_next((fault, "cancel"))
    payment = await created_and_left(runtime, wish("card_declined_at_main"))
    assert (payment.state, payment.latest_command.state) == (CREATED, payment_pb2.COMMAND_STATE_SENDING)
    assert set(await scene.objects()) == {MAIN}
    with pytest.raises(Busy) as busy:
        await runtime.commands.cancel(CALLER, CancelPayment("mine", payment.payment_id), 5)
    assert busy.value.reason is Reason.PAYMENT_BUSY
    # Recovery finds out; then whichever process looks next goes on, and the key has its answer.
    await resolve(runtime)
    await scene.make_due()
    await scene.runtime(rule()).commands.failover.run_once()
    after = await created(scene.runtime(rule()), wish("card_declined_at_main"))
    assert (after.state, after.provider_reference.account_id) == (CAPTURED, OTHER)
    assert scene.effects() == [(OTHER, "capture")]
    await scene.verified()


async def test_a_429_to_the_cancellation_is_waited_out(scene: Scene) -> None:
    """The cancellation was not executed: it is tried again under its one key."""
    await scene.fail_next(("http_429", "cancel"))
    payment = await created(scene.runtime(rule()), wish("card_declined_at_main"))
    assert payment.state == CAPTURED
    aggregate = await scene.only()
    assert [c.kind for c in aggregate.commands].count(CommandKind.CANCEL) == 1
    await scene.verified()


async def test_a_next_account_that_never_gets_it_is_passed_over(scene: Scene) -> None:
    """Declined at the first, nobody answers at the second, paid at the third; all under one key."""
    payment = await created(scene.runtime(rule(MAIN, NOWHERE, THIRD)), wish("card_declined_at_main"))
    assert (payment.state, payment.provider_reference.account_id) == (CAPTURED, THIRD)
    aggregate = await scene.only()
    assert tried(aggregate.payment) == [(MAIN, "DECLINED"), (NOWHERE, "NOT_SENT"), (THIRD, "CHOSEN")]
    assert scene.effects() == [(THIRD, "capture")]
    await scene.verified()


async def test_an_account_that_declined_is_never_asked_again(scene: Scene) -> None:
    """Declined at the first, never sent to the second: the same key later asks a third, whatever the rules say then."""
    with pytest.raises(Unavailable):
        await created(scene.runtime(rule(MAIN, NOWHERE)), wish("card_declined_at_main"))
    payment = await created(scene.runtime(rule(MAIN, OTHER)), wish("card_declined_at_main"))
    assert (payment.state, payment.provider_reference.account_id) == (CAPTURED, OTHER)
    assert await scene.objects() == {MAIN: 1, OTHER: 1}
    await scene.verified()


async def test_an_order_stays_taken_while_its_payment_moves(scene: Scene) -> None:
    """Between the two accounts the payment holds nothing anywhere, and no second payment of the order begins."""
    runtime = scene.runtime(rule())
    unique: dict[str, Any] = {"order_reference": "order-1", "order_reference_unique": True}
    await scene.fail_next(("lost_after", "cancel"))
    await created_and_left(runtime, wish("card_declined_at_main", **unique))
    await resolve(runtime)
    moving = (await scene.only()).payment
    assert (moving.state, moving.facts.objects[0].closure) == (PaymentState.CREATED, Closure.CANCELLED)
    with pytest.raises(Conflict) as taken:
        await created(runtime, wish(key="another-key", **unique))
    assert taken.value.reason is Reason.ORDER_REFERENCE_TAKEN
    # Nor is it cancelled or confirmed meanwhile: the caller would be told one thing, and the next account another.
    for call in (
        runtime.commands.cancel(CALLER, CancelPayment("mine", moving.payment_id), 5),
        runtime.commands.confirm(CALLER, ConfirmPayment("mine", moving.payment_id), 5),
    ):
        with pytest.raises(Busy) as busy:
            await call
        assert busy.value.reason is Reason.PAYMENT_BUSY
    await scene.make_due()
    await runtime.commands.failover.run_once()
    assert scene.effects() == [(OTHER, "capture")]
    await scene.verified()


async def test_many_that_carry_on_at_once_pay_once(scene: Scene) -> None:
    """Five processes take one failover up together: one next step, one effect."""
    await scene.fail_next(("lost_after", "cancel"))
    await created_and_left(scene.runtime(rule()), wish("card_declined_at_main"))
    await resolve(scene.runtime(rule()))
    processes = [scene.runtime(rule()) for _ in range(5)]
    tenant, payment_id = CALLER.tenant_id, (await scene.only()).payment.payment_id
    await asyncio.gather(*(each.commands.failover._look_after(tenant, payment_id) for each in processes))
    await resolve(processes[0])
    aggregate = await scene.only()
    assert len([o for o in aggregate.operations if o.kind is CommandKind.CREATE]) == 2
    assert scene.effects() == [(OTHER, "capture")]
    await scene.verified()


async def test_a_failover_without_an_account_to_go_to_waits_and_then_ends(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No account admits it for FAILOVER_S_MAX: the create ends with the decline, once, and gives the order up."""
    full = scene.accounts.get(OTHER)
    assert full is not None
    held = [await full.admit(wait_s=0) for _ in range(64)]
    runtime = scene.runtime(rule(MAIN, OTHER))
    payment = await created_and_left(runtime, wish("card_declined_at_main"))
    assert payment.state == CREATED
    monkeypatch.setattr("gateway.app.failover.FAILOVER_S_MAX", 0.0)
    await scene.make_due()
    await runtime.commands.failover.run_once()
    for each in held:
        each.release()
    aggregate = await scene.only()
    (create,) = [each for each in aggregate.commands if each.kind is CommandKind.CREATE]
    assert (create.state, aggregate.payment.state) == (CommandState.FAILED, PaymentState.CANCELLED)
    assert create.reply is not None
    assert aggregate.payment.account_id == MAIN
    concluded = await rows(
        scene.url, "SELECT count(*) FROM observations WHERE kind = 'COMMAND_CONCLUDED' AND command_kind = 'CREATE'"
    )
    assert concluded == [(1,)]
    assert scene.effects() == []
    await scene.verified()


async def test_news_of_an_account_that_was_left_is_merged(scene: Scene) -> None:
    """Its callbacks are about this payment, are no contradiction, and change nothing of where it stands."""
    from gateway.app.callbacks import Delivery

    runtime = scene.runtime(rule())
    payment = await created(runtime, wish("card_declined_at_main"))
    main = next(o for o in (await scene.only()).payment.facts.objects if o.account_id == MAIN)
    body = (
        b'{"id": "sevt_1", "object": "event", "type": "payment.cancelled", "created": 1, "livemode": false, '
        b'"account": "acct_main", "data": {"object": {"id": "%s", "object": "payment", "metadata": '
        b'{"obol_payment": "%s", "obol_tenant": "routed"}}}}'
    ) % (main.provider_payment_id.encode(), payment.payment_id.encode())
    await runtime.callbacks.deliver(CALLER, Delivery("sandbox", MAIN, "sevt_1", "payment.cancelled", body, {}, 0))
    await runtime.applier.run_once()
    states = await rows(scene.url, "SELECT state, note FROM callbacks")
    assert states == [("APPLIED", "taught nothing new")]
    after = (await scene.only()).payment
    assert (after.state, after.provider_payment_id) == (
        PaymentState.CAPTURED,
        payment.provider_reference.provider_payment_id,
    )
    assert await rows(scene.url, "SELECT 1 FROM observations WHERE kind = 'CONTRADICTION'") == []
