"""What `make conformance` prints: a table with a result for each provider and capability, and one line at the end.

A plugin of its own, so that only that target prints it: `pytest -p tests.conformance.reporting tests/conformance`. A
test counts for every capability that it asked its rig for; one that asked for none counts for Adapter, one with a fault
for Faults as well.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests import paypal_documents, stripe_document

DOCUMENTS = (
    (paypal_documents.DOCUMENTS.exists(), paypal_documents.MISSING),
    (stripe_document.FOLDER.exists(), stripe_document.ABSENT),
)
"""Whether a provider's own documents are there, and a sentence for where they are not."""

CAPABILITIES = (
    "Adapter",
    "TakesPayments",
    "Confirms",
    "Completes",
    "Captures",
    "Adjusts",
    "Cancels",
    "Refunds",
    "ReadsCallbacks",
    "ListsEvents",
    "ListsPayments",
    "Risk",
    "Faults",
)
SENTENCE = re.compile(r"\w+ is not implemented: [^\n]+")
_NOT_OFFERED = "does not implement"


@dataclass
class Column:
    """One provider's results: of its tests, and of each capability."""

    outcomes: dict[str, str] = field(default_factory=dict)
    cells: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    lacks: dict[str, None] = field(default_factory=dict)

    def counted(self, outcome: str) -> int:
        """How many tests ended so."""
        return sum(each == outcome for each in self.outcomes.values())


class Conformance:
    """Listens to a run. `absent`: a sentence for each provider whose own documents are not there."""

    def __init__(self, absent: Sequence[str] = ()) -> None:
        self.columns: dict[str, Column] = {}
        self.absent = absent

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Count the test for its provider and for what it asked of it."""
        report = yield
        params = getattr(getattr(item, "callspec", None), "params", {})
        provider = params.get("driver")
        if provider is not None:
            self._count(self.columns.setdefault(provider, Column()), item, report, fault="fault" in params)
        return report

    def _count(self, column: Column, item: pytest.Item, report: pytest.TestReport, *, fault: bool) -> None:
        known = column.outcomes.get(item.nodeid)
        if known == "failed" or (report.passed and report.when != "call"):
            return
        outcome = "failed" if report.failed else "skipped" if report.skipped else "passed"
        if outcome == "skipped" and _NOT_OFFERED in str(report.longrepr):
            outcome = "not offered"
        column.outcomes[item.nodeid] = outcome
        rig = getattr(item, "funcargs", {}).get("rig")
        asked = set(getattr(rig, "used", ())) or {"Adapter"}
        for capability in (*asked, *(["Faults"] if fault else [])):
            if known is not None:
                column.cells[capability][known] -= 1
            column.cells[capability][outcome] += 1
        if report.failed:
            column.lacks.update(dict.fromkeys(SENTENCE.findall(str(report.longrepr))))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """The table, and what each provider still lacks."""
        names = sorted(self.columns)
        if not names:
            return
        rows = [["", *names]]
        rows += [[each, *(cell(self.columns[name].cells[each]) for name in names)] for each in CAPABILITIES]
        widths = [max(len(row[place]) for row in rows) for place in range(len(names) + 1)]
        terminalreporter.section("conformance")
        for row in rows:
            terminalreporter.write_line("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)))
        for absent in self.absent:
            terminalreporter.write_line(f"not validated: {absent}")
        for name in names:
            if self.columns[name].lacks:
                terminalreporter.write_line("")
                terminalreporter.write_line(f"{name} lacks:")
                for sentence in self.columns[name].lacks:
                    terminalreporter.write_line(f"  {sentence}")

    def line(self) -> str:
        """The run in one line, sandbox first."""
        names = sorted(self.columns, key=lambda name: (name != "sandbox", name != "stripe", name))
        told = (
            f"{name} passed={self.columns[name].counted('passed')} failed={self.columns[name].counted('failed')}"
            for name in names
        )
        return f"conformance: {' · '.join(told)}"


def cell(results: Counter[str]) -> str:
    """A capability's result at one provider."""
    passed, failed = results["passed"], results["failed"]
    if failed:
        return f"FAILED {failed} of {passed + failed}"
    if passed:
        return f"ok {passed}"
    return "not offered" if results["not offered"] else "not tested"


def pytest_configure(config: pytest.Config) -> None:
    """Begin to listen."""
    absent = [why for there, why in DOCUMENTS if not there]
    config.pluginmanager.register(Conformance(absent), "conformance")


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last line of the output."""
    listened = config.pluginmanager.get_plugin("conformance")
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if listened is not None and listened.columns and reporter is not None:
        reporter.write_line(listened.line())
