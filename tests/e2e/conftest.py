"""Whole installations of real processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.demo.installation import Installation
from tests.databases import postgresql_url
from tests.processes import QUICK_RECOVERY, running


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh database of each kind; "" is SQLite in the installation's own directory."""
    return "" if request.param == "sqlite" else postgresql_url()


@pytest.fixture
def installed(database_url: str, tmp_path: Path) -> Iterator[Installation]:
    """A sandbox, a gateway and a sidecar that serve, on each database."""
    with running(tmp_path / "installed", database_url=database_url, settings=QUICK_RECOVERY) as serving:
        yield serving
