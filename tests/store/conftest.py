"""One store for each engine: every test that asks for `store` runs on both."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.domain.storage import Store
from store import Sealing, fresh_key, open_store
from tests import databases

ENGINES = ("sqlite", "postgresql")
SEALING = Sealing([fresh_key()])
ROOMY: dict[str, Any] = {
    "pool_size": 10,
    "checkout_timeout_s": 30.0,
    "connect_timeout_s": 30.0,
    "statement_timeout_s": 60.0,
}
"""Limits that a machine which stands still for seconds does not reach, for what a test is not about."""


@pytest.fixture(params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A fresh database."""
    if request.param == "sqlite":
        yield databases.sqlite_url(tmp_path)
        return
    fresh = databases.postgresql_url()
    yield fresh
    databases.drop(fresh)


@pytest.fixture
def postgresql() -> Iterator[str]:
    """A fresh PostgreSQL, for what only it has."""
    fresh = databases.postgresql_url()
    yield fresh
    databases.drop(fresh)


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """A fresh SQLite file, for what only it has."""
    return databases.sqlite_url(tmp_path)


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """An open store on a fresh database."""
    opened = await open_store(url, sealing=SEALING, **ROOMY)
    yield opened
    await opened.close()


@pytest.fixture
async def beside(url: str, store: Store) -> AsyncIterator[Store]:
    """A second store on the same database, as another replica would have it."""
    opened = await open_store(url, sealing=SEALING, **ROOMY)
    yield opened
    await opened.close()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[asyncpg.Connection]:
    """Every connection to a PostgreSQL that is opened from now on, SQLAlchemy's too."""
    connect, connections = asyncpg.connect, list[asyncpg.Connection]()

    async def listed(*args: Any, **kwargs: Any) -> asyncpg.Connection:
        connections.append(await connect(*args, **kwargs))
        return connections[-1]

    monkeypatch.setattr(asyncpg, "connect", listed)
    return connections
