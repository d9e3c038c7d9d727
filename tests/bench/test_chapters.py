"""The bench's long chapters run: on a few rows, in seconds, with the real processes that they measure."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench import arrivals, growth, payments, plans
from bench.__main__ import measure
from bench.acknowledging import ANSWERING, DEAD
from bench.databases import Engine
from bench.effort import QUICK
from bench.faults import NONE
from bench.processes import Bench
from bench.report import Findings, written

TINY = replace(
    QUICK,
    callers=(1,),
    rounds=1,
    round_s=0.1,
    side_round_s=0.1,
    open_s=0.2,
    watched_s=0.2,
    growth_rows=100,
    growth_rounds=1,
    faults=("reset_before", "timeout_after"),
)
LAST_LINE = re.compile(r"bench: ratio postgresql=\d+\.\d\d sqlite=\d+\.\d\d growth=\d+\.\d\d")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """As little of everything as shows that it runs."""
    monkeypatch.setattr(payments, "WARM_S", 0.1)
    monkeypatch.setattr(arrivals, "PAYMENTS_READ", 4)
    monkeypatch.setattr(growth, "SIBLING_PAYMENTS", 4)
    monkeypatch.setattr(plans, "ACTS_COUNTED", 1)


@pytest.mark.slow
@pytest.mark.parametrize("engine", list(Engine))
async def test_a_database_is_filled_and_compared(engine: Engine, tmp_path: Path) -> None:
    """Every clone is a whole payment, every call has a ratio, and every act a plan that reads no table through."""
    findings = Findings(TINY, True, load_before=0.0)
    await measure(Bench.at(tmp_path), findings, [engine], ["growth"])
    (grown,) = findings.growth
    assert grown.filled.payments == TINY.growth_rows
    assert set(grown.ratios) == {"CreatePayment", "GetPayment", "ListPayments"}
    assert {each.act for each in grown.plans} == set(plans.ACTS)
    assert [each.act for each in grown.plans if any("payments" in scan for scan in each.scanning)] == []
    assert LAST_LINE.fullmatch(findings.last_line())
    assert f"{engine} with 100 payments" in written(findings)


@pytest.mark.slow
async def test_arrivals_are_measured(tmp_path: Path) -> None:
    """Each payment is heard of at the watcher; callbacks are acknowledged, also those of a provider that is dead."""
    findings = Findings(TINY, True, load_before=0.0)
    await measure(Bench.at(tmp_path), findings, [Engine.SQLITE], ["arrivals"])
    assert all(each.payments > 0 for each in findings.watched)
    assert {each.provider for each in findings.acknowledged} == {ANSWERING, DEAD}
    assert all(each.rate > 0 and each.p99_ms > 0 for each in findings.acknowledged)
    assert "| sqlite | is dead | 50 a second |" in written(findings)
    assert LAST_LINE.fullmatch(findings.last_line())


@pytest.mark.slow
async def test_latency_under_faults_is_measured(tmp_path: Path) -> None:
    """Every fault has its row, and callers of each are told something."""
    findings = Findings(TINY, True, load_before=0.0)
    await measure(Bench.at(tmp_path), findings, [Engine.SQLITE], ["faults"])
    assert [each.fault for each in findings.faults] == [NONE, *TINY.faults]
    assert all(each.final + each.unknown + each.refused > 0 for each in findings.faults)
    assert (findings.faults[0].unknown, findings.faults[0].refused) == (0, 0)
    assert "| sqlite | timeout_after |" in written(findings)
