"""When a callback that says nothing yet is heard again."""

from typing import Any, cast

import pytest

from gateway.app.clock import SystemClock
from gateway.app.hearing import NOT_SHOWN, Hearing
from gateway.app.settings import EngineSettings
from gateway.domain.storage import CallbackState, TakenCallback
from gateway.domain.transactions import Callback

SETTINGS = EngineSettings()


class At(SystemClock):
    """A clock that stands."""

    def __init__(self, now_us: int) -> None:
        self._now_us = now_us

    def now_us(self) -> int:
        return self._now_us


def looks(note: str) -> int:
    """How often a callback with this note is heard before it is given up."""
    nobody = cast(Any, None)
    callback = Callback("cbk_1", "paypal", "acct", "evt_1", "t", b"", {}, "corr", 0)
    age_s, tries = 0.0, 0
    while True:
        tries += 1
        taken = TakenCallback(callback, 1, tries, CallbackState.WAITING)
        change = Hearing(nobody, nobody, nobody, SETTINGS, At(int(age_s * 1e6))).wait(taken, note)
        if change.state is CallbackState.QUARANTINED:
            return tries
        assert change.next_attempt_s is not None
        age_s += change.next_attempt_s


@pytest.mark.parametrize(("note", "at_least", "at_most"), [(NOT_SHOWN, 20, 100), ("503", 800, 1_300)])
def test_what_is_not_shown_is_asked_for_ever_more_rarely(note: str, at_least: int, at_most: int) -> None:
    """It may never have been ours; what only cannot be read is asked for every few minutes to the end."""
    assert at_least < looks(note) < at_most
