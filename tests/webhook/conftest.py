"""The sidecar is tested on the loop that it runs on: its transports are not asyncio's."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """uvloop, as in `webhook_http.server.run`."""
    return {"uvloop": uvloop.new_event_loop}
