"""The server: `serve` until a signal, or `running` inside a test."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial

from starlette.applications import Starlette

from simulators.sandbox.api import Api
from simulators.sandbox.control import Control
from simulators.sandbox.customer import CustomerPage
from simulators.sandbox.sandbox import Sandbox
from simulators.sandbox.settings import SandboxSettings
from simulators.serving import listening, serving, until_signalled


def serve(settings: SandboxSettings, ready: Callable[[str], None] | None = None) -> None:
    """Run until SIGTERM or SIGINT. `ready` gets the base URL; without it the URL is printed.

    Raises DirectoryBusy when another process has the data directory, OSError when the port is taken.
    """
    until_signalled(partial(running, settings), ready or _print_ready)


@contextlib.asynccontextmanager
async def running(settings: SandboxSettings) -> AsyncIterator[str]:
    """A sandbox in this process and loop for as long as the block lasts. Yields its base URL, without a last slash.

    Raises DirectoryBusy, OSError as `serve` does.
    """
    with listening(settings.host, settings.port) as (listener, url):
        sandbox = Sandbox(settings)
        sandbox.open(url)
        try:
            async with serving(_application(sandbox), listener, settings.bounds.connections_max, sandbox.faults.heal):
                yield url
        finally:
            await sandbox.close()


def _application(sandbox: Sandbox) -> Starlette:
    return Starlette(routes=[*Api(sandbox).routes(), *CustomerPage(sandbox).routes(), *Control(sandbox).routes()])


def _print_ready(url: str) -> None:
    sys.stdout.write(f"sandbox: listening on {url}\n")
    sys.stdout.flush()
