"""What `make conformance` prints at its end: a result in every cell, one line for all, and what could not be asked."""

from collections import Counter

import pytest

from tests.conformance import reporting
from tests.conformance.discovery import ALL_DRIVERS
from tests.conformance.reporting import CAPABILITIES, Column, Conformance, cell


class Paper:
    """A terminal's reporter that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def section(self, title: str) -> None:
        self.lines.append(title)

    def write_line(self, line: str) -> None:
        self.lines.append(line)


def listened(absent: tuple[str, ...] = ()) -> Conformance:
    """A run over every driver that is not live: two tests passed, one failed at stripe, one not offered by paypal."""
    run = Conformance(absent)
    for name, driven in ALL_DRIVERS.items():
        if driven.live:
            continue
        column = run.columns[name] = Column()
        last = {"stripe": "failed", "paypal": "not offered"}.get(name, "passed")
        for number, outcome in enumerate(("passed", "passed", last)):
            column.outcomes[f"test_{number}"] = outcome
            column.cells["Adapter" if number < 2 else "Confirms"][outcome] += 1
    return run


def test_the_last_line_counts_each_provider_sandbox_first() -> None:
    """Of the form that scripts read."""
    assert listened().line() == (
        "conformance: sandbox passed=3 failed=0 · stripe passed=2 failed=1 · paypal passed=2 failed=0"
    )


def test_every_cell_of_the_table_has_a_result() -> None:
    """A row for each capability, and a word for each provider in it."""
    paper = Paper()
    listened().pytest_terminal_summary(paper)
    rows = [line.split("  ") for line in paper.lines[2:]]
    assert [row[0].strip() for row in rows] == list(CAPABILITIES)
    table = {row[0].strip(): [each.strip() for each in row[1:] if each.strip()] for row in rows}
    assert table["Confirms"] == ["not offered", "ok 1", "FAILED 1 of 1"]
    assert all(len(results) == 3 for results in table.values())


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ({"passed": 3}, "ok 3"),
        ({"passed": 3, "failed": 1}, "FAILED 1 of 4"),
        ({"not offered": 2}, "not offered"),
        ({"skipped": 2}, "not tested"),
        ({}, "not tested"),
    ],
)
def test_a_cell_says_what_came_of_it(results: dict[str, int], said: str) -> None:
    """A failure outweighs what passed, and what was only skipped is not called passed."""
    assert cell(Counter(results)) == said


def test_documents_that_are_not_there_are_named() -> None:
    """The run goes on without them, and says that nothing was held to them."""
    paper = Paper()
    listened(tuple(why for _, why in reporting.DOCUMENTS)).pytest_terminal_summary(paper)
    told = [line for line in paper.lines if line.startswith("not validated: ")]
    assert ["paypal_openapi" in told[0], "stripe_openapi" in told[1]] == [True, True]
