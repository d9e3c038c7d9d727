"""Bring a database's schema up to this release, or say where it stands.

Where it stands is read without Alembic, which is loaded where a migration is due and not before: a gateway that starts
on a current database is quick to come back.

Every function takes the URL that `store.open_store` takes. A database may be newer than this release: a release and the
one before it run side by side, so AHEAD is no reason to stop.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path

from sqlalchemy import Connection, event, inspect, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from store.database import edge
from store.postgresql_database import connect_arguments
from store.sqlite_database import set_pragmas

CONNECT_TIMEOUT_S = 10.0
STATEMENT_TIMEOUT_S = 600.0
BUSY_TIMEOUT_S = 30.0

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


class SchemaBehind(RuntimeError):
    """The database needs a migration that nobody has run."""


async def upgrade(url: str) -> None:
    """Run every migration that is missing, all in one transaction. Two at once: the second waits and finds none."""
    async with edge():
        await asyncio.to_thread(_upgrade_alone, url)


async def current(url: str) -> str:
    """The revision that the database is at; empty where it has none."""
    async with edge(), _connected(url) as engine, engine.connect() as connection:
        return await connection.run_sync(_revision)


async def check(url: str) -> Schema:
    """How the database compares with this release."""
    known = revisions()
    revision = await current(url)
    if not revision:
        return Schema.EMPTY
    if revision not in known:
        return Schema.AHEAD
    return Schema.CURRENT if revision == known[-1] else Schema.BEHIND


def revisions() -> list[str]:
    """This release's migrations in order: each file begins with its number, and follows the one before it."""
    return sorted(file.name.partition("_")[0] for file in (MIGRATIONS / "versions").glob("*_*.py"))


def _upgrade_alone(url: str) -> None:
    with _ALONE:
        asyncio.run(_upgrade_apart(url))


async def _upgrade_apart(url: str) -> None:
    async with _connected(url) as engine, engine.begin() as connection:
        await connection.run_sync(_upgrade)


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - half a second of a start that needs no migration
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _revision(connection: Connection) -> str:
    if not inspect(connection).has_table(VERSION_TABLE):
        return ""
    return connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}")) or ""  # noqa: S608 - a constant of ours


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[AsyncEngine]:
    """An engine of its own for one migration: no pool, long timeouts, DDL in a transaction on both engines."""
    parsed = make_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    arguments = {"isolation_level": None} if sqlite else connect_arguments(STATEMENT_TIMEOUT_S, CONNECT_TIMEOUT_S)
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
