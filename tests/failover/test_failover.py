"""A payment goes on to the next account where the first provably never got it: one payment, one effect."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.app.requests import CapturePayment, RefundPayment
from gateway.domain.errors import Reason, Sent, Unavailable
from gateway.domain.payments import CaptureMethod
from gateway.domain.routing import Feature
from gateway.domain.states import CommandState
from gateway.rpc.context import Call
from gateway.rpc.payment_gateway import PaymentGateway
from obol.v1 import payment_gateway_pb2 as pb
from obol.v1 import payment_pb2
from tests.crash.rig import outlive_leases, resolve
from tests.failover.rig import (
    CALLER,
    CAPTURED,
    MAIN,
    NOWHERE,
    OTHER,
    THIRD,
    Scene,
    created,
    rule,
    scene_at,
    tried,
    wish,
)
from tests.store.looking import rows


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A fresh database and a fresh sandbox."""
    async with scene_at(tmp_path) as made:
        yield made


async def test_what_was_never_sent_goes_on_under_the_same_key(scene: Scene) -> None:
    """Nobody answers at the first account: the same payment is made at the next one, and both tries are told."""
    runtime = scene.runtime(rule(NOWHERE, OTHER))
    payment = await created(runtime, wish())
    assert (payment.state, payment.provider_reference.account_id) == (CAPTURED, OTHER)
    assert scene.effects() == [(OTHER, "capture")]
    aggregate = await scene.only()
    assert tried(aggregate.payment) == [(NOWHERE, "NOT_SENT"), (OTHER, "CHOSEN")]
    assert [(each.account_id, each.state) for each in aggregate.operations] == [(OTHER, CommandState.SUCCEEDED)]
    told = await rows(scene.url, "SELECT account_id, result FROM audit WHERE action LIKE 'CREATE%' ORDER BY audit_id")
    assert told == [(NOWHERE, "NOT_SENT"), (OTHER, "SUCCEEDED")]
    again = await runtime.commands.create(CALLER, wish(), 10)
    assert again.replayed
    await scene.verified()


async def test_the_timeline_says_why_this_provider(scene: Scene) -> None:
    """The rule, what was left out, and each attempt; nothing where no rules are configured."""
    runtime = scene.runtime(rule(NOWHERE, OTHER, requires=frozenset({Feature.REFUNDS})))
    payment = await created(runtime, wish())

    async def timeline(payment_id: str) -> pb.GetPaymentTimelineResponse:
        servicer = PaymentGateway(runtime.commands, runtime.queries)
        return await servicer.GetPaymentTimeline(
            pb.GetPaymentTimelineRequest(payment_id=payment_id), Call(CALLER, deadline_s=5.0)
        )

    route = (await timeline(payment.payment_id)).route
    assert (route.rule, list(route.candidates)) == ("everything", [NOWHERE, OTHER])
    assert route.reasons[0] == f"rule everything matched; in order of preference: {NOWHERE}, {OTHER}"
    assert [(each.account_id, each.outcome) for each in route.attempts] == [
        (NOWHERE, payment_pb2.ROUTE_OUTCOME_NOT_SENT),
        (OTHER, payment_pb2.ROUTE_OUTCOME_CHOSEN),
    ]
    assert route.attempts[0].detail
    assert route.attempts[0].time.seconds > 1_700_000_000
    named = await created(runtime, wish(key="named", account_id=OTHER))
    assert list((await timeline(named.payment_id)).route.reasons) == [f"the caller named {OTHER}"]
    plain = await created(scene.runtime(), wish(key="plain"))
    assert not (await timeline(plain.payment_id)).HasField("route")


async def test_a_refused_admission_writes_nothing_and_goes_on(scene: Scene) -> None:
    """Its breaker opened after the choice was made: the next account is claimed at once, as the only one."""
    for _ in range(3):
        with pytest.raises(Unavailable):
            await scene.runtime().commands.create(CALLER, wish(key=f"break-{_}", account_id=NOWHERE), 10)
    runtime = scene.runtime(rule(NOWHERE, OTHER))
    # The rule itself holds an open account back; as the last resort it is asked, and refuses.
    payment = await created(runtime, wish())
    assert payment.provider_reference.account_id == OTHER
    runtime = scene.runtime(rule(NOWHERE))
    with pytest.raises(Unavailable) as refused:
        await created(runtime, wish(key="nowhere-else"))
    assert (refused.value.reason, refused.value.sent) == (Reason.PROVIDER_UNAVAILABLE, Sent.NO)
    assert await rows(scene.url, "SELECT 1 FROM commands WHERE idempotency_key = 'nowhere-else'") == []


async def test_a_full_account_is_passed_over(scene: Scene) -> None:
    """Its bulkhead refuses before the claim: told as REFUSED, claimed once, at the next account."""
    main = scene.accounts.get(MAIN)
    assert main is not None
    held = [await main.admit(wait_s=0) for _ in range(64)]
    payment = await created(scene.runtime(rule(MAIN, OTHER)), wish())
    for each in held:
        each.release()
    assert payment.provider_reference.account_id == OTHER
    aggregate = await scene.only()
    assert tried(aggregate.payment) == [(MAIN, "REFUSED"), (OTHER, "CHOSEN")]
    assert aggregate.operations[0].epoch == 1


@pytest.mark.parametrize("fault", ["lost_before", "lost_after", "http_500_before", "truncated"])
async def test_never_after_maybe(scene: Scene, fault: str) -> None:
    """The first account may have done it: UNKNOWN, and nobody else is asked; evidence ends it there."""
    runtime = scene.runtime(rule())
    await scene.fail_next((fault, "payments"))
    payment = await created(runtime, wish())
    assert payment.state == payment_pb2.PAYMENT_STATE_UNKNOWN
    await outlive_leases(scene.url)
    await resolve(runtime)
    assert set(await scene.objects()) == {MAIN}
    assert scene.effects() == [(MAIN, "capture")]
    await scene.verified()


async def test_without_the_rule_it_stays(scene: Scene) -> None:
    """`failover_on` without NOT_SENT: the caller is told, and the same key tries the same account again."""
    runtime = scene.runtime(rule(NOWHERE, OTHER, on=frozenset()))
    with pytest.raises(Unavailable) as told:
        await created(runtime, wish())
    assert (told.value.reason, told.value.sent, told.value.safe_to_retry) == (
        Reason.PROVIDER_UNAVAILABLE,
        Sent.NO,
        True,
    )
    assert scene.effects() == []


@pytest.mark.parametrize("named", [{"account_id": NOWHERE}, {"provider": "sandbox"}])
async def test_who_is_named_is_never_overruled(scene: Scene, named: dict[str, str]) -> None:
    """Neither by a rule nor by a failover."""
    runtime = scene.runtime(rule(OTHER, THIRD))
    if "account_id" in named:
        with pytest.raises(Unavailable):
            await created(runtime, wish(**named))
        assert scene.effects() == []
    else:
        assert (await created(runtime, wish(**named))).provider_reference.account_id == MAIN


async def test_later_commands_are_bound_to_where_the_payment_went(scene: Scene) -> None:
    """Capture and refund go to the account that the payment ended at."""
    runtime = scene.runtime(rule(NOWHERE, OTHER))
    payment = await created(runtime, wish(capture_method=CaptureMethod.MANUAL))
    await runtime.commands.capture(CALLER, CapturePayment("c", payment.payment_id), 10)
    await runtime.commands.refund(CALLER, RefundPayment("r", payment.payment_id, 300, "EUR"), 10)
    assert [account for account, _ in scene.effects()] == [OTHER] * 3
    await scene.verified()


async def test_where_nobody_gets_it_the_same_key_tries_again_later(scene: Scene) -> None:
    """NOT_SENT everywhere within the bound: one payment, and the next call asks the rules anew."""
    with pytest.raises(Unavailable):
        await created(scene.runtime(rule(NOWHERE, OTHER, attempts_max=1)), wish())
    payment = await created(scene.runtime(rule(THIRD, OTHER)), wish())
    assert (payment.state, payment.provider_reference.account_id) == (CAPTURED, THIRD)
    aggregate = await scene.only()
    assert tried(aggregate.payment)[-1] == (THIRD, "CHOSEN")
    assert scene.effects() == [(THIRD, "capture")]
    await scene.verified()
