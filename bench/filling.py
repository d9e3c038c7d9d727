# Statements are spelled from the catalog and from constants of ours.
# ruff: noqa: S608
"""Bare connections to the databases that are filled: quick, and durable only once they are done."""

import asyncio
import json
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench import requests
from bench.cloning import POSTGRESQL, SQLITE, Row, Spelling, clone, templates_of
from bench.databases import Engine, Place, check_durable, place_of
from bench.load import sending
from bench.processes import FAST_ACCOUNT, Bench
from tests.databases import administer

CACHE_KIB = 256 * 1024
MAINTENANCE = "256MB"
FILL_S_MAX = 3_600.0
"""A machine that has not filled a database by then would not measure it well either."""

SAMPLE_MAX = 2_000
TELL_EVERY_S = 10.0

# Only while a database is filled that nobody trusts yet; `check_durable` looks afterwards.
_HASTY = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "4GB", "checkpoint_timeout": "1h"}

# Constraints (keys before those that refer to them), then the indexes that no constraint made.
_GUARDS = """
SELECT CASE contype WHEN 'f' THEN 2 ELSE 0 END AS place,
  format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) AS take_away,
  format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) AS put_back
FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype IN ('p', 'u', 'f')
UNION ALL
SELECT 1, format('DROP INDEX %s', indexrelid::regclass), pg_get_indexdef(indexrelid)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = 'public'::regnamespace
  AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid)
"""

Tell = Callable[[str], None]


class PostgresqlFilling:
    """Through psql, as the superuser. What guards and finds rows is taken away first, and put back as it was."""

    spelling: Spelling = POSTGRESQL

    def __init__(self, place: Place) -> None:
        self._database = place.database
        for name, value in _HASTY.items():
            administer(f"ALTER SYSTEM SET {name} = '{value}'")
        administer("SELECT pg_reload_conf()")
        self._kept = [
            str(row["put_back"]) for row in self.rows(f"SELECT put_back FROM ({_GUARDS}) AS guards ORDER BY place")
        ]
        for row in self.rows(f"SELECT take_away FROM ({_GUARDS}) AS guards ORDER BY place DESC"):
            self.run(str(row["take_away"]))

    def rows(self, statement: str) -> Sequence[Row]:
        said = administer(f"SELECT row_to_json(r) FROM ({statement}) AS r", self._database)
        return [json.loads(line) for line in said.splitlines()]

    def run(self, statement: str) -> None:
        hasty = f"SET session_replication_role = replica; SET maintenance_work_mem = '{MAINTENANCE}'"
        administer(f"{hasty}; {statement}", self._database)

    def done(self) -> None:
        """As a database that grew by itself would be: guarded, vacuumed, analysed, and on disk."""
        for statement in self._kept:
            self.run(statement)
        administer("VACUUM (ANALYZE)", self._database)
        for name in _HASTY:
            administer(f"ALTER SYSTEM RESET {name}")
        administer("SELECT pg_reload_conf()")
        administer("CHECKPOINT", self._database)
        check_durable()


class SqliteFilling:
    """sqlite3 without a journal; WAL again when it is done."""

    spelling: Spelling = SQLITE

    def __init__(self, place: Place) -> None:
        self._driver = sqlite3.connect(place.database, isolation_level=None, check_same_thread=False)
        self._driver.row_factory = sqlite3.Row
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "temp_store = FILE", f"cache_size = -{CACHE_KIB}"):
            self._driver.execute(f"PRAGMA {pragma}")
        indexes = self.rows("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        self._kept = [str(row["sql"]) for row in indexes]
        for row in indexes:
            self._driver.execute(f"DROP INDEX {row['name']}")

    def rows(self, statement: str) -> Sequence[Row]:
        return [dict(row) for row in self._driver.execute(statement)]

    def run(self, statement: str) -> None:
        self._driver.execute(statement)

    def done(self) -> None:
        """Indexed, on disk, and in WAL mode as the gateway left it."""
        for statement in self._kept:
            self._driver.execute(statement)
        self._driver.execute("PRAGMA synchronous = FULL")
        self._driver.execute("PRAGMA journal_mode = WAL")
        self._driver.close()


@dataclass(frozen=True, slots=True)
class Filled:
    """What was made, and how long it took."""

    payments: int
    seconds: float
    mib: float


async def fill(bench: Bench, engine: Engine, url: str, count: int, tell: Tell) -> Filled:
    """Bring the migrated database at `url` to `count` payments, with all that belongs to a payment."""
    began_s = time.monotonic()
    payment_ids = await _make_templates(bench, engine, url)
    place = place_of(url)

    def work() -> None:
        filling = SqliteFilling(place) if engine is Engine.SQLITE else PostgresqlFilling(place)
        told_s = began_s
        for line in clone(filling, templates_of(filling, payment_ids), count):
            if time.monotonic() - began_s > FILL_S_MAX:
                raise RuntimeError(f"{engine}: not filled within {FILL_S_MAX:.0f} s; it came to {line}")
            if time.monotonic() - told_s > TELL_EVERY_S:
                told_s = time.monotonic()
                tell(f"{engine}: {line}, {told_s - began_s:.0f} s")
        filling.done()
        os.sync()  # what was written in haste is still in the machine's memory, and would be written under the rounds
        tell(f"{engine}: filled in {time.monotonic() - began_s:.0f} s")

    await asyncio.to_thread(work)
    return Filled(count, time.monotonic() - began_s, _mib(engine, place))


def sample_ids(engine: Engine, url: str) -> list[str]:
    """Ids of the measured tenant's payments from all over the database."""
    query = (
        f"SELECT payment_id FROM payments WHERE tenant_id = '{requests.TENANT}' ORDER BY random() LIMIT {SAMPLE_MAX}"
    )
    place = place_of(url)
    if engine is Engine.POSTGRESQL:
        return administer(query, place.database).splitlines()
    with sqlite3.connect(place.database) as driver:
        return [str(row[0]) for row in driver.execute(query)]


async def _make_templates(bench: Bench, engine: Engine, url: str) -> list[str]:
    """One payment of each kind, made by the gateway: captured, refunded, captured in part, and held."""
    with bench.gateway(f"templates-{engine}", url) as gateway:
        async with (
            sending(gateway.address, requests.CREATE) as create,
            sending(gateway.address, requests.CAPTURE) as capture,
            sending(gateway.address, requests.REFUND) as refund,
        ):

            async def made(*, hold: bool) -> str:
                reply = await create(requests.create(FAST_ACCOUNT, hold=hold))
                return requests.created_payment(reply).payment_id

            captured, refunded = await made(hold=False), await made(hold=False)
            await refund(requests.refund(refunded, 1_000))
            partly, held = await made(hold=True), await made(hold=True)
            await capture(requests.capture(partly, 3_000, final=True))
            if engine is Engine.POSTGRESQL:
                # The sequencer numbers what was settled; a clone has its place in the log too.
                await asyncio.sleep(2.0)
    return [captured, refunded, partly, held]


def _mib(engine: Engine, place: Place) -> float:
    if engine is Engine.SQLITE:
        with sqlite3.connect(place.database) as driver:
            pages, size = (driver.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        return float(pages * size / 1024 / 1024)
    return float(administer("SELECT pg_database_size(current_database())", place.database)) / 1024 / 1024
