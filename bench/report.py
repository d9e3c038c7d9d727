"""The table: `bench/RESULTS.md` as it was measured, and the last line."""

import datetime
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from bench.acknowledging import Acknowledged
from bench.arrivals import Watched
from bench.databases import Engine, versions
from bench.effort import Effort
from bench.faults import HANG_S, NONE, SHARE, UnderFault
from bench.growth import Growth
from bench.load import Line
from bench.payments import Payments
from bench.profiling import Profile
from bench.statements import Counts
from bench.verifying import Verified
from bench.waiting import Waiting

RESULTS = Path(__file__).parent / "RESULTS.md"
PACKAGES = ("grpcio", "uvloop", "protobuf", "asyncpg", "SQLAlchemy", "aiosqlite")
BARS = {Engine.POSTGRESQL: 0.30, Engine.SQLITE: 0.25}
GROWTH_BAR = 1.5
P99_BAR = 2.0
MEMORY_BAR_MIB = 200
ACKNOWLEDGED_BAR_MS = 100


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a run: the machine's load average when it began, with what came before it, and how long it took."""

    name: str
    load_before: float
    seconds: float


@dataclass
class Findings:
    """Everything that a run measured; what it left out stays empty."""

    effort: Effort
    is_quick: bool
    payments: dict[Engine, Payments] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    counts: list[Counts] = field(default_factory=list)
    watched: list[Watched] = field(default_factory=list)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    faults: list[UnderFault] = field(default_factory=list)
    growth: list[Growth] = field(default_factory=list)
    verified: list[Verified] = field(default_factory=list)
    profiles: list[Profile] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    load_before: float = 0.0
    seconds: float = 0.0

    @property
    def growth_worst(self) -> float:
        """The worst ratio of all, 0 where none was measured."""
        return max((growth.worst for growth in self.growth), default=0.0)

    def last_line(self) -> str:
        """The line that says it all."""
        ratio = {engine: self.payments[engine].ratio if engine in self.payments else 0.0 for engine in Engine}
        return (
            f"bench: ratio postgresql={ratio[Engine.POSTGRESQL]:.2f} sqlite={ratio[Engine.SQLITE]:.2f} "
            f"growth={self.growth_worst:.2f}"
        )


def written(findings: Findings) -> str:
    """The whole document, in Markdown."""
    return "\n".join((*_head(findings), *_body(findings), *_parts(findings), f"`{findings.last_line()}`", ""))


def _body(findings: Findings) -> Iterator[str]:
    if findings.payments:
        yield from _ratios(findings)
    if findings.lines:
        yield from _section("Rates, latencies, CPU", _lines(findings.lines))
        yield "CPU in milliseconds for each call: of the server, and of PostgreSQL."
        yield ""
    if findings.counts:
        yield from _section("What one payment sends to the database", _counts(findings.counts))
    if findings.acknowledged:
        yield from _section("From a webhook to its 2xx", _acknowledged(findings.acknowledged))
        yield (
            f"The bar is a p99 below {ACKNOWLEDGED_BAR_MS} ms. A dead provider takes payments and answers no look-up: "
            "none of its callbacks comes to an end. Callers in turn send the next callback when they have their 2xx, "
            "as fast as it goes, beside the applying of all of them on the same cores; what comes at a rate is begun "
            "when it is due, and waits from then. CPU of gateway and sidecar together, the applying included."
        )
        yield ""
    if findings.watched:
        yield from _section("From a reply to the observation at a watcher", _watched(findings.watched))
        yield "Below zero: the watcher had it before the caller had the reply."
        yield ""
    if findings.waiting:
        yield from _section("Payments that wait for a slow provider", _waiting(findings.waiting))
        yield (
            f"Bars: less than {MEMORY_BAR_MIB} MiB, p99 within {P99_BAR:g}x. The burst's p99 has the claims and the "
            "settles of all of them in it, which share the CPU with the other account."
        )
        yield ""
    if findings.faults:
        yield from _section("Latency under faults", _faults(findings.faults))
        yield (
            f"CreatePayment from 16 callers against a sandbox over HTTP that breaks {SHARE:.0%} of the writes in one "
            f"way; where it keeps silent, for {HANG_S:g} s. `{NONE}` is the same without. What got no answer that can "
            "be believed is told as UNKNOWN, and recovery ends it; refused is what provably was not done."
        )
        yield ""
    for growth in findings.growth:
        yield from _growth(growth)
    if findings.verified:
        yield from _section("`obol verify` over all of it", _verified(findings.verified))
        yield "Memory is the largest that the process had resident; it reads page by page, and keeps none."
        yield ""
    for profile in findings.profiles:
        yield from _profile(profile)


def _head(findings: Findings) -> Iterator[str]:
    parts = ", ".join(f"{name} {text}" for name, text in {**versions(), **_packages()}.items())
    kind = "quick run: it shows that the bench works, not how fast the gateway is" if findings.is_quick else "full run"
    yield "# What a payment costs"
    yield ""
    yield f"Measured {datetime.datetime.now(datetime.UTC):%Y-%m-%d} ({kind}, {findings.seconds:.0f} s) by `make bench`."
    yield f"{os.cpu_count()} cores ({_processor()}), Python {platform.python_version()}, {parts}."
    yield (
        f"Load average before the run: {findings.load_before:.1f}. Callers, server and database share the cores; "
        "rounds are interleaved and what is shown is their median."
    )
    yield ""


def _parts(findings: Findings) -> Iterator[str]:
    rows = [(part.name, f"{part.load_before:.1f}", f"{part.seconds:.0f}") for part in findings.parts]
    yield from _section("What was run, in this order", _table(("part", "load average before it", "seconds"), rows))
    yield "The load is the machine's, what this run itself had done before included; what is not named was not run."
    yield ""


def _ratios(findings: Findings) -> Iterator[str]:
    rows = [
        (engine.value, f"{each.ratio:.2f}", f"{BARS[engine]:.2f}", str(each.request_bytes), str(each.response_bytes))
        for engine, each in findings.payments.items()
    ]
    yield from _section(
        "Ratio to the floor", _table(("engine", "ratio", "first bar", "request, bytes", "response, bytes"), rows)
    )
    yield (
        "The floor is a bare grpc.aio server on uvloop that echoes as many bytes and commits, by the bare driver, a "
        "claim of three writes and a settle of five. The ratio is the gateway's payments a second over the floor's, at "
        "16 callers, the median over interleaved rounds. Both databases are durable (fsync on, SQLite FULL)."
    )
    yield ""


def _lines(lines: Sequence[Line]) -> Iterator[str]:
    head = ("engine", "what", "callers", "calls/s", "p50 ms", "p99 ms", "CPU server", "CPU database")
    return _table(
        head,
        [
            (
                line.engine,
                line.subject,
                str(line.callers),
                f"{line.rate:.0f}",
                f"{line.p50_ms:.1f}",
                f"{line.p99_ms:.1f}",
                f"{line.server_ms:.2f}",
                f"{line.database_ms:.2f}" if line.database_ms else "",
            )
            for line in lines
        ],
    )


def _counts(counts: Sequence[Counts]) -> Iterator[str]:
    rows = [(each.engine, str(each.statements), str(each.round_trips), str(each.commits)) for each in counts]
    return _table(("engine", "statements", "round trips (SQLite: hops to the writer)", "commits"), rows)


def _acknowledged(acknowledged: Sequence[Acknowledged]) -> Iterator[str]:
    head = ("engine", "the provider", "arrivals", "calls/s", "p50 ms", "p99 ms", "bar", "CPU server", "CPU database")
    rows = [
        (
            each.engine,
            each.provider,
            each.arrivals,
            f"{each.rate:.0f}",
            f"{each.p50_ms:.1f}",
            f"{each.p99_ms:.1f}",
            "held" if each.p99_ms < ACKNOWLEDGED_BAR_MS else "MISSED",
            f"{each.server_ms:.2f}",
            f"{each.database_ms:.2f}" if each.database_ms else "",
        )
        for each in acknowledged
    ]
    return _table(head, rows)


def _watched(watched: Sequence[Watched]) -> Iterator[str]:
    rows = [
        (each.engine, str(each.callers), str(each.payments), f"{each.p50_ms:.1f}", f"{each.p99_ms:.1f}")
        for each in watched
    ]
    return _table(("engine", "callers", "payments", "p50 ms", "p99 ms"), rows)


def _waiting(waiting: Sequence[Waiting]) -> Iterator[str]:
    head = ("engine", "waiting", "memory, MiB", "other's p99 alone, ms", "beside, ms", "ratio", "over the burst, ms")
    rows = [
        (
            each.engine,
            str(each.calls),
            f"{each.memory_mib:.0f}",
            f"{each.alone_p99_ms:.1f}",
            f"{each.waiting_p99_ms:.1f}",
            f"{each.p99_ratio:.2f}",
            f"{each.burst_p99_ms:.1f}",
        )
        for each in waiting
    ]
    return _table(head, rows)


def _faults(faults: Sequence[UnderFault]) -> Iterator[str]:
    head = ("engine", "fault", "calls/s", "p50 ms", "p99 ms", "final", "UNKNOWN", "refused")
    rows = [
        (
            each.engine,
            each.fault,
            f"{each.rate:.0f}",
            f"{each.p50_ms:.1f}",
            f"{each.p99_ms:.1f}",
            str(each.final),
            str(each.unknown),
            str(each.refused),
        )
        for each in faults
    ]
    return _table(head, rows)


def _growth(growth: Growth) -> Iterator[str]:
    filled = growth.filled
    yield f"## {growth.engine} with {filled.payments:,} payments"
    yield ""
    yield f"{filled.mib / 1024:.1f} GiB; filled in {filled.seconds:.0f} s with clones of payments of the gateway's."
    yield ""
    rows = [(name, f"{ratio:.2f}", f"{GROWTH_BAR:.2f}") for name, ratio in growth.ratios.items()]
    yield from _table(("call", "time against an empty sibling", "bar"), rows)
    yield ""
    yield from _lines(growth.lines)
    yield ""
    head = ("act", "touched, empty", "touched, full", "plan", "finds rows by")
    yield from _table(
        head,
        [
            (
                each.act,
                f"{each.empty.touched:.0f}",
                f"{each.full.touched:.0f}" + (" GROWN" if each.grown else ""),
                "same" if each.same_plan else f"OTHER, was: {_compact(each.empty.scans)}",
                _compact(each.full.scans),
            )
            for each in growth.plans
        ],
    )
    yield ""
    yield "Touched for each act: rows read on PostgreSQL, steps of the virtual machine on SQLite."
    yield ""


def _verified(verified: Sequence[Verified]) -> Iterator[str]:
    head = ("engine", "payments", "violations", "seconds", "CPU, s", "memory, MiB")
    rows = [
        (
            each.engine,
            f"{each.payments:,}",
            str(each.violations),
            f"{each.seconds:.0f}",
            f"{each.cpu_s:.0f}",
            f"{each.memory_mib:.0f}",
        )
        for each in verified
    ]
    return _table(head, rows)


def _profile(profile: Profile) -> Iterator[str]:
    yield from _section(
        f"Where the gateway's CPU goes: CreatePayment on {profile.engine}, 16 callers",
        _table(("layer", "share"), [(name, f"{share:.0%}") for name, share in profile.layers]),
    )
    yield from _table(("function, callees included", "share"), [(n, f"{s:.1%}") for n, s in profile.functions])
    yield ""


def _compact(scans: Iterable[str]) -> str:
    return ", ".join(sorted(set(scans))) or "-"


def _section(title: str, table: Iterable[str]) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    yield from table
    yield ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _packages() -> Mapping[str, str]:
    return {name: version(name) for name in PACKAGES}


def _processor() -> str:
    cpus = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", cpus.read_text()) if cpus.exists() else None
    return found.group(1).strip() if found else platform.machine()
