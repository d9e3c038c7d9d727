"""The breaker: every pitfall of pybreaker has its promise here."""

import pytest

from gateway.domain.providers import AccountHealth
from providers.breaker import WINDOW_CALLS_MAX, AccountBreaker, BreakerLimits, BreakerOpen

LIMITS = BreakerLimits(
    consecutive_failures_max=3, window_s=30.0, window_calls_min=20, open_s=10.0, trials_max=2, trial_s=60.0
)


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def changes() -> list[tuple[AccountHealth, AccountHealth]]:
    return []


@pytest.fixture
def breaker(clock: Clock, changes: list[tuple[AccountHealth, AccountHealth]]) -> AccountBreaker:
    return AccountBreaker(LIMITS, clock=clock, changed=lambda before, after: changes.append((before, after)))


def state(breaker: AccountBreaker) -> AccountHealth:
    """The health, read anew: a type checker takes a property for a constant."""
    return breaker.health


def fail(breaker: AccountBreaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.admit().report(healthy=False)


def opened(breaker: AccountBreaker) -> AccountBreaker:
    fail(breaker, LIMITS.consecutive_failures_max)
    assert state(breaker) is AccountHealth.OPEN
    return breaker


def half_opened(breaker: AccountBreaker, clock: Clock) -> AccountBreaker:
    opened(breaker)
    clock.now_s += LIMITS.open_s
    return breaker


def test_a_row_of_failures_opens_it_and_the_tripping_report_raises_nothing(breaker: AccountBreaker) -> None:
    """The call that trips the breaker keeps its own result: reporting it raises nothing."""
    fail(breaker, 2)
    assert state(breaker) is AccountHealth.CLOSED
    fail(breaker)
    assert state(breaker) is AccountHealth.OPEN


def test_a_success_breaks_the_row(breaker: AccountBreaker) -> None:
    """Failures count in a row: a success between them starts again."""
    fail(breaker, 2)
    breaker.admit().report(healthy=True)
    fail(breaker, 2)
    assert state(breaker) is AccountHealth.CLOSED


def test_open_refuses_and_says_how_long(breaker: AccountBreaker, clock: Clock) -> None:
    """An open account admits nobody, and tells the time that is left."""
    opened(breaker)
    clock.now_s += 4.0
    with pytest.raises(BreakerOpen) as refused:
        breaker.admit()
    assert refused.value.retry_after_s == pytest.approx(6.0)


def test_the_open_time_is_measured_by_the_injected_clock(breaker: AccountBreaker, clock: Clock) -> None:
    """The account becomes half-open by our clock, without anybody trying it."""
    opened(breaker)
    clock.now_s += LIMITS.open_s - 0.001
    assert state(breaker) is AccountHealth.OPEN
    clock.now_s += 0.001
    assert state(breaker) is AccountHealth.HALF_OPEN


def test_half_open_admits_a_limited_number_of_trials(breaker: AccountBreaker, clock: Clock) -> None:
    """Of fifty callers at a half-open account, two may try."""
    half_opened(breaker, clock)
    admitted = 0
    for _ in range(50):
        try:
            breaker.admit()
            admitted += 1
        except BreakerOpen:
            pass
    assert admitted == 2


def test_a_good_trial_closes_and_a_bad_one_opens_again(breaker: AccountBreaker, clock: Clock) -> None:
    """One trial decides: success closes, failure opens for the whole time again."""
    half_opened(breaker, clock)
    breaker.admit().report(healthy=False)
    assert state(breaker) is AccountHealth.OPEN
    clock.now_s += LIMITS.open_s
    breaker.admit().report(healthy=True)
    assert state(breaker) is AccountHealth.CLOSED


def test_a_late_success_does_not_close_what_opened_after_it_began(breaker: AccountBreaker, clock: Clock) -> None:
    """A success of a call from before the outage neither closes an open breaker nor a half-open one."""
    early = [breaker.admit(), breaker.admit()]
    opened(breaker)
    early[0].report(healthy=True)
    assert state(breaker) is AccountHealth.OPEN
    clock.now_s += LIMITS.open_s
    assert state(breaker) is AccountHealth.HALF_OPEN
    early[1].report(healthy=True)
    assert state(breaker) is AccountHealth.HALF_OPEN


def test_a_late_failure_does_not_open_what_recovered_after_it_began(breaker: AccountBreaker, clock: Clock) -> None:
    """Failures of calls from before the recovery count for nothing."""
    early = [breaker.admit() for _ in range(10)]
    half_opened(breaker, clock)
    early[0].report(healthy=False)
    assert state(breaker) is AccountHealth.HALF_OPEN
    breaker.admit().report(healthy=True)
    for permit in early[1:]:
        permit.report(healthy=False)
    assert state(breaker) is AccountHealth.CLOSED


def test_a_released_permit_is_neutral_while_closed(breaker: AccountBreaker) -> None:
    """Cancelled calls are neither failures nor the success that breaks a row of failures."""
    for _ in range(10):
        breaker.admit().release()
    assert state(breaker) is AccountHealth.CLOSED
    fail(breaker, 2)
    breaker.admit().release()
    fail(breaker)
    assert state(breaker) is AccountHealth.OPEN


def test_a_released_trial_neither_closes_nor_opens_and_gives_its_place_back(
    breaker: AccountBreaker, clock: Clock
) -> None:
    """A cancelled trial leaves the account half-open, and lets another one try."""
    half_opened(breaker, clock)
    for _ in range(20):
        breaker.admit().release()
    assert state(breaker) is AccountHealth.HALF_OPEN
    breaker.admit().report(healthy=True)
    assert state(breaker) is AccountHealth.CLOSED


def test_a_share_of_failures_trips_without_a_row(breaker: AccountBreaker) -> None:
    """Failures that never make a row of three trip it once they are half of at least twenty calls."""
    for call in range(19):
        breaker.admit().report(healthy=call % 2 == 0)
    assert state(breaker) is AccountHealth.CLOSED
    breaker.admit().report(healthy=False)
    assert state(breaker) is AccountHealth.OPEN


def test_a_smaller_share_of_failures_does_not_trip(breaker: AccountBreaker) -> None:
    """A third of the calls failing keeps the account closed, however many they are."""
    for call in range(300):
        breaker.admit().report(healthy=call % 3 != 0)
    assert state(breaker) is AccountHealth.CLOSED


def test_failures_leave_the_window_with_time(breaker: AccountBreaker, clock: Clock) -> None:
    """What is older than the window does not count towards the share."""
    for call in range(19):
        breaker.admit().report(healthy=call % 2 == 1)
    clock.now_s += LIMITS.window_s + 1
    fail(breaker)
    assert state(breaker) is AccountHealth.CLOSED


def test_the_window_is_empty_after_a_recovery(breaker: AccountBreaker, clock: Clock) -> None:
    """Failures of before the outage do not trip the account that has recovered."""
    for call in range(17):
        breaker.admit().report(healthy=call % 2 == 0)
    half_opened(breaker, clock)
    breaker.admit().report(healthy=True)
    fail(breaker, 2)
    assert state(breaker) is AccountHealth.CLOSED


def test_the_window_holds_a_bounded_number_of_calls(breaker: AccountBreaker) -> None:
    """The window's memory does not grow with the load."""
    for _ in range(WINDOW_CALLS_MAX * 2):
        breaker.admit().report(healthy=True)
    assert len(breaker._window) == WINDOW_CALLS_MAX


def test_a_permit_counts_once(breaker: AccountBreaker) -> None:
    """A second report of the same call counts for nothing."""
    permit = breaker.admit()
    for _ in range(10):
        permit.report(healthy=False)
    assert state(breaker) is AccountHealth.CLOSED


def test_a_trial_that_never_ends_lapses(breaker: AccountBreaker, clock: Clock) -> None:
    """Trials whose callers vanished do not keep the account half-open for ever."""
    half_opened(breaker, clock)
    breaker.admit()
    breaker.admit()
    with pytest.raises(BreakerOpen):
        breaker.admit()
    clock.now_s += LIMITS.trial_s
    breaker.admit().report(healthy=True)
    assert state(breaker) is AccountHealth.CLOSED


def test_every_change_is_told_once_and_shows_the_new_state(clock: Clock) -> None:
    """A listener hears each change, and reading the health inside it gives the state after the change."""
    told: list[tuple[AccountHealth, AccountHealth, AccountHealth]] = []
    listening = AccountBreaker(
        LIMITS, clock=clock, changed=lambda before, after: told.append((before, after, listening.health))
    )
    half_opened(listening, clock)
    listening.admit().report(healthy=True)
    closed, opened_, half = AccountHealth.CLOSED, AccountHealth.OPEN, AccountHealth.HALF_OPEN
    assert told == [(closed, opened_, opened_), (opened_, half, half), (half, closed, closed)]


def test_a_listener_that_fails_costs_no_result(clock: Clock) -> None:
    """An exception of a metric reaches the log, not the call that tripped the breaker."""

    def broken(before: AccountHealth, after: AccountHealth) -> None:
        raise RuntimeError("metrics are down")

    breaker = AccountBreaker(LIMITS, clock=clock, changed=broken)
    assert state(opened(breaker)) is AccountHealth.OPEN
