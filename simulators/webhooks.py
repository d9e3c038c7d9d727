"""Webhook delivery: events posted, retried with backoff, and duplicated, delayed or reordered on demand.

Delivery never holds up the API: an event is queued and the request goes on. The queue, the attempts and the
connections are bounded; what falls out is counted and stays in the provider's event list, where a receiver
finds what it missed.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp


@dataclass(frozen=True)
class DeliveryLimits:
    """Bounds. A retry waits `backoff_seconds` x 2^n, at most `backoff_seconds_max`, less up to half of it."""

    attempts_max: int = 10
    pending_max: int = 50_000
    concurrency_max: int = 16
    timeout_seconds: float = 10.0
    backoff_seconds: float = 0.2
    backoff_seconds_max: float = 30.0
    reorder_window_ms: int = 300


@dataclass(frozen=True)
class DeliveryMode:
    """How events are delivered: not at all ("off"), more than once, late, or out of order."""

    mode: Literal["normal", "off"] = "normal"
    duplicates: int = 0
    reorder: bool = False
    delay_ms: int = 0


@dataclass(frozen=True)
class Delivery:
    """One event on its way. `body` renders it; `sign` gives the headers for a body, anew at each attempt."""

    url: str
    body: Callable[[], bytes]
    sign: Callable[[bytes], Mapping[str, str]]


class Courier:
    """Delivers in the background. `start()` in a running loop, `close()` drops what is left."""

    def __init__(self, limits: DeliveryLimits, seed: int) -> None:
        self._limits = limits
        self._random = random.Random(seed)
        self._mode = DeliveryMode()
        self._ready: asyncio.Queue[tuple[Delivery, int]] = asyncio.Queue()
        self._workers: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None
        self._pending = 0
        self.counts: Counter[str] = Counter()

    def start(self) -> None:
        """Open the session and the workers."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._limits.timeout_seconds))
        self._workers = [
            asyncio.create_task(self._work(self._session), name=f"courier-{number}")
            for number in range(self._limits.concurrency_max)
        ]

    async def close(self) -> None:
        """Stop. Undelivered events stay in the event list."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def set_mode(self, mode: DeliveryMode, seed: int) -> None:
        """Deliver like this from now on. The seed decides delays and jitter."""
        self._mode = mode
        self._random = random.Random(seed)

    def offer(self, delivery: Delivery) -> None:
        """Queue an event; counts it as dropped when too many are pending, as suppressed when delivery is off."""
        if self._mode.mode == "off":
            self.counts["suppressed"] += 1
            return
        for _ in range(1 + self._mode.duplicates):
            if self._pending >= self._limits.pending_max:
                self.counts["dropped"] += 1
                continue
            self._pending += 1
            window_ms = self._limits.reorder_window_ms if self._mode.reorder else 0
            self._queue((delivery, 1), (self._mode.delay_ms + self._random.random() * window_ms) / 1000)

    def shown(self) -> dict[str, Any]:
        """The mode and the counts, as JSON."""
        return {**vars(self._mode), "pending": self._pending, "counts": dict(self.counts)}

    def _queue(self, entry: tuple[Delivery, int], seconds: float) -> None:
        if seconds <= 0:
            self._ready.put_nowait(entry)
        else:
            asyncio.get_running_loop().call_later(seconds, self._ready.put_nowait, entry)

    async def _work(self, session: aiohttp.ClientSession) -> None:
        while True:
            delivery, attempt = await self._ready.get()
            if await self._deliver(session, delivery):
                self.counts["delivered"] += 1
                self._pending -= 1
            elif attempt >= self._limits.attempts_max:
                self.counts["given_up"] += 1
                self._pending -= 1
            else:
                self.counts["retried"] += 1
                self._queue((delivery, attempt + 1), self._backoff_seconds(attempt))

    async def _deliver(self, session: aiohttp.ClientSession, delivery: Delivery) -> bool:
        body = delivery.body()
        try:
            async with session.post(
                delivery.url, data=body, headers=dict(delivery.sign(body)), allow_redirects=False
            ) as answer:
                return 200 <= answer.status < 300
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    def _backoff_seconds(self, attempt: int) -> float:
        # Attempts are few, but an exponent is bounded all the same.
        longest = min(self._limits.backoff_seconds * 2.0 ** min(attempt - 1, 30), self._limits.backoff_seconds_max)
        return longest * (0.5 + self._random.random() / 2)
