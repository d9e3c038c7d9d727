"""The server: `serve` until a signal, or `running` inside a test."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator

import uvicorn
from starlette.applications import Starlette
from uvicorn.server import ServerState

from simulators.sandbox.api import Api
from simulators.sandbox.control import Control
from simulators.sandbox.customer import CustomerPage
from simulators.sandbox.sandbox import Sandbox
from simulators.sandbox.settings import SandboxSettings
from simulators.wire import http_protocol

BACKLOG = 2_048
# What still hangs after this long is cut off: the books are synced before any answer, so nothing is lost.
STOP_SECONDS_MAX = 1
STOP_LOOK_SECONDS = 0.002


def serve(settings: SandboxSettings, ready: Callable[[str], None] | None = None) -> None:
    """Run until SIGTERM or SIGINT. `ready` gets the base URL; without it the URL is printed.

    Raises DirectoryBusy when another process has the data directory, OSError when the port is taken.
    """
    # uvicorn knows whether uvloop is there.
    with asyncio.Runner(loop_factory=uvicorn.Config("").get_loop_factory()) as runner:
        runner.run(_serve(settings, ready or _print_ready))


@contextlib.asynccontextmanager
async def running(settings: SandboxSettings) -> AsyncIterator[str]:
    """A sandbox in this process and loop for as long as the block lasts. Yields its base URL, without a last slash.

    Raises DirectoryBusy, OSError as `serve` does.
    """
    with _listening(settings) as (listener, url):
        sandbox = Sandbox(settings)
        sandbox.open(url)
        try:
            async with _serving(_application(sandbox), listener, settings.bounds.connections_max, sandbox.faults.heal):
                yield url
        finally:
            await sandbox.close()


async def _serve(settings: SandboxSettings, ready: Callable[[str], None]) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with running(settings) as url:
        ready(url)
        await stopped.wait()


def _application(sandbox: Sandbox) -> Starlette:
    return Starlette(routes=[*Api(sandbox).routes(), *CustomerPage(sandbox).routes(), *Control(sandbox).routes()])


@contextlib.contextmanager
def _listening(settings: SandboxSettings) -> Iterator[tuple[socket.socket, str]]:
    """A bound socket and its URL. Bound here and not by uvicorn, so that port 0 is known before the first request."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # Named as TCP, or asyncio does not switch Nagle's delay off and each small answer waits 40 ms for an ACK.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        yield listener, f"http://{host}:{listener.getsockname()[1]}"


@contextlib.asynccontextmanager
async def _serving(
    application: Starlette, listener: socket.socket, connections_max: int, let_go: Callable[[], None]
) -> AsyncIterator[None]:
    """uvicorn's protocol on our own listener. `let_go` ends what hangs on purpose, which would hold up the end.

    Without uvicorn's Server: it takes the process's signals and raises them again before the books are closed.
    """
    config = uvicorn.Config(
        application, ws="none", lifespan="off", access_log=False, log_config=None, limit_concurrency=connections_max
    )
    config.load()
    state, protocol = ServerState(), http_protocol()
    server = await asyncio.get_running_loop().create_server(
        lambda: protocol(config=config, server_state=state, app_state={}), sock=listener, backlog=BACKLOG
    )
    try:
        yield
    finally:
        server.close()
        let_go()
        for connection in list(state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS_MAX):
                while state.connections or state.tasks:  # noqa: ASYNC110  uvicorn tells nobody when they end
                    await asyncio.sleep(STOP_LOOK_SECONDS)
        for task in list(state.tasks):
            task.cancel()


def _print_ready(url: str) -> None:
    sys.stdout.write(f"sandbox: listening on {url}\n")
    sys.stdout.flush()
