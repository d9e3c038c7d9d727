"""A change: the payment after one step, the events that tell of it, and the money that moved.

The steps are pure functions of a payment and a moment; `attempts.py` has the way to money, `movements.py`
what follows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from simulators.effects import Effect
from simulators.sandbox.payment import Due, Payment
from simulators.sandbox.refusals import refused
from simulators.sandbox.settings import Terms

# Of each kind: a payment is answered, journalled and delivered whole.
MOVEMENTS_MAX = 500


@dataclass(frozen=True)
class Moment:
    """When, and under which terms. `mint` makes an id from a prefix; `customer_url` ends before the id."""

    now: float
    terms: Terms
    mint: Callable[[str], str]
    customer_url: str

    @property
    def seconds(self) -> int:
        """Now in whole unix seconds."""
        return int(self.now)


@dataclass(frozen=True)
class Change:
    """What one step did. `events` are event types; `declined` says that the step was an attempt that failed."""

    payment: Payment
    events: tuple[str, ...]
    effects: tuple[Effect, ...] = ()
    declined: bool = False


def evolved(payment: Payment, moment: Moment, **fields: Any) -> Payment:
    """The payment's next version with these fields."""
    return replace(payment, version=payment.version + 1, updated=moment.seconds, **fields)


def bounded(what: str, count: int) -> None:
    """Raises Refusal `too_many_<what>` where a payment has MOVEMENTS_MAX of them already."""
    if count >= MOVEMENTS_MAX:
        raise refused(f"too_many_{what}", f"A payment has at most {MOVEMENTS_MAX} {what}.")


def with_due(payment: Payment, moment: Moment, seconds: float | None, action: Any, target: str) -> tuple[Due, ...]:
    """The payment's agenda and one more entry, `seconds` from now; None leaves it to the controls."""
    if seconds is None:
        return payment.due
    return (*payment.due, Due(moment.now + seconds, action, target))


def without_due(payment: Payment, target: str) -> tuple[Due, ...]:
    """The payment's agenda without what concerns this movement."""
    return tuple(due for due in payment.due if due.target != target)
