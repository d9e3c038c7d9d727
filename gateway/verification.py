"""`obol verify`: every invariant over a database and, where there is one, a provider's effect log. Changes nothing."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gateway.app.invariants import check_dossier, check_effects
from gateway.domain.dossier import Dossier, Invariant, Violation
from gateway.domain.leaks import leaks
from gateway.domain.states import RESERVING_STATES
from store.effect_book import EffectBook
from store.inspection import Inspection, inspect

VIOLATIONS_KEPT_MAX = 1_000
LINE_CHARACTERS_MAX = 65_536


@dataclass
class Report:
    """What was looked at and what is broken; of more than VIOLATIONS_KEPT_MAX violations only the number is kept."""

    payments: int = 0
    operations: int = 0
    unresolved: int = 0
    observations: int = 0
    effects: int = 0
    violation_count: int = 0
    by_invariant: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)

    def add(self, violation: Violation) -> None:
        """Count it, and keep it while there is room."""
        self.violation_count += 1
        self.by_invariant[violation.invariant] += 1
        if len(self.violations) < VIOLATIONS_KEPT_MAX:
            self.violations.append(violation)

    def as_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return asdict(self) | {"by_invariant": dict(self.by_invariant)}


async def verify(
    database_url: str,
    *,
    effect_log: Path | None = None,
    healed: bool = False,
    planted: Sequence[str] = (),
    secrets: bool = True,
    texts: Sequence[Path] = (),
    progress: Callable[[Report], None] = lambda _: None,
) -> Report:
    """Check the database at `database_url`; the memory that it takes does not grow with the number of payments.

    `healed`: nothing is under way any more, so that SUCCEEDED must have its effect (I3, I12). `planted` are texts that
    must be nowhere (I14). `secrets`: look into every text of every table for card numbers, credentials and unsealed
    client secrets, and into `texts`, files such as logs or a metrics page, line by line (I14).
    """
    report = Report()
    inspection = inspect(database_url)
    with ExitStack() as ending:
        try:
            # The log is read first: an effect that it has must have been claimed before.
            book = ending.enter_context(EffectBook(effect_log)) if effect_log else None
            report.effects = book.count if book else 0
            async for dossier in _each(inspection):
                _count(report, dossier)
                for violation in check_dossier(dossier):
                    report.add(violation)
                if book is not None:
                    own = book.of_operations({o.operation_id: o.prepared.idempotency_key for o in dossier.operations})
                    for violation in check_effects(dossier, own, healed=healed):
                        report.add(violation)
                progress(report)
            for violation in await inspection.log():
                report.add(violation)
            if book is not None:
                await _unclaimed(inspection, book, report)
            for violation in await inspection.holding(planted) if planted else ():
                report.add(violation)
            if secrets:
                async for violation in inspection.leaks():
                    report.add(violation)
            for path in texts:
                for violation in _leaks_of(path, planted):
                    report.add(violation)
        finally:
            await inspection.close()
    return report


async def _each(inspection: Inspection) -> AsyncIterator[Dossier]:
    async for page in inspection.dossiers():
        for dossier in page:
            yield dossier


def _count(report: Report, dossier: Dossier) -> None:
    report.payments += 1
    report.operations += len(dossier.operations)
    report.unresolved += sum(o.state in RESERVING_STATES for o in dossier.operations)
    report.observations += len(dossier.observations)


def _leaks_of(path: Path, planted: Sequence[str]) -> Iterator[Violation]:
    """I14 of a file; a line longer than LINE_CHARACTERS_MAX is looked at in pieces."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(iter(lambda: lines.readline(LINE_CHARACTERS_MAX), ""), start=1):
            for kind in leaks(line):
                yield Violation(Invariant.I14, f"{path.name}:{number}", f"holds {kind}")
            for which, text in enumerate(planted, start=1):
                if text in line:
                    yield Violation(Invariant.I14, f"{path.name}:{number}", f"holds planted text number {which}")


async def _unclaimed(inspection: Inspection, book: EffectBook, report: Report) -> None:
    """I2: an effect that carries an operation of ours that nobody ever claimed."""
    for page in book.operation_ids():
        for operation_id in set(page) - await inspection.known_operations(page):
            report.add(
                Violation(
                    Invariant.I2, f"operations {operation_id}", "has an effect at the provider and was never claimed"
                )
            )
