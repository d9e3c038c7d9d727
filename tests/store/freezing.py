"""Write the initial schema down from the tables: `python -m tests.store.freezing`, and only before the first release.

After it a change of the tables is a revision of its own.
"""

from pathlib import Path

from sqlalchemy import Dialect, make_url
from sqlalchemy.schema import CreateIndex, CreateTable

from store import migrate
from store.append_only import create_triggers
from store.tables import metadata

FOLDER = Path(migrate.__file__).parent / "migrations" / "initial"
DIALECTS: dict[str, Dialect] = {
    name: make_url(f"{name}+{driver}://").get_dialect()()
    for name, driver in (("postgresql", "asyncpg"), ("sqlite", "aiosqlite"))
}


def schema(name: str) -> str:
    """The DDL of every table, index and trigger for an engine; statements end in a semicolon and an empty line."""
    dialect = DIALECTS[name]
    statements = []
    for table in metadata.sorted_tables:
        statements.append(str(CreateTable(table).compile(dialect=dialect)))
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        statements += [str(CreateIndex(index).compile(dialect=dialect)) for index in indexes]
    statements += create_triggers(name)
    tidy = ["\n".join(line.rstrip() for line in one.strip().splitlines()).replace("\t", "  ") for one in statements]
    return ";\n\n".join(tidy) + ";\n"


if __name__ == "__main__":
    for engine in DIALECTS:
        (FOLDER / f"{engine}.sql").write_text(schema(engine))
