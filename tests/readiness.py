"""How soon what we built serves again after an outage, beside what the database and the machine took meanwhile.

From the same moment a control does the least that the database must be able to do: a bare connection and one committed
write, tried again until it works. From its end on the loop's lag is measured: how much later than asked for a sleeper
was woken. What is left of the time is ours; a machine that stands still for seconds takes none of it.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import asyncpg

from tests.store.looking import connect, connect_sqlite

READY_S_MAX = 5.0
"""Of our own time, until a call is answered again."""
CONTROL_S_MAX = 60.0
PAUSE_S = 0.02
TICK_S = 0.05
NOT_YET = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, sqlite3.Error)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Seconds from the outage's end: until it was served, until the control was, and of lag between these two."""

    elapsed_s: float
    control_s: float
    lag_s: float

    @property
    def own_s(self) -> float:
        """What neither the database nor the machine took."""
        return self.elapsed_s - self.control_s - self.lag_s

    def __str__(self) -> str:
        return (
            f"{self.own_s:.2f} s of our own: {self.elapsed_s:.2f} s passed, {self.control_s:.2f} s of it until a bare "
            f"connection could write, and {self.lag_s:.2f} s of lag after that"
        )


async def readiness(served: Callable[[], Awaitable[object]], control: Callable[[], Awaitable[object]]) -> Readiness:
    """Await `served` from now on, and measure. `control`: one try, repeated while the database refuses it."""
    loop = asyncio.get_running_loop()
    began, lag = loop.time(), _Lag()
    controlling = asyncio.create_task(_until_it_works(control))
    # A callback is called in its turn of the loop, and not as late as a task that awaits this one.
    controlling.add_done_callback(lambda _: lag.begin())
    ticking = asyncio.create_task(lag.watch())
    try:
        await served()
        served_s, lag_s = loop.time(), lag.now()
        await controlling
    finally:
        for task in (controlling, ticking):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    controlled_s = served_s if lag.began_s is None else min(lag.began_s, served_s)
    return Readiness(served_s - began, controlled_s - began, lag_s)


async def write_to_postgresql(url: str) -> None:
    """Connect, and commit what has to be on disk; no table is touched and no lock is waited for."""
    connection = await connect(url)
    try:
        await connection.execute("SELECT pg_logical_emit_message(true, 'control', '')")
    finally:
        await connection.close(timeout=CONTROL_S_MAX)


async def write_to_sqlite(url: str) -> None:
    """Open the file, and commit a write."""

    def write() -> None:
        with contextlib.closing(connect_sqlite(url)) as connection:
            connection.execute("UPDATE counters SET value = value")

    await asyncio.to_thread(write)


async def _until_it_works(control: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(CONTROL_S_MAX):
        while True:
            try:
                await control()
                return
            except NOT_YET:
                await asyncio.sleep(PAUSE_S)


class _Lag:
    """How late this loop wakes a sleeper, summed up since `begin`; seconds."""

    def __init__(self) -> None:
        self.began_s: float | None = None
        self._loop = asyncio.get_running_loop()
        self._due_s = self._loop.time() + TICK_S
        self._summed_s = 0.0

    def begin(self) -> None:
        """From now on it counts."""
        self.began_s = self._loop.time()

    def now(self) -> float:
        """What it comes to, with the tick that is overdue at this moment."""
        return self._summed_s + self._late()

    async def watch(self) -> None:
        """Tick until cancelled."""
        while True:
            self._due_s = self._loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            self._summed_s += self._late()

    def _late(self) -> float:
        """Of the tick under way: what of its being late lies after `begin`."""
        if self.began_s is None:
            return 0.0
        return max(0.0, self._loop.time() - max(self._due_s, self.began_s))
