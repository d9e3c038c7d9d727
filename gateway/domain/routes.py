"""Why a payment is at its account: what was left to choose from, and where it was before. Kept with the payment."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum

ATTEMPTS_KEPT_MAX = 16
WORDS_CHARACTERS_MAX = 200


class FailoverOn(StrEnum):
    """After what a payment may go on to the next account.

    NOT_SENT: the account provably did not get it. SOFT_DECLINE: it was declined for a reason that another provider may
    see otherwise, and the declining provider's object is confirmed cancelled. Never after MAYBE.
    """

    NOT_SENT = "NOT_SENT"
    SOFT_DECLINE = "SOFT_DECLINE"


class AttemptOutcome(StrEnum):
    """How one account of a route ended for a payment. CHOSEN is the one that the payment is at."""

    CHOSEN = "CHOSEN"
    REFUSED = "REFUSED"
    NOT_SENT = "NOT_SENT"
    DECLINED = "DECLINED"


@dataclass(frozen=True, slots=True)
class RouteAttempt:
    """One account that the payment was meant for, and why it is no longer there. Times are unix microseconds."""

    account_id: str
    outcome: AttemptOutcome
    detail: str
    time_us: int


@dataclass(frozen=True, slots=True)
class Route:
    """Why a payment is where it is: kept with it, bounded, and shown in its timeline.

    `rule` is empty where the caller named the account, or no rule matched. `candidates` are what was left to choose
    from then, in order. `attempts` are the last ATTEMPTS_KEPT_MAX. `left` are the accounts that declined the payment
    and that it has left, or is leaving; `failing_over` while it is on its way from one of them to the next.
    """

    rule: str
    why: tuple[str, ...]
    candidates: tuple[str, ...]
    failover_on: frozenset[FailoverOn] = frozenset()
    attempts_max: int = 1
    attempts: tuple[RouteAttempt, ...] = ()
    left: tuple[str, ...] = ()
    failing_over: bool = False

    def ended_at(self, account_id: str, outcome: AttemptOutcome, detail: str, time_us: int) -> "Route":
        """The route after an account was tried, or was chosen."""
        attempt = RouteAttempt(account_id, outcome, detail[:WORDS_CHARACTERS_MAX], time_us)
        kept = tuple(each for each in self.attempts if each.outcome is not AttemptOutcome.CHOSEN)
        return replace(self, attempts=(*kept, attempt)[-ATTEMPTS_KEPT_MAX:])

    def declined_by(self, account_id: str, detail: str, time_us: int) -> "Route":
        """The route of a payment that is about to leave an account, once its object there is confirmed cancelled."""
        ended = self.ended_at(account_id, AttemptOutcome.DECLINED, detail, time_us)
        return replace(ended, left=(*self.left, account_id), failing_over=True)

    def next_account(self, on: FailoverOn, tried: Collection[str]) -> str | None:
        """The next account that the payment may go on to after `on`; None where the rule, or its bound, ends it."""
        if on not in self.failover_on or len({*self.left, *tried}) >= self.attempts_max:
            return None
        return next((each for each in self.candidates if each not in tried and each not in self.left), None)
