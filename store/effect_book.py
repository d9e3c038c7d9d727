"""A provider's effect log as a look-up on disk: a log of any length costs the memory of a page.

The log is JSON lines, each {n, kind, id, payment, amount, currency, account, operation|null, time: unix ms}, and
{idempotency_key|null} where a request caused it. A reversal names what it reverses.
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

_SHOWN = "number, kind, effect_id, provider_payment_id, amount_minor, currency, account_id, operation_id, time_us"
_COLUMNS = f"{_SHOWN}, idempotency_key"
_TAKEN_BACK = """
EXISTS (SELECT 1 FROM effects later WHERE later.kind = 'reversal' AND later.effect_id = effects.effect_id
        AND later.account_id = effects.account_id AND later.number > effects.number)
"""


class EffectBook:
    """The effects of one log; a context manager, since it lives in a temporary file."""

    def __init__(self, log: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="obol-effects-")
        self._connection = sqlite3.connect(Path(self._folder.name) / "effects.db")
        self._connection.execute(f"CREATE TABLE effects ({_COLUMNS})")
        self._connection.execute("CREATE INDEX by_operation ON effects (operation_id)")
        self._connection.execute("CREATE INDEX by_key ON effects (idempotency_key) WHERE operation_id = ''")
        self._connection.execute("CREATE INDEX reversals ON effects (effect_id) WHERE kind = 'reversal'")
        with log.open(encoding="utf-8") as lines:
            self.count = self._fill(lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._folder.cleanup()

    def of_operations(self, keys: Mapping[str, str]) -> Mapping[str, Sequence[Effect]]:
        """The effects of these operations, each with the key that it was sent under, by operation id.

        An effect without an operation is known by the key: what takes no metadata, as a cancel does at some providers,
        bears nothing else of ours.
        """
        found: dict[str, list[Effect]] = {}
        own, by_key = list(keys), {key: operation_id for operation_id, key in keys.items() if key}
        for column, values in (("operation_id", own), ("operation_id = '' AND idempotency_key", list(by_key))):
            for start in range(0, len(values), IDS_AT_ONCE_MAX):
                some = values[start : start + IDS_AT_ONCE_MAX]
                for *shown, taken_back, key in self._connection.execute(_selected(column, len(some)), some):
                    effect = Effect(*(*shown, bool(taken_back)))
                    found.setdefault(effect.operation_id or by_key[key], []).append(effect)
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


def _selected(column: str, count: int) -> str:
    marks = ", ".join("?" * count)
    return f"SELECT {_SHOWN}, {_TAKEN_BACK}, idempotency_key FROM effects WHERE {column} IN ({marks}) ORDER BY number"  # noqa: S608 names of ours, and marks


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
        effect.get("idempotency_key") or "",
    )
