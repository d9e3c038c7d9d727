"""A sandbox for each test: in this process, on a free port, by the test's clock; nothing happens by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from simulators.sandbox.server import running
from simulators.sandbox.settings import SandboxSettings, Terms
from simulators.webhooks import DeliveryLimits
from tests.unit.simulators.rig import Caller, Clock, Opened, Receiver, receiving

BY_CONTROL = Terms(processing_seconds=None, refund_seconds=None, dispute_seconds=None, fee_basis_points=0)


@pytest.fixture
def clock() -> Clock:
    """The time of the sandbox."""
    return Clock()


@pytest.fixture
def opened(tmp_path: Path, clock: Clock) -> Opened:
    """Opens a sandbox in the test's directory, with settings of the test's choice."""

    @asynccontextmanager
    async def open_one(api_key: str = "sandbox-key-main", **settings: Any) -> AsyncIterator[Caller]:
        chosen = {
            "port": 0,
            "terms": BY_CONTROL,
            "clock": clock,
            "hang_seconds": 60.0,
            "drip_seconds": 0.05,
            "huge_bytes": 1_000_000,
            "delivery": DeliveryLimits(backoff_seconds=0.01, backoff_seconds_max=0.05),
            **settings,
        }
        async with running(SandboxSettings(tmp_path, **chosen)) as url, aiohttp.ClientSession() as session:
            yield Caller(session, url, api_key)

    return open_one


@pytest.fixture
async def caller(opened: Opened) -> AsyncIterator[Caller]:
    """A caller of a sandbox as it comes."""
    async with opened() as calling:
        yield calling


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver of webhooks."""
    async with receiving() as taking:
        yield taking
