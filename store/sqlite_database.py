"""SQLite behind the unit of work: one writer thread, and aiosqlite connections that can only read."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import ColumnElement, Connection, create_engine, event, literal
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from store.database import Places, Result, Unit, checkout, edge
from store.sqlite_writer import Writer

HotUnit = Callable[[sqlite3.Connection], Result]

CACHE_KIB = 16 * 1024
WRITER_CACHE_KIB = 64 * 1024
"""The one writer keeps more: callers' references are of no order, and their indexes are written all over."""


class SteadyClock:
    """The machine's clock in unix microseconds, which never goes back: on one machine it is the database's.

    Where the machine's clock is set back, time goes on from where it was, at its own pace, until the other has caught
    up: a lease that was taken before ends when its time is over, and not minutes later.
    """

    def __init__(
        self, wall_us: Callable[[], int] = lambda: time.time_ns() // 1000, ticks_us: Callable[[], int] | None = None
    ) -> None:
        """`ticks_us` counts on through a step of `wall_us`, and through a suspend where the system has such a clock."""
        self._wall_us = wall_us
        self._ticks_us = ticks_us or _ticks_us
        self._last_us, self._at_ticks_us = wall_us(), self._ticks_us()

    def __call__(self) -> int:
        ticks_us = self._ticks_us()
        gone_on_us = self._last_us + max(0, ticks_us - self._at_ticks_us)
        wall_us = self._wall_us()
        self._last_us = wall_us if wall_us >= self._last_us else gone_on_us
        self._at_ticks_us = ticks_us
        return self._last_us

    def not_before(self, known_us: int) -> None:
        """Go on from `known_us` at least: what the database has recorded already."""
        self._last_us = max(self._last_us, known_us)


def _ticks_us() -> int:
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return (time.monotonic_ns() if clock is None else time.clock_gettime_ns(clock)) // 1000


def set_pragmas(driver: Any, *, busy_timeout_s: float, read_only: bool = False) -> None:
    """Make a new connection durable and patient. FULL: with NORMAL a power failure can lose commits."""
    cursor = driver.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {int(busy_timeout_s * 1000)}")
    if not read_only:
        cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute(f"PRAGMA cache_size = -{CACHE_KIB if read_only else WRITER_CACHE_KIB}")
    if read_only:
        cursor.execute("PRAGMA query_only = ON")
    cursor.close()


class SqliteDatabase:
    """One file, one process that writes. Made inside the event loop that uses it."""

    def __init__(
        self,
        url: URL,
        *,
        clock_us: Callable[[], int],
        pool_size: int,
        checkout_timeout_s: float,
        busy_timeout_s: float,
        wait_s_max: float,
    ) -> None:
        self.clock_us = clock_us
        self._wait_s_max = wait_s_max
        self._places = Places(pool_size, timeout_s=checkout_timeout_s)
        # isolation_level None: sqlite3 must not begin by itself; the writer says BEGIN IMMEDIATE, readers nothing.
        self._write_engine = create_engine(
            url.set(drivername="sqlite+pysqlite"),
            isolation_level="AUTOCOMMIT",
            connect_args={"check_same_thread": False, "cached_statements": 256},
        )
        self._read_engine = _read_engine(url, pool_size, checkout_timeout_s)
        event.listen(
            self._write_engine, "connect", lambda driver, _: set_pragmas(driver, busy_timeout_s=busy_timeout_s)
        )
        event.listen(
            self._read_engine.sync_engine,
            "connect",
            lambda driver, _: set_pragmas(driver, busy_timeout_s=busy_timeout_s, read_only=True),
        )
        self._writer = Writer(self._write_engine, wait_s_max=wait_s_max)

    async def write(self, unit: Unit[Result]) -> Result:
        """A unit over SQLAlchemy, in the writer's next group."""
        result: Result = await self._writer.submit(lambda _, connection: unit(connection))
        return result

    async def write_hot(self, unit: HotUnit[Result]) -> Result:
        """A unit over the driver itself: the same group, without SQLAlchemy's share."""
        result: Result = await self._writer.submit(lambda driver, _: unit(driver))
        return result

    async def read(self, unit: Unit[Result]) -> Result:
        """A unit on one of the reading connections."""
        async with self._reading(), self._read_engine.connect() as connection:
            return await connection.run_sync(unit)

    async def fetch(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Every row of one SELECT, in a single hop to the reader's thread."""
        async with self._reading(), checkout(self._read_engine) as driver:
            return list(await driver.execute_fetchall(statement, parameters))

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[None]:
        """A place among the readers, for a bounded time."""
        async with edge(), asyncio.timeout(self._wait_s_max), self._places:
            yield

    def now(self) -> ColumnElement[int]:
        return literal(self.clock_us())

    async def close(self) -> None:
        await self._writer.close()
        await self._read_engine.dispose()
        self._write_engine.dispose()


def _read_engine(url: URL, pool_size: int, checkout_timeout_s: float) -> AsyncEngine:
    return create_async_engine(
        url,
        isolation_level="AUTOCOMMIT",
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=checkout_timeout_s,
        # A reader has begun nothing, so there is nothing to roll back, and no hop to be paid for it.
        pool_reset_on_return=None,
    )


def reading(connection: Connection) -> None:
    """Begin a deferred transaction: what follows in the unit sees one moment."""
    connection.exec_driver_sql("BEGIN DEFERRED")
