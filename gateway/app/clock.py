"""The ports to time and chance, and their real sides."""

import asyncio
import random
import time
from typing import Protocol

import uuid_utils


class Clock(Protocol):
    """Wall time for what people read; durations come from the event loop, leases from the database."""

    def now_us(self) -> int:
        """Unix microseconds."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_us(self) -> int:
        return time.time_ns() // 1_000


class SendWindow:
    """The time in which a send may start, by a clock that goes on while the machine sleeps.

    The event loop's clock stands still in a suspend; leases and the provider's books do not. What the machine slept is
    taken off the window.
    """

    def __init__(self, window_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends = self._loop.time() + window_s
        self._apart = _clock_through_sleep() - self._loop.time()

    def send_before(self) -> float:
        """The end of the window on the event loop's clock."""
        slept_s = _clock_through_sleep() - self._loop.time() - self._apart
        return self._ends - max(0.0, slept_s)


def _clock_through_sleep() -> float:
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def new_id(prefix: str) -> str:
    """`prefix` and a UUIDv7 in hex: unique, and ordered by time within a millisecond."""
    return f"{prefix}_{uuid_utils.uuid7().hex}"


def jitter(seconds: float) -> float:
    """`seconds` less up to a quarter, so that many waiters do not come at once."""
    return seconds * (1.0 - 0.25 * random.random())  # noqa: S311 spreads load, guards nothing
