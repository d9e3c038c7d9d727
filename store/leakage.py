"""I14 over every table: what must never be at rest, looked for in each text and each run of bytes, page by page."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, LargeBinary, RowMapping, String, Table, select, tuple_

from gateway.domain.dossier import Invariant, Violation
from gateway.domain.leaks import is_suspect, leaks
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
    texts = {name: _text(value) for name, value in row.items() if value and isinstance(value, str | bytes)}
    # Most rows hold nothing that is worth a look at each of their texts.
    if "next_action" not in texts and not is_suspect("\0".join(texts.values())):
        return
    for name, text in texts.items():
        for kind in _of_text(name, text):
            key = "/".join(str(row[column.name]) for column in table.primary_key.columns)
            message = f"column {name} holds {kind}"
            yield Violation(
                Invariant.I14, f"{table.name} {key}", message, str(row.get("tenant_id", "")), row.get("payment_id", "")
            )


def _text(value: str | bytes) -> str:
    """The text to look through: none of what is sealed."""
    if isinstance(value, str):
        return value
    return "" if value.startswith(SEALED_BYTES) else value.decode("latin-1")


def _of_text(name: str, text: str) -> Iterator[str]:
    yield from leaks(text)
    if name == "next_action" and not json.loads(text)[1].startswith(SEALED_TEXT) and json.loads(text)[1]:
        yield "a client secret that is not sealed"
