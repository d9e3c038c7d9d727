"""Readiness: what the standard health service says, kept up to date by one loop.

The overall service ("") and each of ours follow the database. A provider account has a service of its own,
`obol.provider.<account_id>`, which follows its breaker: a provider's outage drains no replica. `obol.process` serves as
long as the process answers: what restarts a process that hangs must not restart one whose database is gone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import OVERALL_HEALTH, aio

from gateway.domain.providers import AccountHealth, Accounts

Status = health_pb2.HealthCheckResponse.ServingStatus

PROVIDER_SERVICE_PREFIX = "obol.provider."
PROCESS_SERVICE = "obol.process"


@dataclass(frozen=True, slots=True)
class ReadinessPace:
    """How often the database is asked, and how long it may take to answer, in seconds."""

    poll_s: float = 1.0
    ping_s_max: float = 2.0


class _Health(aio.HealthServicer):  # type: ignore[misc]  # grpc_health has no types
    """The standard health service, whose watchers can be told to go: left alone they would hold up a drain."""

    def __init__(self) -> None:
        super().__init__()
        self._watchers: set[asyncio.Task[Any]] = set()
        self._ending = False

    async def Watch(self, request: Any, context: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._watchers.add(task)
        try:
            await super().Watch(request, context)
        except asyncio.CancelledError:
            if not self._ending:
                raise
            task.uncancel()
        finally:
            self._watchers.discard(task)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "this gateway is about to stop")

    def end_watches(self) -> None:
        self._ending = True
        for task in self._watchers:
            task.cancel()


class Readiness:
    """Keeps the health service right: `ready` is the runtime's own word, `ping` raises where the database is lost."""

    def __init__(
        self,
        services: Iterable[str],
        *,
        ping: Callable[[], Awaitable[None]],
        ready: Callable[[], bool],
        accounts: Accounts,
        pace: ReadinessPace | None = None,
    ) -> None:
        self.servicer = _Health()
        self._services: Sequence[str] = (OVERALL_HEALTH, *services)
        self._ping = ping
        self._ready = ready
        self._accounts = accounts
        self._pace = pace or ReadinessPace()
        self._serving: bool | None = None

    async def run(self) -> None:
        """Ask and tell until cancelled. Nothing serves before the first good answer."""
        while True:
            await self.check()
            await asyncio.sleep(self._pace.poll_s)

    async def check(self) -> None:
        """Ask once, and tell."""
        serving = await self._is_ready()
        if serving is not self._serving:
            structlog.get_logger().log(20 if serving else 40, "readiness changed", serving=serving)
            self._serving = serving
        await self._set(PROCESS_SERVICE, True)
        for service in self._services:
            await self._set(service, serving)
        for account in self._accounts.all():
            # HALF_OPEN serves: only calls can close a breaker.
            await self._set(PROVIDER_SERVICE_PREFIX + account.account_id, account.health is not AccountHealth.OPEN)

    async def withdraw(self) -> None:
        """NOT_SERVING for everything, for good."""
        await self.servicer.enter_graceful_shutdown()

    def end_watches(self) -> None:
        """End the streams of those who watch the health, who know by now."""
        self.servicer.end_watches()

    async def _is_ready(self) -> bool:
        if not self._ready():
            return False
        try:
            async with asyncio.timeout(self._pace.ping_s_max):
                await self._ping()
        except Exception:  # noqa: BLE001  whatever keeps the database from answering, it is not ready
            return False
        return True

    async def _set(self, service: str, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        await self.servicer.set(service, status)
