"""What holds for every test."""

import pytest
import structlog

from tests import scratch


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
