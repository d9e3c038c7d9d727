"""The circuit breaker of one provider account: pybreaker keeps the state, this adapter decides who may try.

pybreaker is synchronous and counts consecutive failures. Around it: admission with a limit of trials while half-open, a
generation for each state so that late results count for nothing, neutral ends, a failure rate over a window, and an
injected monotonic clock in place of pybreaker's wall clock. All state is in memory: losing it costs a few calls.
"""

import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import pybreaker

from gateway.domain.providers import AccountHealth

WINDOW_CALLS_MAX = 1024
"""Calls that the rate window remembers; under more load the window is shorter, never larger."""

TRIAL_RETRY_S = 1.0
"""What a caller is told to wait, in seconds, while others are trying a half-open account."""

_OWN_TIMEOUT_S = 365 * 24 * 3600
"""pybreaker's own open timeout, in seconds: never reached, because the state moves by our clock."""

_HEALTH = {
    pybreaker.STATE_CLOSED: AccountHealth.CLOSED,
    pybreaker.STATE_HALF_OPEN: AccountHealth.HALF_OPEN,
    pybreaker.STATE_OPEN: AccountHealth.OPEN,
}

HealthChanged = Callable[[AccountHealth, AccountHealth], None]


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """When an account trips and how it comes back. Times in seconds; `*_s`, shares in percent.

    Trips after `consecutive_failures_max` failures in a row, or when of at least `window_calls_min` calls within
    `window_s` at least `window_failures_percent` failed. After `open_s` at most `trials_max` calls at a time try it;
    `trial_successes_min` good ones close it, one bad one opens it again. A trial that never ends lapses after
    `trial_s`.
    """

    consecutive_failures_max: int = 5
    window_s: float = 30.0
    window_calls_min: int = 20
    window_failures_percent: int = 50
    open_s: float = 15.0
    trials_max: int = 1
    trial_successes_min: int = 1
    trial_s: float = 120.0


class BreakerOpen(Exception):
    """The account is not to be called now; try again in `retry_after_s` seconds."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"breaker open, retry in {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


class Permit:
    """Leave for one call. Report once, or release: a released permit says nothing about the account."""

    def __init__(self, breaker: "AccountBreaker", generation: int) -> None:
        self._breaker: AccountBreaker | None = breaker
        self._generation = generation

    def report(self, *, healthy: bool) -> None:
        """Count the call. A second report, or one after `release`, counts for nothing."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker._ended(self, self._generation, healthy)

    def release(self) -> None:
        """End without a verdict: cancelled, never begun, or neutral."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker._ended(self, self._generation, None)


class AccountBreaker:
    """Admits calls to one account. Not thread-safe: it lives on the event loop. `clock` is monotonic, in seconds."""

    def __init__(
        self, limits: BreakerLimits, *, clock: Callable[[], float], changed: HealthChanged | None = None
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._changed = changed
        self._generation = 0
        self._opened_s = 0.0
        self._trials: dict[Permit, float] = {}
        self._window: deque[tuple[float, bool]] = deque()
        self._window_failures = 0
        self._untold: list[tuple[AccountHealth, AccountHealth]] = []
        self._circuit = pybreaker.CircuitBreaker(
            fail_max=limits.consecutive_failures_max,
            reset_timeout=_OWN_TIMEOUT_S,
            success_threshold=limits.trial_successes_min,
            listeners=[_Listener(self._moved)],
            # Otherwise the call that trips the breaker would end in pybreaker's error instead of its own result.
            throw_new_error_on_trip=False,
        )

    @property
    def health(self) -> AccountHealth:
        """The state now: an open account whose time is over is HALF_OPEN, also when nobody has asked before."""
        if self._circuit.current_state == pybreaker.STATE_OPEN and self._open_left_s() <= 0:
            self._circuit.half_open()
            self._tell()
        return _HEALTH[self._circuit.current_state]

    def check(self) -> None:
        """Raise BreakerOpen where `admit` would, and take nothing."""
        match self.health:
            case AccountHealth.OPEN:
                raise BreakerOpen(self._open_left_s())
            case AccountHealth.HALF_OPEN if self._live_trials() >= self._limits.trials_max:
                raise BreakerOpen(TRIAL_RETRY_S)
            case _:
                return

    def admit(self) -> Permit:
        """Leave for one call. Raises BreakerOpen."""
        self.check()
        permit = Permit(self, self._generation)
        if self.health is AccountHealth.HALF_OPEN:
            self._trials[permit] = self._clock()
        return permit

    def _ended(self, permit: Permit, generation: int, healthy: bool | None) -> None:
        self._trials.pop(permit, None)
        # A result from before a change of state says nothing about the account as it is since then.
        if healthy is None or generation != self._generation:
            return
        # One more good result in a row of good ones: pybreaker would only forget failures that it does not count.
        if not (healthy and self._circuit.fail_counter == 0 and self.health is AccountHealth.CLOSED):
            with suppress(_Failed):
                self._circuit.call(_result, healthy)
        if generation == self._generation and self.health is AccountHealth.CLOSED:
            self._weigh(failed=not healthy)
        self._tell()

    def _weigh(self, *, failed: bool) -> None:
        """Trip on the share of failures in the window: 80 % failures never make a long row of them."""
        now = self._clock()
        self._window.append((now, failed))
        self._window_failures += failed
        while len(self._window) > WINDOW_CALLS_MAX or self._window[0][0] < now - self._limits.window_s:
            self._window_failures -= self._window.popleft()[1]
        calls = len(self._window)
        if (
            calls >= self._limits.window_calls_min
            and self._window_failures * 100 >= calls * self._limits.window_failures_percent
        ):
            self._circuit.open()

    def _open_left_s(self) -> float:
        return max(0.0, self._opened_s + self._limits.open_s - self._clock())

    def _live_trials(self) -> int:
        # A trial whose caller vanished must not keep the account half-open for ever.
        oldest_s = self._clock() - self._limits.trial_s
        self._trials = {permit: began_s for permit, began_s in self._trials.items() if began_s > oldest_s}
        return len(self._trials)

    def _moved(self, before: AccountHealth, after: AccountHealth) -> None:
        self._generation += 1
        self._trials.clear()
        self._window.clear()
        self._window_failures = 0
        if after is AccountHealth.OPEN:
            self._opened_s = self._clock()
        # pybreaker calls its listeners before its storage has the new state: whoever asked now would get the old one.
        self._untold.append((before, after))

    def _tell(self) -> None:
        told, self._untold = self._untold, []
        for before, after in told if self._changed else ():
            try:
                assert self._changed is not None
                self._changed(before, after)
            except Exception:
                # A metric that fails must not cost a payment its result.
                logging.getLogger(__name__).exception("health listener failed")


class _Failed(Exception):
    """Carries a failure into pybreaker, which knows calls only."""


def _result(healthy: bool) -> None:
    if not healthy:
        raise _Failed


class _Listener(pybreaker.CircuitBreakerListener):
    def __init__(self, moved: HealthChanged) -> None:
        self._moved = moved

    def state_change(
        self,
        cb: pybreaker.CircuitBreaker,
        old_state: pybreaker.CircuitBreakerState | None,
        new_state: pybreaker.CircuitBreakerState,
    ) -> None:
        before = AccountHealth.CLOSED if old_state is None else _HEALTH[old_state.name]
        self._moved(before, _HEALTH[new_state.name])
