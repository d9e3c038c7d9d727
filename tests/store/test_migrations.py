"""The schema that migrations make is the schema that the code means, on both engines."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.domain.errors import Internal, Unavailable
from store import Schema, SchemaBehind, SchemaBeyond, migrate, open_store
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


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """A file that is not there yet."""
    return databases.sqlite_url(tmp_path, migrated=False)


async def test_migrations_make_the_schema_that_the_code_means(url: str, tmp_path: Path) -> None:
    """A migrated database is, to the last CHECK and index, the one that the tables describe."""
    await migrate.upgrade(url)
    meant = (
        databases.sqlite_url(tmp_path, migrated=False)
        if url.startswith("sqlite")
        else databases.postgresql_url(migrated=False)
    )
    engine = create_async_engine(meant)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    await engine.dispose()
    assert await inspected(url, catalogue) == await inspected(meant, catalogue)
    assert set(await inspected(url, catalogue)) >= set(metadata.tables)


def test_migrations_follow_their_numbers() -> None:
    """What is read off the files' names is what Alembic makes of them: one line, each after the one before it."""
    config = Config()
    config.set_main_option("script_location", str(migrate.MIGRATIONS))
    line = [each.revision for each in ScriptDirectory.from_config(config).walk_revisions()]
    assert migrate.revisions() == line[::-1]


def test_a_current_database_is_opened_without_alembic(sqlite: str) -> None:
    """A gateway that comes back loads nothing for migrations that nobody needs."""
    opening = f"import asyncio, sys; from store import open_store; asyncio.run(open_store({sqlite!r}))"
    for loaded in (True, False):
        told = "print('alembic' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", f"{opening}; {told}"], check=True, capture_output=True, text=True)
        assert done.stdout.strip() == str(loaded)


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


async def test_a_newer_schema_is_left_as_it_is(url: str) -> None:
    """A release that is rolled back runs its own `obol migrate` first, or opens its file: nothing happens to it."""
    await migrate.upgrade(url)
    await rows(url, "UPDATE alembic_version SET version_num = '9999'")
    await migrate.upgrade(url)
    assert await migrate.current(url) == "9999"
    await (await open_store(url)).close()


async def test_a_schema_that_lacks_what_this_release_needs_is_refused(url: str) -> None:
    """A later release that takes something away says from which revision on code can live with it."""
    await migrate.upgrade(url)
    await rows(url, "UPDATE alembic_version SET version_num = '9999'")
    await rows(url, f"INSERT INTO counters (name, value) VALUES ('{migrate.SCHEMA_FLOOR}', 9998)")
    assert await migrate.check(url) is Schema.BEYOND
    for attempt in (migrate.upgrade, open_store):
        with pytest.raises(SchemaBeyond, match="not for this release"):
            await attempt(url)
    await rows(url, f"UPDATE counters SET value = 1 WHERE name = '{migrate.SCHEMA_FLOOR}'")
    assert await migrate.check(url) is Schema.AHEAD


@pytest.mark.parametrize("revision", ["0000", "8a1c", "1.5"])
async def test_a_schema_that_nobody_made_is_refused(url: str, revision: str) -> None:
    """An unknown revision that is no higher number is not a later release's."""
    await migrate.upgrade(url)
    await rows(url, f"UPDATE alembic_version SET version_num = '{revision}'")
    with pytest.raises(SchemaBeyond):
        await open_store(url)


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
