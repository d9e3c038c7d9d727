"""Many callers at once over two real gateways: one effect for a key, and of what excludes each other, one."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp
import pytest

from obol.client import Busy, Conflict, GatewayError, Limits, Precondition, aio_repeat_until_answered
from obol.v1 import payment_gateway_pb2 as pb
from obol.v1 import payment_pb2
from tests.faults.conftest import Installation, fresh_key
from tests.integration.house import Command, State, eventually, money
from tests.webhook.sending import signature

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

PATIENT = Limits(attempts_max=50, budget_s=60.0)


async def at_both(installed: Installation, method: str, requests: Sequence[Any]) -> list[Any]:
    """Each request, in turns at either gateway and all at once; replies and errors."""
    calls = [getattr(installed.clients[n % 2], method)(request) for n, request in enumerate(requests)]
    return await asyncio.gather(*calls, return_exceptions=True)


async def until(installed: Installation, payment_id: str, good: Callable[[payment_pb2.Payment], bool]) -> Any:
    """The payment once it is as it should be."""
    return await eventually(lambda: installed.get(payment_id), good)


@pytest.mark.parametrize("callers", [2, 16, 256])
async def test_callers_with_one_key_get_one_reply_and_one_effect(installed: Installation, callers: int) -> None:
    """However many come at once, at whichever gateway: equal replies to the byte, and the provider did it once."""
    request = pb.CreatePaymentRequest(idempotency_key=fresh_key(), amount=money(700), payment_method="card_ok")
    calls: list[Awaitable[pb.CreatePaymentResponse]] = [
        aio_repeat_until_answered(installed.clients[n % 2].create_payment, request, limits=PATIENT)
        for n in range(callers)
    ]
    replies = await asyncio.gather(*calls)
    assert len({reply.SerializeToString(deterministic=True) for reply in replies}) == 1
    assert installed.effects(replies[0].payment) == [("capture", 700)]
    made = await installed.rows("SELECT count(*) FROM commands WHERE idempotency_key = $1", request.idempotency_key)
    assert made[0][0] == 1


async def test_one_key_with_another_body_has_no_effect(installed: Installation) -> None:
    """Sixteen wishes under one key at once: one is carried out, fifteen are told that the key is another's."""
    key = fresh_key()
    requests = [
        pb.CreatePaymentRequest(idempotency_key=key, amount=money(100 + n), payment_method="card_ok") for n in range(16)
    ]
    outcomes = await at_both(installed, "create_payment", requests)
    replies = [each for each in outcomes if not isinstance(each, BaseException)]
    refusals = [each for each in outcomes if isinstance(each, GatewayError)]
    assert len(replies) == 1
    assert [(type(each), each.reason) for each in refusals] == [(Conflict, "IDEMPOTENCY_KEY_REUSED")] * 15
    assert len(installed.effects(replies[0].payment)) == 1
    made = await installed.rows("SELECT count(*) FROM commands WHERE idempotency_key = $1", key)
    assert made[0][0] == 1


@pytest.mark.parametrize(("amount", "wish", "fit"), [(100, 60, 1), (1_000, 90, 11)])
async def test_refunds_at_once_never_exceed_what_was_captured(
    installed: Installation, amount: int, wish: int, fit: int
) -> None:
    """Two of 60 on 100: one. Sixteen of 90 on 1,000: eleven; the rest are told that it is more than is left."""
    payment = await installed.create(amount)
    requests = [
        pb.RefundPaymentRequest(idempotency_key=fresh_key(), payment_id=payment.payment_id, amount=money(wish))
        for _ in range(2 if fit == 1 else 16)
    ]
    outcomes = await at_both(installed, "refund_payment", requests)
    refused = [each for each in outcomes if isinstance(each, BaseException)]
    assert {(type(each), getattr(each, "reason", each)) for each in refused} == {
        (Precondition, "AMOUNT_EXCEEDS_REFUNDABLE")
    }
    assert len(outcomes) - len(refused) == fit
    assert installed.effects(payment).count(("refund", wish)) == fit


async def test_capture_and_cancel_exclude_each_other(installed: Installation) -> None:
    """Eight of each at once: the money is captured or the hold is void, never both, and one command of all did it."""
    payment = await installed.create(capture_method=payment_pb2.CAPTURE_METHOD_MANUAL)
    captures = [pb.CapturePaymentRequest(idempotency_key=fresh_key(), payment_id=payment.payment_id) for _ in range(8)]
    cancels = [pb.CancelPaymentRequest(idempotency_key=fresh_key(), payment_id=payment.payment_id) for _ in range(8)]
    both = await asyncio.gather(
        at_both(installed, "capture_payment", captures), at_both(installed, "cancel_payment", cancels)
    )
    outcomes = [*both[0], *both[1]]
    done = [each for each in outcomes if not isinstance(each, BaseException)]
    assert len(done) == 1
    assert done[0].payment.latest_command.state == Command.COMMAND_STATE_SUCCEEDED
    assert all(isinstance(each, Busy | Precondition) for each in outcomes if isinstance(each, BaseException))
    moved = [kind for kind, _ in installed.effects(payment)]
    assert len(moved) == 2
    assert moved[1] in ("capture", "void")
    ended = await installed.get(payment.payment_id)
    assert (ended.state == State.PAYMENT_STATE_CAPTURED) == ("capture" in moved)


async def test_a_refund_and_a_dispute_at_once_are_both_seen(installed: Installation) -> None:
    """The payer's bank takes 700 of 1,000 while Billing gives back 600: what the provider did is what we say."""
    payment = await installed.create()
    refund = pb.RefundPaymentRequest(idempotency_key=fresh_key(), payment_id=payment.payment_id, amount=money(600))
    provider_payment_id = payment.provider_reference.provider_payment_id
    outcomes = await asyncio.gather(
        installed.provider.dashboard(provider_payment_id, "dispute", {"amount": 700}),
        installed.clients[1].refund_payment(refund),
        return_exceptions=True,
    )
    assert not [each for each in outcomes if isinstance(each, BaseException) and not isinstance(each, GatewayError)]
    ended = await until(installed, payment.payment_id, lambda each: each.money.disputed.amount_minor == 700)
    refunded = sum(amount for kind, amount in installed.effects(payment) if kind == "refund")
    assert ended.money.refunded.amount_minor == refunded
    assert ended.dispute_state == payment_pb2.DISPUTE_STATE_OPEN
    # What is held by the bank cannot be given back again, whichever came first.
    assert ended.money.refundable.amount_minor == max(0, 1_000 - refunded - 700)


@pytest.mark.parametrize("outcome", ["approve", "refuse"])
async def test_a_confirmation_by_the_caller_and_one_by_callback_are_one_charge(
    installed: Installation, outcome: str
) -> None:
    """The payer acts while the caller confirms with another card, and syncs: one charge at most, and told as it is."""
    payment = await installed.create(payment_method="card_requires_action")
    confirm = pb.ConfirmPaymentRequest(
        idempotency_key=fresh_key(), payment_id=payment.payment_id, payment_method="card_ok"
    )
    sync = pb.SyncPaymentRequest(payment_id=payment.payment_id)
    outcomes = await asyncio.gather(
        installed.provider.act(payment.provider_reference.provider_payment_id, {"outcome": outcome}),
        installed.clients[0].confirm_payment(confirm),
        *(installed.clients[n % 2].sync_payment(sync) for n in range(4)),
        return_exceptions=True,
    )
    assert not [each for each in outcomes if isinstance(each, BaseException) and not isinstance(each, GatewayError)]
    ended = await until(
        installed,
        payment.payment_id,
        lambda each: each.state in (State.PAYMENT_STATE_CAPTURED, State.PAYMENT_STATE_FAILED),
    )
    captured = [each for each in installed.effects(payment) if each[0] == "capture"]
    assert len(captured) <= 1
    assert (ended.state == State.PAYMENT_STATE_CAPTURED) == (len(captured) == 1)


async def test_a_hundred_duplicates_over_two_sidecars_are_one_callback(installed: Installation) -> None:
    """All at once, at both sidecars, which send them to both gateways: each gets its 200, and it is applied once."""
    payment = await installed.create(payment_method="card_requires_action")
    await installed.provider.act(payment.provider_reference.provider_payment_id, {"outcome": "approve"})
    event = await installed.provider.last_event()
    event_id = event["id"] = f"{event['id']}-copy"  # the sandbox sends its own as well
    body = json.dumps(event).encode()
    signed = signature(body, secret="sandbox-signing-main", at_s=time.time())
    headers = {"Content-Type": "application/json", "Sandbox-Signature": signed}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def post(number: int) -> int:
            async with session.post(installed.site.sidecar_urls[number % 2], data=body) as answer:
                return answer.status

        assert set(await asyncio.gather(*map(post, range(100)))) == {200}
    await until(installed, payment.payment_id, lambda each: each.state == State.PAYMENT_STATE_CAPTURED)
    stands = "SELECT callback_id, state FROM callbacks WHERE event_id = $1"
    ((callback_id, _),) = await eventually(
        lambda: installed.rows(stands, event_id), lambda found: [each["state"] for each in found] == ["APPLIED"]
    )
    versions = await installed.rows("SELECT count(*) FROM history WHERE causation_id = $1", callback_id)
    assert versions[0][0] <= 1
    assert installed.effects(payment) == [("capture", 1_000)]
