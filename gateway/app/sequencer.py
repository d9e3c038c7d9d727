"""Numbering what was appended, a little late: so that one run numbers what many settles have appended meanwhile."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

REST_S_MIN = 0.02
REST_S_MAX = 0.05
RESTS = 5.0
"""Times that the last run took, for which the next one is put off: a run costs four round trips and a commit, so that a
busy process numbers more at a time and less often, and an idle one at once."""


class Numbers(Protocol):
    """What the sequencer needs of the store."""

    async def number_observations(self) -> int: ...


class Sequencer:
    """Runs the store's sequencer; one for a process. `monotonic` and `sleep` in seconds."""

    def __init__(
        self,
        store: Numbers,
        appended: asyncio.Event,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`appended` is set by whoever appends observations, and cleared here before each run."""
        self._store = store
        self._appended = appended
        self._monotonic = monotonic
        self._sleep = sleep
        self._rest_s = REST_S_MIN

    async def run_once(self) -> int:
        """Rest, then number what is there; 0, since what comes meanwhile sets `appended` again."""
        await self._sleep(self._rest_s)
        self._appended.clear()
        began_s = self._monotonic()
        await self._store.number_observations()
        took_s = self._monotonic() - began_s
        self._rest_s = min(REST_S_MAX, max(REST_S_MIN, RESTS * took_s))
        return 0
