"""One battery over every driver, and over every fault that a driver can cause."""

from collections.abc import AsyncIterator

import pytest

from tests.conformance.discovery import ALL_DRIVERS
from tests.conformance.driver import Driver
from tests.conformance.rig import Rig


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `fault` runs once for each fault of each driver, any other once for each driver."""
    if "fault" in metafunc.fixturenames:
        pairs = [(name, fault) for name in sorted(ALL_DRIVERS) for fault in ALL_DRIVERS[name].faults]
        names = [f"{name}-{fault.name}" for name, fault in pairs]
        metafunc.parametrize(("driver", "fault"), pairs, indirect=["driver"], ids=names)
    elif "driver" in metafunc.fixturenames:
        marks = {name: (pytest.mark.live,) if driven.live else () for name, driven in ALL_DRIVERS.items()}
        drivers = [pytest.param(name, marks=marks[name]) for name in sorted(ALL_DRIVERS)]
        metafunc.parametrize("driver", drivers, indirect=True)


@pytest.fixture
async def driver(request: pytest.FixtureRequest) -> AsyncIterator[Driver]:
    """A running provider."""
    async with ALL_DRIVERS[request.param].start() as started:
        yield started


@pytest.fixture
async def rig(driver: Driver) -> AsyncIterator[Rig]:
    """An adapter before it."""
    adapter = driver.adapter()
    yield Rig(driver, adapter)
    await adapter.close()
