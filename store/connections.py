"""Bare asyncpg connections for the hot path: last in, first out, a bounded number, and nothing paid on the way.

SQLAlchemy's pool costs five times the statement that goes through it. Here a connection is taken, used and laid back:
no ping, no reset, no greenlet. asyncpg keeps the prepared statements of each connection.

What nobody knows the state of is never used again: a connection whose call was cancelled, ran out of time, or left a
transaction open is cut off, and one that the server has hung up on is replaced when its turn comes.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy.engine import URL

from store.database import Places
from store.failures import unavailable

CLOSE_TIMEOUT_S = 1.0

_FOREIGN_OPTIONS = ("prepared_statement_cache_size", "prepared_statement_name_func", "async_creator_fn")
"""What a URL may ask of SQLAlchemy's adapter; asyncpg knows nothing of it."""


class Connections:
    """A bounded stack of connections, all opened with the same `arguments`. Belongs to one event loop."""

    def __init__(self, url: URL, places: int, arguments: Mapping[str, Any], *, checkout_timeout_s: float) -> None:
        """`arguments` are asyncpg's own, beside what `url` says."""
        _, options = url.get_dialect()().create_connect_args(url)
        self._arguments: dict[str, Any] = {
            **{name: value for name, value in options.items() if name not in _FOREIGN_OPTIONS},
            # A hot statement is prepared once for a connection. It is planned anew when a table or its statistics
            # change, and asyncpg prepares it again where its result has changed.
            "max_cached_statement_lifetime": 0,
            "max_cacheable_statement_size": 0,
            **arguments,
        }
        self._places = Places(places, timeout_s=checkout_timeout_s)
        self._idle: list[asyncpg.Connection] = []
        self._closed = False

    async def fetch(self, statement: str, parameters: Sequence[Any]) -> list[asyncpg.Record]:
        """Every row of one statement, which commits by itself."""
        async with self._places:
            connection = self._last_laid_back() or await self._open()
            try:
                rows: list[asyncpg.Record] = await connection.fetch(statement, *parameters)
            except BaseException as error:
                self._give_back(connection, error)
                raise
            self._lay_back(connection)
            return rows

    @asynccontextmanager
    async def take(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection that nobody else uses. Raises Unavailable when none was free in time."""
        async with self._places:
            connection = self._last_laid_back() or await self._open()
            try:
                yield connection
            except BaseException as error:
                self._give_back(connection, error)
                raise
            self._lay_back(connection)

    async def close(self) -> None:
        """Say goodbye on every idle connection; those in use are cut off when they come back."""
        self._closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*map(_part_with, idle))

    def _last_laid_back(self) -> asyncpg.Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    def _give_back(self, connection: asyncpg.Connection, error: BaseException) -> None:
        """After `error`: a refusal is an answer; out of time, shut down, cancelled or lost is none."""
        if isinstance(error, asyncpg.PostgresError) and not isinstance(error, asyncpg.OperatorInterventionError):
            self._lay_back(connection)
        else:
            connection.terminate()  # nobody knows what is still to come over it

    def _lay_back(self, connection: asyncpg.Connection) -> None:
        if self._closed or connection.is_closed() or connection.is_in_transaction():
            connection.terminate()
        else:
            self._idle.append(connection)

    async def _open(self) -> asyncpg.Connection:
        if self._closed:
            raise unavailable("database: the store is closed")
        connection: asyncpg.Connection = await asyncpg.connect(**self._arguments)
        return connection


async def _part_with(connection: asyncpg.Connection) -> None:
    with contextlib.suppress(Exception):  # it cuts the connection off by itself where the farewell fails
        await connection.close(timeout=CLOSE_TIMEOUT_S)
