"""A command repeated: the same bytes, within its budget, no sooner than asked."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo

from obol.client import (
    Backoff,
    Busy,
    CallRecord,
    Conflict,
    Exhausted,
    Limits,
    OutcomeUnknown,
    Pace,
    Sent,
    Unavailable,
    repeat_until_answered,
)
from obol.v1.money_pb2 import Money
from obol.v1.payment_gateway_pb2 import CreatePaymentRequest, CreatePaymentResponse
from tests.client.asking import Asked, Metadata, method_of, told, wired

LOST = (grpc.StatusCode.UNAVAILABLE, "connection reset", ())
Answer = tuple[grpc.StatusCode, str, Metadata]


class Clock:
    """Time that passes only in sleeps."""

    def __init__(self, uniform: Callable[[float, float], float] = lambda low, high: high) -> None:
        self.slept: list[float] = []
        self.pace = Pace(now=lambda: sum(self.slept), sleep=self.slept.append, uniform=uniform)


def repeated(clock: Clock, answers: list[Answer | None], **options: Any) -> tuple[list[Asked], Any]:
    """Run a repetition against these answers (None is OK); the calls, and what it returned or raised."""
    request = CreatePaymentRequest(idempotency_key="k-1", amount=Money(amount_minor=500, currency_code="EUR"))
    with wired() as wire:
        reply = wire.begin(repeat_until_answered, wire.payments.create_payment, request, pace=clock.pace, **options)
        calls = []
        for answer in answers:
            asked = wire.take(method_of("CreatePayment"), reply)
            calls.append(asked)
            # The owner goes on using its message.
            request.amount.amount_minor += 1
            request.idempotency_key += "x"
            asked.rpc.send_initial_metadata(())
            if answer is None:
                asked.rpc.terminate(CreatePaymentResponse(), (), grpc.StatusCode.OK, "")
            else:
                asked.rpc.terminate(None, tuple(answer[2]), answer[0], answer[1])
        error = reply.exception(timeout=5)
        return calls, error if error is not None else reply.result()


def refusal(code: grpc.StatusCode, *, wait_s: int | None = None, **metadata: str) -> Answer:
    """An error of the gateway's."""
    details = () if wait_s is None else (RetryInfo(retry_delay=Duration(seconds=wait_s)),)
    return code, "words", told(code, "words", *details, **metadata)


def test_a_repeated_command_is_the_same_command() -> None:
    """Every attempt carries the first one's bytes, key and correlation id, whatever its owner does to the message."""
    calls, reply = repeated(Clock(), [LOST, LOST, None])
    assert reply == CreatePaymentResponse()
    assert [call.request.idempotency_key for call in calls] == ["k-1"] * 3
    assert [call.request.amount.amount_minor for call in calls] == [500] * 3
    assert len({call.metadata["obol-correlation-id"] for call in calls}) == 1


def test_a_command_without_a_key_is_not_repeated() -> None:
    """It would be a second payment."""
    with wired() as wire, pytest.raises(ValueError, match="idempotency_key"):
        repeat_until_answered(wire.payments.create_payment, CreatePaymentRequest())


def test_what_is_not_safe_to_retry_ends_it() -> None:
    """One call, and the error as it came."""
    calls, error = repeated(Clock(), [refusal(grpc.StatusCode.ALREADY_EXISTS, sent="NO", safe_to_retry="false")])
    assert len(calls) == 1
    assert type(error) is Conflict


def test_waits_are_no_shorter_than_the_gateway_asked() -> None:
    """RetryInfo is waited for, with jitter on top of it and not instead of it."""
    clock = Clock()
    busy = refusal(grpc.StatusCode.ABORTED, wait_s=7, sent="NO", safe_to_retry="true")
    repeated(clock, [busy, None], limits=Limits(backoff=Backoff(delay_s=1.0)))
    assert clock.slept == [8.0]


def test_waits_grow_to_their_cap_with_full_jitter() -> None:
    """The ceiling doubles up to its maximum, and the wait is drawn from zero to it."""
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    repeated(Clock(uniform), [LOST] * 5 + [None], limits=Limits(backoff=Backoff(delay_s=1.0, delay_s_max=5.0)))
    assert drawn == [(0.0, 1.0), (0.0, 2.0), (0.0, 4.0), (0.0, 5.0), (0.0, 5.0)]


def test_attempts_are_bounded() -> None:
    """After the last attempt the last error is raised."""
    calls, error = repeated(Clock(lambda low, high: 0.0), [LOST] * 3, limits=Limits(attempts_max=3))
    assert len(calls) == 3
    assert type(error) is OutcomeUnknown


def test_no_attempt_begins_past_the_budget() -> None:
    """A wait that would end after the budget is not begun."""
    clock = Clock()
    busy = refusal(grpc.StatusCode.ABORTED, wait_s=6, sent="NO", safe_to_retry="true")
    calls, error = repeated(clock, [busy, busy], limits=Limits(budget_s=10.0, backoff=Backoff(delay_s=0.1)))
    assert len(calls) == 2
    assert type(error) is Busy
    assert sum(clock.slept) < 10.0


def test_sent_never_falls_over_attempts() -> None:
    """A refusal that was not sent, after an attempt that may have been, is still MAYBE, and says so."""
    full = refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, sent="NO", safe_to_retry="false")
    _, error = repeated(Clock(), [LOST, full])
    assert type(error) is Exhausted
    assert error.sent is Sent.MAYBE
    assert "never a new one" in error.__notes__[0]


def test_sent_is_as_told_where_no_attempt_was_lost() -> None:
    """NO stays NO."""
    drained = refusal(grpc.StatusCode.UNAVAILABLE, sent="NO", safe_to_retry="true")
    _, error = repeated(Clock(), [drained, drained], limits=Limits(attempts_max=2))
    assert type(error) is Unavailable
    assert error.sent is Sent.NO


def test_the_record_tells_of_the_last_attempt() -> None:
    """A reply that came after a lost one is seen as a replay."""
    record = CallRecord()
    with wired() as wire:
        request = CreatePaymentRequest(idempotency_key="k")
        reply = wire.begin(
            repeat_until_answered, wire.payments.create_payment, request, pace=Clock().pace, record=record
        )
        lost = wire.take(method_of("CreatePayment"), reply)
        lost.rpc.send_initial_metadata(())
        lost.rpc.terminate(None, (), grpc.StatusCode.UNAVAILABLE, "reset")
        asked = wire.take(method_of("CreatePayment"), reply)
        asked.answer(CreatePaymentResponse(), [("obol-replayed", "true")])
        assert record.replayed
        assert record.correlation_id == asked.metadata["obol-correlation-id"]
