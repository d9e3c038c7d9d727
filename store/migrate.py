"""Bring a database's schema up to this release, or say where it stands.

Every function takes the URL that `store.open_store` takes. A database may be newer than this release: a release and the
one before it run side by side, so AHEAD is no reason to stop.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from store.database import edge
from store.postgresql_database import connect_arguments
from store.sqlite_database import set_pragmas

CONNECT_TIMEOUT_S = 10.0
STATEMENT_TIMEOUT_S = 600.0
BUSY_TIMEOUT_S = 30.0

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
    script = ScriptDirectory.from_config(_config())
    known = {revision.revision for revision in script.walk_revisions()}
    revision = await current(url)
    if not revision:
        return Schema.EMPTY
    if revision not in known:
        return Schema.AHEAD
    return Schema.CURRENT if revision == script.get_current_head() else Schema.BEHIND


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _upgrade_alone(url: str) -> None:
    with _ALONE:
        asyncio.run(_upgrade_apart(url))


async def _upgrade_apart(url: str) -> None:
    async with _connected(url) as engine, engine.begin() as connection:
        await connection.run_sync(_upgrade)


def _upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _revision(connection: Connection) -> str:
    return MigrationContext.configure(connection).get_current_revision() or ""


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
