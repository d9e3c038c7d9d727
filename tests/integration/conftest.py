"""One house for each database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.verification import verify
from tests.databases import postgresql_url, sqlite_url
from tests.integration.house import House, open_house


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh database of each kind."""
    return sqlite_url(tmp_path) if request.param == "sqlite" else postgresql_url()


@pytest.fixture
async def house(database_url: str, tmp_path: Path) -> AsyncIterator[House]:
    """A gateway and its sandbox; whatever the test did, the invariants hold over both when it is over."""
    async with open_house(database_url, tmp_path) as opened:
        yield opened
    report = await verify(database_url, effect_log=opened.sandbox_dir / "effects.jsonl")
    assert report.violations == []
