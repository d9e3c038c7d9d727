"""The ports to time and chance, and their real sides."""

import random
import time
from typing import Protocol

import uuid_utils.compat


class Clock(Protocol):
    """Wall time for what people read; durations come from the event loop, leases from the database."""

    def now_us(self) -> int:
        """Unix microseconds."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_us(self) -> int:
        return time.time_ns() // 1_000


def new_id(prefix: str) -> str:
    """`prefix` and a UUIDv7 in hex: unique, and ordered by time within a millisecond."""
    return f"{prefix}_{uuid_utils.compat.uuid7().hex}"


def jitter(seconds: float) -> float:
    """`seconds` less up to a quarter, so that many waiters do not come at once."""
    return seconds * (1.0 - 0.25 * random.random())  # noqa: S311 spreads load, guards nothing
