"""Trying again what provably was not sent: few attempts, full jitter, and never past the last moment to send.

Nothing else is retried here. What may have been sent is the engine's: it looks before it sends again.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryLimits:
    """`attempts_max` sends in all; before the n-th retry a random wait below `delay_s` x 2^(n-1) and `delay_s_max`."""

    attempts_max: int = 3
    delay_s: float = 0.05
    delay_s_max: float = 1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Time and chance as a port: `now` in seconds on the clock of `send_before`, `sleep`, and `uniform(low, high)`."""

    now: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    uniform: Callable[[float, float], float]


def loop_pace() -> Pace:
    """The running event loop's clock and sleep, with the system's randomness."""
    return Pace(asyncio.get_running_loop().time, asyncio.sleep, random.SystemRandom().uniform)


async def retried(
    send: Callable[[], Awaitable[T]],
    *,
    again: Callable[[T], bool],
    limits: RetryLimits,
    send_before: float,
    pace: Pace,
) -> T:
    """The first result that `again` does not ask for again, else the last one. `send` gives results, not exceptions."""
    attempt = 1
    while True:
        result = await send()
        if attempt >= limits.attempts_max or not again(result):
            return result
        delay_s = pace.uniform(0.0, min(limits.delay_s_max, limits.delay_s * 2.0 ** (attempt - 1)))
        if pace.now() + delay_s >= send_before:
            return result
        await pace.sleep(delay_s)
        attempt += 1
