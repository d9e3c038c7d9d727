"""`obol verify` reads a page of payments by its keys: what it costs does not grow with the tables."""

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event

from store import inspection, migrate
from store.tables import metadata
from tests.databases import sqlite_url

READ = ("movements", "commands", "operations", "refunds", "history", "observations")


async def test_a_page_of_dossiers_scans_no_table(tmp_path: Path) -> None:
    """On SQLite, for one tenant and for several, every related row is found by an index."""
    url = sqlite_url(tmp_path)
    await migrate.upgrade(url)
    engine = create_engine(url.replace("+aiosqlite", ""))
    plans: list[str] = []

    def explain(connection: Connection, cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith("SELECT"):
            planned = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row[3] for row in planned)

    with engine.connect() as connection:
        event.listen(connection, "before_cursor_execute", explain)
        keys = [("t1", "pay_1"), ("t1", "pay_2"), ("t2", "pay_3")]
        for some in (keys[:2], keys):
            for name in READ[:-1]:
                inspection._related(connection, metadata.tables[name], some)
            inspection._observed(connection, some)
    engine.dispose()
    assert {name for name in READ if any(f"SEARCH {name} USING" in plan for plan in plans)} == set(READ)
    assert [plan for plan in plans if plan.startswith("SCAN")] == []
