"""What comes out and what comes in: observations at a watching consumer, callbacks through the sidecar to the inbox."""

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc.aio

from bench import requests
from bench.acknowledging import Acknowledged, measure_acknowledgements
from bench.databases import Engine, analyse, fresh, meter_of
from bench.effort import RATIO_CALLERS, Effort
from bench.load import Send, percentile_of, run_round, sending
from bench.payments import PAYMENTS_READ, created, warmed
from bench.processes import DEAD_ACCOUNT, FAST_ACCOUNT, Bench, Server
from obol.v1 import billing_observation_pb2

CATCH_UP_S_MAX = 15.0


@dataclass(frozen=True, slots=True)
class Watched:
    """From a CreatePayment's reply to its observation at a watcher, in milliseconds; below 0: it was there before."""

    engine: str
    callers: int
    payments: int
    p50_ms: float
    p99_ms: float


@dataclass
class _Watcher:
    """Hears observations over one stream, and keeps when it first heard of each payment."""

    heard_s: dict[str, float] = field(default_factory=dict)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    async def caught_up(self, payment_ids: Iterable[str]) -> None:
        """Until it has heard of all of them, and of anything at all. Raises TimeoutError."""
        async with asyncio.timeout(CATCH_UP_S_MAX):
            await self.heard.wait()
            for payment_id in payment_ids:
                while payment_id not in self.heard_s:
                    self.heard.clear()
                    await self.heard.wait()

    async def watch(self, address: str) -> None:
        """Until cancelled."""
        async with grpc.aio.insecure_channel(address) as channel:
            method: Any = channel.unary_stream(requests.WATCH)
            request = billing_observation_pb2.WatchObservationsRequest()
            async for raw in method(request.SerializeToString(), metadata=requests.METADATA):
                now_s = time.perf_counter()
                event = billing_observation_pb2.WatchObservationsResponse.FromString(raw)
                if event.HasField("observation"):
                    self.heard_s.setdefault(event.observation.payment_id, now_s)
                self.heard.set()


async def measure_arrivals(bench: Bench, engine: Engine, effort: Effort) -> tuple[list[Watched], list[Acknowledged]]:
    """Both, on a gateway of their own."""
    url = fresh(engine, bench.folder, migrated=True)
    with bench.gateway(f"arrivals-{engine}", url, dead=True) as gateway:
        async with sending(gateway.address, requests.CREATE) as create:
            watched = [
                await _watch(gateway, create, engine, callers, effort.watched_s) for callers in (1, RATIO_CALLERS)
            ]
            await warmed(create, gateway, engine, url)
            payments = {
                account_id: [
                    requests.created_payment(reply) for reply in await created(create, PAYMENTS_READ, account_id)
                ]
                for account_id in (FAST_ACCOUNT, DEAD_ACCOUNT)
            }
        analyse(url)
        with bench.sidecar(f"sidecar-{engine}", gateway) as sidecar:
            acknowledged = await measure_acknowledgements(sidecar, gateway, payments, engine, effort)
    return watched, acknowledged


async def _watch(gateway: Server, create: Send, engine: Engine, callers: int, seconds: float) -> Watched:
    watcher = _Watcher()
    replied_s: dict[str, float] = {}

    async def pay() -> None:
        reply = await create(requests.create(FAST_ACCOUNT))
        now_s = time.perf_counter()
        replied_s[requests.created_payment(reply).payment_id] = now_s

    watching = asyncio.create_task(watcher.watch(gateway.address))
    try:
        await watcher.caught_up(())
        await run_round(pay, callers=callers, seconds=seconds, meter=meter_of(engine, gateway))
        await watcher.caught_up(replied_s.keys())
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
    late_s = [watcher.heard_s[payment_id] - at_s for payment_id, at_s in replied_s.items()]
    return Watched(engine, callers, len(late_s), percentile_of(late_s, 50) * 1_000, percentile_of(late_s, 99) * 1_000)
