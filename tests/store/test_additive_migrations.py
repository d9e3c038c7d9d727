"""A release and the one before it share a database: every migration after the first only adds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, inspect
from sqlalchemy.ext.asyncio import create_async_engine

import store
from tests import databases
from tests.store.additive import made_by, objections

MIGRATIONS = Path(store.__file__).parent / "migrations"


def revisions() -> list[str]:
    """Every revision, the first one first."""
    script = ScriptDirectory(str(MIGRATIONS))
    return [revision.revision for revision in reversed(list(script.walk_revisions()))]


def migrated_to(connection: Connection, revision: str) -> list[str]:
    """Migrate; the statements that did it, without Alembic's own."""
    said: list[str] = []

    def listen(_: Connection, __: Any, statement: str, *___: Any) -> None:
        said.append(statement)

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    event.listen(connection, "before_cursor_execute", listen)
    command.upgrade(config, revision)
    event.remove(connection, "before_cursor_execute", listen)
    return [each for each in said if "alembic_version" not in each]


def columns(connection: Connection) -> dict[tuple[str, str], tuple[str, bool]]:
    """(table, column) to its type and whether it may be NULL."""
    found = inspect(connection)
    return {
        (table, column["name"]): (str(column["type"]), column["nullable"])
        for table in found.get_table_names()
        for column in found.get_columns(table)
    }


@pytest.fixture
async def steps() -> list[tuple[str, list[str], dict[Any, Any], dict[Any, Any]]]:
    """Each migration on PostgreSQL: its revision, its statements, and the columns before and after."""
    url = databases.postgresql_url(migrated=False)
    engine = create_async_engine(url)

    def walk(connection: Connection) -> Iterator[tuple[str, list[str], dict[Any, Any], dict[Any, Any]]]:
        for revision in revisions():
            before = columns(connection)
            statements = migrated_to(connection, revision)
            yield revision, statements, before, columns(connection)

    async with engine.begin() as connection:
        walked = await connection.run_sync(lambda sync: list(walk(sync)))
    await engine.dispose()
    databases.drop(url)
    return walked


async def test_every_migration_after_the_first_only_adds(steps: list[tuple[str, list[str], Any, Any]]) -> None:
    """No statement takes away, renames, retypes or tightens what the release before reads and writes."""
    assert len(steps[0][1]) > 10, "the statements of the first migration were not seen"
    found = []
    for revision, statements, _, _ in steps[1:]:
        made = frozenset(filter(None, map(made_by, statements)))
        found += [f"{revision}: {why}: {each}" for each in statements for why in objections(each, made=made)]
    assert found == []


async def test_every_column_of_a_release_is_in_the_next_as_it_was(
    steps: list[tuple[str, list[str], dict[Any, Any], dict[Any, Any]]],
) -> None:
    """Whatever the statements say, the catalogue has each old column with its type, and none became NOT NULL."""
    for revision, _, before, after in steps[1:]:
        for place, (kind, nullable) in before.items():
            assert place in after, f"{revision} took {place} away"
            assert after[place] == (kind, nullable or after[place][1]), f"{revision} changed {place}"


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("DROP TABLE payments", "drops a table"),
        ("ALTER TABLE payments DROP COLUMN state", "drops a column"),
        ("ALTER TABLE payments DROP state", "drops a column"),
        ("ALTER TABLE payments RENAME COLUMN state TO status", "renames"),
        ("ALTER TABLE payments RENAME TO charges", "renames"),
        ("ALTER TABLE payments ALTER COLUMN version TYPE integer", "changes a type"),
        ("alter table payments\n  alter version set data type integer", "changes a type"),
        ("ALTER TABLE payments ALTER COLUMN note SET NOT NULL", "makes a column NOT NULL"),
        ("ALTER TABLE payments ALTER note DROP DEFAULT", "takes a default away"),
        ("ALTER TABLE payments ADD COLUMN note text NOT NULL", "adds note as NOT NULL without a default"),
        ("ALTER TABLE payments ADD note text NOT NULL, ADD more text", "adds note as NOT NULL without a default"),
        ("ALTER TABLE payments ADD CONSTRAINT c CHECK (version > 1)", "adds a constraint to an old table"),
        ("CREATE UNIQUE INDEX i ON payments (order_reference)", "makes an index unique"),
        ("DROP INDEX payments_by_order", "drops an index"),
        ("DELETE FROM counters", "deletes rows"),
        ("TRUNCATE counters", "empties a table"),
    ],
)
def test_a_statement_that_takes_away_is_named(statement: str, why: str) -> None:
    """Each planted statement is objected to, for its own reason."""
    assert [each for each in objections(statement) if each.startswith(why)]


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE payments ADD COLUMN note text",
        "ALTER TABLE payments ADD COLUMN note text NOT NULL DEFAULT ''",
        "CREATE TABLE resolutions (resolution_id text NOT NULL, PRIMARY KEY (resolution_id))",
        "CREATE INDEX payments_by_note ON payments (note)",
        "-- additive because nothing looks anything up by it\nDROP INDEX payments_by_order",
        "ALTER TABLE payments -- additive because it allows more\n DROP CONSTRAINT payments_state_check",
        "INSERT INTO counters (name, value) VALUES ('DROP TABLE', 0)",
    ],
)
def test_a_statement_that_adds_passes(statement: str) -> None:
    """Their nearest neighbours are left alone; an index or a constraint may go with a word."""
    assert objections(statement) == []


def test_what_a_migration_made_itself_it_may_change() -> None:
    """The release before knows nothing of a new table."""
    statement = "ALTER TABLE resolutions ADD CONSTRAINT c CHECK (version > 1)"
    assert objections(statement, made=frozenset({"resolutions"})) == []
    assert objections(statement) != []
