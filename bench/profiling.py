"""Where the CPU of a gateway goes: samples by py-spy, summed by layer. A run of its own, which is slower by a little.

py-spy is no dependency of the house: `--profile` needs it on the PATH.
"""

import asyncio
import re
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bench import requests
from bench.databases import Engine, fresh, meter_of
from bench.effort import RATIO_CALLERS
from bench.load import run_round, sending
from bench.payments import creating, warmed
from bench.processes import Bench

SAMPLED_S = 10
SAMPLES_HZ = 500

# The first that a frame's file contains decides. Threads that only wait are no CPU.
LAYERS = (
    ("gRPC", ("grpc/",)),
    ("edge: translate, codec, interceptors", ("gateway/rpc", "google/protobuf")),
    ("use cases and engine", ("gateway/app", "gateway/domain")),
    ("metrics and logs", ("prometheus_client", "gateway/metrics", "structlog", "gateway/logs")),
    ("provider account: breaker, bulkhead", ("providers/", "pybreaker")),
    ("the bench's provider", ("bench/provider",)),
    ("SQLAlchemy", ("sqlalchemy",)),
    ("driver", ("asyncpg", "aiosqlite")),
    ("store", ("store/",)),
    ("JSON", ("json/",)),
)
REST = "Python's own: asyncio, dataclasses, contextlib"
LOOP = "event loop and gRPC core, below Python"
_IDLE = ("_poll_wrapper", "serve_forever", "_connection_worker_thread (aiosqlite/core.py:5")
_FILE = re.compile(r"\(([^():]+)(?::\d+)?\)$")


@dataclass(frozen=True, slots=True)
class Profile:
    """Shares of the samples by layer, and of the functions in which most was spent, callees included."""

    engine: str
    layers: list[tuple[str, float]]
    functions: list[tuple[str, float]]


async def profile(bench: Bench, engine: Engine) -> Profile:
    """CreatePayment at RATIO_CALLERS. Raises RuntimeError without py-spy."""
    spy = shutil.which("py-spy")
    if spy is None:
        raise RuntimeError("--profile needs py-spy on the PATH: pip install py-spy")
    url = fresh(engine, bench.folder, migrated=True)
    samples = bench.folder / f"samples-{engine}"
    with bench.gateway(f"profiled-{engine}", url) as gateway:
        async with sending(gateway.address, requests.CREATE) as send:
            await warmed(send, gateway, engine, url)
            arguments = ("record", "-r", str(SAMPLES_HZ), "-d", str(SAMPLED_S), "-f", "raw", "-t")
            spying = await asyncio.create_subprocess_exec(
                spy,
                *arguments,
                *("-o", str(samples), "--pid", str(gateway.pid)),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            meter = meter_of(engine, gateway)
            await run_round(creating(send), callers=RATIO_CALLERS, seconds=SAMPLED_S + 1.0, meter=meter)
            await spying.wait()
    return _summed(engine, samples)


def _summed(engine: Engine, samples: Path) -> Profile:
    layers: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for line in samples.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        if any(idle in stack for idle in _IDLE):
            continue
        frames = stack.split(";")
        layers[_layer(frames)] += int(count)
        for frame in {re.sub(r":\d+\)$", ")", frame) for frame in frames}:
            if _is_ours(frame):
                functions[frame] += int(count)
    total = max(1, layers.total())
    return Profile(
        engine,
        [(name, count / total) for name, count in layers.most_common()],
        [(name, count / total) for name, count in functions.most_common(40)],
    )


def _layer(frames: list[str]) -> str:
    # What the interpreter's own modules do is done for whoever called them, but for the loop's own turning.
    for frame in reversed(frames):
        found = _FILE.search(frame)
        path = found.group(1) if found else ""
        if path.endswith("asyncio/runners.py"):
            return LOOP
        for layer, parts in LAYERS:
            if any(part in path for part in parts):
                return layer
    return REST if len(frames) > 1 else LOOP


def _is_ours(frame: str) -> bool:
    return any(part in frame for part in ("(gateway/", "(store/", "(providers/", "(obol/")) and "cli.py" not in frame
