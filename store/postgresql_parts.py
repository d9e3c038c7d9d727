"""How rows travel into a hot statement on PostgreSQL: as parameters, and many of one kind as one JSON document.

A parameter is read as it came, in binary; a document is parsed, taken apart and read word by word, at ten times the
price. But each number of rows is a statement of its own, and a statement has a bound on its parameters. So a few rows
of a kind are parameters, and more of them a document.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from sqlalchemy import Table

from store.spelling import Slots, kinds_of
from store.values import Row

ROWS_APART_MAX = 2
"""Rows of a kind that travel as parameters; more are a document. What a payment is made of stays below it."""

KEYS = ("tenant_id", "payment_id")
"""What every row of a payment has, and what the statement itself knows."""

SHAPES_MAX = 256
"""Texts of each builder that are kept; a connection keeps fewer of them prepared."""

_ENCODER = json.JSONEncoder(separators=(",", ":"), default=bytes.hex)


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one kind: the SQL types of the columns that travel, in order, and how to take those from a row."""

    kinds: Mapping[str, str]
    values: Callable[[Row], Sequence[Any]]

    @classmethod
    def of(cls, table: Table, *, without: Iterable[str] = (), **more: str) -> "Part":
        """The columns of `table` but those that the statement itself knows, and `more` by their SQL types."""
        return cls.named(kinds_of(table, without) | more)

    @classmethod
    def named(cls, kinds: Mapping[str, str]) -> "Part":
        """These columns, two at least."""
        return cls(kinds, itemgetter(*kinds))

    def source(self, slots: Slots, count: int) -> str:
        """`count` rows as a FROM item called `r`."""
        if count > ROWS_APART_MAX:
            columns = ", ".join(f"{name} {_in_json(kind)}" for name, kind in self.kinds.items())
            return f"jsonb_to_recordset({slots.one('jsonb')}) AS r({columns})"
        rows = (f"({', '.join(slots.row(self.kinds).values())})" for _ in range(count))
        return f"(VALUES {', '.join(rows)}) AS r({', '.join(self.kinds)})"

    def read(self, count: int) -> dict[str, str]:
        """Each column of `source`'s `r` as an expression."""
        hexadecimal = {"bytea"} if count > ROWS_APART_MAX else set()
        return {
            name: f"decode(r.{name}, 'hex')" if kind in hexadecimal else f"r.{name}"
            for name, kind in self.kinds.items()
        }

    def arguments(self, rows: Sequence[Row]) -> Sequence[Any]:
        """The values of the parameters that `source` named."""
        if len(rows) > ROWS_APART_MAX:
            return (_ENCODER.encode([{name: row[name] for name in self.kinds} for row in rows]),)
        return [value for row in rows for value in self.values(row)]


def _in_json(kind: str) -> str:
    return "text" if kind == "bytea" else kind
