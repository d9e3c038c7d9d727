# Statements are spelled from the store's tables and from rows that the bench itself made.
# ruff: noqa: S608
"""Fills a database: payments that the gateway made are cloned a million times, row for row, inside the database.

Every id of a template (`pay_`, `cmd_`, `op_`, the provider's, the caller's references) becomes one of the clone's own:
its time, then what is left of the template's, then the clone's number, so that ids are unique, as long as the real
ones and as well ordered. Documents carry the clone's ids too; stored replies keep the template's.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import BigInteger, Boolean, Integer, LargeBinary, Table

from bench.requests import TENANT
from store.tables import metadata
from store.values import stored_bytes

SPAN_S = 6 * 24 * 3600
"""Clones are spread over the six days before the template: no idempotency key is past its window."""

OTHER_TENANTS = 9
SHARES = (17, 1, 1, 1)
"""Of twenty clones, how many are of each template, in order."""

_ID = re.compile(r"([a-z]+_)[0-9a-f]{12}([0-9a-f]{8})[0-9a-f]{12}")
_NUMBERS = "bench_numbers"
_TIME = re.compile(r"_us$")

Row = dict[str, Any]


class Filling(Protocol):
    """A bare connection to the database that is filled."""

    def rows(self, statement: str) -> Sequence[Row]:
        """Every row of a SELECT, by column name."""
        ...

    def run(self, statement: str) -> None:
        """Run one statement."""
        ...

    @property
    def spelling(self) -> "Spelling": ...


@dataclass(frozen=True, slots=True)
class Spelling:
    """How an engine says it: numbers from {first} to {last} as `n`, a number as 12 hex digits, bytes, truth."""

    series: str
    hexadecimal: str
    blob: str
    scratch: str
    true: str
    false: str


POSTGRESQL = Spelling(
    series="SELECT n FROM generate_series({first}::bigint, {last}::bigint) AS s(n)",
    hexadecimal="lpad(to_hex({0}), 12, '0')",
    blob="'\\x{0}'::bytea",
    scratch="UNLOGGED TABLE",
    true="true",
    false="false",
)
SQLITE = Spelling(
    series="WITH RECURSIVE s(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM s WHERE n < {last}) SELECT n FROM s",
    hexadecimal="printf('%012x', {0})",
    blob="x'{0}'",
    scratch="TEMP TABLE",
    true="1",
    false="0",
)


@dataclass(frozen=True, slots=True)
class Template:
    """One payment that the gateway made, with every row of it."""

    payment_id: str
    created_us: int
    rows: Sequence[tuple[Table, Row]]


def templates_of(filling: Filling, payment_ids: Sequence[str]) -> list[Template]:
    """Read the templates' rows, tables in the order in which they may be filled."""
    return [_template(filling, payment_id) for payment_id in payment_ids]


def clone(filling: Filling, templates: Sequence[Template], count: int) -> Iterator[str]:
    """Make `count` clones in all; tells of each table that it has filled."""
    sequence = _last_sequence(filling) + 1
    first = 0
    for template, share in zip(templates, SHARES, strict=True):
        clones = count * share // sum(SHARES)
        filling.run(_numbers(template, first, clones, filling.spelling))
        for table, row in template.rows:
            values = ", ".join(_values(table, row, f"{sequence - first} + n", filling.spelling))
            filling.run(f"INSERT INTO {table.name} ({', '.join(row)}) SELECT {values} FROM {_NUMBERS} ORDER BY n")
            if table.name == "observation_log":
                sequence += clones
            yield f"{clones} rows of {table.name}"
        filling.run(f"DROP TABLE {_NUMBERS}")
        first += clones
    filling.run(f"UPDATE counters SET value = {sequence - 1} WHERE name = 'observations'")


def _numbers(template: Template, first: int, clones: int, spelling: Spelling) -> str:
    """A scratch table of what differs between clones: number, age, and the two as they stand in an id."""
    last = first + clones - 1
    # Each kind runs through the whole span, so that the kinds are mixed in time.
    ago_us = f"({last + 1} - n) * {SPAN_S * 1_000_000 // clones}"
    return (
        f"CREATE {spelling.scratch} {_NUMBERS} AS SELECT n, {ago_us} AS ago_us, "
        f"{spelling.hexadecimal.format(f'({template.created_us} - {ago_us}) / 1000')} AS ms, "
        f"{spelling.hexadecimal.format('n')} AS number "
        f"FROM ({spelling.series.format(first=first, last=last)}) AS series"
    )


def _template(filling: Filling, payment_id: str) -> Template:
    found: list[tuple[Table, Row]] = []
    for table in metadata.sorted_tables:
        if table.name == "callbacks" or "tenant_id" not in table.columns:
            continue
        columns = ", ".join(column.name for column in table.columns)
        if table.name == "observation_log":
            where = f"observation_id IN (SELECT observation_id FROM observations WHERE payment_id = '{payment_id}')"
        elif "payment_id" in table.columns and table.name != "observation_outbox":
            where = f"payment_id = '{payment_id}'"
        else:
            continue
        found += [(table, row) for row in filling.rows(f"SELECT {columns} FROM {table.name} WHERE {where}")]
    created_us = next(row["created_time_us"] for table, row in found if table.name == "payments")
    return Template(payment_id, created_us, found)


def _last_sequence(filling: Filling) -> int:
    return int(filling.rows("SELECT coalesce(max(sequence), 0) AS last FROM observation_log")[0]["last"])


def _values(table: Table, row: Row, sequence: str, spelling: Spelling) -> Iterator[str]:
    for name, value in row.items():
        kind = table.columns[name].type
        if name == "sequence":
            yield sequence
        elif name == "tenant_id":
            # Seven of ten clones are the measured tenant's, the rest are others'.
            yield f"CASE WHEN n % 10 < 7 THEN '{TENANT}' ELSE '{TENANT}-' || (n % {OTHER_TENANTS}) END"
        elif value is None:
            yield "NULL"
        elif isinstance(kind, Boolean):
            yield spelling.true if value else spelling.false
        elif isinstance(kind, LargeBinary):
            yield spelling.blob.format((stored_bytes(value) or b"").hex())
        elif isinstance(kind, BigInteger | Integer):
            yield f"{value} - ago_us" if _TIME.search(name) else str(value)
        else:
            yield _text(value)


def _text(value: str) -> str:
    """A text with every id in it replaced by the clone's."""
    pieces: list[str] = []
    at = 0
    for found in _ID.finditer(value):
        pieces += [_quoted(value[at : found.start()] + found.group(1)), "ms", _quoted(found.group(2)), "number"]
        at = found.end()
    if at < len(value) or not pieces:
        pieces.append(_quoted(value[at:]))
    return " || ".join(pieces)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
