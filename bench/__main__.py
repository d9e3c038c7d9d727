"""`python -m bench`: floor and gateway side by side, in one run; writes `bench/RESULTS.md`."""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import uvloop

from bench.arrivals import measure_arrivals
from bench.databases import Engine, check_durable, fresh
from bench.effort import FULL, QUICK
from bench.faults import measure_faults
from bench.growth import fill_database, measure_growth
from bench.payments import measure_payments
from bench.processes import Bench
from bench.profiling import profile
from bench.report import RESULTS, Findings, Part, written
from bench.statements import count_statements
from bench.verifying import verify_database
from bench.waiting import measure_waiting

CHAPTERS = ("payments", "statements", "arrivals", "waiting", "faults", "growth")
VERIFYING = "verify"
"""Reads a full database row by row, for longer than all the rest takes: only where it is asked for."""


def main() -> None:
    """Measure what was asked for, write the table, print the last line."""
    asked = _arguments()
    effort = QUICK if asked.quick else FULL
    if asked.growth_rows:
        effort = replace(effort, growth_rows=asked.growth_rows)
    findings = Findings(effort, asked.quick, load_before=os.getloadavg()[0])
    began_s = time.monotonic()
    with _folder() as folder:
        uvloop.run(
            measure(
                Bench.at(folder), findings, asked.store or list(Engine), asked.only or CHAPTERS, profiled=asked.profile
            )
        )
    findings.seconds = time.monotonic() - began_s
    Path(asked.results).write_text(written(findings))
    print(findings.last_line())


async def measure(
    bench: Bench, findings: Findings, engines: Sequence[Engine], chapters: Sequence[str], *, profiled: bool = False
) -> None:
    """Run `chapters` on `engines`, one after the other, into `findings`."""
    effort = findings.effort
    if Engine.POSTGRESQL in engines:
        check_durable()
    for engine in engines:
        if "payments" in chapters:
            with _part(findings, f"{engine}: payments, floor and gateway"):
                findings.payments[engine] = await measure_payments(bench, engine, effort)
                findings.lines += findings.payments[engine].lines
        if "statements" in chapters:
            with _part(findings, f"{engine}: statements of a payment"):
                findings.counts.append(await count_statements(engine, fresh(engine, bench.folder, migrated=True)))
        if "arrivals" in chapters:
            with _part(findings, f"{engine}: observations and callbacks"):
                watched, acknowledged = await measure_arrivals(bench, engine, effort)
                findings.watched += watched
                findings.acknowledged += acknowledged
        if "waiting" in chapters:
            with _part(findings, f"{engine}: payments that wait"):
                findings.waiting.append(await measure_waiting(bench, engine, effort))
        if "faults" in chapters:
            with _part(findings, f"{engine}: latency under faults"):
                findings.faults += await measure_faults(bench, engine, effort)
        if profiled:
            with _part(findings, f"{engine}: profile"):
                findings.profiles.append(await profile(bench, engine))
    if "growth" in chapters or VERIFYING in chapters:
        # Filling is all that runs side by side: one engine in its server, the other in a thread.
        with _part(findings, f"filling with {effort.growth_rows:,} payments"):
            full = await asyncio.gather(*(fill_database(bench, engine, effort, _tell) for engine in engines))
        for engine, filled in zip(engines, full, strict=True):
            if "growth" in chapters:
                with _part(findings, f"{engine}: growth"):
                    findings.growth.append(await measure_growth(bench, engine, effort, filled, _tell))
            if VERIFYING in chapters:
                with _part(findings, f"{engine}: obol verify"):
                    findings.verified.append(await verify_database(bench, engine, filled, _tell))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short rounds: shows that the bench works")
    parser.add_argument("--store", action="append", type=Engine, choices=list(Engine), help="this engine alone")
    parser.add_argument(
        "--only", action="append", choices=(*CHAPTERS, VERIFYING), help="this chapter alone; may be given again"
    )
    parser.add_argument("--growth-rows", type=int, default=0, help="payments that the full database holds")
    parser.add_argument("--profile", action="store_true", help="sample the gateway as well (needs py-spy on the PATH)")
    parser.add_argument("--results", default=str(RESULTS), help="where the table goes")
    return parser.parse_args()


@contextmanager
def _folder() -> Iterator[Path]:
    """A directory for databases, configurations and logs; kept where the run fails, for the logs."""
    folder = Path(tempfile.mkdtemp(prefix="obol-bench-"))
    try:
        yield folder
    except BaseException:
        print(f"the servers' logs are in {folder}", file=sys.stderr)
        raise
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _part(findings: Findings, name: str) -> Iterator[None]:
    """A part of the run: what it was begun under, and how long it took."""
    _tell(name)
    load, began_s = os.getloadavg()[0], time.monotonic()
    yield
    findings.parts.append(Part(name, load, time.monotonic() - began_s))


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
