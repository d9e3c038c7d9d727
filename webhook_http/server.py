"""Runs the sidecar: one process, one event loop, an address that it tells, and an orderly end."""

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import structlog
import uvicorn
import uvloop
from structlog.typing import FilteringBoundLogger

from webhook_http.app import build_app
from webhook_http.connections import bounded
from webhook_http.settings import SidecarSettings

BACKLOG_MAX = 256


def run(settings: SidecarSettings) -> None:
    """Serve on uvloop until SIGTERM or SIGINT."""
    uvloop.run(serve(settings))


async def serve(
    settings: SidecarSettings,
    *,
    ready: Callable[[str, int], None] | None = None,
    stop: asyncio.Event | None = None,
    log: FilteringBoundLogger | None = None,
    now_s: Callable[[], float] = time.time,
) -> None:
    """Serve until told to stop, then finish what is under way within `drain_s_max`.

    `ready(host, port)` is called once the address takes connections. With `stop` signals are its giver's affair;
    without it SIGTERM and SIGINT stop. Raises OSError for an address that is taken, ValueError for a provider without a
    verifier.
    """
    log = log or json_log()
    limits = settings.limits
    config = uvicorn.Config(
        build_app(settings, log=log, now_s=now_s),
        http=bounded(head_s_max=limits.head_s_max, connections_max=limits.connections_max),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG_MAX,
        timeout_keep_alive=limits.keep_alive_s,
        timeout_graceful_shutdown=limits.drain_s_max,
        h11_max_incomplete_event_size=limits.head_bytes_max,
    )
    listener = _listen(settings.listen_host, settings.listen_port)
    host, port = listener.getsockname()[:2]

    def bound() -> None:
        log.info("listening", host=host, port=port, gateway=settings.gateway_target, accounts=len(settings.accounts))
        if ready is not None:
            ready(host, port)

    server = _Server(config, bound)
    with contextlib.closing(listener), _stopping(server, stop):
        await server.serve([listener])
    log.info("stopped")


def json_log() -> FilteringBoundLogger:
    """A logger of one JSON object a line to standard error, whatever structlog is configured to elsewhere."""
    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
    )
    return logger


class _Server(uvicorn.Server):
    """uvicorn's server, which tells when it is ready and leaves signals alone."""

    def __init__(self, config: uvicorn.Config, bound: Callable[[], None]) -> None:
        super().__init__(config)
        self._bound = bound

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._bound()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own takes over the process's handlers, which are somebody else's wherever a `stop` was given.
        yield


@contextlib.contextmanager
def _stopping(server: uvicorn.Server, stop: asyncio.Event | None) -> Iterator[None]:
    """Ask the server to end at `stop`, or at a signal where there is none."""

    def end() -> None:
        server.should_exit = True

    loop = asyncio.get_running_loop()
    if stop is not None:
        waiting = loop.create_task(stop.wait())
        waiting.add_done_callback(lambda _: end())
        try:
            yield
        finally:
            waiting.cancel()
        return
    signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Not SO_REUSEPORT: a second sidecar would take half of the callbacks in silence.
    return socket.create_server((host, port), family=family, backlog=BACKLOG_MAX)
