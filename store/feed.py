"""Waiting for observations: one watcher for the whole process, whatever the number of those who wait.

A number that is heard of wakes everybody who waits below it. Numbers come from the process's own commits, on PostgreSQL
from NOTIFY over a connection of its own, and at least every POLL_S from one question to the database while anyone
waits: a lost notification costs a second, never an observation.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

from gateway.domain.eras import Era, LogEnd
from gateway.domain.errors import ObolError
from store.failures import translated
from store.sequencing import CHANNEL

POLL_S = 1.0
RECONNECT_S = 1.0

_log = structlog.get_logger(__name__)


class Feed:
    """The last number that this process has heard of, and those who wait for a higher one."""

    def __init__(self, ask: Callable[[], Awaitable[int]]) -> None:
        """`ask` reads the log's last number."""
        self._ask = ask
        self._last = 0
        self._era = Era()
        self._risen = asyncio.Event()
        self._wanted = asyncio.Event()
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, *jobs: Callable[["Feed"], Awaitable[None]]) -> None:
        """Begin to watch; each of `jobs` announces what it hears, until the feed is closed."""
        for job in (Feed._poll, *jobs):
            self._tasks.add(asyncio.ensure_future(self._run(job)))

    async def _run(self, job: Callable[["Feed"], Awaitable[None]]) -> None:
        """A defect costs one pause, and not every later notification."""
        while True:
            try:
                await job(self)
            except Exception:  # noqa: BLE001 whatever it was: those who wait here have nobody else
                _log.exception("feed interrupted")
            await asyncio.sleep(RECONNECT_S)

    def announce(self, sequence: int) -> None:
        """Something up to `sequence` is committed."""
        if sequence > self._last:
            self._last = sequence
            self._risen.set()
            self._risen = asyncio.Event()

    def heard_of(self, end: LogEnd) -> None:
        """A restore under a running process takes the numbers back; what was heard of before it would wake for ever."""
        if not end.era.is_of(self._era):
            self._era, self._last = end.era, end.last_sequence

    async def wait(self, after_sequence: int, timeout_s: float) -> None:
        """Until something after `after_sequence` is there, or for `timeout_s`."""
        self._waiting += 1
        self._wanted.set()
        try:
            async with asyncio.timeout(timeout_s):
                while self._last <= after_sequence:
                    await self._risen.wait()
        except TimeoutError:
            return
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._wanted.clear()

    async def close(self) -> None:
        """Stop watching."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _poll(self) -> None:
        while True:
            await self._wanted.wait()
            with contextlib.suppress(ObolError):  # the database is away: those who wait have their own limits
                self.announce(await self._ask())
            await asyncio.sleep(POLL_S)


def listener(engine: AsyncEngine) -> Callable[[Feed], Awaitable[None]]:
    """A job that hears PostgreSQL's notifications over a connection of its own, and connects again when it is lost."""

    async def listen(feed: Feed) -> None:
        while True:
            try:
                await _listen_once(engine, feed)
            except Exception as error:
                if translated(error) is error:
                    raise
            await asyncio.sleep(RECONNECT_S)

    return listen


async def _listen_once(engine: AsyncEngine, feed: Feed) -> None:
    fairy = await engine.raw_connection()
    driver: Any = fairy.driver_connection
    # It leaves the pool for good: the pool opens another in its place.
    await greenlet_spawn(fairy.detach)
    lost = asyncio.Event()
    try:
        driver.add_termination_listener(lambda _: lost.set())
        await driver.add_listener(CHANNEL, lambda *said: feed.announce(int(said[3])))
        await lost.wait()
    finally:
        driver.terminate()
