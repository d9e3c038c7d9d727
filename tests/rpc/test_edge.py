"""The edge's own promises, over a real server: context, error table, replies byte for byte, bounds."""

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import structlog

from gateway.app.replies import CommandReply
from gateway.domain.errors import (
    Busy,
    Conflict,
    DeadlineTooShort,
    Exhausted,
    Internal,
    InvalidRequest,
    NotFound,
    ObolError,
    Precondition,
    Reason,
    Sent,
    Unavailable,
)
from gateway.rpc.context import CONTEXT_CHARACTERS_MAX, Call
from gateway.rpc.interceptors import CallLimits, Edge, Service
from obol.v1 import billing_observation_pb2 as observing
from obol.v1 import payment_gateway_pb2 as pb
from obol.v1 import provider_callbacks_pb2 as callbacks
from tests.rpc.serving import CONTEXT, GATEWAY, Counted, Unary, scripted, serving

CREATE = "PaymentGateway/CreatePayment"
GET = "PaymentGateway/GetPayment"


def raising(error: Exception) -> Unary:
    """A method that ends in `error`."""

    async def method(request: Any, call: Call) -> pb.GetPaymentResponse:
        raise error

    return method


def replying(reply: CommandReply) -> Unary:
    """A command that answers with `reply`."""

    async def method(request: Any, call: Call) -> CommandReply:
        return reply

    return method


async def test_a_reply_leaves_byte_for_byte_as_it_was_stored(tmp_path: Path) -> None:
    """The stored bytes are sent as they are, even where serializing them again would give others."""
    # A field that no message of ours has, and a known field twice: both are lost when a message is parsed and written.
    stored = b"\xf8\x3f\x01" + pb.CreatePaymentResponse().SerializeToString() + b"\xf8\x3f\x02"
    async with serving(tmp_path, {"CreatePayment": replying(CommandReply(stored, replayed=False))}) as served:
        assert await (await served.call(CREATE, pb.CreatePaymentRequest())) == stored


@pytest.mark.parametrize(("replayed", "expected"), [(True, "true"), (False, None)])
async def test_a_replay_is_marked_and_a_first_reply_is_not(
    tmp_path: Path, replayed: bool, expected: str | None
) -> None:
    """`obol-replayed: true` is in the initial metadata of a replay, and of nothing else."""
    async with serving(tmp_path, {"CreatePayment": replying(CommandReply(b"", replayed=replayed))}) as served:
        call = await served.call(CREATE, pb.CreatePaymentRequest())
        await call
        assert dict(await call.initial_metadata()).get("obol-replayed") == expected


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidRequest(Reason.FIELD_INVALID, "m", field="amount"), grpc.StatusCode.INVALID_ARGUMENT),
        (NotFound(Reason.PAYMENT_NOT_FOUND, "m"), grpc.StatusCode.NOT_FOUND),
        (Conflict(Reason.IDEMPOTENCY_KEY_REUSED, "m"), grpc.StatusCode.ALREADY_EXISTS),
        (Precondition(Reason.PAYMENT_NOT_CAPTURABLE, "m"), grpc.StatusCode.FAILED_PRECONDITION),
        (Busy(Reason.PAYMENT_BUSY, "m", retry_after_s=1.25, safe_to_retry=True), grpc.StatusCode.ABORTED),
        (DeadlineTooShort(Reason.DEADLINE_TOO_SHORT, "m"), grpc.StatusCode.DEADLINE_EXCEEDED),
        (Exhausted(Reason.PROVIDER_BUSY, "m"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (Unavailable(Reason.DATABASE_UNAVAILABLE, "m", sent=Sent.MAYBE), grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_an_error_carries_its_code_reason_field_and_advice(
    tmp_path: Path, error: ObolError, code: grpc.StatusCode
) -> None:
    """A caller reads the status, one ErrorInfo with sent and safe_to_retry, the field, and how long to wait."""
    async with serving(tmp_path, {"GetPayment": raising(error)}) as served:
        got = await served.error(GET, pb.GetPaymentRequest())
    assert (got.code, got.message, got.info.reason, got.info.domain) == (code, "m", error.reason, "obol")
    assert got.info.metadata["sent"] == error.sent
    assert got.info.metadata["safe_to_retry"] == ("true" if error.safe_to_retry else "false")
    assert got.fields == ([error.field] if error.field else [])
    assert got.retry_s == error.retry_after_s
    assert served.telemetry.ended == [(GET, code.name)]


@pytest.mark.parametrize(
    "raised",
    [
        RuntimeError("sk_test_planted_secret"),
        Internal(Reason.INTERNAL, "sk_test_planted_secret"),
        grpc.aio.AbortError("sk_test_planted_secret"),
        ExceptionGroup("sk_test_planted_secret", [ValueError("x")]),
    ],
)
async def test_an_unexpected_exception_is_internal_and_keeps_its_text_to_itself(
    tmp_path: Path, raised: Exception
) -> None:
    """A caller learns the correlation id to look for, and nothing of what the exception said."""
    async with serving(tmp_path, {"GetPayment": raising(raised), "CreatePayment": raising(raised)}) as served:
        read = await served.error(GET, pb.GetPaymentRequest())
        write = await served.error(CREATE, pb.CreatePaymentRequest())
    for got, sent, again in ((read, "NO", "true"), (write, "MAYBE", "false")):
        assert (got.code, got.info.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
        assert (got.info.metadata["sent"], got.info.metadata["safe_to_retry"]) == (sent, again)
        assert "planted" not in got.message
        assert got.initial["obol-correlation-id"] in got.message


async def test_a_huge_message_of_an_error_still_reaches_the_caller(tmp_path: Path) -> None:
    """Texts and details are cut, so that the status fits into what clients take as metadata."""
    details = {f"key{number}": "\N{GREEK SMALL LETTER OMEGA}" * 5_000 for number in range(100)}
    error = InvalidRequest(Reason.FIELD_INVALID, "\N{SNOWMAN}" * 100_000, field="x" * 100_000)
    async with serving(tmp_path, {"GetPayment": raising(error)}) as served:
        got = await served.error(GET, pb.GetPaymentRequest())
        assert (got.code, got.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    many = InvalidRequest(Reason.FIELD_INVALID, "m", details={**details, "sent": "YES"})
    async with serving(tmp_path, {"GetPayment": raising(many)}) as served:
        got = await served.error(GET, pb.GetPaymentRequest())
        assert (got.info.reason, got.info.metadata["sent"]) == ("FIELD_INVALID", "NO")


@pytest.mark.parametrize("key", ["obol-tenant", "obol-organization", "obol-actor"])
async def test_a_call_without_its_context_is_refused(tmp_path: Path, key: str) -> None:
    """Tenant, organization and actor are required: CONTEXT_INVALID names the one that is missing."""
    async with serving(tmp_path) as served:
        got = await served.error(GET, pb.GetPaymentRequest(), [pair for pair in CONTEXT if pair[0] != key])
    assert (got.code, got.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CONTEXT_INVALID")
    assert got.fields == [key]


@pytest.mark.parametrize("value", ["", "a b", " a", "x" * (CONTEXT_CHARACTERS_MAX + 1)])
@pytest.mark.parametrize("key", ["obol-tenant", "obol-correlation-id"])
async def test_a_context_beyond_its_bounds_is_refused(tmp_path: Path, key: str, value: str) -> None:
    """A value is 1 to 128 visible ASCII characters, whether it is required or not."""
    metadata = [pair for pair in CONTEXT if pair[0] != key] + [(key, value)]
    async with serving(tmp_path) as served:
        got = await served.error(GET, pb.GetPaymentRequest(), metadata)
    assert (got.info.reason, got.fields) == ("CONTEXT_INVALID", [key])


async def test_a_context_that_is_said_twice_is_refused(tmp_path: Path) -> None:
    """Two tenants in one call are none: which one counted would be chance."""
    async with serving(tmp_path) as served:
        got = await served.error(GET, pb.GetPaymentRequest(), [*CONTEXT, ("obol-tenant", "t2")])
    assert (got.info.reason, got.fields) == ("CONTEXT_INVALID", ["obol-tenant"])


async def test_a_callback_needs_an_actor_and_no_tenant(tmp_path: Path) -> None:
    """The sidecar knows no tenant: only its name is required, and a tenant that it sends does not count."""
    seen: list[Call] = []

    async def deliver(request: Any, call: Call) -> callbacks.DeliverCallbackResponse:
        seen.append(call)
        return callbacks.DeliverCallbackResponse()

    rpc, request = "ProviderCallbacks/DeliverCallback", callbacks.DeliverCallbackRequest()
    async with serving(tmp_path, {"DeliverCallback": deliver}) as served:
        await (await served.call(rpc, request, [("obol-actor", "sidecar"), ("obol-tenant", "t9")]))
        refused = await served.error(rpc, request, [("obol-tenant", "t9")])
    assert (seen[0].caller.actor, seen[0].caller.tenant_id) == ("sidecar", "")
    assert refused.fields == ["obol-actor"]


async def test_a_correlation_id_comes_back_also_where_none_was_sent(tmp_path: Path) -> None:
    """A caller's correlation id is kept; where there is none, one is made, and the caller is told of it."""
    seen: list[str] = []
    told_ids: list[Any] = []

    async def get(request: Any, call: Call) -> pb.GetPaymentResponse:
        seen.append(call.caller.correlation_id)
        return pb.GetPaymentResponse()

    async with serving(tmp_path, {"GetPayment": get}) as served:
        for metadata in (CONTEXT, [*CONTEXT, ("obol-correlation-id", "mine")]):
            call = await served.call(GET, pb.GetPaymentRequest(), metadata)
            await call
            told_ids.append(dict(await call.initial_metadata()).get("obol-correlation-id"))
    assert seen == ["made-0", "mine"]
    assert told_ids == ["made-0", None]


async def test_the_servicer_sees_the_deadline_that_is_left(tmp_path: Path) -> None:
    """`deadline_s` is what the caller's deadline leaves, in seconds."""
    seen: list[float | None] = []

    async def get(request: Any, call: Call) -> pb.GetPaymentResponse:
        seen.append(call.deadline_s)
        return pb.GetPaymentResponse()

    async with serving(tmp_path, {"GetPayment": get}) as served:
        began_s = time.monotonic()
        await (await served.call(GET, pb.GetPaymentRequest(), timeout_s=60.0))
        took_s = time.monotonic() - began_s
    assert seen[0] is not None
    assert 59.5 - took_s < seen[0] < 60.5


class Over:
    """A call that is over for gRPC before its handler has heard of it: a race that cannot be set up with a real one."""

    def __init__(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    def time_remaining(self) -> float:
        return 0.0

    async def send_initial_metadata(self, metadata: Any) -> None:
        raise grpc.aio.InternalError("execute_batch")

    async def abort_with_status(self, status: Any) -> None:
        raise grpc.aio.InternalError("execute_batch")


@pytest.mark.parametrize("knows", [False, True])
@pytest.mark.parametrize("fails", [False, True])
async def test_a_call_that_ends_as_it_is_answered_is_no_defect(knows: bool, fails: bool) -> None:
    """Its caller has nothing to hear any more: told as a call whose time was up, and not as a fault of ours."""

    async def get(request: Any, call: Call) -> pb.GetPaymentResponse:
        if fails:
            raise NotFound(Reason.PAYMENT_NOT_FOUND, "none")
        return pb.GetPaymentResponse()

    context: Any = Over((*CONTEXT, ("obol-correlation-id", "mine")) if knows else CONTEXT)
    telemetry = Counted()
    handler: Any = Edge(telemetry, lambda: "made").handlers(Service(GATEWAY, scripted({"GetPayment": get}, GATEWAY)))[
        "GetPayment"
    ]
    with structlog.testing.capture_logs() as logged:
        if knows and not fails:
            assert await handler.unary_unary(b"", context) == b"", "the reply alone needs nothing said before"
        else:
            with pytest.raises(asyncio.CancelledError):
                await handler.unary_unary(b"", context)
    told = {(False, False): "DEADLINE_EXCEEDED", (True, False): "OK"}.get((knows, fails), "NOT_FOUND")
    assert [code for _, code in telemetry.ended] == [told]
    assert [each for each in logged if each["log_level"] == "error"] == []


@pytest.mark.parametrize("raw", [b"\x0a\x02\xff\xfe", b"\x0a\x05abc", b"\xff" * 40])
async def test_bytes_that_are_no_request_are_the_callers_fault(tmp_path: Path, raw: bytes) -> None:
    """Bad UTF-8 and broken messages are INVALID_ARGUMENT with a reason, not UNKNOWN with a traceback."""
    async with serving(tmp_path) as served:
        got = await served.error(CREATE, raw)
    assert (got.code, got.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert "CreatePaymentRequest" in got.message


async def test_a_request_above_the_cap_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """More than 1 MiB is RESOURCE_EXHAUSTED; a callback of 256 KiB with its headers is far from it."""
    delivered: list[int] = []

    async def deliver(request: Any, call: Call) -> callbacks.DeliverCallbackResponse:
        delivered.append(len(request.body))
        return callbacks.DeliverCallbackResponse()

    rpc = "ProviderCallbacks/DeliverCallback"
    async with serving(tmp_path, {"DeliverCallback": deliver}) as served:
        headers = {f"header-{number}": "v" * 1_000 for number in range(20)}
        await (await served.call(rpc, callbacks.DeliverCallbackRequest(body=b"x" * 256 * 1024, headers=headers)))
        got = await served.error(rpc, callbacks.DeliverCallbackRequest(body=b"x" * 1024 * 1024))
    assert got.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert delivered == [256 * 1024]


async def test_metadata_above_the_cap_is_refused(tmp_path: Path) -> None:
    """More than 16 KiB of metadata never reaches a servicer."""
    async with serving(tmp_path) as served:
        got = await served.error(GET, pb.GetPaymentRequest(), [*CONTEXT, ("x-long", "v" * 20_000)])
    assert got.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert served.telemetry.begun == []


async def test_calls_above_the_bound_are_refused_and_health_still_answers(tmp_path: Path) -> None:
    """Past `calls_max` a call is RESOURCE_EXHAUSTED, OVERLOADED, with RetryInfo; the place is free again afterwards."""
    gate = asyncio.Event()

    async def get(request: Any, call: Call) -> pb.GetPaymentResponse:
        await gate.wait()
        return pb.GetPaymentResponse()

    async with serving(tmp_path, {"GetPayment": get}, limits=CallLimits(calls_max=1, streams_max=1)) as served:
        first = await served.call(GET, pb.GetPaymentRequest())
        await served.telemetry.until(begun=1)
        refused = await served.error(GET, pb.GetPaymentRequest())
        gate.set()
        await first
        await (await served.call(GET, pb.GetPaymentRequest()))
    assert (refused.code, refused.info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert refused.retry_s == 1.0
    assert refused.info.metadata["safe_to_retry"] == "true"


async def test_a_cancelled_call_cancels_its_servicer_and_is_counted(tmp_path: Path) -> None:
    """A caller's cancel and a caller's deadline both reach the servicer as a cancellation, and are told apart."""
    cancelled: list[bool] = []

    async def get(request: Any, call: Call) -> pb.GetPaymentResponse:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return pb.GetPaymentResponse()

    async with serving(tmp_path, {"GetPayment": get}) as served:
        call = await served.call(GET, pb.GetPaymentRequest())
        await served.telemetry.until(begun=1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await served.telemetry.until(ended=1)
        with pytest.raises(grpc.aio.AioRpcError):
            await (await served.call(GET, pb.GetPaymentRequest(), timeout_s=0.2))
        await served.telemetry.until(ended=2)
    assert cancelled == [True, True]
    assert served.telemetry.ended == [(GET, "CANCELLED"), (GET, "DEADLINE_EXCEEDED")]


async def test_a_stream_ends_with_the_error_that_its_servicer_raised(tmp_path: Path) -> None:
    """What was sent before the error arrives, and the error is as rich as that of a unary call."""

    async def watch(request: Any, call: Call) -> AsyncGenerator[observing.WatchObservationsResponse, None]:
        yield observing.WatchObservationsResponse()
        raise InvalidRequest(Reason.CURSOR_INVALID, "m", field="cursor")

    async with serving(tmp_path, {"WatchObservations": watch}) as served:
        stream = served.watch()
        assert await stream.read() == b""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_streams_above_the_bound_are_refused(tmp_path: Path) -> None:
    """Past `streams_max` a stream is RESOURCE_EXHAUSTED, and calls go on."""

    async def watch(request: Any, call: Call) -> AsyncGenerator[observing.WatchObservationsResponse, None]:
        yield observing.WatchObservationsResponse()
        await asyncio.sleep(60)

    async with serving(tmp_path, {"WatchObservations": watch}, limits=CallLimits(streams_max=1)) as served:
        first = served.watch()
        await first.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.watch().read()
        first.cancel()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_what_one_call_binds_to_its_logs_ends_with_it(tmp_path: Path) -> None:
    """The tenant of one call never shows in the log lines of another, also on the same connection."""
    import structlog

    seen: list[dict[str, Any]] = []

    async def get(request: Any, call: Call) -> pb.GetPaymentResponse:
        seen.append(structlog.contextvars.get_contextvars())
        structlog.contextvars.bind_contextvars(planted="x")
        return pb.GetPaymentResponse()

    async with serving(tmp_path, {"GetPayment": get}) as served:
        await (await served.call(GET, pb.GetPaymentRequest()))
        await (await served.call(GET, pb.GetPaymentRequest(), [("obol-tenant", "t2"), *CONTEXT[1:]]))
    assert [each["tenant"] for each in seen] == ["t1", "t2"]
    assert "planted" not in seen[1]
