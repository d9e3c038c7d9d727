"""The rate limit: turns in the order of asking, never more than the bucket holds, and none lost or made up."""

import asyncio
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.providers import AdmissionRefused, ProviderAdapter
from providers.account import ProviderAccount
from providers.breaker import AccountBreaker, BreakerLimits
from providers.bulkhead import Bulkhead, BulkheadLimits
from providers.rate import RateExceeded, RateLimits, TokenBucket
from providers.refusals import Refusal, not_executed
from tests.unit.providers.test_account import Clock, Named


def test_no_limit_takes_nothing() -> None:
    """The default: every turn is at once."""
    bucket = TokenBucket(RateLimits(), clock=Clock())
    assert [bucket.take(wait_s=0.0) for _ in range(1_000)] == [0.0] * 1_000


def test_a_burst_then_the_pace() -> None:
    """Three at once, then one every tenth of a second, each told how long to wait for its turn."""
    bucket = TokenBucket(RateLimits(rate_per_s=10, burst=3), clock=Clock())
    turns = [bucket.take(wait_s=9.0) for _ in range(6)]
    assert turns == pytest.approx([0, 0, 0, 0.1, 0.2, 0.3])


def test_a_turn_that_is_too_far_is_refused_and_not_taken() -> None:
    """Whoever cannot wait takes nobody's place."""
    clock = Clock()
    bucket = TokenBucket(RateLimits(rate_per_s=1, burst=1), clock=clock)
    bucket.take(wait_s=0.0)
    for _ in range(5):
        with pytest.raises(RateExceeded) as refused:
            bucket.take(wait_s=0.5)
        assert refused.value.retry_after_s == pytest.approx(1.0)
    clock.now_s += 1.0
    assert bucket.take(wait_s=0.0) == 0.0


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 3)), max_size=40), st.integers(1, 5), st.integers(1, 9))
def test_no_second_ever_has_more_turns_than_its_limit(
    asks: list[tuple[float, float]], burst: int, rate_per_s: int
) -> None:
    """Whatever is asked when: in any window of a second at most burst + rate turns come."""
    clock = Clock()
    bucket = TokenBucket(RateLimits(rate_per_s=rate_per_s, burst=burst), clock=clock)
    came: list[float] = []
    for later_s, wait_s in asks:
        clock.now_s += later_s
        try:
            came.append(clock.now_s + bucket.take(wait_s=wait_s))
        except RateExceeded:
            continue
    for start_s in came:
        assert sum(start_s <= each < start_s + 1.0 - 1e-6 for each in came) <= burst + rate_per_s


class Slept:
    """A sleep that moves the clock, and remembers."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self._clock.now_s += seconds


def account(clock: Clock, sleep: Slept, *, rate: RateLimits, calls_max: int = 8) -> ProviderAccount:
    return ProviderAccount(
        "sandbox",
        cast(ProviderAdapter, Named()),
        AccountBreaker(BreakerLimits(), clock=clock),
        Bulkhead(BulkheadLimits(calls_max=calls_max, waiting_max=1)),
        clock=clock,
        rate_limited_s_max=30.0,
        rate=rate,
        sleep=sleep,
    )


async def test_admission_waits_for_its_turn_within_the_wait() -> None:
    """The third of two waits a second; with less patience it is told that waiting helps."""
    clock = Clock()
    sleep = Slept(clock)
    on = account(clock, sleep, rate=RateLimits(rate_per_s=1, burst=2))
    for _ in range(2):
        (await on.admit(wait_s=0.0)).release()
    with pytest.raises(AdmissionRefused) as refused:
        await on.admit(wait_s=0.5)
    assert (refused.value.limited, refused.value.saturated) == (True, True)
    assert refused.value.retry_after_s == pytest.approx(1.0)
    (await on.admit(wait_s=2.0)).release()
    assert sleep.seconds == pytest.approx([1.0])


async def test_a_pause_that_the_provider_asked_for_is_waited_out() -> None:
    """After a 429 with Retry-After, within the wait; the breaker has nothing to do with it."""
    clock = Clock()
    sleep = Slept(clock)
    on = account(clock, sleep, rate=RateLimits())
    admission = await on.admit(wait_s=0.0)
    admission.report(not_executed(Refusal.RATE_LIMITED, "429", retry_after_s=3.0))
    admission.release()
    with pytest.raises(AdmissionRefused):
        await on.admit(wait_s=2.0)
    (await on.admit(wait_s=5.0)).release()
    assert sleep.seconds == pytest.approx([3.0])


async def test_a_turn_without_a_place_is_given_back() -> None:
    """The bulkhead is full: the token is nobody's, and the next one has it."""
    clock = Clock()
    on = account(clock, Slept(clock), rate=RateLimits(rate_per_s=0.001, burst=2), calls_max=1)
    held = await on.admit(wait_s=0.0)
    for _ in range(3):
        with pytest.raises(AdmissionRefused) as refused:
            await on.admit(wait_s=0.0)
        assert not refused.value.limited
    held.release()
    (await on.admit(wait_s=0.0)).release()


async def test_who_is_cancelled_while_waiting_takes_nothing() -> None:
    """Its turn goes back."""
    clock = Clock()
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def stuck(_: float) -> None:
        await never

    on = account(clock, cast(Slept, stuck), rate=RateLimits(rate_per_s=1, burst=1))
    (await on.admit(wait_s=0.0)).release()
    waiting = asyncio.create_task(on.admit(wait_s=5.0))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    clock.now_s += 1.0
    (await on.admit(wait_s=0.0)).release()
    never.cancel()
    assert on.load.rate_per_s == 1
