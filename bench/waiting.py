"""A provider that takes its time: what the waiting payments cost in memory, and what they cost everybody else."""

import asyncio
import time
from dataclasses import dataclass, field
from statistics import median

from bench import requests
from bench.databases import Engine, fresh
from bench.effort import RATIO_CALLERS, Effort
from bench.load import Call, Send, percentile_of, sending
from bench.payments import creating, warmed
from bench.processes import FAST_ACCOUNT, SLOW_ACCOUNT, Bench, Server, SlowAccount

ANSWER_AFTER_S = 2.0
MEASURED_S = 1.4
"""Within the provider's two seconds, with room for the gate to be seen, and for the last calls to be answered."""

GATE_POLL_S = 0.02
GATE_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """`calls` payments wait for the slow account; beside them RATIO_CALLERS callers use another account.

    `memory_mib` is what the process has grown by while they wait. `p99_ratio` compares the other account meanwhile with
    itself alone; `burst_p99_ms` is its p99 over arrival, wait and settle of the thousand together.
    """

    engine: str
    calls: int
    memory_mib: float
    alone_p99_ms: float
    waiting_p99_ms: float
    p99_ratio: float
    burst_p99_ms: float


@dataclass(frozen=True, slots=True)
class _Burst:
    alone_p99_s: float
    waiting_p99_s: float
    whole_p99_s: float
    memory_mib: float


@dataclass
class _Beside:
    """Callers of the other account, for as long as it takes; every call with when it was asked, and its latency."""

    call: Call
    stopped: bool = False
    calls: list[tuple[float, float]] = field(default_factory=list)

    async def run(self) -> None:
        """RATIO_CALLERS of them, until stopped."""
        async with asyncio.TaskGroup() as group:
            for _ in range(RATIO_CALLERS):
                group.create_task(self._caller())

    def p99_s(self, since_s: float, until_s: float) -> float:
        """Of the calls that were asked in between: one that was asked before is late for an earlier reason."""
        return percentile_of([latency_s for at_s, latency_s in self.calls if since_s <= at_s <= until_s], 99)

    async def _caller(self) -> None:
        while not self.stopped:
            asked_s = time.perf_counter()
            await self.call()
            self.calls.append((asked_s, time.perf_counter() - asked_s))


async def measure_waiting(bench: Bench, engine: Engine, effort: Effort) -> Waiting:
    """Bursts to the slow account, each after the other one was seen alone."""
    slow = SlowAccount(effort.waiting_calls, ANSWER_AFTER_S, bench.folder / f"gate-{engine}")
    url = fresh(engine, bench.folder, migrated=True)
    with bench.gateway(f"waiting-{engine}", url, slow) as gateway:
        async with sending(gateway.address, requests.CREATE) as send:
            await warmed(send, gateway, engine, url)
            before_mib = gateway.memory_mib()
            bursts = [await _burst(gateway, send, slow) for _ in range(effort.bursts)]
    return Waiting(
        engine,
        effort.waiting_calls,
        max(burst.memory_mib for burst in bursts) - before_mib,
        median(burst.alone_p99_s for burst in bursts) * 1_000,
        median(burst.waiting_p99_s for burst in bursts) * 1_000,
        median(burst.waiting_p99_s / burst.alone_p99_s for burst in bursts),
        median(burst.whole_p99_s for burst in bursts) * 1_000,
    )


async def _burst(gateway: Server, send: Send, slow: SlowAccount) -> _Burst:
    slow.gate_file.unlink(missing_ok=True)
    beside = _Beside(creating(send, FAST_ACCOUNT))
    running = asyncio.create_task(beside.run())
    began_s = time.perf_counter()
    await asyncio.sleep(MEASURED_S)
    asked_s = time.perf_counter()
    waiting = [asyncio.create_task(send(requests.create(SLOW_ACCOUNT))) for _ in range(slow.gate_calls)]
    await _reached(slow, waiting)
    gated_s = time.perf_counter()
    await asyncio.sleep(MEASURED_S)
    memory_mib = gateway.memory_mib()
    await asyncio.gather(*waiting)
    settled_s = time.perf_counter()
    beside.stopped = True
    await running
    return _Burst(
        beside.p99_s(began_s, asked_s),
        beside.p99_s(gated_s, gated_s + MEASURED_S),
        beside.p99_s(asked_s, settled_s),
        memory_mib,
    )


async def _reached(slow: SlowAccount, waiting: list[asyncio.Task[bytes]]) -> None:
    """Until all of them wait. Raises what one of them failed with: then the gate is never reached."""
    async with asyncio.timeout(GATE_S_MAX):
        while not slow.gate_file.exists():
            for task in waiting:
                if task.done():
                    task.result()
            await asyncio.sleep(GATE_POLL_S)
