"""The bulkhead of one provider account: so many calls at a time, so many waiting, nobody waiting for ever.

A slow account fills its own bulkhead and nothing else. Places are handed over in the order of arrival.
"""

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BulkheadLimits:
    """Calls under way at a time, and callers that may wait for a place."""

    calls_max: int = 64
    waiting_max: int = 256


class BulkheadFull(Exception):
    """No place: the queue is full, or the wait is over. Nothing is held."""


class Place:
    """One place in the bulkhead; `leave` gives it back, and doing so twice is harmless."""

    def __init__(self, bulkhead: "Bulkhead") -> None:
        self._bulkhead: Bulkhead | None = bulkhead

    def leave(self) -> None:
        """Give the place to the first who waits, else back."""
        bulkhead, self._bulkhead = self._bulkhead, None
        if bulkhead is not None:
            bulkhead._pass_on()


class Bulkhead:
    """Limits concurrent calls. Lives on one event loop; waits are measured by its clock."""

    def __init__(self, limits: BulkheadLimits) -> None:
        self._limits = limits
        self._taken = 0
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def taken(self) -> int:
        """Places that are held now."""
        return self._taken

    @property
    def waiting(self) -> int:
        """Callers that wait now."""
        return len(self._queue)

    async def enter(self, *, wait_s: float) -> Place:
        """A place, at once or within `wait_s` seconds. Raises BulkheadFull."""
        # A free place implies an empty queue, because a place that is left goes to the first who waits.
        if self._taken < self._limits.calls_max:
            self._taken += 1
            return Place(self)
        if wait_s <= 0 or len(self._queue) >= self._limits.waiting_max:
            raise BulkheadFull("no place is free" if wait_s <= 0 else "too many callers wait already")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            async with asyncio.timeout(wait_s):
                await turn
        except TimeoutError:
            # The place may have been handed over in the moment in which the wait ended: then it is ours.
            if not _handed_over(turn):
                self._withdraw(turn)
                raise BulkheadFull(f"no place within {wait_s:.3f} s") from None
        except BaseException:
            if _handed_over(turn):
                self._pass_on()
            else:
                self._withdraw(turn)
            raise
        return Place(self)

    def _withdraw(self, turn: asyncio.Future[None]) -> None:
        # `_pass_on` drops a cancelled turn that it meets; then it is gone already.
        with suppress(ValueError):
            self._queue.remove(turn)

    def _pass_on(self) -> None:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._taken -= 1


def _handed_over(turn: asyncio.Future[None]) -> bool:
    return turn.done() and not turn.cancelled()
