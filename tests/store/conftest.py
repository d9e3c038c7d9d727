"""One store for each engine: every test that asks for `store` runs on both."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.domain.storage import Store
from store import Sealing, fresh_key, open_store
from tests import databases

ENGINES = ("sqlite", "postgresql")
SEALING = Sealing([fresh_key()])


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
    opened = await open_store(url, sealing=SEALING)
    yield opened
    await opened.close()


@pytest.fixture
async def beside(url: str, store: Store) -> AsyncIterator[Store]:
    """A second store on the same database, as another replica would have it."""
    opened = await open_store(url, sealing=SEALING)
    yield opened
    await opened.close()
