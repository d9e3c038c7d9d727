"""How long one call may still wait on its caller's behalf, and what for."""

import asyncio

from gateway.app.settings import EngineSettings
from gateway.domain.errors import ObolError
from gateway.domain.providers import AdmissionRefused

WAITS_MAX = 3


class Patience:
    """The rest of a caller's deadline; `replay_wait_s` for a caller without one."""

    def __init__(self, deadline_s: float | None, settings: EngineSettings) -> None:
        self._loop = asyncio.get_running_loop()
        self._bound_s = deadline_s
        self._began_s = self._loop.time()
        self._unbound_s = settings.replay_wait_s
        self._needed_s = settings.deadline_s_min
        self._waits_left = WAITS_MAX

    def left_s(self) -> float | None:
        """The seconds until the caller's deadline; None where it has none."""
        return None if self._bound_s is None else self._bound_s - self._spent_s()

    def ends_in_s(self) -> float:
        """The seconds in which an answer must be on its way, so that the caller still listens."""
        whole_s = self._unbound_s if self._bound_s is None else self._bound_s
        return max(0.0, whole_s - self._spent_s() - self._needed_s)

    def has_time(self) -> bool:
        """Whether a provider could still be asked."""
        return self._has(0.0)

    async def waits_out(self, refusal: ObolError) -> bool:
        """Wait where a rate limit refused and its turn comes in time; whether it did."""
        cause = refusal.__cause__
        limited = isinstance(cause, AdmissionRefused) and cause.limited
        return limited and await self.waits(refusal.retry_after_s)

    async def waits(self, seconds: float | None) -> bool:
        """Wait for as long as a provider asked, where that leaves time for its answer; whether it did."""
        if seconds is None or self._waits_left == 0 or not self._has(seconds):
            return False
        self._waits_left -= 1
        await asyncio.sleep(seconds)
        return True

    def _has(self, seconds: float) -> bool:
        whole_s = self._unbound_s if self._bound_s is None else self._bound_s
        return self._spent_s() + seconds + self._needed_s <= whole_s

    def _spent_s(self) -> float:
        return self._loop.time() - self._began_s
