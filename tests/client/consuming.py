"""A consumer under way in a test, of either kind, and what it is given: a clock, a store, a handler."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from obol.client import (
    Accept,
    AioBillingObservationClient,
    AioObservationConsumer,
    AioPace,
    Backoff,
    BillingObservationClient,
    ConsumerLimits,
    CursorStore,
    Decision,
    ObservationConsumer,
    Pace,
    aio_channel,
    channel,
)
from obol.v1.observation_pb2 import Observation
from tests.client.asking import CALLER
from tests.client.observing import Gateway, name, served

QUICK = ConsumerLimits(batch_age_s_max=0.05, backoff=Backoff(delay_s=0.02, delay_s_max=0.05))
WAIT_S_MAX = 60.0


@dataclass
class Memory:
    """A cursor store that remembers what was decided at each save."""

    gateway: Gateway
    saved: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)

    def load(self) -> str:
        return self.saved[-1] if self.saved else ""

    def save(self, cursor: str) -> None:
        wanted = {name(number) for number in range(1, int(cursor[1:]) + 1)}
        self.undecided.extend(wanted - {*self.gateway.accepted, *self.gateway.rejected})
        self.saved.append(cursor)


class Clock:
    """Monotonic seconds that pass only when a test says so; `reads` counts who looked."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        return self.seconds


class Running:
    """A consumer under way, whichever its kind."""

    def __init__(self, stop: Callable[[], None], task: asyncio.Task[None]) -> None:
        self.stop = stop
        self.task = task

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until `true`; raises what the consumer raised before."""
        deadline = time.monotonic() + WAIT_S_MAX
        while not true():
            if self.task.done():
                self.task.result()
            assert time.monotonic() < deadline, "waited in vain"
            await asyncio.sleep(0.01)


@asynccontextmanager
async def consuming(
    kind: str,
    gateway: Gateway,
    handle: Callable[[Observation], Decision],
    *,
    cursors: CursorStore | None = None,
    limits: ConsumerLimits = QUICK,
    **pace: Any,
) -> AsyncIterator[Running]:
    """A consumer named "ledger" on a served gateway, stopped at the end; `pace` are parts of its Pace."""
    async with served(gateway) as target:
        if kind == "sync":
            with channel(target) as opened:
                consumer = ObservationConsumer(
                    BillingObservationClient(opened, CALLER),
                    "ledger",
                    handle,
                    cursors=cursors,
                    limits=limits,
                    pace=Pace(**pace),
                )
                async with _stopped(Running(consumer.stop, asyncio.create_task(asyncio.to_thread(consumer.run)))) as it:
                    yield it
        else:

            async def handle_soon(observation: Observation) -> Decision:
                await asyncio.sleep(0)
                return handle(observation)

            async with aio_channel(target) as aio_opened:
                aio_consumer = AioObservationConsumer(
                    AioBillingObservationClient(aio_opened, CALLER),
                    "ledger",
                    handle_soon,
                    cursors=cursors,
                    limits=limits,
                    pace=AioPace(**pace),
                )
                async with _stopped(Running(aio_consumer.stop, asyncio.create_task(aio_consumer.run()))) as it:
                    yield it


@asynccontextmanager
async def _stopped(running: Running) -> AsyncIterator[Running]:
    try:
        yield running
    finally:
        running.stop()
        await asyncio.wait({running.task}, timeout=WAIT_S_MAX)
    if not running.task.done():
        raise AssertionError("stop() did not end run()")


def accepting(seen: list[str]) -> Callable[[Observation], Decision]:
    """A handler that accepts everything and remembers it."""

    def handle(observation: Observation) -> Decision:
        seen.append(observation.observation_id)
        return Accept()

    return handle


def names(last: int) -> list[str]:
    """The ids from 1 to `last`."""
    return [name(number) for number in range(1, last + 1)]
