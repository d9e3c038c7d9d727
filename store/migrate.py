"""Bring a database's schema up to this release, or say where it stands.

Where it stands is read without Alembic, which is loaded where a migration is due and not before: a gateway that starts
on a current database is quick to come back.

Every function takes the URL that `store.open_store` takes. A database may be newer than this release: a release and the
one before it run side by side, so AHEAD is no reason to stop, and no reason to migrate either. Migrations only add; one
that takes something away writes the number of the oldest revision whose code can live with it into the counter
SCHEMA_FLOOR, and what is older refuses that database (docs/adr/0013).
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path

from sqlalchemy import Connection, event, inspect, make_url, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from store import beside
from store.database import edge
from store.failures import unavailable
from store.postgresql_database import connect_arguments
from store.sqlite_database import set_pragmas
from store.tables import counters

CONNECT_TIMEOUT_S = 10.0
STATEMENT_TIMEOUT_S = 600.0
BUSY_TIMEOUT_S = 30.0
DEADLOCK_RETRIES_MAX = 10
SCHEMA_FLOOR = "schema_floor"
# A migration must not queue behind a long transaction and hold up every query that comes after it.
LOCK_TIMEOUT = "3s"
MIGRATION_LOCK = 6_242_661_001
"""Any fixed number: whoever migrates an Obol database holds this advisory lock."""


BEYOND_WORDS = (
    "the database's schema is not for this release: a later one took away what this one needs, or something else made "
    "it. Start the release that migrated it, or restore the backup from before"
)

NEVER_ALONE = (
    f"database: payments and the migration waited for each other {DEADLOCK_RETRIES_MAX + 1} times, and nothing was "
    "changed; run it again when less is going on"
)

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "alembic_version"

_ALONE = threading.Lock()
"""Alembic keeps the migration under way in module globals: within a process there can be one."""


class Schema(StrEnum):
    """How a database's schema compares with this release's."""

    EMPTY = "EMPTY"
    BEHIND = "BEHIND"
    CURRENT = "CURRENT"
    AHEAD = "AHEAD"
    """A later release made it, and this one can use it as it is."""
    BEYOND = "BEYOND"
    """A later release took away what this one needs, or no release made it."""


class SchemaBehind(RuntimeError):
    """The database needs a migration that nobody has run."""


class SchemaBeyond(RuntimeError):
    """The database is not for this release."""


async def upgrade(url: str) -> None:
    """Run every migration that is missing, all in one transaction. Two at once: the second waits and finds none.

    Then build what is built beside running gateways (`store.beside`). A schema that is AHEAD stays as it is: a release
    that is rolled back finds it so. Raises SchemaBeyond, Unavailable.
    """
    async with edge():
        await asyncio.to_thread(_upgrade_alone, url)


async def current(url: str) -> str:
    """The revision that the database is at; empty where it has none."""
    async with edge(), _connected(url) as engine, engine.connect() as connection:
        return await connection.run_sync(_revision)


async def check(url: str) -> Schema:
    """How the database compares with this release."""
    async with edge(), _connected(url) as engine, engine.connect() as connection:
        return await connection.run_sync(_compare)


def _compare(connection: Connection) -> Schema:
    known, revision = revisions(), _revision(connection)
    if not revision:
        return Schema.EMPTY
    if revision in known:
        return Schema.CURRENT if revision == known[-1] else Schema.BEHIND
    # Revisions are numbers that rise: what is unknown and not higher was made by nobody of this line.
    if not revision.isdecimal() or int(revision) <= int(known[-1]):
        return Schema.BEYOND
    floor = connection.execute(select(counters.c.value).where(counters.c.name == SCHEMA_FLOOR)).scalar_one_or_none()
    return Schema.AHEAD if floor is None or floor <= int(known[-1]) else Schema.BEYOND


def revisions() -> list[str]:
    """This release's migrations in order: each file begins with its number, and follows the one before it."""
    return sorted(file.name.partition("_")[0] for file in (MIGRATIONS / "versions").glob("*_*.py"))


def _upgrade_alone(url: str) -> None:
    with _ALONE:
        asyncio.run(_upgrade_apart(url))


async def _upgrade_apart(url: str) -> None:
    for last in (*(False,) * DEADLOCK_RETRIES_MAX, True):
        try:
            async with _connected(url) as engine, engine.begin() as connection:
                await connection.run_sync(_upgrade)
            break
        except DBAPIError as error:
            # Of a migration and a payment that wait for each other, PostgreSQL may choose either: all is undone.
            if "deadlock detected" not in str(error):
                raise
            if last:
                raise unavailable(NEVER_ALONE) from error
    if beside.INDEXES and make_url(url).get_backend_name() == "postgresql":
        async with (
            _connected(url, beside.BUILD_TIMEOUT_S) as engine,
            engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection,
        ):
            await beside.build_beside(connection, beside.INDEXES)


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
    schema = _compare(connection)
    if schema is Schema.AHEAD:
        return
    if schema is Schema.BEYOND:
        raise SchemaBeyond(BEYOND_WORDS)
    from alembic import command  # noqa: PLC0415 - half a second of a start that needs no migration
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    if connection.dialect.name == "sqlite":
        beside.build_within(connection, beside.INDEXES)


def _revision(connection: Connection) -> str:
    if not inspect(connection).has_table(VERSION_TABLE):
        return ""
    return connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}")) or ""  # noqa: S608 - a constant of ours


@asynccontextmanager
async def _connected(url: str, statement_timeout_s: float = STATEMENT_TIMEOUT_S) -> AsyncIterator[AsyncEngine]:
    """An engine of its own for one migration: no pool, long timeouts, DDL in a transaction on both engines."""
    parsed = make_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    arguments = {"isolation_level": None} if sqlite else connect_arguments(statement_timeout_s, CONNECT_TIMEOUT_S)
    engine = create_async_engine(parsed, poolclass=NullPool, connect_args=arguments)
    if sqlite:
        event.listen(
            engine.sync_engine, "connect", lambda driver, _: set_pragmas(driver, busy_timeout_s=BUSY_TIMEOUT_S)
        )
        # sqlite3 by itself would commit before each DDL statement.
        event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        yield engine
    finally:
        await engine.dispose()
