"""Serving an imitation: uvicorn's protocol on a listener of our own, until a signal or for as long as a block lasts."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager

import uvicorn
from starlette.applications import Starlette
from uvicorn.server import ServerState

from simulators.wire import http_protocol

BACKLOG = 2_048
KEEP_ALIVE_SECONDS = 75
"""Longer than callers keep an idle connection, as providers do: a request on one that ends just then is a MAYBE."""
# What still hangs after this long is cut off: the books are synced before any answer, so nothing is lost.
STOP_SECONDS_MAX = 1
STOP_LOOK_SECONDS = 0.002


def until_signalled(running: Callable[[], AbstractAsyncContextManager[str]], ready: Callable[[str], None]) -> None:
    """Keep `running` open until SIGTERM or SIGINT; `ready` gets the base URL that it yields."""
    # uvicorn knows whether uvloop is there.
    with asyncio.Runner(loop_factory=uvicorn.Config("").get_loop_factory()) as runner:
        runner.run(_until_signalled(running, ready))


async def _until_signalled(
    running: Callable[[], AbstractAsyncContextManager[str]], ready: Callable[[str], None]
) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with running() as url:
        ready(url)
        await stopped.wait()


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[tuple[socket.socket, str]]:
    """A bound socket and its URL. Bound here and not by uvicorn, so that port 0 is known before the first request."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, or asyncio does not switch Nagle's delay off and each small answer waits 40 ms for an ACK.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        shown = f"[{host}]" if ":" in host else host
        yield listener, f"http://{shown}:{listener.getsockname()[1]}"


@contextlib.asynccontextmanager
async def serving(
    application: Starlette, listener: socket.socket, connections_max: int, let_go: Callable[[], None]
) -> AsyncIterator[None]:
    """uvicorn's protocol on our own listener. `let_go` ends what hangs on purpose, which would hold up the end.

    Without uvicorn's Server: it takes the process's signals and raises them again before the books are closed.
    """
    config = uvicorn.Config(
        application,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        limit_concurrency=connections_max,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
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
