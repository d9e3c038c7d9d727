"""One unit of work for both engines.

A unit is a plain function over a synchronous SQLAlchemy `Connection`: where it returns it is committed, where it raises
it is rolled back. On SQLite it runs in the one writer thread, on PostgreSQL in a transaction over asyncpg. What is hot
goes past SQLAlchemy: over `store.connections` on PostgreSQL, over the driver's own on SQLite. Every error that leaves
here is of `gateway.domain.errors`.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

from sqlalchemy import ColumnElement, Connection
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

from gateway.domain.errors import ObolError
from store.failures import Contended, translated, unavailable

Result = TypeVar("Result")
Unit = Callable[[Connection], Result]

TRIES_MAX = 5
BACKOFF_S = 0.01
BACKOFF_S_MAX = 0.2


class Database(Protocol):
    """What the engine-independent modules of the store need."""

    async def write(self, unit: Unit[Result]) -> Result:
        """Run `unit` in a transaction of its own; committed when it returns, rolled back when it raises."""
        ...

    async def read(self, unit: Unit[Result]) -> Result:
        """Run `unit`, which writes nothing. Each of its statements sees what is committed by then."""
        ...

    def now(self) -> ColumnElement[int]:
        """The database's clock as an expression, in unix microseconds."""
        ...

    async def close(self) -> None:
        """Give back every connection and thread."""
        ...


class Places:
    """As many places as a pool has connections, given out in the order of asking; held by `async with`.

    SQLAlchemy's own queue lets a task that gives a connection back take it again before those who wait: under load
    some then wait for ever.
    """

    def __init__(self, places: int, *, timeout_s: float) -> None:
        self._free = asyncio.Semaphore(places)
        self._timeout_s = timeout_s

    async def __aenter__(self) -> None:
        """Hold a place. Raises Unavailable when none was free in time."""
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()  # at once: no timer is paid for it

    async def __aexit__(self, *ended: object) -> None:
        self._free.release()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._free.acquire()
        except TimeoutError as late:
            raise unavailable("database: no connection was free in time") from late


@asynccontextmanager
async def checkout(engine: AsyncEngine) -> AsyncIterator[Any]:
    """SQLite's own connection from the pool. Nothing is begun on it, so the pool has nothing to reset.

    It goes back after an answer, even a refusal; after anything else (cancelled, timed out, lost) it is thrown away,
    since nobody knows what is still to come over it.
    """
    connection = await engine.raw_connection()
    try:
        yield connection.driver_connection
    except sqlite3.Error:
        await greenlet_spawn(connection.close)
        raise
    except BaseException:
        connection.invalidate()
        raise
    else:
        await greenlet_spawn(connection.close)


@asynccontextmanager
async def edge() -> AsyncIterator[None]:
    """Let only errors of ours out."""
    try:
        yield
    except (ObolError, Contended):
        raise
    except Exception as error:
        ours = translated(error)
        if ours is error:
            raise
        raise ours from error


async def persist(attempt: Callable[[], Awaitable[Result]], jitter: Callable[[], float]) -> Result:
    """Do `attempt` again while another transaction wins over it, TRIES_MAX times in all.

    `jitter` gives a number in [0, 1). Raises Unavailable when every try lost.
    """
    for tries in range(TRIES_MAX):
        try:
            return await attempt()
        except Exception as error:
            ours = translated(error)
            if not isinstance(ours, Contended):
                if ours is error:
                    raise
                raise ours from error
        await asyncio.sleep(min(BACKOFF_S_MAX, BACKOFF_S * 2**tries) * jitter())
    raise unavailable(f"database: {TRIES_MAX} tries lost against other transactions")
