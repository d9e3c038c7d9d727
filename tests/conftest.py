"""What holds for every test."""

from collections.abc import Iterator

import pytest
import structlog

from tests import scratch
from tests.exchanges import Exchanges, listening


def pytest_configure() -> None:
    """Before anything asks for a temporary directory."""
    scratch.move_in()


@pytest.fixture(scope="session", autouse=True)
def _plain_logs() -> None:
    """Logs without decorated tracebacks: drawing one with its locals blocks the event loop for seconds."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ]
    )


@pytest.fixture(autouse=True)
def exchanges() -> Iterator[Exchanges]:
    """What imitations of Stripe and PayPal hear and say meanwhile, held to the providers' own documents at the end."""
    yield from listening()
