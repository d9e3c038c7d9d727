"""PostgreSQL behind the unit of work: asyncpg, a bounded pool, and a time limit on everything."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, event, exc, literal_column
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from store.database import Places, Result, Unit, checkout, persist

NOW_US = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
"""The database's clock in unix microseconds; clock_timestamp() goes on while a statement waits for a lock."""

STATEMENT_US = "(extract(epoch FROM statement_timestamp()) * 1000000)::bigint"
"""The same clock at the statement's start: one value throughout it, and an index can be searched with it."""


class PostgresqlDatabase:
    """A pool of connections to one PostgreSQL."""

    def __init__(
        self,
        url: URL,
        *,
        pool_size: int,
        checkout_timeout_s: float,
        statement_timeout_s: float,
        connect_timeout_s: float,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._jitter = jitter
        self._places = Places(pool_size, timeout_s=checkout_timeout_s)
        self._engine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=checkout_timeout_s,
            pool_use_lifo=True,
            connect_args=connect_arguments(statement_timeout_s, connect_timeout_s),
        )
        event.listen(self._engine.sync_engine, "checkout", _refuse_a_dead_connection)
        # One statement commits by itself: no BEGIN, no COMMIT, one round trip.
        self._autocommit: AsyncEngine = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    async def write(self, unit: Unit[Result]) -> Result:
        """A unit in a transaction, done again where another transaction won."""

        async def attempt() -> Result:
            async with self._places.take(), self._engine.begin() as connection:
                return await connection.run_sync(unit)

        return await persist(attempt, self._jitter)

    async def write_single(self, unit: Unit[Result]) -> Result:
        """A unit of a single statement, which commits by itself: one round trip instead of three."""

        async def attempt() -> Result:
            async with self._places.take(), self._autocommit.connect() as connection:
                return await connection.run_sync(unit)

        return await persist(attempt, self._jitter)

    async def read(self, unit: Unit[Result]) -> Result:
        """A unit that writes nothing."""
        return await self.write_single(unit)

    async def fetch(self, statement: str, parameters: Sequence[Any]) -> list[Mapping[str, Any]]:
        """Every row of one statement, which commits by itself. Raises UniqueViolationError as the driver does."""

        async def attempt() -> list[Mapping[str, Any]]:
            async with self._places.take(), checkout(self._engine) as driver:
                rows: list[Mapping[str, Any]] = await driver.fetch(statement, *parameters)
                return rows

        return await persist(attempt, self._jitter)

    def now(self) -> ColumnElement[int]:
        return literal_column(STATEMENT_US, BigInteger)

    @property
    def engine(self) -> AsyncEngine:
        """The pool, for who needs a connection of his own."""
        return self._engine

    async def close(self) -> None:
        await self._engine.dispose()


def connect_arguments(statement_timeout_s: float, connect_timeout_s: float) -> dict[str, Any]:
    """What every connection to PostgreSQL is opened with. The client gives up a little after the server should have."""
    milliseconds = str(int(statement_timeout_s * 1000))
    return {
        "timeout": connect_timeout_s,
        "command_timeout": statement_timeout_s + 2,
        "server_settings": {
            "application_name": "obol",
            "statement_timeout": milliseconds,
            "idle_in_transaction_session_timeout": milliseconds,
            # Every statement here is meant to walk an index. A plan that was made while the tables were young would
            # otherwise scan them whole until the next ANALYZE.
            "enable_seqscan": "off",
            "enable_hashjoin": "off",
            "enable_mergejoin": "off",
            "jit": "off",
            # A statement is planned once for a connection: planning it costs as much as a third of running it.
            "plan_cache_mode": "force_generic_plan",
            # Ignored on a Unix socket. A peer that vanished is noticed in seconds, not in the kernel's two hours.
            "tcp_keepalives_idle": "10",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
            "tcp_user_timeout": str(int((statement_timeout_s + 2) * 1000)),
        },
    }


def _refuse_a_dead_connection(connection: Any, _record: Any, _proxy: Any) -> None:
    """asyncpg knows when the server has hung up: the pool then opens another, and no ping is paid on each checkout."""
    if connection.driver_connection.is_closed():
        raise exc.DisconnectionError
