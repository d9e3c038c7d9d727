"""Acknowledgements first: a provider that waits for its 2xx is not kept waiting by the applying of what came before.

Both share a process. Where an acknowledgement takes longer than ACKNOWLEDGED_S_TARGET, the applying of callbacks begins
at intervals, longer while that lasts; it never stops, and it begins at once again when acknowledgements are quick.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

ACKNOWLEDGED_S_TARGET = 0.02
"""From the callback's arrival in this process to its commit."""

INTERVAL_S_MIN = 0.005
INTERVAL_S_MAX = 0.05
"""So that twenty a second are begun in each process, whatever comes in."""

REMEMBERED_S = 1.0
"""A slow acknowledgement says nothing of later than that."""


class Precedence:
    """Knows how acknowledgements fare, and gives turns to what comes after them; times in seconds."""

    def __init__(
        self,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._monotonic = monotonic
        self._sleep = sleep
        self._interval_s = 0.0
        self._slow_at_s = 0.0
        self._turn = asyncio.Lock()

    def acknowledged(self, took_s: float) -> None:
        """An acknowledgement took so long."""
        if took_s > ACKNOWLEDGED_S_TARGET:
            self._interval_s = min(INTERVAL_S_MAX, max(INTERVAL_S_MIN, self._interval_s * 2))
            self._slow_at_s = self._monotonic()
        else:
            halved_s = self._interval_s / 2
            self._interval_s = halved_s if halved_s >= INTERVAL_S_MIN else 0.0

    async def turn(self) -> None:
        """Return when the next of those who wait here may begin, in the order in which they came."""
        async with self._turn:
            if self._monotonic() - self._slow_at_s > REMEMBERED_S:
                self._interval_s = 0.0
            if self._interval_s:
                await self._sleep(self._interval_s)
