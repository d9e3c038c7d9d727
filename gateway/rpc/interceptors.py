"""What happens around every call: one wrapper for each method, made once, when the server is built.

In this order: bound, metadata, parse, the servicer, then the reply or the one error table; counted, timed and logged
whatever happens. The wrapper is the handler itself, not a grpc interceptor: nothing is made or looked up for a call.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Protocol

import grpc
import grpc.aio
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from gateway.app.replies import CommandReply
from gateway.domain.commands import Caller
from gateway.domain.errors import Exhausted, Internal, InvalidRequest, ObolError, Reason, Unavailable
from gateway.rpc.context import CORRELATION_ID, REPLAYED, Call, Context, read_caller
from gateway.rpc.errors import rich_status, status_code, unexpected

OVERLOADED_RETRY_S = 1.0
DRAINING_RETRY_S = 1.0

ServicerContext = grpc.aio.ServicerContext[bytes, bytes]
UnaryMethod = Callable[[Any, Call], Awaitable[Message | CommandReply]]
StreamMethod = Callable[[Any, Call], AsyncGenerator[Message, None]]

_OK = grpc.StatusCode.OK.name
_UNKNOWN = grpc.StatusCode.UNKNOWN.name


class RpcTelemetry(Protocol):
    """Where calls are counted. Never raises, never waits."""

    def rpc_begun(self, rpc: str) -> None:
        """A call of `rpc`, such as PaymentGateway/CreatePayment, has come in."""
        ...

    def rpc_ended(self, rpc: str, code: str, seconds: float | None) -> None:
        """It has ended with the name of a gRPC status; `seconds` is None for a stream, whose length says nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Service:
    """A servicer and what it serves: it has a method of the RPC's name for each RPC of `descriptor`."""

    descriptor: ServiceDescriptor
    servicer: object
    needs: Context = Context.TENANT


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Calls under way at a time in one process. Health checks are not counted: they must tell of an overload."""

    calls_max: int = 1_000
    streams_max: int = 200


@dataclass(slots=True)
class _Correlation:
    """A call's correlation id; `unsent` while one that was made here is still to be told to the caller."""

    id: str = ""
    unsent: str = ""


@dataclass(frozen=True, slots=True)
class _Method:
    rpc: str
    needs: Context
    request: type[Message]
    sends: bool
    streams: bool

    @classmethod
    def of(cls, descriptor: MethodDescriptor, needs: Context) -> "_Method":
        # Whatever carries an idempotency key can change a provider's books, and nothing else can.
        sends = "idempotency_key" in descriptor.input_type.fields_by_name
        rpc = f"{descriptor.containing_service.name}/{descriptor.name}"
        return cls(rpc, needs, GetMessageClass(descriptor.input_type), sends, descriptor.server_streaming)

    def parse(self, raw: bytes) -> Message:
        """The request. Raises InvalidRequest for bytes that are none, such as a string that is not UTF-8."""
        try:
            return self.request.FromString(raw)
        except DecodeError as error:
            message = f"the request is not a valid {self.request.DESCRIPTOR.full_name}; strings must be UTF-8"
            raise InvalidRequest(Reason.FIELD_INVALID, message) from error


class Edge:
    """Makes the handlers of a process, and knows the calls under way. Lives on one event loop."""

    def __init__(
        self,
        telemetry: RpcTelemetry,
        new_correlation_id: Callable[[], str],
        limits: CallLimits | None = None,
        *,
        monotonic: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._telemetry = telemetry
        self._new_correlation_id = new_correlation_id
        self._limits = limits or CallLimits()
        self._monotonic = monotonic
        self._log = structlog.get_logger()
        self._calls = 0
        self._streams: set[asyncio.Task[Any]] = set()
        self._draining = False

    @property
    def rpcs_max(self) -> int:
        """All calls that the limits allow at a time."""
        return self._limits.calls_max + self._limits.streams_max

    def handlers(self, service: Service) -> "Mapping[str, grpc.RpcMethodHandler[bytes, bytes]]":
        """A handler for each RPC of `service`, by name. Raises AttributeError where the servicer lacks one."""
        return {descriptor.name: self._handler(descriptor, service) for descriptor in service.descriptor.methods}

    def end_streams(self) -> None:
        """End every stream, and every later one, with UNAVAILABLE, DRAINING: their callers resume elsewhere."""
        self._draining = True
        for task in self._streams:
            task.cancel()

    def _handler(self, descriptor: MethodDescriptor, service: Service) -> "grpc.RpcMethodHandler[bytes, bytes]":
        # No (de)serializers: bytes are parsed inside the wrapper, where a failure finds the error table, and a stored
        # reply leaves as it was stored.
        method = _Method.of(descriptor, service.needs)
        behaviour = getattr(service.servicer, descriptor.name)
        if descriptor.server_streaming:
            return grpc.unary_stream_rpc_method_handler(self._stream(method, behaviour))
        return grpc.unary_unary_rpc_method_handler(self._unary(method, behaviour))

    def _unary(self, method: _Method, handle: UnaryMethod) -> Callable[[bytes, ServicerContext], Awaitable[bytes]]:
        async def unary(raw: bytes, context: ServicerContext) -> bytes:
            began_s = self._monotonic()
            self._telemetry.rpc_begun(method.rpc)
            self._calls += 1
            correlation = _Correlation()
            code, reason = _UNKNOWN, ""
            try:
                caller = self._caller(method, context, correlation)
                if self._calls > self._limits.calls_max:
                    raise _overloaded("calls", self._limits.calls_max)
                reply = await handle(method.parse(raw), Call(caller, context.time_remaining()))
                body, replayed = _reply_bytes(reply)
                await _send_initial_metadata(context, correlation, replayed=replayed)
                code = _OK
                return body
            except asyncio.CancelledError:
                code = _cancelled_code(context)
                raise
            except Exception as raised:  # noqa: BLE001  the one place: everything becomes a row of the error table
                error = self._told(raised, method, correlation)
                code, reason = status_code(error).name, error.reason
            finally:
                self._calls -= 1
                self._ended(method, code, reason, began_s)
            return await _abort(context, correlation, error)

        return unary

    def _stream(self, method: _Method, handle: StreamMethod) -> Callable[[bytes, ServicerContext], Awaitable[None]]:
        async def stream(raw: bytes, context: ServicerContext) -> None:
            began_s = self._monotonic()
            self._telemetry.rpc_begun(method.rpc)
            task = asyncio.current_task()
            assert task is not None
            correlation = _Correlation()
            code, reason = _UNKNOWN, ""
            error: ObolError
            try:
                caller = self._caller(method, context, correlation)
                self._admit_stream(task)
                request = method.parse(raw)
                await _send_initial_metadata(context, correlation, replayed=False)
                async with aclosing(handle(request, Call(caller, context.time_remaining()))) as messages:
                    async for message in messages:
                        async with _as_long_as_somebody_listens():
                            await context.write(message.SerializeToString())
                code = _OK
                return
            except asyncio.CancelledError:
                # By its caller, or by `end_streams`: only the latter still has somebody to tell.
                if not self._draining:
                    code = _cancelled_code(context)
                    raise
                task.uncancel()
                error = _draining()
                code, reason = status_code(error).name, error.reason
            except Exception as raised:  # noqa: BLE001  as above
                error = self._told(raised, method, correlation)
                code, reason = status_code(error).name, error.reason
            finally:
                self._streams.discard(task)
                self._ended(method, code, reason, began_s)
            await _abort(context, correlation, error)

        return stream

    def _caller(self, method: _Method, context: ServicerContext, correlation: _Correlation) -> Caller:
        # Every call has a task and so a context of its own: what is bound here ends with it, and the tasks that it
        # leaves behind carry it on.
        structlog.contextvars.bind_contextvars(rpc=method.rpc)
        caller = read_caller(context.invocation_metadata() or (), method.needs)
        if not caller.correlation_id:
            caller = replace(caller, correlation_id=self._new_correlation_id())
            correlation.unsent = caller.correlation_id
        correlation.id = caller.correlation_id
        structlog.contextvars.bind_contextvars(tenant=caller.tenant_id, correlation_id=caller.correlation_id)
        return caller

    def _admit_stream(self, task: asyncio.Task[Any]) -> None:
        if self._draining:
            raise _draining()
        if len(self._streams) >= self._limits.streams_max:
            raise _overloaded("streams", self._limits.streams_max)
        self._streams.add(task)

    def _told(self, raised: Exception, method: _Method, correlation: _Correlation) -> ObolError:
        """What the caller is told; a defect goes to the logs, whole, and to the caller without its text."""
        if isinstance(raised, ObolError) and not isinstance(raised, Internal):
            return raised
        self._log.error("rpc failed unexpectedly", exc_info=raised)
        return unexpected(correlation.id, sends=method.sends)

    def _ended(self, method: _Method, code: str, reason: str, began_s: float) -> None:
        seconds = self._monotonic() - began_s
        self._telemetry.rpc_ended(method.rpc, code, None if method.streams else seconds)
        self._log.info("rpc", code=code, reason=reason, ms=round(seconds * 1_000, 2))


def _reply_bytes(reply: Message | CommandReply) -> tuple[bytes, bool]:
    if isinstance(reply, CommandReply):
        return reply.body, reply.replayed
    return reply.SerializeToString(), False


async def _send_initial_metadata(context: ServicerContext, correlation: _Correlation, *, replayed: bool) -> None:
    # Only where there is something to say: sent by itself it costs both sides some 40 us, with the reply nothing.
    said = [(CORRELATION_ID, correlation.unsent)] if correlation.unsent else []
    if replayed:
        said.append((REPLAYED, "true"))
    if said:
        async with _as_long_as_somebody_listens():
            await context.send_initial_metadata(said)
        correlation.unsent = ""


@asynccontextmanager
async def _as_long_as_somebody_listens() -> AsyncIterator[None]:
    """A call may be over for gRPC, its time up, in the moment before its handler hears of it: that ends it as well."""
    try:
        yield
    except grpc.aio.InternalError as over:
        raise asyncio.CancelledError from over


def _cancelled_code(context: ServicerContext) -> str:
    late = context.time_remaining() == 0
    return (grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED).name


async def _abort(context: ServicerContext, correlation: _Correlation, error: ObolError) -> NoReturn:
    await _send_initial_metadata(context, correlation, replayed=False)
    async with _as_long_as_somebody_listens():
        await context.abort_with_status(rich_status(error))
    raise AssertionError("abort always raises")


def _overloaded(what: str, maximum: int) -> Exhausted:
    message = f"this gateway has {maximum} {what} under way, which is its bound; nothing was begun"
    return Exhausted(Reason.OVERLOADED, message, safe_to_retry=True, retry_after_s=OVERLOADED_RETRY_S)


def _draining() -> Unavailable:
    message = "this gateway is about to stop: resume from the last cursor at another"
    return Unavailable(Reason.DRAINING, message, safe_to_retry=True, retry_after_s=DRAINING_RETRY_S)
