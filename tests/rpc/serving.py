"""A real server on a Unix socket with a scripted servicer behind the real edge, and a caller for it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status

from gateway.app.replies import CommandReply
from gateway.domain.providers import AccountHealth
from gateway.rpc.address import Address
from gateway.rpc.context import Call, Context
from gateway.rpc.interceptors import CallLimits, Edge, Service
from gateway.rpc.readiness import Readiness, ReadinessPace
from gateway.rpc.server import RpcServer, WireLimits
from obol.v1 import billing_observation_pb2, payment_gateway_pb2, provider_callbacks_pb2

CONTEXT = (("obol-tenant", "t1"), ("obol-organization", "o1"), ("obol-actor", "billing"))
GATEWAY = payment_gateway_pb2.DESCRIPTOR.services_by_name["PaymentGateway"]
OBSERVATION = billing_observation_pb2.DESCRIPTOR.services_by_name["BillingObservation"]
CALLBACKS = provider_callbacks_pb2.DESCRIPTOR.services_by_name["ProviderCallbacks"]

Unary = Callable[[Any, Call], Awaitable[Message | CommandReply]]
Stream = Callable[[Any, Call], AsyncGenerator[Message, None]]


@dataclass
class Counted:
    """Telemetry that keeps what it was told."""

    begun: list[str] = field(default_factory=list)
    ended: list[tuple[str, str]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def rpc_begun(self, rpc: str) -> None:
        self.begun.append(rpc)
        self.changed.set()

    def rpc_ended(self, rpc: str, code: str, seconds: float | None) -> None:
        self.ended.append((rpc, code))
        self.changed.set()

    async def until(self, *, begun: int = 0, ended: int = 0) -> None:
        """Wait until so many calls have begun and ended."""
        while len(self.begun) < begun or len(self.ended) < ended:
            self.changed.clear()
            await self.changed.wait()


@dataclass
class FakeAccount:
    """An account whose breaker stands as it is told."""

    account_id: str = "acct_main"
    health: AccountHealth = AccountHealth.CLOSED


@dataclass
class FakeAccounts:
    """The accounts of a test."""

    accounts: Sequence[FakeAccount] = ()

    def all(self) -> Sequence[FakeAccount]:
        return self.accounts


@dataclass
class Serving:
    """A running server: its channel, and what can be changed while it runs."""

    server: RpcServer
    address: Address
    channel: grpc.aio.Channel
    telemetry: Counted
    readiness: Readiness
    database: "Database"
    account: FakeAccount

    async def call(
        self, rpc: str, request: Message | bytes, metadata: Sequence[tuple[str, str]] = CONTEXT, timeout_s: float = 5.0
    ) -> "grpc.aio.UnaryUnaryCall[bytes, bytes]":
        """Begin a unary call of `rpc`, such as PaymentGateway/GetPayment; raw bytes go out and come back."""
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(f"/obol.v1.{rpc}")
        raw = request if isinstance(request, bytes) else request.SerializeToString()
        return method(raw, metadata=tuple(metadata), timeout=timeout_s)

    def watch(self) -> "grpc.aio.UnaryStreamCall[bytes, bytes]":
        """Begin to watch observations; raw bytes come back."""
        method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
        method = self.channel.unary_stream("/obol.v1.BillingObservation/WatchObservations")
        return method(b"", metadata=CONTEXT)

    async def error(
        self, rpc: str, request: Message | bytes, metadata: Sequence[tuple[str, str]] = CONTEXT, timeout_s: float = 5.0
    ) -> "Told":
        """Call and return the error that came back."""
        try:
            await (await self.call(rpc, request, metadata, timeout_s))
        except grpc.aio.AioRpcError as error:
            return told(error)
        raise AssertionError(f"{rpc} did not fail")


@dataclass
class Told:
    """An error as a caller reads it."""

    code: grpc.StatusCode
    message: str
    info: ErrorInfo
    fields: list[str]
    retry_s: float | None
    initial: dict[str, Any]


def told(error: grpc.aio.AioRpcError) -> Told:
    """Unpack the rich status; there must be exactly one ErrorInfo."""
    status = rpc_status.from_call(error)
    infos, fields, retry_s = [], [], None
    for packed in status.details if status else []:
        if packed.Is(ErrorInfo.DESCRIPTOR):
            infos.append(ErrorInfo())
            packed.Unpack(infos[-1])
        elif packed.Is(BadRequest.DESCRIPTOR):
            bad = BadRequest()
            packed.Unpack(bad)
            fields += [violation.field for violation in bad.field_violations]
        elif packed.Is(RetryInfo.DESCRIPTOR):
            retry = RetryInfo()
            packed.Unpack(retry)
            retry_s = retry.retry_delay.ToTimedelta().total_seconds()
    assert len(infos) <= 1
    info = infos[0] if infos else ErrorInfo()
    return Told(error.code(), error.details() or "", info, fields, retry_s, dict(error.initial_metadata()))


@dataclass
class Database:
    """A database that answers, unless it is told otherwise."""

    lost: Exception | None = None

    async def ping(self) -> None:
        if self.lost is not None:
            raise self.lost


async def unscripted(request: Any, call: Call) -> Message:
    """What an RPC does that the test does not mention."""
    raise AssertionError("not scripted")


def scripted(methods: dict[str, Unary | Stream], service: Any) -> object:
    """A servicer that has every RPC of `service`, as scripted."""
    return type(
        "Scripted", (), {each.name: staticmethod(methods.get(each.name, unscripted)) for each in service.methods}
    )()


@asynccontextmanager
async def serving(
    directory: Path,
    methods: dict[str, Unary | Stream] | None = None,
    *,
    services: Sequence[Service] | None = None,
    limits: CallLimits | None = None,
    wire: WireLimits | None = None,
    options: Sequence[tuple[str, int]] = (),
    at: Address | None = None,
) -> AsyncIterator[Serving]:
    """Serve the three services, scripted, at a Unix socket in `directory` or `at`, until the block ends."""
    ids = iter(range(1_000_000))
    telemetry, database, account = Counted(), Database(), FakeAccount()
    edge = Edge(telemetry, lambda: f"made-{next(ids)}", limits)
    script = methods or {}
    offered = services or (
        Service(GATEWAY, scripted(script, GATEWAY)),
        Service(OBSERVATION, scripted(script, OBSERVATION)),
        Service(CALLBACKS, scripted(script, CALLBACKS), Context.GATEWAY),
    )
    readiness = Readiness(
        [each.descriptor.full_name for each in offered],
        ping=database.ping,
        ready=lambda: True,
        accounts=FakeAccounts([account]),  # type: ignore[arg-type]  # the loop reads an id and a health, no more
        pace=ReadinessPace(poll_s=0.02, ping_s_max=0.2),
    )
    server = RpcServer(offered, edge, readiness, limits=wire)
    address = await server.start(at or Address(unix_socket=directory / "obol.sock"))
    try:
        async with grpc.aio.insecure_channel(address.target, options=list(options)) as channel:
            yield Serving(server, address, channel, telemetry, readiness, database, account)
    finally:
        # Also after a failure: a server that nobody stops keeps the whole test run from ending.
        await server.drain(announce_s=0.0, grace_s=0.5)
