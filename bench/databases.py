"""The databases of a run: a PostgreSQL from a wheel, durable as it comes, and SQLite files beside it."""

import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil
from sqlalchemy import make_url

from bench.load import CpuUsed, Meter
from bench.processes import Server
from tests.databases import administer, postgresql_server, postgresql_url, sqlite_url

DURABLE = ("fsync", "synchronous_commit", "full_page_writes")


class Engine(StrEnum):
    """A database engine that the gateway runs on."""

    POSTGRESQL = "postgresql"
    SQLITE = "sqlite"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a URL points: a file, or a database behind a socket directory."""

    is_sqlite: bool
    database: str
    host: str = ""


def place_of(url: str) -> Place:
    """The parts of a URL that a bare driver needs."""
    parsed = make_url(url)
    host = parsed.query.get("host", "")
    return Place(parsed.drivername.startswith("sqlite"), parsed.database or "", host if isinstance(host, str) else "")


def fresh(engine: Engine, folder: Path, *, migrated: bool) -> str:
    """The URL of an empty database; `migrated` has the gateway's schema (SQLite gets it when it is opened)."""
    if engine is Engine.SQLITE:
        return sqlite_url(folder, migrated=migrated)
    return postgresql_url(migrated=migrated)


def check_durable() -> None:
    """Raise RuntimeError where the PostgreSQL could lose a commit: figures without fsync are of another trade."""
    for setting in DURABLE:
        if administer(f"SHOW {setting}") != "on":
            raise RuntimeError(f"PostgreSQL runs with {setting} off")


def postgresql_cpu_s() -> float:
    """CPU seconds of the server, all of its processes together; 0 where none was started."""
    master = psutil.Process(postgresql_server().get_postmaster_info().pid)
    used = 0.0
    for process in (master, *master.children()):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue  # its time is in the master's, which has waited for it
        used += times.user + times.system
        if process.pid == master.pid:
            used += times.children_user + times.children_system
    return used


def analyse(url: str) -> None:
    """Give PostgreSQL's planner its statistics now: autovacuum would within its first minute."""
    place = place_of(url)
    if not place.is_sqlite:
        administer("ANALYZE", place.database)


def meter_of(engine: Engine, server: Server) -> Meter:
    """Whose CPU a call of `server` costs."""
    if engine is Engine.SQLITE:
        return lambda: CpuUsed(server.cpu_s())
    return lambda: CpuUsed(server.cpu_s(), postgresql_cpu_s())


def versions() -> dict[str, str]:
    """The engines' versions."""
    return {
        "PostgreSQL": administer("SHOW server_version"),
        "SQLite": sqlite3.sqlite_version,
    }
