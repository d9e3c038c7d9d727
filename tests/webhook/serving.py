"""A sidecar on a free port in front of a real grpc.aio ProviderCallbacks on a Unix socket."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import structlog
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from obol.v1.provider_callbacks_pb2 import DeliverCallbackRequest, DeliverCallbackResponse
from obol.v1.provider_callbacks_pb2_grpc import ProviderCallbacksServicer, add_ProviderCallbacksServicer_to_server
from providers.callbacks import CallbackSettings
from providers.secret import Secret
from tests.webhook.sending import ACCOUNT, NOW_S, SECRET
from webhook_http.server import serve
from webhook_http.settings import SidecarLimits, SidecarSettings

QUICK = SidecarLimits(head_s_max=10.0, body_s_max=10.0, deliver_s_max=10.0, ready_cached_s=0.05, drain_s_max=2)
"""Patient enough for a machine that stalls; a test of a bound sets its own, by `dataclasses.replace`."""


def account(account_id: str = ACCOUNT, *secrets: str) -> CallbackSettings:
    """A sandbox account with these secrets."""
    return CallbackSettings("sandbox", account_id, tuple(Secret(secret) for secret in secrets))


@dataclass
class Inbox(ProviderCallbacksServicer):
    """The gateway's side: keeps what it is handed, by event, and does first what the test asks for."""

    delivered: list[DeliverCallbackRequest] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    kept: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    arrivals: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    """Released for each callback that comes in."""
    before: Callable[[Any], Awaitable[None]] | None = None
    after: Callable[[Any], Awaitable[None]] | None = None

    async def DeliverCallback(self, request: DeliverCallbackRequest, context: Any) -> DeliverCallbackResponse:
        self.delivered.append(request)
        self.arrivals.release()
        self.metadata.append(dict(context.invocation_metadata()))
        if self.before is not None:
            await self.before(context)
        key = (request.provider, request.account_id, request.event_id)
        duplicate = key in self.kept
        self.kept.setdefault(key, request.body)
        if self.after is not None:
            await self.after(context)
        return DeliverCallbackResponse(callback_id="" if duplicate else "cbk_1", duplicate=duplicate)


def aborting(code: grpc.StatusCode) -> Callable[[Any], Awaitable[None]]:
    """Ends a call with `code`."""

    async def abort(context: Any) -> None:
        await context.abort(code, "words")

    return abort


@dataclass(frozen=True)
class Sidecar:
    """What is up."""

    port: int
    inbox: Inbox
    health: Any
    lines: list[dict[str, Any]]
    """What was logged."""


@asynccontextmanager
async def gateway(inbox: Inbox, target: str) -> AsyncIterator[Any]:
    """The gateway, as far as the sidecar can see; its health servicer."""
    server = aio.server()
    servicer = health.HealthServicer()
    add_ProviderCallbacksServicer_to_server(inbox, server)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(target)
    await server.start()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    try:
        yield servicer
    finally:
        await server.stop(None)


@asynccontextmanager
async def sidecar(
    *accounts: CallbackSettings,
    inbox: Inbox | None = None,
    limits: SidecarLimits = QUICK,
    gateway_is_up: bool = True,
) -> AsyncIterator[Sidecar]:
    """A sidecar whose clock stands at NOW_S, by default for one account with one secret."""
    inbox = inbox or Inbox()
    with tempfile.TemporaryDirectory(prefix="obol-") as directory:
        target = f"unix:{Path(directory) / 'grpc.sock'}"
        settings = SidecarSettings(target, accounts or (account(ACCOUNT, SECRET),), listen_port=0, limits=limits)
        if not gateway_is_up:
            async with _listening(settings) as (port, lines):
                yield Sidecar(port, inbox, None, lines)
            return
        async with gateway(inbox, target) as servicer, _listening(settings) as (port, lines):
            yield Sidecar(port, inbox, servicer, lines)


@asynccontextmanager
async def _listening(settings: SidecarSettings) -> AsyncIterator[tuple[int, list[dict[str, Any]]]]:
    ports: list[int] = []
    bound, stop = asyncio.Event(), asyncio.Event()

    def listening(host: str, port: int) -> None:
        ports.append(port)
        bound.set()

    log = structlog.testing.CapturingLogger()
    lines: list[dict[str, Any]] = []
    logger = structlog.wrap_logger(log, processors=[lambda _, method, line: _kept(lines, method, line)])
    serving = asyncio.create_task(serve(settings, ready=listening, stop=stop, log=logger, now_s=lambda: NOW_S))
    waiting = asyncio.create_task(bound.wait())
    await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if serving.done():
        await serving
    try:
        yield ports[0], lines
    finally:
        stop.set()
        await serving


def _kept(lines: list[dict[str, Any]], method: str, line: Any) -> str:
    lines.append({"level": method, **line})
    return ""
