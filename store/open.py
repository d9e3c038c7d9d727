"""Open a store by its URL: `sqlite+aiosqlite:///path` or `postgresql+asyncpg://user@host/database`.

A Unix socket goes into the query: `postgresql+asyncpg://postgres@/obol?host=/run/postgresql`.
"""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import make_url

from gateway.domain.storage import Store
from store import migrate, observing, recovery, sequencing, statistics
from store.durable import DurableStore
from store.feed import Feed, listener
from store.hot_postgresql import PostgresqlHot
from store.hot_sqlite import SqliteHot
from store.postgresql_database import PostgresqlDatabase
from store.sealing import KEY_FILE_SUFFIX, Sealing
from store.sqlite_database import SqliteDatabase, SteadyClock

POOL_SIZE = 10
CHECKOUT_TIMEOUT_S = 3.0
CONNECT_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_S = 5.0
BUSY_TIMEOUT_S = 5.0


async def open_store(
    url: str,
    *,
    sealing: Sealing | None = None,
    clock_us: Callable[[], int] | None = None,
    pool_size: int = POOL_SIZE,
    checkout_timeout_s: float = CHECKOUT_TIMEOUT_S,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    statement_timeout_s: float = STATEMENT_TIMEOUT_S,
    busy_timeout_s: float = BUSY_TIMEOUT_S,
) -> Store:
    """A store that is ready to use, in the running event loop.

    An SQLite file is brought up to this release's schema. Raises SchemaBehind where a PostgreSQL is not, SchemaBeyond
    for a schema that this release cannot use, ValueError for any other URL, Unavailable where the database does not
    answer. `clock_us` gives SQLite's time in unix microseconds; PostgreSQL has its own. `pool_size` bounds SQLite's
    readers, and PostgreSQL's connections for the hot path (half as many more serve everything else, and one hears
    notifications).

    `sealing` has the keys for client secrets. Without it SQLite makes one in a file beside its own when it first needs
    it, and a PostgreSQL, which has no such place, keeps none: `keeps_secrets` says so. Raises ValueError for a key file
    that others may read.
    """
    parsed = make_url(url)
    if parsed.drivername == "sqlite+aiosqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise ValueError("an SQLite store needs a file: nothing that it holds may be lost")
        if await migrate.check(url) is not migrate.Schema.CURRENT:
            await migrate.upgrade(url)
        steady = SteadyClock()
        file = SqliteDatabase(
            parsed,
            clock_us=clock_us or steady,
            pool_size=pool_size,
            checkout_timeout_s=checkout_timeout_s,
            busy_timeout_s=busy_timeout_s,
            # Whoever waits for the lock waits BUSY_TIMEOUT_S; a group before it may have done so as well.
            wait_s_max=2 * busy_timeout_s + statement_timeout_s,
        )
        steady.not_before(await file.read(recovery.latest_time_us))
        return _open_sqlite(file, sealing or Sealing(key_file=Path(f"{parsed.database}{KEY_FILE_SUFFIX}")))
    if parsed.drivername == "postgresql+asyncpg":
        await _refuse_a_strange_schema(url)
        database = PostgresqlDatabase(
            parsed,
            pool_size=pool_size,
            checkout_timeout_s=checkout_timeout_s,
            statement_timeout_s=statement_timeout_s,
            connect_timeout_s=connect_timeout_s,
        )
        return _open_postgresql(database, sealing or Sealing())
    raise ValueError(f"no store for {parsed.drivername}: sqlite+aiosqlite or postgresql+asyncpg")


def _open_sqlite(database: SqliteDatabase, sealing: Sealing) -> Store:
    feed = Feed(lambda: database.read(observing.last_sequence))

    async def number() -> int:
        return 0  # the writer numbers as it settles

    async def refresh() -> None:
        """Nothing: without statistics SQLite takes the index that most of a query's columns lead to."""

    feed.start()
    hot = SqliteHot(database, announce=feed.announce)
    return DurableStore(database, hot, feed, sealing, number=number, refresh=refresh)


def _open_postgresql(database: PostgresqlDatabase, sealing: Sealing) -> Store:
    feed = Feed(lambda: database.read(observing.last_sequence))

    async def number() -> int:
        run = await sequencing.number_observations(database)
        if run is None:
            return 0
        feed.announce(run.last)
        return run.numbered

    async def refresh() -> None:
        await database.read(statistics.refresh_statistics)

    feed.start(listener(database.units.engine))
    return DurableStore(database, PostgresqlHot(database), feed, sealing, number=number, refresh=refresh)


async def _refuse_a_strange_schema(url: str) -> None:
    schema = await migrate.check(url)
    if schema in (migrate.Schema.EMPTY, migrate.Schema.BEHIND):
        raise migrate.SchemaBehind(
            f"the database's schema is {schema.value.lower()}: run `obol migrate`, then start again"
        )
    if schema is migrate.Schema.BEYOND:
        raise migrate.SchemaBeyond(migrate.BEYOND_WORDS)
