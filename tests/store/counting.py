"""Count what really reaches a database: statements as the driver sends them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from sqlalchemy import event

from gateway.domain.storage import Store

WARM_UP_CALLS = 3


class Sent(NamedTuple):
    """One statement as the driver sends it; `hot` if past SQLAlchemy."""

    statement: str
    arguments: tuple[Any, ...] = ()
    hot: bool = True

    @property
    def verb(self) -> str:
        """Its first word."""
        return self.statement.split(None, 1)[0]


@asynccontextmanager
async def counted(store: Store) -> AsyncIterator[list[Sent]]:
    """What the store sends while the block runs; on SQLite, what its writer does.

    On PostgreSQL the store must have a pool of one.
    """
    database: Any = store._database  # type: ignore[attr-defined]  # nothing else knows the connections
    seen: list[Sent] = []
    if hasattr(database, "write_hot"):
        counting = [True]
        await database.write_hot(
            lambda driver: driver.set_trace_callback(lambda sql: seen.append(Sent(sql)) if counting[0] else None)
        )
        seen.clear()
        yield seen
        counting[0] = False
        await database.write_hot(lambda driver: driver.set_trace_callback(None))
        return
    for _ in range(WARM_UP_CALLS):
        await store.ping()
    async with database.hot.take() as driver:
        pass

    def log(record: Any) -> None:
        seen.append(Sent(record.query, tuple(record.args or ())))

    def log_prepared(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        seen.append(Sent(statement, tuple(parameters or ()), hot=False))

    # asyncpg does not log what SQLAlchemy runs over its prepared statements; everything else it does.
    event.listen(database.units.engine.sync_engine, "before_cursor_execute", log_prepared)
    driver.add_query_logger(log)
    yield seen
    await asyncio.sleep(0.01)  # asyncpg hands a record over in a later turn of the loop
    driver.remove_query_logger(log)
    event.remove(database.units.engine.sync_engine, "before_cursor_execute", log_prepared)
