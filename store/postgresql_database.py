"""PostgreSQL behind the unit of work: asyncpg, a bounded pool, and a time limit on everything."""

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
from sqlalchemy import BigInteger, ColumnElement, event, exc, literal_column
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from store.connections import Connections
from store.database import Places, Result, Unit, persist

NOW_US = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
"""The database's clock in unix microseconds; clock_timestamp() goes on while a statement waits for a lock."""

STATEMENT_US = "(extract(epoch FROM statement_timestamp()) * 1000000)::bigint"
"""The same clock at the statement's start: one value throughout it, and an index can be searched with it."""


PLANNED_ONCE = "force_generic_plan"
"""The plan_cache_mode of the hot pool."""


_SERVED = "served"
"""In a pooled connection's info, which ends with the connection: it was once given out alive."""


class Pool:
    """A bounded number of connections below SQLAlchemy."""

    def __init__(self, url: URL, places: int, arguments: dict[str, Any], *, checkout_timeout_s: float) -> None:
        """`arguments` are those that asyncpg connects with."""
        self.places = Places(places, timeout_s=checkout_timeout_s)
        self.engine = create_async_engine(
            url,
            pool_size=places,
            max_overflow=0,
            pool_timeout=checkout_timeout_s,
            pool_use_lifo=True,
            connect_args=arguments,
        )
        event.listen(self.engine.sync_engine, "checkout", _refuse_a_dead_connection)
        # One statement commits by itself: no BEGIN, no COMMIT, one round trip.
        self.autocommit: AsyncEngine = self.engine.execution_options(isolation_level="AUTOCOMMIT")


class PostgresqlDatabase:
    """Two pools to one PostgreSQL: what is hot never waits behind a list, and each plans as it should.

    Hot statements look up keys, so that they are planned once for a connection: planning costs up to a third of the
    work. Lists depend on how rare a value is, so that each is planned for its own values. The hot pool is of bare
    connections: SQLAlchemy's share of a statement would be five times the driver's.
    """

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
        """`pool_size` connections for the hot path, and half as many more for everything else."""
        limits = {"statement_timeout_s": statement_timeout_s, "connect_timeout_s": connect_timeout_s}
        planned_once = connect_arguments(**limits, plans=PLANNED_ONCE)
        planned_each = connect_arguments(**limits, plans="force_custom_plan")
        self._jitter = jitter
        self.hot = Connections(url, pool_size, planned_once, checkout_timeout_s=checkout_timeout_s)
        self.units = Pool(url, (pool_size + 1) // 2, planned_each, checkout_timeout_s=checkout_timeout_s)

    async def write(self, unit: Unit[Result]) -> Result:
        """A unit in a transaction, done again where another transaction won."""

        async def attempt() -> Result:
            async with self.units.places, self.units.engine.begin() as connection:
                return await connection.run_sync(unit)

        return await persist(attempt, self._jitter)

    async def read(self, unit: Unit[Result]) -> Result:
        """A unit that writes nothing: each statement is a round trip, and no transaction is paid for."""

        async def attempt() -> Result:
            async with self.units.places, self.units.autocommit.connect() as connection:
                return await connection.run_sync(unit)

        return await persist(attempt, self._jitter)

    async def fetch(self, statement: str, parameters: Sequence[Any]) -> list[asyncpg.Record]:
        """Every row of one hot statement, which commits by itself: one round trip."""

        return await persist(lambda: self.hot.fetch(statement, parameters), self._jitter)

    async def converse(self, talk: Callable[[asyncpg.Connection], Awaitable[Result]]) -> Result:
        """A transaction over the driver, which `talk` begins and commits; done again where another one won.

        Where `talk` raises the connection is cut off, and the server rolls back.
        """

        async def attempt() -> Result:
            async with self.hot.take() as connection:
                return await talk(connection)

        return await persist(attempt, self._jitter)

    def now(self) -> ColumnElement[int]:
        return literal_column(STATEMENT_US, BigInteger)

    async def close(self) -> None:
        await self.hot.close()
        await self.units.engine.dispose()


def connect_arguments(
    statement_timeout_s: float, connect_timeout_s: float, *, plans: str = "force_custom_plan"
) -> dict[str, Any]:
    """What every connection to PostgreSQL is opened with; `plans` is its plan_cache_mode.

    The client gives up a little after the server should have.
    """
    milliseconds = str(int(statement_timeout_s * 1000))
    return {
        "timeout": connect_timeout_s,
        "command_timeout": statement_timeout_s + 2,
        "server_settings": {
            "application_name": "obol",
            "plan_cache_mode": plans,
            "statement_timeout": milliseconds,
            "idle_in_transaction_session_timeout": milliseconds,
            # Every statement here is meant to walk an index. A plan that was made while the tables were young would
            # otherwise scan them whole until the next ANALYZE.
            "enable_seqscan": "off",
            "enable_hashjoin": "off",
            "enable_mergejoin": "off",
            # A hot statement finds its rows in the order that it wants them in; among few, sorting would look as cheap.
            **({"enable_sort": "off"} if plans == PLANNED_ONCE else {}),
            "jit": "off",
            # Ignored on a Unix socket. A peer that vanished is noticed in seconds, not in the kernel's two hours.
            "tcp_keepalives_idle": "10",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
            "tcp_user_timeout": str(int((statement_timeout_s + 2) * 1000)),
        },
    }


def _refuse_a_dead_connection(connection: Any, record: Any, _proxy: Any) -> None:
    """asyncpg knows when the server has hung up: the pool then opens another, and no ping is paid on each checkout.

    Where that one is dead as well the server is going down: asked a third time the pool would say that its caller is at
    fault.
    """
    if connection.driver_connection.is_closed():
        raise exc.DisconnectionError if _SERVED in record.info else ConnectionResetError("hung up as it was opened")
    record.info[_SERVED] = True
