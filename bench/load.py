"""Callers in a closed loop: each calls, waits for the reply, and calls again. Latency in seconds, as callers see it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from collections.abc import AsyncIterator
from dataclasses import dataclass
from statistics import median

import grpc.aio

from bench.requests import METADATA

CHANNELS_MAX = 4
"""Connections that the callers share, as a few processes of a caller would."""

CALL_S_MAX = 30.0

Call = Callable[[], Awaitable[None]]
Send = Callable[[bytes], Awaitable[bytes]]
Cpu = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Round:
    """What one round measured."""

    seconds: float
    latencies_s: tuple[float, ...]
    cpu_s: float

    @property
    def calls(self) -> int:
        return len(self.latencies_s)

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds of the servers for each call."""
        return self.cpu_s * 1_000 / max(1, self.calls)

    def percentile_ms(self, percent: float) -> float:
        """The latency that `percent` of the calls stayed within, in milliseconds."""
        return percentile_of(self.latencies_s, percent) * 1_000


def percentile_of(values: Sequence[float], percent: float) -> float:
    """By the nearest rank; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


async def run_round(call: Call, *, callers: int, seconds: float, cpu: Cpu) -> Round:
    """`callers` in a closed loop for `seconds`; calls that are under way at the end are finished and counted."""
    latencies: list[float] = []
    clock = time.perf_counter
    before_cpu_s, began_s = cpu(), clock()
    until_s = began_s + seconds

    async def caller() -> None:
        asked_s = clock()
        while asked_s < until_s:
            await call()
            answered_s = clock()
            latencies.append(answered_s - asked_s)
            asked_s = answered_s

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return Round(clock() - began_s, tuple(latencies), cpu() - before_cpu_s)


@asynccontextmanager
async def sending(address: str, method: str) -> AsyncIterator[Send]:
    """Sends a request's bytes to `method`, and gives the reply's; the connections are taken in turn."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(CHANNELS_MAX)]
    methods = [channel.unary_unary(method, _registered_method=True) for channel in channels]
    turn = 0

    async def send(request: bytes) -> bytes:
        nonlocal turn
        turn = (turn + 1) % CHANNELS_MAX
        reply: bytes = await methods[turn](request, timeout=CALL_S_MAX, metadata=METADATA)
        return reply

    try:
        yield send
    finally:
        for channel in channels:
            await channel.close()


def medians(rounds: Sequence[Round]) -> tuple[float, float, float, float]:
    """The medians of rate, p50 and p99 in milliseconds, and CPU milliseconds for each call."""
    return (
        median(each.rate for each in rounds),
        median(each.percentile_ms(50) for each in rounds),
        median(each.percentile_ms(99) for each in rounds),
        median(each.cpu_ms for each in rounds),
    )
