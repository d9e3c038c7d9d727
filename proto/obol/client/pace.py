"""Waiting before trying again: full jitter, what the server asked for, and never past a budget."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Backoff:
    """Before the n-th repeat what the server asked for, then a random wait below `delay_s` x 2^(n-1) and the cap."""

    delay_s: float = 0.2
    delay_s_max: float = 10.0

    def wait_s(
        self, repeat: int, uniform: Callable[[float, float], float], retry_after_s: float | None = None
    ) -> float:
        """Seconds to wait before repeat number `repeat` (1 is the first)."""
        # 2^30 is beyond any cap; an unbounded power would overflow in an outage of weeks.
        ceiling_s = min(self.delay_s_max, self.delay_s * 2.0 ** min(repeat - 1, 30))
        return (retry_after_s or 0.0) + uniform(0.0, ceiling_s)


@dataclass(frozen=True, slots=True)
class Pace:
    """Time and chance as a port: `now` in monotonic seconds, a blocking `sleep`, and `uniform(low, high)`."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    uniform: Callable[[float, float], float] = field(default_factory=lambda: random.SystemRandom().uniform)


@dataclass(frozen=True, slots=True)
class AioPace:
    """The same for asyncio."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    uniform: Callable[[float, float], float] = field(default_factory=lambda: random.SystemRandom().uniform)
