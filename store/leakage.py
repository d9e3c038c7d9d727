"""I14 over every table: what must never be at rest, looked for in each text and each run of bytes, page by page."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, LargeBinary, RowMapping, String, Table, select, tuple_

from gateway.domain.dossier import Invariant, Violation
from gateway.domain.leaks import leaks
from store.sealing import SEALED_BYTES, SEALED_TEXT

PAGE_ROWS = 1_000


def page_of_leaks(
    connection: Connection, table: Table, after: Sequence[Any] | None
) -> tuple[list[Violation], Sequence[Any] | None]:
    """What one page of `table` holds, and where the next one begins (None: that was the last)."""
    place = list(table.primary_key.columns)
    searched = [c for c in table.c if isinstance(c.type, String | LargeBinary)]
    if not searched:
        return [], None
    named = {column.name: column for column in (*place, *searched)}
    query = select(*named.values()).order_by(*place).limit(PAGE_ROWS)
    if after is not None:
        query = query.where(tuple_(*place) > tuple_(*after))
    rows = connection.execute(query).mappings().all()
    found = [violation for row in rows for violation in _of_row(table, row)]
    last = [rows[-1][column.name] for column in place] if len(rows) == PAGE_ROWS else None
    return found, last


def _of_row(table: Table, row: RowMapping) -> Iterator[Violation]:
    for name, value in row.items():
        for kind in _of_value(name, value):
            key = "/".join(str(row[column.name]) for column in table.primary_key.columns)
            message = f"column {name} holds {kind}"
            yield Violation(
                Invariant.I14, f"{table.name} {key}", message, str(row.get("tenant_id", "")), row.get("payment_id", "")
            )


def _of_value(name: str, value: Any) -> Iterator[str]:
    if not value or not isinstance(value, str | bytes):
        return
    if isinstance(value, bytes):
        yield from () if value.startswith(SEALED_BYTES) else leaks(value.decode("latin-1"))
        return
    yield from leaks(value)
    if name == "next_action" and not json.loads(value)[1].startswith(SEALED_TEXT) and json.loads(value)[1]:
        yield "a client secret that is not sealed"
