"""Places for work in the background: so many at a time, and never more than its share for one provider account.

A provider that hangs fills its own share with work that waits. Without shares a batch of its items would hold up what
other accounts need, and the next batch again.
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any


class Places:
    """Work under way in one process, counted by account."""

    def __init__(self, places_max: int) -> None:
        self._places_max = places_max
        self._share_max = max(1, places_max // 2)
        self._running: set[asyncio.Task[Any]] = set()
        self._by_account: Counter[str] = Counter()

    @property
    def full_accounts(self) -> tuple[str, ...]:
        """Accounts that have their share; nothing of theirs should be taken now."""
        return tuple(sorted(account for account, count in self._by_account.items() if count >= self._share_max))

    @property
    def room(self) -> int:
        """How much may be taken at once, whosever it is: no account can come over its share by it."""
        busiest = max((n for n in self._by_account.values() if n < self._share_max), default=0)
        return min(self._places_max - len(self._running), self._share_max - busiest)

    def start(self, account_id: str, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Give `work` a place. It handles its own errors."""
        task = asyncio.create_task(work, name=f"background of {account_id}")
        self._running.add(task)
        self._by_account[account_id] += 1
        task.add_done_callback(lambda done: self._left(account_id, done))
        return task

    async def some(self) -> None:
        """Return when a place is free: at once where one is."""
        if len(self._running) >= self._places_max:
            await asyncio.wait(tuple(self._running), return_when=asyncio.FIRST_COMPLETED)

    async def freed(self, timeout_s: float) -> bool:
        """Whether an account had its share; then wait until anything ends, or for `timeout_s`."""
        if not self.full_accounts:
            return False
        await asyncio.wait(tuple(self._running), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return True

    async def rest(self, timeout_s: float) -> None:
        """Return when nothing runs any more; what still does after `timeout_s` is cancelled, and its lease ends."""
        if self._running:
            _, running = await asyncio.wait(tuple(self._running), timeout=timeout_s)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _left(self, account_id: str, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._by_account[account_id] -= 1
        if not self._by_account[account_id]:
            del self._by_account[account_id]
