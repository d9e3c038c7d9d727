"""A payment's life, end to end in one process: every command, on both databases."""

import asyncio
from typing import Any

import grpc
from google.protobuf import duration_pb2

from obol.v1 import billing_observation_pb2 as watching
from obol.v1 import observation_pb2, payment_pb2
from obol.v1 import payment_gateway_pb2 as pb
from tests.integration.house import Command, House, State, caller, eventually, money, refused

Risk = payment_pb2.RiskLevel


async def test_a_captured_payment_has_one_effect_and_its_money(house: House) -> None:
    """CAPTURED, with the amount captured and refundable, and one capture in the provider's log."""
    payment = await house.create()
    assert payment.state == State.PAYMENT_STATE_CAPTURED
    assert payment.money.captured.amount_minor == payment.money.refundable.amount_minor == 1_000
    assert payment.latest_command.state == Command.COMMAND_STATE_SUCCEEDED
    assert len(house.effects(kind="capture")) == 1


async def test_what_the_provider_makes_of_an_attempt_reaches_billing(house: House) -> None:
    """A risk on the payment, in its reply as in a later look, and on its observation; none where nobody looked."""
    risky = await house.create("a", payment_method="card_risk_elevated")
    blocked = await house.create("b", payment_method="card_risk_highest")
    silent = await house.create("c")
    assert (risky.state, risky.risk.level) == (State.PAYMENT_STATE_CAPTURED, Risk.RISK_LEVEL_ELEVATED)
    assert (blocked.state, blocked.risk.level) == (State.PAYMENT_STATE_FAILED, Risk.RISK_LEVEL_HIGHEST)
    assert not risky.risk.HasField("score")
    assert not silent.HasField("risk")
    assert [(await house.get(each.payment_id)).risk for each in (risky, blocked, silent)] == [
        each.risk for each in (risky, blocked, silent)
    ]
    request = watching.ListObservationsRequest()
    listed = await eventually(
        lambda: house.observations.ListObservations(request, metadata=house.metadata, timeout=60),
        lambda page: len(page.observations) == 3,
    )
    assert {each.payment_id: each.risk.level for each in listed.observations} == {
        risky.payment_id: Risk.RISK_LEVEL_ELEVATED,
        blocked.payment_id: Risk.RISK_LEVEL_HIGHEST,
        silent.payment_id: Risk.RISK_LEVEL_UNSPECIFIED,
    }
    assert [each.HasField("risk") for each in listed.observations] == [True, True, False]


async def test_the_same_call_again_answers_the_same_bytes(house: House) -> None:
    """Same key, same request: byte for byte, marked as replayed, and no second charge."""
    request = pb.CreatePaymentRequest(
        idempotency_key="k", amount=money(700), payment_method="card_ok", metadata={"a": "1", "b": "2", "c": "3"}
    )
    first = house.payments.CreatePayment(request, metadata=house.metadata, timeout=60)
    second_reply = first_reply = await first
    for _ in range(3):
        again = house.payments.CreatePayment(request, metadata=house.metadata, timeout=60)
        second_reply = await again
        assert ("obol-replayed", "true") in [(k, v) for k, v in await again.initial_metadata()]
    assert second_reply.SerializeToString(deterministic=True) == first_reply.SerializeToString(deterministic=True)
    assert len(house.effects()) == 1


async def test_sixteen_callers_with_one_key_make_one_payment(house: House) -> None:
    """Concurrent calls with one key: equal replies, one effect."""
    request = pb.CreatePaymentRequest(idempotency_key="k", amount=money(700), payment_method="card_ok")
    replies = await asyncio.gather(
        *(house.payments.CreatePayment(request, metadata=house.metadata, timeout=15) for _ in range(16))
    )
    assert len({reply.SerializeToString(deterministic=True) for reply in replies}) == 1
    assert len(house.effects()) == 1


async def test_an_authorization_is_captured_in_two_parts(house: House) -> None:
    """AUTHORIZED, PARTIALLY_CAPTURED, CAPTURED; two captures that sum to the hold."""
    payment = await house.create(capture_method=payment_pb2.CAPTURE_METHOD_MANUAL)
    assert payment.state == State.PAYMENT_STATE_AUTHORIZED
    part = await _capture(house, payment.payment_id, "c1", 400, final=False)
    assert part.state == State.PAYMENT_STATE_PARTIALLY_CAPTURED
    assert part.money.capturable.amount_minor == 600
    rest = await _capture(house, payment.payment_id, "c2", None)
    assert rest.state == State.PAYMENT_STATE_CAPTURED
    assert [effect["amount"] for effect in house.effects(kind="capture")] == [400, 600]


async def test_a_final_capture_of_a_part_closes_the_rest(house: House) -> None:
    """The default releases the remainder: CAPTURED, and nothing is capturable any more."""
    payment = await house.create(capture_method=payment_pb2.CAPTURE_METHOD_MANUAL)
    captured = await _capture(house, payment.payment_id, "c1", 400)
    assert captured.state == State.PAYMENT_STATE_CAPTURED
    assert captured.money.capturable.amount_minor == 0
    error = await refused(_capture(house, payment.payment_id, "c2", 1))
    assert error.reason == "PAYMENT_NOT_CAPTURABLE"


async def test_a_decline_is_a_reply_and_can_be_confirmed_with_another_card(house: House) -> None:
    """FAILED with a normalized reason; ConfirmPayment with a good card captures the same payment."""
    payment = await house.create(payment_method="card_declined_insufficient_funds")
    assert payment.state == State.PAYMENT_STATE_FAILED
    assert payment.decline.reason == payment_pb2.DECLINE_REASON_INSUFFICIENT_FUNDS
    assert payment.decline.provider_code
    confirmed = await house.payments.ConfirmPayment(
        pb.ConfirmPaymentRequest(idempotency_key="again", payment_id=payment.payment_id, payment_method="card_ok"),
        metadata=house.metadata,
        timeout=60,
    )
    assert confirmed.payment.state == State.PAYMENT_STATE_CAPTURED
    assert len(house.effects(kind="capture")) == 1


async def test_a_payment_created_without_confirmation_waits_for_it(house: House) -> None:
    """CREATED and no effect until ConfirmPayment."""
    payment = await house.create(confirmation_method=payment_pb2.CONFIRMATION_METHOD_MANUAL)
    assert payment.state == State.PAYMENT_STATE_CREATED
    assert house.effects() == []
    confirmed = await house.payments.ConfirmPayment(
        pb.ConfirmPaymentRequest(idempotency_key="c", payment_id=payment.payment_id),
        metadata=house.metadata,
        timeout=60,
    )
    assert confirmed.payment.state == State.PAYMENT_STATE_CAPTURED


async def test_a_cancelled_authorization_is_void_and_cannot_be_captured(house: House) -> None:
    """CANCELLED, a void in the provider's log, and a capture is refused before it is sent."""
    payment = await house.create(capture_method=payment_pb2.CAPTURE_METHOD_MANUAL)
    cancelled = await house.payments.CancelPayment(
        pb.CancelPaymentRequest(idempotency_key="x", payment_id=payment.payment_id, reason="changed their mind"),
        metadata=house.metadata,
        timeout=60,
    )
    assert cancelled.payment.state == State.PAYMENT_STATE_CANCELLED
    error = await refused(_capture(house, payment.payment_id, "c", None))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PAYMENT_NOT_CAPTURABLE")
    assert house.effects(kind="capture") == []


async def test_a_lost_answer_is_unknown_and_ends_on_evidence(house: House) -> None:
    """UNKNOWN, not a failure; then CAPTURED by recovery, with the one charge that was made."""
    payment = await house.create(payment_method="card_answer_lost")
    assert payment.state == State.PAYMENT_STATE_UNKNOWN
    assert payment.latest_command.state == Command.COMMAND_STATE_UNKNOWN
    resolved = await house.until(payment.payment_id, State.PAYMENT_STATE_CAPTURED)
    assert resolved.latest_command.state == Command.COMMAND_STATE_SUCCEEDED
    assert len(house.effects(kind="capture")) == 1


async def test_an_answer_lost_before_the_effect_is_resent_under_the_same_key(house: House) -> None:
    """Nothing was booked: recovery sends the identical request again, and it is booked once."""
    payment = await house.create(payment_method="card_answer_lost_before_effect")
    assert payment.state == State.PAYMENT_STATE_UNKNOWN
    await house.until(payment.payment_id, State.PAYMENT_STATE_CAPTURED)
    assert len(house.effects(kind="capture")) == 1


async def test_a_lying_amount_is_quarantined_and_the_books_decide(house: House) -> None:
    """An answer with another amount is UNKNOWN; the provider's books, read again, are right."""
    payment = await house.create(payment_method="card_wrong_amount_answer")
    assert payment.state == State.PAYMENT_STATE_UNKNOWN
    resolved = await house.until(payment.payment_id, State.PAYMENT_STATE_CAPTURED)
    assert resolved.money.captured.amount_minor == 1_000
    kinds = [seen.kind for seen in await _observations(house)]
    assert observation_pb2.OBSERVATION_KIND_CONTRADICTION in kinds


async def test_two_refunds_of_sixty_on_a_hundred_are_one(house: House) -> None:
    """Side by side, exactly one passes; the other is told what is left."""
    payment = await house.create(amount=100)
    calls = [_refund(house, payment.payment_id, f"r{n}", 60) for n in range(2)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    failures = [result for result in results if isinstance(result, grpc.aio.AioRpcError)]
    assert len(failures) == 1
    assert failures[0].code() is grpc.StatusCode.FAILED_PRECONDITION
    assert [effect["amount"] for effect in house.effects(kind="refund")] == [60]


async def test_a_partial_and_a_full_refund(house: House) -> None:
    """PARTIALLY_REFUNDED, then REFUNDED; each refund is found by its id and in the list."""
    payment = await house.create()
    first = await _refund(house, payment.payment_id, "r1", 400)
    assert first.payment.state == State.PAYMENT_STATE_PARTIALLY_REFUNDED
    second = await _refund(house, payment.payment_id, "r2", None)
    assert second.payment.state == State.PAYMENT_STATE_REFUNDED
    assert second.refund.amount.amount_minor == 600
    found = await house.payments.GetRefund(
        pb.GetRefundRequest(refund_id=first.refund.refund_id), metadata=house.metadata, timeout=60
    )
    assert found.refund == first.refund
    listed = await house.payments.ListRefunds(
        pb.ListRefundsRequest(payment_id=payment.payment_id), metadata=house.metadata, timeout=60
    )
    assert {refund.refund_id for refund in listed.refunds} == {first.refund.refund_id, second.refund.refund_id}


async def test_a_refund_from_the_dashboard_is_adopted(house: House) -> None:
    """SyncPayment merges a refund that we did not cause, with origin PROVIDER."""
    payment = await house.create()
    reference = payment.provider_reference.provider_payment_id
    await house.control(f"/control/payments/{reference}/refund", {"amount": 300})
    synced = await house.payments.SyncPayment(
        pb.SyncPaymentRequest(payment_id=payment.payment_id), metadata=house.metadata, timeout=60
    )
    assert synced.payment.state == State.PAYMENT_STATE_PARTIALLY_REFUNDED
    listed = await house.payments.ListRefunds(
        pb.ListRefundsRequest(payment_id=payment.payment_id), metadata=house.metadata, timeout=60
    )
    assert [refund.origin for refund in listed.refunds] == [payment_pb2.ORIGIN_PROVIDER]
    error = await refused(_refund(house, payment.payment_id, "r", 800))
    assert (error.reason, error.details["available_minor"]) == ("AMOUNT_EXCEEDS_REFUNDABLE", "700")


async def test_an_action_that_nobody_finishes_is_cancelled_at_the_provider(database_url: str, house: House) -> None:
    """Past expire_after the gateway cancels in its own name, once."""
    payment = await house.create(payment_method="card_requires_action", expire_after=duration_pb2.Duration(seconds=60))
    assert payment.state == State.PAYMENT_STATE_REQUIRES_ACTION
    assert payment.next_action.redirect_url
    await _let_expire(database_url, payment.payment_id)
    await house.until(payment.payment_id, State.PAYMENT_STATE_CANCELLED)
    # The provider's word may be read by recovery before the cancellation's own reply is settled.
    await eventually(
        lambda: house.get(payment.payment_id),
        lambda seen: (
            (seen.latest_command.kind, seen.latest_command.state)
            == (payment_pb2.COMMAND_KIND_CANCEL, Command.COMMAND_STATE_SUCCEEDED)
        ),
    )
    assert (await house.object(payment.provider_reference.provider_payment_id))["status"] == "cancelled"


async def test_every_observation_is_seen_in_order_and_decided_once(house: House) -> None:
    """Watch gives a payment's observations in order; accept is idempotent, and a rejection after it is refused."""
    payment = await house.create(capture_method=payment_pb2.CAPTURE_METHOD_MANUAL)
    await _capture(house, payment.payment_id, "c", None)
    await _refund(house, payment.payment_id, "r", 100)
    seen = await eventually(lambda: _observations(house), lambda found: len(found) == 3)
    assert [each.payment_version for each in seen] == sorted(each.payment_version for each in seen)
    ids = [each.observation_id for each in seen]
    request = watching.AcceptObservationsRequest(consumer="billing", observation_ids=ids)
    first = await house.observations.AcceptObservations(request, metadata=house.metadata, timeout=60)
    again = await house.observations.AcceptObservations(request, metadata=house.metadata, timeout=60)
    assert (first.accepted_count, again.accepted_count) == (3, 0)
    error = await refused(
        house.observations.RejectObservations(
            watching.RejectObservationsRequest(
                consumer="billing", rejections=[watching.Rejection(observation_id=ids[0], reason="no")]
            ),
            metadata=house.metadata,
            timeout=60,
        )
    )
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "OBSERVATION_DECIDED_OTHERWISE")
    standing = await house.observations.GetConsumer(
        watching.GetConsumerRequest(consumer="billing"), metadata=house.metadata, timeout=60
    )
    assert (standing.accepted_count, standing.undecided_count) == (3, 0)


async def test_a_tenant_sees_nothing_of_another(house: House) -> None:
    """Reads, lists, observations and commands of another tenant find nothing."""
    payment = await house.create()
    stranger = caller("t2")
    reads: list[Any] = [
        house.payments.GetPayment(pb.GetPaymentRequest(payment_id=payment.payment_id), metadata=stranger, timeout=60),
        house.payments.RefundPayment(
            pb.RefundPaymentRequest(idempotency_key="r", payment_id=payment.payment_id), metadata=stranger, timeout=60
        ),
        house.payments.GetPaymentTimeline(
            pb.GetPaymentTimelineRequest(payment_id=payment.payment_id), metadata=stranger, timeout=60
        ),
    ]
    for read in reads:
        assert (await refused(read)).code is grpc.StatusCode.NOT_FOUND
    listed = await house.payments.ListPayments(pb.ListPaymentsRequest(), metadata=stranger, timeout=60)
    assert not listed.payments
    seen = await house.observations.ListObservations(watching.ListObservationsRequest(), metadata=stranger, timeout=60)
    assert not seen.observations


async def test_the_timeline_tells_every_version(house: House) -> None:
    """One entry for each version, from the claim on, and the last transition is the state."""
    payment = await house.create()
    timeline = await house.payments.GetPaymentTimeline(
        pb.GetPaymentTimelineRequest(payment_id=payment.payment_id), metadata=house.metadata, timeout=60
    )
    assert [entry.version for entry in timeline.entries] == [1, 2]
    edges = [(t.entity, t.state_after) for entry in timeline.entries for t in entry.transitions]
    assert ("PAYMENT", "CAPTURED") in edges
    assert ("COMMAND", "SUCCEEDED") in edges


async def _capture(
    house: House, payment_id: str, key: str, amount: int | None, *, final: bool = True
) -> payment_pb2.Payment:
    request = pb.CapturePaymentRequest(
        idempotency_key=key,
        payment_id=payment_id,
        amount=None if amount is None else money(amount),
        final_capture=final,
    )
    return (await house.payments.CapturePayment(request, metadata=house.metadata, timeout=60)).payment


async def _refund(house: House, payment_id: str, key: str, amount: int | None) -> pb.RefundPaymentResponse:
    request = pb.RefundPaymentRequest(
        idempotency_key=key, payment_id=payment_id, amount=None if amount is None else money(amount)
    )
    response: pb.RefundPaymentResponse = await house.payments.RefundPayment(
        request, metadata=house.metadata, timeout=60
    )
    return response


async def _observations(house: House) -> list[observation_pb2.Observation]:
    response = await house.observations.ListObservations(
        watching.ListObservationsRequest(), metadata=house.metadata, timeout=60
    )
    return list(response.observations)


async def _let_expire(database_url: str, payment_id: str) -> None:
    """Move the payment's expiry into the past: the least that a patient test can do to time."""
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE payments SET action_due_us = 1 WHERE payment_id = :id"), {"id": payment_id}
        )
    await engine.dispose()
