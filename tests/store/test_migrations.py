"""The schema that migrations make is the schema that the code means, on both engines."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, inspect
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.domain.errors import Internal, Unavailable
from store import Schema, SchemaBehind, migrate, open_store
from store.append_only import APPEND_ONLY
from store.tables import metadata
from tests import databases
from tests.store.looking import connect, rows


async def inspected(url: str, look: Any) -> Any:
    """What `look` says of the schema."""
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        found = await connection.run_sync(look)
    await engine.dispose()
    return found


def catalogue(connection: Connection) -> dict[str, Any]:
    """Everything that the database knows of its tables, comparable between two databases of one engine."""
    if connection.dialect.name == "sqlite":
        kept = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'index')")
        return {name: " ".join((sql or "").split()) for name, sql in kept if "alembic" not in name}
    found = inspect(connection)
    return {
        table: {
            "columns": [(c["name"], str(c["type"]), c["nullable"], c["default"]) for c in found.get_columns(table)],
            "primary key": found.get_pk_constraint(table),
            "foreign keys": sorted(found.get_foreign_keys(table), key=str),
            "unique": sorted(found.get_unique_constraints(table), key=str),
            "checks": sorted(found.get_check_constraints(table), key=str),
            "indexes": sorted(found.get_indexes(table), key=str),
        }
        for table in found.get_table_names()
        if table != "alembic_version"
    }


async def test_migrations_make_the_schema_that_the_code_means(url: str, tmp_path: Path) -> None:
    """A migrated database is, to the last CHECK and index, the one that the tables describe."""
    await migrate.upgrade(url)
    meant = databases.sqlite_url(tmp_path) if url.startswith("sqlite") else databases.postgresql_url(migrated=False)
    engine = create_async_engine(meant)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    await engine.dispose()
    assert await inspected(url, catalogue) == await inspected(meant, catalogue)
    assert set(await inspected(url, catalogue)) >= set(metadata.tables)


async def test_every_append_only_table_is_guarded(url: str) -> None:
    """Each has its trigger."""
    await migrate.upgrade(url)
    triggers = (
        "SELECT DISTINCT tbl_name FROM sqlite_master WHERE type = 'trigger'"
        if url.startswith("sqlite")
        else "SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal"
    )
    assert sorted(name for (name,) in await rows(url, triggers)) == sorted(APPEND_ONLY)


async def test_a_fresh_database_is_empty_then_current(sqlite: str) -> None:
    """`check` tells an empty schema from one that is up to date, and from one that a later release made."""
    assert await migrate.check(sqlite) is Schema.EMPTY
    assert await migrate.current(sqlite) == ""
    await migrate.upgrade(sqlite)
    assert await migrate.check(sqlite) is Schema.CURRENT
    await rows(sqlite, "UPDATE alembic_version SET version_num = '9999'")
    assert await migrate.check(sqlite) is Schema.AHEAD


async def test_postgresql_behind_refuses_to_open_and_says_what_to_do() -> None:
    """Nobody migrates a shared database by starting a replica."""
    url = databases.postgresql_url(migrated=False)
    with pytest.raises(SchemaBehind, match="obol migrate"):
        await open_store(url)
    await migrate.upgrade(url)
    await (await open_store(url)).close()
    databases.drop(url)


async def test_a_newer_schema_serves_the_release_before_it(url: str) -> None:
    """A release and the one before it run side by side, and an embedded one can be rolled back."""
    await migrate.upgrade(url)
    await rows(url, "UPDATE alembic_version SET version_num = '9999'")
    store = await open_store(url)
    await store.ping()
    await store.close()


async def test_migrations_at_once_run_once() -> None:
    """Three that migrate one empty database together: one does it, the others find it done."""
    url = databases.postgresql_url(migrated=False)
    await asyncio.gather(*(migrate.upgrade(url) for _ in range(3)))
    assert await migrate.check(url) is Schema.CURRENT
    databases.drop(url)


async def test_an_embedded_database_migrates_itself_however_many_open_it(sqlite: str) -> None:
    """Two processes that open one fresh file at once both find it ready."""
    stores = await asyncio.gather(*(open_store(sqlite) for _ in range(3)))
    for store in stores:
        await store.ping()
        await store.close()


async def test_a_migration_does_not_queue_behind_a_long_transaction(
    postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives up on a lock after LOCK_TIMEOUT instead of holding up every query behind it."""
    holder = await connect(postgresql)
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
    with pytest.raises((Unavailable, Internal)):
        await asyncio.wait_for(migrate.upgrade(postgresql), 10)
    await transaction.rollback()
    await holder.close()
