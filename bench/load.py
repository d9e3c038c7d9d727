"""Callers in a closed loop: each calls, waits for the reply, and calls again. Latency in seconds, as callers see it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import grpc.aio

from bench.requests import METADATA

CHANNELS_MAX = 4
"""Connections that the callers share, as a few processes of a caller would."""

CALL_S_MAX = 30.0

Call = Callable[[], Awaitable[None]]
Send = Callable[[bytes], Coroutine[Any, Any, bytes]]


@dataclass(frozen=True, slots=True)
class CpuUsed:
    """CPU seconds: of the server's process, and of the database's where that is another one."""

    server_s: float
    database_s: float = 0.0

    def since(self, before: "CpuUsed") -> "CpuUsed":
        """What was used after `before`."""
        return CpuUsed(self.server_s - before.server_s, self.database_s - before.database_s)


Meter = Callable[[], CpuUsed]


@dataclass(frozen=True, slots=True)
class Round:
    """What one round measured."""

    seconds: float
    latencies_s: tuple[float, ...]
    cpu: CpuUsed

    @property
    def calls(self) -> int:
        return len(self.latencies_s)

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds

    @property
    def server_ms(self) -> float:
        """CPU milliseconds of the server for each call."""
        return self.cpu.server_s * 1_000 / max(1, self.calls)

    @property
    def database_ms(self) -> float:
        """CPU milliseconds of the database's own processes for each call."""
        return self.cpu.database_s * 1_000 / max(1, self.calls)

    def percentile_ms(self, percent: float) -> float:
        """The latency that `percent` of the calls stayed within, in milliseconds."""
        return percentile_of(self.latencies_s, percent) * 1_000


def percentile_of(values: Sequence[float], percent: float) -> float:
    """By the nearest rank; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


async def run_round(call: Call, *, callers: int, seconds: float, meter: Meter) -> Round:
    """`callers` in a closed loop for `seconds`; calls that are under way at the end are finished and counted."""
    latencies: list[float] = []
    clock = time.perf_counter
    before, began_s = meter(), clock()
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
    return Round(clock() - began_s, tuple(latencies), meter().since(before))


async def run_open_round(call: Call, *, per_s: float, seconds: float, meter: Meter) -> Round:
    """`per_s` calls a second for `seconds`, each begun when it is due, whatever became of those before.

    Latency counts from when a call was due: one that is begun late has waited already.
    """
    latencies: list[float] = []
    clock = time.perf_counter
    before, began_s = meter(), clock()

    async def due(at_s: float) -> None:
        await call()
        latencies.append(clock() - at_s)

    async with asyncio.TaskGroup() as group:
        for number in range(round(per_s * seconds)):
            at_s = began_s + number / per_s
            await asyncio.sleep(max(0.0, at_s - clock()))
            group.create_task(due(at_s))
    return Round(clock() - began_s, tuple(latencies), meter().since(before))


@asynccontextmanager
async def sending(address: str, method: str) -> AsyncIterator[Send]:
    """Sends a request's bytes to `method`, and gives the reply's; the connections are taken in turn."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(CHANNELS_MAX)]
    methods: list[Any] = [channel.unary_unary(method) for channel in channels]
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


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the table: the medians of a subject's rounds at one number of callers."""

    engine: str
    subject: str
    callers: int
    rate: float
    p50_ms: float
    p99_ms: float
    server_ms: float
    database_ms: float

    @classmethod
    def of(cls, engine: str, subject: str, callers: int, rounds: Sequence[Round]) -> "Line":
        """From interleaved rounds."""
        return cls(
            engine,
            subject,
            callers,
            median(each.rate for each in rounds),
            median(each.percentile_ms(50) for each in rounds),
            median(each.percentile_ms(99) for each in rounds),
            median(each.server_ms for each in rounds),
            median(each.database_ms for each in rounds),
        )


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that is called in rounds: its name in the table, the call, and whose CPU it costs."""

    name: str
    call: Call
    meter: Meter


async def interleaved(
    subjects: Sequence[Subject], *, callers: int, rounds: int, seconds: float
) -> dict[str, list[Round]]:
    """Rounds of every subject in turn, so that what the machine does besides meets them all; by the subject's name."""
    seen: dict[str, list[Round]] = {subject.name: [] for subject in subjects}
    for number in range(rounds):
        # The order turns round, so that nobody always comes after the same one.
        for subject in subjects if number % 2 == 0 else reversed(subjects):
            done = await run_round(subject.call, callers=callers, seconds=seconds, meter=subject.meter)
            seen[subject.name].append(done)
    return seen


def paired_ratio(upper: Sequence[Round], lower: Sequence[Round]) -> float:
    """The median over the rounds of how many times as fast `upper` was as `lower`."""
    return median(above.rate / below.rate for above, below in zip(upper, lower, strict=True))
