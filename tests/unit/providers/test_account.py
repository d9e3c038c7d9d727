"""An account behind its breaker and bulkhead: which outcome counts how, and that no place is ever lost."""

import asyncio
from typing import cast

import pytest

from gateway.domain.declines import Decline, DeclineReason
from gateway.domain.movements import Facts
from gateway.domain.providers import (
    Absent,
    Account,
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
    Snapshot,
    Unreadable,
)
from providers.account import ProviderAccount, verdict
from providers.breaker import AccountBreaker, BreakerLimits
from providers.bulkhead import Bulkhead, BulkheadLimits
from providers.refusals import LATE, Refusal, not_executed

SNAPSHOT = Snapshot("acc-1", "spay_1", 1000, "USD", Facts())
DECLINE = Decline(DeclineReason.DECLINED)


class Named:
    """As much of an adapter as an account asks of one."""

    account_id = "acc-1"


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 10.0

    def __call__(self) -> float:
        return self.now_s


def account(clock: Clock | None = None, *, calls_max: int = 2) -> ProviderAccount:
    clock = clock or Clock()
    limits = BreakerLimits(consecutive_failures_max=2, open_s=5.0)
    return ProviderAccount(
        "sandbox",
        cast(ProviderAdapter, Named()),
        AccountBreaker(limits, clock=clock),
        Bulkhead(BulkheadLimits(calls_max=calls_max, waiting_max=1)),
        clock=clock,
        rate_limited_s_max=30.0,
    )


async def ended(on: Account, outcome: Outcome | Lookup | None) -> None:
    admission = await on.admit(wait_s=0.0)
    if outcome is not None:
        admission.report(outcome)
    admission.release()


@pytest.mark.parametrize(
    ("outcome", "healthy"),
    [
        (Answered(SNAPSHOT), True),
        (Declined(DECLINE), True),
        (Found(SNAPSHOT), True),
        (Absent(consistent=True), True),
        (Ambiguous("ServerDisconnectedError"), False),
        (NotSent("ClientConnectorError"), False),
        (Unreadable("status 500"), False),
        (not_executed(Refusal.CREDENTIALS, "401"), False),
        (not_executed(Refusal.PERMISSION, "403"), False),
        (NotExecuted("words of another adapter"), False),
        (not_executed(Refusal.RATE_LIMITED, "429"), None),
        (NotSent(f"{LATE}: SendTooLate"), None),
    ],
)
def test_only_the_accounts_health_counts(outcome: Outcome | Lookup, healthy: bool | None) -> None:
    """A decline is a healthy answer; our own lateness and a rate limit say nothing; the rest is a failure."""
    assert verdict(outcome) is healthy


async def test_failures_close_the_door_and_leave_the_bulkhead_empty() -> None:
    """An open account refuses, tells how long, and holds no place."""
    on = account()
    for _ in range(2):
        await ended(on, Ambiguous("lost"))
    with pytest.raises(AdmissionRefused) as refused:
        await on.admit(wait_s=1.0)
    assert not refused.value.saturated
    assert refused.value.retry_after_s == pytest.approx(5.0)
    assert (on.health, on.taken) == (AccountHealth.OPEN, 0)


async def test_declines_never_open_it() -> None:
    """However many cards are declined, the account is healthy."""
    on = account()
    for _ in range(50):
        await ended(on, Declined(DECLINE))
    assert on.health is AccountHealth.CLOSED


async def test_a_release_without_a_report_is_neutral() -> None:
    """Cancelled calls neither open nor close it."""
    clock = Clock()
    on = account(clock)
    for _ in range(10):
        await ended(on, None)
    seen = [on.health]
    for _ in range(2):
        await ended(on, Ambiguous("lost"))
    clock.now_s += 5.0
    await ended(on, None)
    seen.append(on.health)
    await ended(on, Found(SNAPSHOT))
    assert [*seen, on.health] == [AccountHealth.CLOSED, AccountHealth.HALF_OPEN, AccountHealth.CLOSED]


async def test_a_full_bulkhead_refuses_as_saturated() -> None:
    """No place within the wait: saturated, and the breaker is not to blame."""
    on = account(calls_max=1)
    admission = await on.admit(wait_s=0.0)
    with pytest.raises(AdmissionRefused) as refused:
        await on.admit(wait_s=0.01)
    assert refused.value.saturated
    admission.release()
    assert (on.health, on.taken, on.waiting) == (AccountHealth.CLOSED, 0, 0)


async def test_who_waited_is_asked_again() -> None:
    """An account that opened while a caller waited for a place does not let it in, and keeps no place for it."""
    on = account(calls_max=2)
    held = [await on.admit(wait_s=0.0) for _ in range(2)]
    waiting = asyncio.create_task(on.admit(wait_s=5.0))
    await asyncio.sleep(0)
    for admission in held:
        admission.report(Ambiguous("lost"))
    for admission in held:
        admission.release()
    with pytest.raises(AdmissionRefused):
        await waiting
    assert on.taken == 0


async def test_releasing_twice_gives_one_place_back() -> None:
    """A place that was given back is not given back again."""
    on = account()
    first, second = await on.admit(wait_s=0.0), await on.admit(wait_s=0.0)
    first.release()
    first.release()
    assert on.taken == 1
    second.release()


async def test_a_rate_limit_is_heeded_for_as_long_as_it_says() -> None:
    """After a 429 nothing is sent for Retry-After, at most for our own bound; the breaker stays closed."""
    clock = Clock()
    on = account(clock)
    await ended(on, not_executed(Refusal.RATE_LIMITED, "429", retry_after_s=7.0))
    with pytest.raises(AdmissionRefused) as refused:
        await on.admit(wait_s=0.0)
    assert refused.value.saturated
    assert refused.value.retry_after_s == pytest.approx(7.0)
    assert on.health is AccountHealth.CLOSED
    clock.now_s += 7.0
    await ended(on, not_executed(Refusal.RATE_LIMITED, "429", retry_after_s=3600.0))
    clock.now_s += 30.0
    await ended(on, Answered(SNAPSHOT))


async def test_it_is_the_engines_account() -> None:
    """The class is what the port asks for."""
    on: Account = account()
    assert (on.account_id, on.provider) == ("acc-1", "sandbox")
