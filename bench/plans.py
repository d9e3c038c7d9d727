"""Query plans and rows touched, on a database and on its empty sibling: the hot statements as the gateway sends them.

Plans are EXPLAINed under the store's own connection settings. Rows touched are counted by the engine around real calls:
on PostgreSQL rows read by scans of any kind, on SQLite steps of its virtual machine.
"""

import asyncio
import json
import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import asyncpg

from bench import requests
from bench.databases import Engine, Place, place_of
from bench.processes import FAST_ACCOUNT
from bench.statements import CALLER, Composed, Statement, composed
from gateway.domain.states import PaymentState
from store.postgresql_database import PLANNED_ONCE, connect_arguments
from store.tables import metadata
from tests.databases import administer

ACTS_COUNTED = 20
STATEMENT_S_MAX = 30.0
PAGE = 50
TOUCHED_ROOM = 1.5
"""How many times as much a full database may touch: a page's worth of movements differs from payment to payment."""

Act = Callable[[], Awaitable[object]]

_READS = "SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0) FROM pg_stat_user_tables"
_SQLITE_STEP = re.compile(r"(SEARCH|SCAN) (\S+)(?: USING (?:COVERING )?INDEX (\S+))?")


@dataclass(frozen=True, slots=True)
class Explained:
    """One act: how each of its statements finds rows, and how many rows (or steps) it touches."""

    act: str
    scans: tuple[str, ...]
    touched: float


@dataclass(frozen=True, slots=True)
class Compared:
    """An act on the empty sibling and on the full database."""

    engine: str
    act: str
    empty: Explained
    full: Explained

    @property
    def same_plan(self) -> bool:
        return self.empty.scans == self.full.scans

    @property
    def scanning(self) -> tuple[str, ...]:
        """Tables that the full database reads from end to end."""
        return tuple(scan for scan in self.full.scans if scan.startswith("SCAN"))

    @property
    def grown(self) -> bool:
        """Whether the act touches more than the room allows."""
        return self.full.touched > self.empty.touched * TOUCHED_ROOM + 1

    @property
    def is_sound(self) -> bool:
        return self.same_plan and not self.scanning and not self.grown


async def compare_plans(engine: Engine, empty: tuple[str, str], full: tuple[str, str]) -> list[Compared]:
    """Every act on both, each given as its URL and the id of one of its payments."""
    of_empty, of_full = await _explain_all(engine, *empty), await _explain_all(engine, *full)
    return [Compared(engine, act, of_empty[act], of_full[act]) for act in ACTS]


async def _explain_all(engine: Engine, url: str, payment_id: str) -> dict[str, Explained]:
    place = place_of(url)
    found = {}
    async with composed(engine, url) as gateway:
        for name, prepared in ACTS.items():
            act = prepared(gateway, payment_id)
            statements = [each for each in await gateway.seen(act) if each.verb in ("SELECT", "WITH", "UPDATE")]
            before = await _touched(gateway, place)
            for _ in range(ACTS_COUNTED):
                await act()
            touched = await _touched(gateway, place) - before
            scans = [scan for each in statements for scan in await _scans(place, each)]
            found[name] = Explained(name, tuple(sorted(scans)), touched / ACTS_COUNTED)
    return found


async def _touched(gateway: Composed, place: Place) -> int:
    """Rows, or steps, so far."""
    if place.is_sqlite:
        return gateway.ledger.steps
    await gateway.ledger.flush()
    return int(administer(_READS, place.database))


async def _scans(place: Place, statement: Statement) -> list[str]:
    if place.is_sqlite:
        with sqlite3.connect(place.database) as driver:
            rows = driver.execute(f"EXPLAIN QUERY PLAN {statement.text}").fetchall()
        return [scan for row in rows for scan in _sqlite_scan(str(row[3]))]
    said = await (_planned_once(place, statement) if statement.hot else _planned_for_it(place, statement))
    return list(_postgresql_scans(json.loads(said)[0]["Plan"]))


async def _planned_for_it(place: Place, statement: Statement) -> str:
    """The plan for the arguments that were given, as the pool of lists makes it."""
    arguments = connect_arguments(STATEMENT_S_MAX, STATEMENT_S_MAX)
    connection = await asyncpg.connect(host=place.host, database=place.database, user="postgres", **arguments)
    try:
        return str(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement.text}", *statement.arguments))
    finally:
        await connection.close()


async def _planned_once(place: Place, statement: Statement) -> str:
    """The one plan for whatever arguments, as a hot connection keeps it."""
    settings = connect_arguments(STATEMENT_S_MAX, STATEMENT_S_MAX, plans=PLANNED_ONCE)["server_settings"]
    chosen = "".join(
        f"SET {name} = {value}; " for name, value in settings.items() if name.startswith(("enable_", "jit"))
    )
    explain = f"{chosen}EXPLAIN (FORMAT JSON, GENERIC_PLAN) {statement.text}"
    return await asyncio.to_thread(administer, explain, place.database)


def _postgresql_scans(node: Mapping[str, Any]) -> Iterator[str]:
    kind = node["Node Type"]
    if kind == "Seq Scan":
        yield f"SCAN {node['Relation Name']}"
    elif "Index Name" in node:
        yield str(node["Index Name"])
    for each in node.get("Plans", ()):
        yield from _postgresql_scans(each)


def _sqlite_scan(detail: str) -> Iterator[str]:
    found = _SQLITE_STEP.match(detail)
    if found is None:
        return
    step, name, index = found.groups()
    if step == "SEARCH":
        yield index or f"{name} by its key"
    elif name in metadata.tables:
        yield f"SCAN {name}" + (f" by {index}" if index else "")


async def _observations(gateway: Composed) -> None:
    last = (await gateway.store.log_end()).last_sequence
    await gateway.store.read_observations(requests.TENANT, after_sequence=max(0, last - PAGE), limit=PAGE)


ACTS: Mapping[str, Callable[[Composed, str], Act]] = MappingProxyType(
    {
        "CreatePayment": lambda gateway, _: gateway.pay,
        "GetPayment": lambda gateway, one: lambda: gateway.queries.get_payment(CALLER, one),
        "load for a command": lambda gateway, one: lambda: gateway.store.load(requests.TENANT, one),
        "find a key": lambda gateway, _: lambda: gateway.store.find_command(requests.TENANT, "CreatePayment", "none"),
        "find by order": lambda gateway, _: lambda: gateway.store.find_payments(requests.TENANT, order_reference="o"),
        "find by provider's id": lambda gateway, _: (
            lambda: gateway.store.find_payments(requests.TENANT, account_id=FAST_ACCOUNT, provider_payment_id="in_none")
        ),
        "ListPayments": lambda gateway, _: gateway.page,
        "ListPayments of a customer": lambda gateway, _: lambda: gateway.page(customer_reference="cus_none"),
        "ListPayments of an account": lambda gateway, _: lambda: gateway.page(account_id=FAST_ACCOUNT),
        "ListPayments in a state": lambda gateway, _: lambda: gateway.page(states=(PaymentState.UNKNOWN,)),
        "ListPayments in two states": lambda gateway, _: (
            lambda: gateway.page(states=(PaymentState.UNKNOWN, PaymentState.REQUIRES_ACTION))
        ),
        "ListPayments of a time": lambda gateway, _: lambda: gateway.page(created_from_us=1, created_before_us=2),
        "a page of observations": lambda gateway, _: lambda: _observations(gateway),
        "recovery looks": lambda gateway, _: lambda: gateway.store.take_due(limit=32, lease_s=60.0),
        "inbox looks": lambda gateway, _: lambda: gateway.store.take_callbacks(limit=32, lease_s=60.0),
        "sequencer looks": lambda gateway, _: gateway.store.number_observations,
        "gauges look": lambda gateway, _: gateway.store.unresolved,
        "expiry of actions looks": lambda gateway, _: lambda: gateway.store.take_abandoned(limit=32, retry_s=300.0),
        "expiry of keys looks": lambda gateway, _: (
            lambda: gateway.store.expire_keys(older_than_s=7 * 24 * 3600.0, limit=1_000)
        ),
    }
)
"""What is done all day, by its name: by callers, by watchers, and by the loops beside them."""
