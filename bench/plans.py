"""Query plans and rows touched, on a database and on its empty sibling: the hot statements as the gateway sends them.

Plans are EXPLAINed under the store's own connection settings. Rows touched are counted by the engine around real calls:
on PostgreSQL rows read by scans of any kind, on SQLite steps of its virtual machine.
"""

import json
import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from bench import requests
from bench.databases import Engine, Place, place_of
from bench.statements import CALLER, Composed, Statement, composed
from gateway.domain.states import PaymentState
from store.postgresql_database import connect_arguments
from tests.databases import administer

ACTS_COUNTED = 20
TOUCHED_ROOM = 1.5
"""How many times as much a full database may touch: a page's worth of movements differs from payment to payment."""

Act = Callable[[], Awaitable[object]]

_READS = "SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0) FROM pg_stat_user_tables"
_SQLITE_STEP = re.compile(r"^(?:SEARCH|SCAN) (?!\d)(\S+)(?: (?:AS \S+ )?USING (?:COVERING )?INDEX (\S+))?")


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


async def compare_plans(engine: Engine, empty_url: str, full_url: str, full_id: str) -> list[Compared]:
    """Every act on both; `full_id` is a payment from the middle of the full database."""
    empty, full = await _explain_all(engine, empty_url, None), await _explain_all(engine, full_url, full_id)
    return [Compared(engine, name, empty[name], full[name]) for name in full]


async def _explain_all(engine: Engine, url: str, payment_id: str | None) -> dict[str, Explained]:
    found = {}
    names = list(_acts_of_nobody())
    for name in names:
        async with composed(engine, url) as gateway:
            act = dict(_acts(gateway, payment_id or await gateway.pay()))[name]
            await act()
            statements = [each for each in await gateway.seen(act) if each.verb in ("SELECT", "WITH", "UPDATE")]
            before = _steps(gateway)
            for _ in range(ACTS_COUNTED):
                await act()
            steps = _steps(gateway) - before
        scans = [scan for each in statements for scan in await _scans(engine, place_of(url), each)]
        touched = steps if engine is Engine.SQLITE else await _rows_read(engine, url, name, payment_id)
        found[name] = Explained(name, tuple(scans), touched / ACTS_COUNTED)
    return found
