"""One configured account: its adapter behind its breaker and its bulkhead, as the engine sees it."""

from collections.abc import Callable

from gateway.domain.providers import (
    Absent,
    AccountHealth,
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
from providers.refusals import LATE, Refusal, refusal_of

SATURATED_RETRY_S = 1.0
"""What a caller is told to wait, in seconds, when the bulkhead is full."""


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
    """Implements `gateway.domain.providers.Account`. `clock` is monotonic, in seconds.

    After a 429 that says how long to wait, nothing is admitted for that long, at most `rate_limited_s_max`.
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
    ) -> None:
        self._provider = provider
        self._adapter = adapter
        self._breaker = breaker
        self._bulkhead = bulkhead
        self._clock = clock
        self._rate_limited_s_max = rate_limited_s_max
        self._limited_until_s = float("-inf")

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

    async def admit(self, *, wait_s: float) -> "AccountAdmission":
        """Leave for one call, within `wait_s` seconds. Raises AdmissionRefused."""
        self._refuse_early()
        try:
            place = await self._bulkhead.enter(wait_s=wait_s)
        except BulkheadFull as full:
            raise AdmissionRefused(
                f"account {self.account_id}: {full}", saturated=True, retry_after_s=SATURATED_RETRY_S
            ) from None
        try:
            # Asked again: the state can have changed while this caller waited.
            self._refuse_early()
            permit = self._breaker.admit()
        except BaseException:
            place.leave()
            raise
        return AccountAdmission(self, place, permit)

    def _refuse_early(self) -> None:
        limited_s = self._limited_until_s - self._clock()
        if limited_s > 0:
            raise AdmissionRefused(f"account {self.account_id}: rate limited", saturated=True, retry_after_s=limited_s)
        try:
            self._breaker.check()
        except BreakerOpen as refused:
            raise AdmissionRefused(
                f"account {self.account_id}: {refused}", saturated=False, retry_after_s=refused.retry_after_s
            ) from None

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
