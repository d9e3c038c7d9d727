"""Retries: only what was not sent, jittered, bounded by count and by the last moment to send."""

from collections.abc import Awaitable, Callable

import pytest

from providers.retry import Pace, RetryLimits, retried

LIMITS = RetryLimits(attempts_max=4, delay_s=0.1, delay_s_max=0.25)


class Told:
    """A clock that sleeping moves, and chance that always takes the most."""

    def __init__(self, share: float = 1.0) -> None:
        self.now_s = 50.0
        self.slept: list[float] = []
        self.asked: list[tuple[float, float]] = []
        self.share = share

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds

    def uniform(self, low: float, high: float) -> float:
        self.asked.append((low, high))
        return low + (high - low) * self.share

    @property
    def pace(self) -> Pace:
        return Pace(lambda: self.now_s, self.sleep, self.uniform)


def answering(*results: str) -> tuple[Callable[[], Awaitable[str]], list[str]]:
    """A send that gives these results in turn, and the ones it has given."""
    given: list[str] = []

    async def send() -> str:
        given.append(results[len(given)])
        return given[-1]

    return send, given


async def test_what_was_not_sent_is_sent_again() -> None:
    """The first result that was sent ends it."""
    send, given = answering("not sent", "not sent", "answered")
    told = Told()
    result = await retried(send, again=lambda each: each == "not sent", limits=LIMITS, send_before=99.0, pace=told.pace)
    assert (result, len(given)) == ("answered", 3)


async def test_what_may_have_been_sent_is_not_sent_again() -> None:
    """A result that may have been sent is final at the first attempt."""
    send, given = answering("ambiguous", "answered")
    told = Told()
    result = await retried(send, again=lambda each: each == "not sent", limits=LIMITS, send_before=99.0, pace=told.pace)
    assert (result, given, told.slept) == ("ambiguous", ["ambiguous"], [])


async def test_attempts_are_bounded() -> None:
    """After the last attempt its result stands."""
    send, given = answering(*["not sent"] * 10)
    await retried(send, again=lambda each: True, limits=LIMITS, send_before=99.0, pace=Told().pace)
    assert len(given) == 4


async def test_waits_have_full_jitter_under_a_doubling_cap() -> None:
    """Each wait is drawn from zero to a bound that doubles up to its cap."""
    send, _ = answering(*["not sent"] * 10)
    told = Told()
    await retried(send, again=lambda each: True, limits=LIMITS, send_before=99.0, pace=told.pace)
    assert [low for low, _ in told.asked] == [0.0, 0.0, 0.0]
    assert [high for _, high in told.asked] == pytest.approx([0.1, 0.2, 0.25])


async def test_no_wait_ends_after_the_last_moment_to_send() -> None:
    """Where the wait would pass send_before, it is not begun."""
    send, given = answering(*["not sent"] * 10)
    told = Told()
    await retried(send, again=lambda each: True, limits=LIMITS, send_before=50.2, pace=told.pace)
    assert len(given) == 2
    assert told.slept == pytest.approx([0.1])
