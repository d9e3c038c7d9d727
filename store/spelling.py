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


class Slots:
    """PostgreSQL: numbers a statement's parameters in the order in which they are named, each with its type."""

    def __init__(self) -> None:
        self._last = 0

    @classmethod
    def past(cls, *kinds: str) -> "Slots":
        """Past the parameters that every statement of a kind begins with."""
        slots = cls()
        for kind in kinds:
            slots.one(kind)
        return slots

    def one(self, kind: str) -> str:
        """The next parameter, of an SQL type."""
        self._last += 1
        return f"${self._last}::{kind}"

    def row(self, kinds: Mapping[str, str]) -> dict[str, str]:
        """A parameter for each column."""
        return {name: self.one(kind) for name, kind in kinds.items()}


def kinds_of(table: Table, without: Iterable[str] = ()) -> dict[str, str]:
    """PostgreSQL: the SQL types of the table's columns, in order."""
    return {name: _kind(table.columns[name].type) for name in columns_of(table, without)}


def insert_from(values: Mapping[str, str], table: Table, source: str = "", *, suffix: str = "") -> str:
    """PostgreSQL: `INSERT … SELECT … FROM source`, an expression for each column."""
    chosen = ", ".join(values[name] for name in columns_of(table))
    origin = f"FROM {source} " if source else ""
    return f"INSERT INTO {table.name} ({', '.join(columns_of(table))}) SELECT {chosen} {origin}{suffix}"


def assigned(values: Mapping[str, str], names: Iterable[str]) -> str:
    """`a = …, b = …` for an UPDATE."""
    return ", ".join(f"{name} = {values[name]}" for name in names)


def statement(parts: Mapping[str, str], answer: str) -> str:
    """PostgreSQL: each part as a CTE; those that only read are materialized, run once and before what reads them."""
    named = (
        f"{name} AS {'MATERIALIZED ' if sql.lstrip().startswith('SELECT') else ''}({sql})"
        for name, sql in parts.items()
    )
    return f"WITH {', '.join(named)} {answer}"


def _kind(kind: TypeEngine[object]) -> str:
    if isinstance(kind, Boolean):
        return "boolean"
    if isinstance(kind, LargeBinary):
        return "bytea"
    return "bigint" if isinstance(kind, Integer) else "text"
