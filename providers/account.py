"""One configured account: its adapter behind its breaker, its rate limit and its bulkhead, as the engine sees it."""

import asyncio
from collections.abc import Awaitable, Callable

from gateway.domain.providers import (
    Absent,
    AccountHealth,
    AccountLoad,
    AdmissionRefused,
    Ambiguous,
    Answered,
    Declined,
    Found,
    Lookup,
    NotExecuted,
    NotSent,
    Outcome,
    ProviderAdapter,
    Unreadable,
)
from providers.breaker import AccountBreaker, BreakerOpen, Permit
from providers.bulkhead import Bulkhead, BulkheadFull, Place
from providers.rate import RateExceeded, RateLimits, TokenBucket
from providers.refusals import LATE, Refusal, refusal_of

SATURATED_RETRY_S = 1.0
"""What a caller is told to wait, in seconds, when the bulkhead is full."""

CLOCK_GRAIN_S = 0.01
"""A wait may end this much early by another clock than the one that it was measured with."""


def verdict(outcome: Outcome | Lookup) -> bool | None:
    """Whether the account is healthy by this outcome; None where the outcome says nothing about it."""
    match outcome:
        case Answered() | Declined() | Found() | Absent():
            return True
        case NotExecuted():
            # Told to slow down is an answer of a healthy provider; a refused credential fails every call until
            # somebody mends it.
            return None if refusal_of(outcome) is Refusal.RATE_LIMITED else False
        case NotSent(failure=failure) if failure.startswith(LATE):
            return None
        case Ambiguous() | NotSent() | Unreadable():
            return False


class ProviderAccount:
    """Implements `gateway.domain.providers.Account`. `clock` is monotonic, in seconds; `sleep` waits by it.

    After a 429 that says how long to wait, nothing is admitted for that long, at most `rate_limited_s_max`: callers
    wait it out where their `wait_s` allows.
    """

    def __init__(
        self,
        provider: str,
        adapter: ProviderAdapter,
        breaker: AccountBreaker,
        bulkhead: Bulkhead,
        *,
        clock: Callable[[], float],
        rate_limited_s_max: float,
        rate: RateLimits | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._provider = provider
        self._adapter = adapter
        self._breaker = breaker
        self._bulkhead = bulkhead
        self._clock = clock
        self._rate_limited_s_max = rate_limited_s_max
        self._limited_until_s = float("-inf")
        self._bucket = TokenBucket(rate or RateLimits(), clock=clock)
        self._sleep = sleep

    @property
    def account_id(self) -> str:
        return self._adapter.account_id

    @property
    def provider(self) -> str:
        return self._provider

    @property
    def adapter(self) -> ProviderAdapter:
        return self._adapter

    @property
    def health(self) -> AccountHealth:
        return self._breaker.health

    @property
    def taken(self) -> int:
        """Places of the bulkhead that are held now, for metrics."""
        return self._bulkhead.taken

    @property
    def waiting(self) -> int:
        """Callers that wait for a place now, for metrics."""
        return self._bulkhead.waiting

    @property
    def load(self) -> AccountLoad:
        """What it has to do, and the rate limit in effect."""
        rate = self._bucket.limits
        return AccountLoad(self.taken, self.waiting, rate.rate_per_s, rate.burst if rate.rate_per_s else 0)

    async def admit(self, *, wait_s: float) -> "AccountAdmission":
        """Leave for one call, within `wait_s` seconds. Raises AdmissionRefused."""
        give_up_s = self._clock() + wait_s
        await self._wait_for_turn(wait_s)
        try:
            place = await self._enter(max(0.0, give_up_s - self._clock()))
        except BaseException:
            self._bucket.give_back()
            raise
        try:
            # Asked again: the state can have changed while this caller waited.
            self._refuse_early(CLOCK_GRAIN_S)
            permit = self._breaker.admit()
        except BaseException:
            place.leave()
            self._bucket.give_back()
            raise
        return AccountAdmission(self, place, permit)

    async def _wait_for_turn(self, wait_s: float) -> None:
        """Wait for the provider's own pause after a 429, then for a token; holding no place meanwhile."""
        pause_s = self._refuse_early(wait_s)
        try:
            # A token in advance: who waits for the pause to end is in line already.
            turn_s = max(pause_s, self._bucket.take(wait_s=wait_s))
        except RateExceeded as refused:
            raise self._limited(refused.retry_after_s) from None
        if turn_s > 0:
            try:
                await self._sleep(turn_s)
            except BaseException:
                self._bucket.give_back()
                raise

    async def _enter(self, wait_s: float) -> Place:
        try:
            return await self._bulkhead.enter(wait_s=wait_s)
        except BulkheadFull as full:
            raise AdmissionRefused(
                f"account {self.account_id}: {full}", saturated=True, retry_after_s=SATURATED_RETRY_S
            ) from None

    def _limited(self, retry_after_s: float) -> AdmissionRefused:
        return AdmissionRefused(
            f"account {self.account_id}: rate limited", saturated=True, retry_after_s=retry_after_s, limited=True
        )

    def _refuse_early(self, wait_s: float) -> float:
        """Refuse what would be refused after all waiting; the seconds that are to be waited for the provider."""
        limited_s = max(0.0, self._limited_until_s - self._clock())
        if limited_s > wait_s:
            raise self._limited(limited_s)
        try:
            self._breaker.check()
        except BreakerOpen as refused:
            raise AdmissionRefused(
                f"account {self.account_id}: {refused}", saturated=False, retry_after_s=refused.retry_after_s
            ) from None
        return limited_s

    def _heed(self, outcome: Outcome | Lookup) -> None:
        if isinstance(outcome, NotExecuted) and refusal_of(outcome) is Refusal.RATE_LIMITED:
            asked_s = min(outcome.retry_after_s or 0.0, self._rate_limited_s_max)
            self._limited_until_s = max(self._limited_until_s, self._clock() + asked_s)


class AccountAdmission:
    """Implements `gateway.domain.providers.Admission`."""

    def __init__(self, account: ProviderAccount, place: Place, permit: Permit) -> None:
        self._account = account
        self._place = place
        self._permit = permit

    def report(self, outcome: Outcome | Lookup) -> None:
        """Count the outcome. Only the first report counts."""
        self._account._heed(outcome)
        healthy = verdict(outcome)
        if healthy is None:
            self._permit.release()
        else:
            self._permit.report(healthy=healthy)

    def release(self) -> None:
        """Give the place back; without a report before, the call says nothing about the account. Idempotent."""
        self._permit.release()
        self._place.leave()
