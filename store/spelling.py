# Statements are spelled from our own tables and constants; every value is a parameter.
# ruff: noqa: S608
"""Building blocks of hot statements, spelled from the tables so that a column is named once.

Everything here runs when a store is made or first needs a variant: the hot path itself handles finished strings.
"""

from collections.abc import Iterable, Mapping

from sqlalchemy import Boolean, Integer, LargeBinary, Table
from sqlalchemy.types import TypeEngine


def columns_of(table: Table, without: Iterable[str] = ()) -> list[str]:
    """The table's column names, in order."""
    left_out = set(without)
    return [column.name for column in table.columns if column.name not in left_out]


def named_insert(table: Table, suffix: str = "") -> str:
    """SQLite: INSERT of one row given as a dict by column name."""
    names = columns_of(table)
    values = ", ".join(f":{name}" for name in names)
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({values}) {suffix}".rstrip()


def named_insert_where(table: Table, condition: str, suffix: str = "") -> str:
    """SQLite: the same, where `condition` holds."""
    names = columns_of(table)
    values = ", ".join(f":{name}" for name in names)
    return f"INSERT INTO {table.name} ({', '.join(names)}) SELECT {values} WHERE {condition} {suffix}".rstrip()


def named_assignments(names: Iterable[str]) -> str:
    """SQLite: `a = :a, b = :b`."""
    return ", ".join(f"{name} = :{name}" for name in names)


def replacing(table: Table) -> str:
    """`ON CONFLICT (primary key) DO UPDATE` with every other column as it was to be inserted."""
    keys = [column.name for column in table.primary_key.columns]
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns_of(table, keys))
    return f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changes}"


def record(table: Table) -> str:
    """PostgreSQL: a column definition list for `jsonb_to_record` and `jsonb_to_recordset`; bytes travel as hex."""
    return ", ".join(f"{column.name} {_json_type(column.type)}" for column in table.columns)


def insert_from(
    table: Table, source: str, *, alias: str = "r", given: Mapping[str, str] | None = None, suffix: str = ""
) -> str:
    """PostgreSQL: `INSERT … SELECT … FROM source`, each column from `alias` unless `given` says another expression."""
    given = given or {}
    values = (given.get(column.name) or _read(alias, column.name, column.type) for column in table.columns)
    return (
        f"INSERT INTO {table.name} ({', '.join(columns_of(table))}) SELECT {', '.join(values)} FROM {source} {suffix}"
    )


def assign_from(table: Table, names: Iterable[str], alias: str = "r") -> str:
    """PostgreSQL: `a = r.a, b = r.b` for an UPDATE."""
    return ", ".join(f"{name} = {_read(alias, name, table.columns[name].type)}" for name in names)


def _json_type(kind: TypeEngine[object]) -> str:
    if isinstance(kind, Boolean):
        return "boolean"
    return "bigint" if isinstance(kind, Integer) else "text"


def _read(alias: str, name: str, kind: TypeEngine[object]) -> str:
    return f"decode({alias}.{name}, 'hex')" if isinstance(kind, LargeBinary) else f"{alias}.{name}"
