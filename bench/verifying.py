"""`obol verify` over a full database: how long it takes, and that its memory does not follow the number of payments."""

import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass

import psutil

from bench.databases import Engine
from bench.filling import Filled, Tell
from bench.processes import MIB, Bench

POLL_S = 0.1
TELL_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class Verified:
    """One run over `payments`: the process's largest resident memory, and how many violations it named."""

    engine: str
    payments: int
    violations: int
    seconds: float
    cpu_s: float
    memory_mib: float


async def verify_database(bench: Bench, engine: Engine, urls: tuple[str, Filled], tell: Tell) -> Verified:
    """Run `obol verify` on the full database at `urls`. Raises RuntimeError where it ends without its report."""
    url, filled = urls
    config = bench.folder / f"verify-{engine}.toml"
    config.write_text(f'[database]\nurl = "{url}"\n')
    report = bench.folder / f"verify-{engine}.json"
    began_s = told_s = time.monotonic()
    arguments = ("-m", "gateway.cli", "verify", "--config", str(config), "--json")
    with report.open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdout=said, env={**os.environ, **bench.environment}
        )
    seen, largest, cpu_s = psutil.Process(process.pid), 0.0, 0.0
    ending = asyncio.create_task(process.wait())
    while not ending.done():
        try:
            largest = max(largest, float(seen.memory_info().rss) / MIB)
            times = seen.cpu_times()
            cpu_s = max(cpu_s, float(times.user + times.system))
        except psutil.Error:
            break  # it has ended between two looks
        if time.monotonic() - told_s > TELL_EVERY_S:
            told_s = time.monotonic()
            tell(f"{engine}: verifying for {told_s - began_s:.0f} s, {largest:.0f} MiB at most")
        await asyncio.wait([ending], timeout=POLL_S)
    await ending
    seconds = time.monotonic() - began_s
    try:
        found = json.loads(report.read_text())
    except ValueError as error:
        raise RuntimeError(f"obol verify ended with {process.returncode} and no report") from error
    if found["payments"] < filled.payments:
        raise RuntimeError(f"obol verify saw {found['payments']} of {filled.payments} payments")
    return Verified(engine, found["payments"], found["violation_count"], seconds, cpu_s, largest)
