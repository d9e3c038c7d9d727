"""One estate for all tests of this package, which leave it whole."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests import databases
from tests.e2e.replicas.estate import Estate, an_estate


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def estate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Estate]:
    """Two gateways and two sidecars behind Envoys, serving."""
    async with an_estate(tmp_path_factory.mktemp("estate"), databases.postgresql_url()) as serving:
        yield serving
