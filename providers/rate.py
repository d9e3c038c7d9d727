"""The rate limit of one provider account: a bucket of tokens, one for each call, refilled at the account's pace.

A caller takes its token in advance and waits for its turn, so that turns are given in the order of asking and nobody
who waits is overtaken. All state is in memory: each process has its own bucket, and `rate_per_s` is a process's share.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RateLimits:
    """At most `burst` calls at once, and `rate_per_s` a second in the long run; 0 for no limit."""

    rate_per_s: float = 0.0
    burst: int = 1


class RateExceeded(Exception):
    """No turn comes within the wait; the next one would in `retry_after_s` seconds. Nothing was taken."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"the rate limit has no turn for {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


class TokenBucket:
    """Gives turns. Not thread-safe: it lives on the event loop. `clock` is monotonic, in seconds."""

    def __init__(self, limits: RateLimits, *, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._tokens = float(limits.burst)
        self._counted_s = clock()

    @property
    def limits(self) -> RateLimits:
        """What it was told."""
        return self._limits

    def take(self, *, wait_s: float) -> float:
        """Take a turn; the seconds until it comes, at most `wait_s`. Raises RateExceeded, with nothing taken."""
        if not self._limits.rate_per_s:
            return 0.0
        self._refill()
        turn_s = max(0.0, (1.0 - self._tokens) / self._limits.rate_per_s)
        if turn_s > wait_s:
            raise RateExceeded(turn_s)
        self._tokens -= 1.0
        return turn_s

    def give_back(self) -> None:
        """A turn that was not used."""
        if self._limits.rate_per_s:
            self._refill()
            self._tokens = min(float(self._limits.burst), self._tokens + 1.0)

    def _refill(self) -> None:
        now_s = self._clock()
        refilled = self._tokens + (now_s - self._counted_s) * self._limits.rate_per_s
        self._tokens = min(float(self._limits.burst), refilled)
        self._counted_s = now_s
