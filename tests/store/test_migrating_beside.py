"""Migrating a PostgreSQL whose gateways run: they wait for each other, and indexes are built beside them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.domain.errors import Unavailable
from store import Schema, beside, migrate
from store.beside import Beside
from tests import databases
from tests.store.looking import PAUSE_S, connect, rows, until

INDEX = Beside("0010", "ix_payments_by_update", "payments (updated_time_us)")
VALID = f"SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('{INDEX.name}')"
WAITING = "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE NOT granted AND relname = $1"


@pytest.fixture
async def session(postgresql: str) -> AsyncIterator[asyncpg.Connection]:
    """Somebody else's session, with a transaction open; what it holds is given back at the end."""
    connection = await connect(postgresql)
    await connection.execute("BEGIN")
    yield connection
    with suppress(asyncpg.PostgresError):
        await connection.execute("ROLLBACK")
    await connection.close()


async def migrate_to(url: str, revision: str) -> None:
    """Bring an empty database to an earlier revision."""

    def migrated(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(migrate.MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(migrated)
    await engine.dispose()


async def test_a_migration_that_a_payment_deadlocks_is_done_again() -> None:
    """PostgreSQL ends the migration of the two that wait for each other: it is undone, and comes through later."""
    url = databases.postgresql_url(migrated=False)
    await migrate_to(url, "0004")
    session = await connect(url)
    # The session is the more patient of the two, so that it is the migration that PostgreSQL ends.
    await session.execute("SET deadlock_timeout = '60s'")
    await session.execute("BEGIN; LOCK TABLE movements IN ROW EXCLUSIVE MODE")
    migrating = asyncio.create_task(migrate.upgrade(url))
    await until(lambda: session.fetchval(WAITING, "movements"))
    # In the way of the migration, which is in ours: only its end lets this go on.
    await session.execute("LOCK TABLE operations IN ROW EXCLUSIVE MODE")
    assert await migrate.current(url) == "0004"
    await session.execute("COMMIT")
    await migrating
    assert await migrate.check(url) is Schema.CURRENT
    told = "SELECT deadlocks, pg_stat_force_next_flush() FROM pg_stat_database WHERE datname = current_database()"
    await until(lambda: session.fetchval(told))
    await session.close()
    databases.drop(url)


async def test_a_migration_that_never_gets_through_says_so(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past its tries it ends with what to do, and not with PostgreSQL's words."""

    def undone(_: Connection) -> None:
        raise DBAPIError("", None, Exception("deadlock detected"))

    monkeypatch.setattr(migrate, "_upgrade", undone)
    with pytest.raises(Unavailable, match="run it again"):
        await migrate.upgrade(postgresql)


async def test_an_index_is_built_while_payments_are_written(
    postgresql: str, session: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the transaction that writes, and meanwhile another one writes on: nothing is locked."""
    monkeypatch.setattr(beside, "INDEXES", (INDEX,))
    await session.execute("UPDATE payments SET flow = flow; LOCK TABLE payments IN ROW EXCLUSIVE MODE")
    migrating = asyncio.create_task(migrate.upgrade(postgresql))
    await until(lambda: rows(postgresql, VALID))
    await asyncio.wait_for(rows(postgresql, "UPDATE payments SET flow = flow"), 20)
    assert not migrating.done()
    await session.execute("COMMIT")
    await migrating
    assert await rows(postgresql, VALID) == [(True,)]


async def test_an_index_that_was_not_finished_is_built_again(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an interrupted build left is INVALID, and no query would use it."""
    monkeypatch.setattr(beside, "INDEXES", (INDEX,))
    await rows(postgresql, f"CREATE INDEX {INDEX.name} ON {INDEX.what}")
    await rows(postgresql, f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{INDEX.name}'::regclass")
    await migrate.upgrade(postgresql)
    assert await rows(postgresql, VALID) == [(True,)]


async def test_two_that_build_at_once_build_once(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither waits for the other's snapshot, neither fails, and one index is there."""
    monkeypatch.setattr(beside, "INDEXES", (INDEX,))
    monkeypatch.setattr(beside, "TURN_S", PAUSE_S)
    await asyncio.wait_for(asyncio.gather(*(migrate.upgrade(postgresql) for _ in range(3))), 20)
    assert await rows(postgresql, VALID) == [(True,)]


async def test_sqlite_builds_it_as_it_migrates(sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its one process serves nobody meanwhile."""
    monkeypatch.setattr(beside, "INDEXES", (INDEX,))
    await migrate.upgrade(sqlite)
    assert await rows(sqlite, f"SELECT name FROM sqlite_master WHERE name = '{INDEX.name}'") == [(INDEX.name,)]
