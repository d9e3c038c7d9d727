"""Acknowledgements go first: what the applying of callbacks waits for, and for how long at most."""

import asyncio

from gateway.app.precedence import (
    ACKNOWLEDGED_S_TARGET,
    INTERVAL_S_MAX,
    INTERVAL_S_MIN,
    REMEMBERED_S,
    Precedence,
)

SLOW_S = ACKNOWLEDGED_S_TARGET * 2
QUICK_S = ACKNOWLEDGED_S_TARGET / 2


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept_s: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds


def given(*took_s: float) -> tuple[Precedence, Clock]:
    """A precedence that has seen these acknowledgements, and its clock."""
    clock = Clock()
    precedence = Precedence(monotonic=clock.monotonic, sleep=clock.sleep)
    for seconds in took_s:
        precedence.acknowledged(seconds)
    return precedence, clock


async def test_while_acknowledgements_are_quick_nothing_waits() -> None:
    """So it is at first, and with quick ones."""
    precedence, clock = given(QUICK_S, QUICK_S)
    await asyncio.gather(*(precedence.turn() for _ in range(5)))
    assert clock.slept_s == []


async def test_slow_acknowledgements_part_what_begins() -> None:
    """One after the other then, at intervals that grow up to their bound and never beyond it."""
    precedence, clock = given(SLOW_S)
    await asyncio.gather(*(precedence.turn() for _ in range(3)))
    assert clock.slept_s == [INTERVAL_S_MIN] * 3
    precedence, clock = given(*[SLOW_S] * 50)
    await asyncio.gather(*(precedence.turn() for _ in range(3)))
    assert clock.slept_s == [INTERVAL_S_MAX] * 3


async def test_it_ends_with_quick_acknowledgements() -> None:
    """A few of them, and nothing waits any more."""
    precedence, clock = given(*[SLOW_S] * 50, *[QUICK_S] * 4)
    await precedence.turn()
    assert clock.slept_s == []


async def test_it_ends_when_nothing_comes_any_more() -> None:
    """What was slow says nothing of what is a while later: a backlog after a rush is applied without intervals."""
    precedence, clock = given(*[SLOW_S] * 50)
    clock.now_s += REMEMBERED_S * 1.1
    await precedence.turn()
    assert clock.slept_s == []
