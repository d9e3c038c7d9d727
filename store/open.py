"""Open a store by its URL: `sqlite+aiosqlite:///path` or `postgresql+asyncpg://user@host/database`.

A Unix socket goes into the query: `postgresql+asyncpg://postgres@/obol?host=/run/postgresql`.
"""

from collections.abc import Callable

from sqlalchemy import make_url

from gateway.domain.storage import Store
from store import migrate, observing, sequencing, statistics
from store.durable import DurableStore
from store.feed import Feed, listener
from store.hot_postgresql import PostgresqlHot
from store.hot_sqlite import SqliteHot
from store.postgresql_database import PostgresqlDatabase
from store.sqlite_database import SqliteDatabase, wall_clock_us

POOL_SIZE = 10
CHECKOUT_TIMEOUT_S = 3.0
CONNECT_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_S = 5.0
BUSY_TIMEOUT_S = 5.0


async def open_store(
    url: str,
    *,
    clock_us: Callable[[], int] | None = None,
    pool_size: int = POOL_SIZE,
    checkout_timeout_s: float = CHECKOUT_TIMEOUT_S,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    statement_timeout_s: float = STATEMENT_TIMEOUT_S,
    busy_timeout_s: float = BUSY_TIMEOUT_S,
) -> Store:
    """A store that is ready to use, in the running event loop.

    An SQLite file is brought up to this release's schema, unless a later release has been there. Raises SchemaBehind
    where a PostgreSQL is not, ValueError for any other URL, Unavailable where the database does not answer. `clock_us`
    gives SQLite's time in unix microseconds; PostgreSQL has its own. `pool_size` bounds SQLite's readers, and
    PostgreSQL's connections for the hot path (half as many more serve everything else, and one hears notifications).
    """
    parsed = make_url(url)
    if parsed.drivername == "sqlite+aiosqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise ValueError("an SQLite store needs a file: nothing that it holds may be lost")
        if await migrate.check(url) is not migrate.Schema.AHEAD:
            await migrate.upgrade(url)
        return _open_sqlite(
            SqliteDatabase(
                parsed,
                clock_us=clock_us or wall_clock_us,
                pool_size=pool_size,
                checkout_timeout_s=checkout_timeout_s,
                busy_timeout_s=busy_timeout_s,
                # Whoever waits for the lock waits BUSY_TIMEOUT_S; a group before it may have done so as well.
                wait_s_max=2 * busy_timeout_s + statement_timeout_s,
            ),
        )
    if parsed.drivername == "postgresql+asyncpg":
        await _refuse_an_old_schema(url)
        database = PostgresqlDatabase(
            parsed,
            pool_size=pool_size,
            checkout_timeout_s=checkout_timeout_s,
            statement_timeout_s=statement_timeout_s,
            connect_timeout_s=connect_timeout_s,
        )
        return _open_postgresql(database)
    raise ValueError(f"no store for {parsed.drivername}: sqlite+aiosqlite or postgresql+asyncpg")


def _open_sqlite(database: SqliteDatabase) -> Store:
    feed = Feed(lambda: database.read(observing.last_sequence))

    async def number() -> int:
        return 0  # the writer numbers as it settles

    async def refresh() -> None:
        """Nothing: without statistics SQLite takes the index that most of a query's columns lead to."""

    feed.start()
    hot = SqliteHot(database, announce=feed.announce)
    return DurableStore(database, hot, feed, number=number, refresh=refresh)


def _open_postgresql(database: PostgresqlDatabase) -> Store:
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
    return DurableStore(database, PostgresqlHot(database), feed, number=number, refresh=refresh)


async def _refuse_an_old_schema(url: str) -> None:
    schema = await migrate.check(url)
    if schema in (migrate.Schema.EMPTY, migrate.Schema.BEHIND):
        raise migrate.SchemaBehind(
            f"the database's schema is {schema.value.lower()}: run `obol migrate`, then start again"
        )
