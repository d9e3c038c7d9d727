"""A provider's effect log as a look-up on disk: a log of any length costs the memory of a page.

The log is JSON lines, each {n, kind, id, payment, amount, currency, account, operation|null, time: unix ms}.
"""

import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gateway.domain.dossier import Effect

BATCH_EFFECTS = 1_000
# SQLite binds at most 999 parameters in its oldest builds.
IDS_AT_ONCE_MAX = 900

_COLUMNS = "number, kind, effect_id, provider_payment_id, amount_minor, currency, account_id, operation_id, time_us"


class EffectBook:
    """The effects of one log; a context manager, since it lives in a temporary file."""

    def __init__(self, log: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="obol-effects-")
        self._connection = sqlite3.connect(Path(self._folder.name) / "effects.db")
        self._connection.execute(f"CREATE TABLE effects ({_COLUMNS})")
        self._connection.execute("CREATE INDEX by_operation ON effects (operation_id)")
        with log.open(encoding="utf-8") as lines:
            self.count = self._fill(lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._folder.cleanup()

    def of_operations(self, operation_ids: Sequence[str]) -> Mapping[str, Sequence[Effect]]:
        """The effects that carry one of these operation ids."""
        found: dict[str, list[Effect]] = {}
        for start in range(0, len(operation_ids), IDS_AT_ONCE_MAX):
            some = operation_ids[start : start + IDS_AT_ONCE_MAX]
            marks = ", ".join("?" * len(some))
            query = f"SELECT {_COLUMNS} FROM effects WHERE operation_id IN ({marks}) ORDER BY number"  # noqa: S608 marks only
            for row in self._connection.execute(query, some):
                effect = Effect(*row)
                found.setdefault(effect.operation_id, []).append(effect)
        return found

    def operation_ids(self) -> Iterator[Sequence[str]]:
        """Every operation id that an effect carries, page by page."""
        after = ""
        query = "SELECT DISTINCT operation_id FROM effects WHERE operation_id > ? ORDER BY operation_id LIMIT ?"
        while True:
            page = [str(row[0]) for row in self._connection.execute(query, (after, IDS_AT_ONCE_MAX))]
            if not page:
                return
            yield page
            after = page[-1]

    def _fill(self, lines: Iterable[str]) -> int:
        count = 0
        batch: list[tuple[Any, ...]] = []
        for line in lines:
            if not line.endswith("\n"):
                break  # the last line of a log that is being written
            batch.append(_row(json.loads(line)))
            count += 1
            if len(batch) == BATCH_EFFECTS:
                self._insert(batch)
                batch = []
        self._insert(batch)
        self._connection.commit()
        return count

    def _insert(self, rows: Sequence[tuple[Any, ...]]) -> None:
        marks = ", ".join("?" * len(_COLUMNS.split(",")))
        self._connection.executemany(f"INSERT INTO effects VALUES ({marks})", rows)  # noqa: S608 marks only


def _row(effect: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        effect["n"],
        effect["kind"],
        effect["id"],
        effect["payment"],
        effect["amount"],
        effect["currency"],
        effect["account"],
        effect["operation"] or "",
        effect["time"] * 1_000,
    )
