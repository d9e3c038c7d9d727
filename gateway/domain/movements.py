"""Facts: what a provider's books say, as values that merge in any order to the same result.

Three kinds of fact, each with a key and a rank that only rises:

- `Movement`: money that moved or is held (authorization, capture, refund, dispute, fee);
- `Attempt`: one try to confirm a payment at a provider object;
- `ProviderObject`: the provider's payment object and whether it is still open.

`merge` keeps, for each key, the value of the highest rank. It is commutative, associative and idempotent, so every
permutation and repetition of the same events ends in the same facts. A provider's `created` time decides nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import TypeVar

from gateway.domain.declines import Decline
from gateway.domain.risk import RiskSignal, riskier


class MovementKind(StrEnum):
    """What a movement of money is."""

    AUTHORIZATION = "AUTHORIZATION"
    CAPTURE = "CAPTURE"
    REFUND = "REFUND"
    DISPUTE = "DISPUTE"
    FEE = "FEE"


class MovementStatus(StrEnum):
    """Where a movement stands; which statuses a kind can have is in RANKS."""

    PENDING = "PENDING"
    FAILED = "FAILED"
    SUCCEEDED = "SUCCEEDED"
    REVERSED = "REVERSED"
    EXPIRED = "EXPIRED"
    RELEASED = "RELEASED"
    INQUIRY = "INQUIRY"
    INQUIRY_CLOSED = "INQUIRY_CLOSED"
    OPEN = "OPEN"
    LOST = "LOST"
    WON = "WON"


_MONEY = (MovementStatus.PENDING, MovementStatus.FAILED, MovementStatus.SUCCEEDED, MovementStatus.REVERSED)

_ORDER = {
    MovementKind.AUTHORIZATION: (
        MovementStatus.PENDING,
        MovementStatus.FAILED,
        MovementStatus.SUCCEEDED,
        MovementStatus.EXPIRED,
        MovementStatus.RELEASED,
    ),
    MovementKind.CAPTURE: _MONEY,
    # A bank can send a refund back after it had succeeded: providers call that failed too, and never succeed it again.
    MovementKind.REFUND: (
        MovementStatus.PENDING,
        MovementStatus.SUCCEEDED,
        MovementStatus.FAILED,
        MovementStatus.REVERSED,
    ),
    MovementKind.FEE: _MONEY,
    MovementKind.DISPUTE: (
        MovementStatus.INQUIRY,
        MovementStatus.INQUIRY_CLOSED,
        MovementStatus.OPEN,
        MovementStatus.LOST,
        MovementStatus.WON,
    ),
}

RANKS = MappingProxyType({(kind, status): rank for kind, order in _ORDER.items() for rank, status in enumerate(order)})
"""(kind, status) to rank. A pair that is missing is not a fact of that kind."""


NEVER_HELD = (MovementStatus.PENDING, MovementStatus.FAILED)
"""An authorization that stands so takes nobody's place."""


class Origin(StrEnum):
    """Who caused a movement: a command of ours, or the provider's side (its dashboard, its customer, its bank)."""

    OBOL = "OBOL"
    PROVIDER = "PROVIDER"


class FactError(ValueError):
    """Two facts share a key and cannot both be true (another currency), or a status is not one of its kind."""


@dataclass(frozen=True, slots=True)
class Movement:
    """One movement of money; `amount_minor` is in the payment's currency, cumulative where the provider only sums.

    `operation_id` is ours, read from the provider's metadata or answer; None means that we did not cause it.
    `final` is meant for captures: the remainder of the authorization was closed by it. Times are unix microseconds.
    `parent_id` is the provider's id of the movement that this one comes from, where it says so: of a refund its
    capture, of an authorization the one in whose place it stands, with its own total (an adjustment). No authorization
    is its own parent: a view that says so, one that was stored before this was held included, says nothing of it.
    """

    account_id: str
    kind: MovementKind
    provider_movement_id: str
    amount_minor: int
    currency: str
    status: MovementStatus
    operation_id: str | None = None
    provider_time_us: int | None = None
    reason: str = ""
    parent_id: str | None = None

    def __post_init__(self) -> None:
        if (self.kind, self.status) not in RANKS:
            raise FactError(f"{self.status} is not a status of {self.kind}")
        if type(self.amount_minor) is not int or self.amount_minor < 0:
            raise FactError(f"amount_minor of a movement must be a non-negative integer, not {self.amount_minor!r}")
        if self.kind is MovementKind.AUTHORIZATION and self.parent_id == self.provider_movement_id:
            object.__setattr__(self, "parent_id", None)

    @property
    def key(self) -> tuple[str, MovementKind, str]:
        return (self.account_id, self.kind, self.provider_movement_id)

    @property
    def origin(self) -> Origin:
        return Origin.OBOL if self.operation_id else Origin.PROVIDER

    def _strength(self) -> tuple[int, int, bool, int, str]:
        time_us = self.provider_time_us
        return (RANKS[self.kind, self.status], self.amount_minor, time_us is not None, time_us or 0, self.reason)

    def merge(self, other: "Movement") -> "Movement":
        """The stronger of two views of one movement. Raises FactError where they cannot be the same movement."""
        if self.key != other.key or self.currency != other.currency:
            raise FactError(f"{self.key} in {self.currency} is not {other.key} in {other.currency}")
        winner = max(self, other, key=Movement._strength)
        operation_id = max(self.operation_id or "", other.operation_id or "") or None
        parent_id = max(self.parent_id or "", other.parent_id or "") or None
        if (winner.operation_id, winner.parent_id) == (operation_id, parent_id):
            return winner
        return replace(winner, operation_id=operation_id, parent_id=parent_id)


class AttemptStatus(StrEnum):
    """Where one try to confirm stands, in rising rank."""

    REQUIRES_ACTION = "REQUIRES_ACTION"
    PENDING = "PENDING"
    FAILED = "FAILED"
    SUCCEEDED = "SUCCEEDED"


_ATTEMPT_RANKS = {status: rank for rank, status in enumerate(AttemptStatus)}


@dataclass(frozen=True, slots=True)
class Attempt:
    """The `ordinal`-th try (from 1) to confirm one provider object; `decline` says why it failed.

    `risk` is what the provider made of it, where it says so.
    """

    account_id: str
    provider_payment_id: str
    ordinal: int
    status: AttemptStatus
    operation_id: str | None = None
    decline: Decline | None = None
    risk: RiskSignal | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        return (self.account_id, self.provider_payment_id, self.ordinal)

    def _strength(self) -> tuple[int, str]:
        return (_ATTEMPT_RANKS[self.status], "" if self.decline is None else repr(self.decline))

    def merge(self, other: "Attempt") -> "Attempt":
        """The stronger of two views of one attempt."""
        winner = max(self, other, key=Attempt._strength)
        operation_id = max(self.operation_id or "", other.operation_id or "") or None
        risk = riskier(self.risk, other.risk)
        if (winner.operation_id, winner.risk) == (operation_id, risk):
            return winner
        return replace(winner, operation_id=operation_id, risk=risk)


class Closure(StrEnum):
    """Whether the provider's object takes further commands, in rising rank."""

    OPEN = "OPEN"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"


_CLOSURE_RANKS = {closure: rank for rank, closure in enumerate(Closure)}


@dataclass(frozen=True, slots=True)
class ProviderObject:
    """A provider's payment object that carries this payment."""

    account_id: str
    provider_payment_id: str
    closure: Closure = Closure.OPEN

    @property
    def key(self) -> tuple[str, str]:
        return (self.account_id, self.provider_payment_id)

    def merge(self, other: "ProviderObject") -> "ProviderObject":
        """The further closed of two views of one object."""
        return max(self, other, key=lambda view: _CLOSURE_RANKS[view.closure])


Fact = TypeVar("Fact", Movement, Attempt, ProviderObject)


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of one payment at its providers; each tuple is ordered by key and holds a key once."""

    movements: tuple[Movement, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    objects: tuple[ProviderObject, ...] = ()

    def merge(self, other: "Facts") -> "Facts":
        """Both sets of facts as one, whatever the order. Raises FactError on a contradiction in currency."""
        return Facts(
            _joined(self.movements, other.movements),
            _joined(self.attempts, other.attempts),
            _joined(self.objects, other.objects),
        )

    def total_minor(self, kind: MovementKind, *statuses: MovementStatus) -> int:
        """The sum of the movements of `kind` that stand at one of `statuses`, in minor units."""
        return sum(m.amount_minor for m in self.movements if m.kind is kind and m.status in statuses)

    def standing(self) -> tuple[Movement, ...]:
        """The movements without the authorizations in whose place another one stands: what they held, that one holds.

        One that is pending or was denied stands in nobody's place. Where each of several is said to stand in the next
        one's place, round in a ring, none is left out for another of them: held money is never lost sight of.
        """
        former = {
            (m.account_id, m.provider_movement_id): (m.account_id, m.parent_id)
            for m in self.movements
            if m.parent_id and m.kind is MovementKind.AUTHORIZATION and m.status not in NEVER_HELD
        }
        if not former:
            return self.movements
        adjusted = {parent for later, parent in former.items() if not _leads_back(later, former)}
        return tuple(
            m
            for m in self.movements
            if m.kind is not MovementKind.AUTHORIZATION or (m.account_id, m.provider_movement_id) not in adjusted
        )


_Hold = tuple[str, str]
"""An authorization by (account, the provider's id of it)."""


def _leads_back(start: _Hold, former: Mapping[_Hold, _Hold]) -> bool:
    """Whether the way from `start` to what each hold replaced comes round to it; at most one step for each hold."""
    step: _Hold | None = start
    for _ in former:
        step = former.get(step) if step is not None else None
        if step == start:
            return True
    return False


def _joined(left: tuple[Fact, ...], right: Iterable[Fact]) -> tuple[Fact, ...]:
    by_key = {fact.key: fact for fact in left}
    for fact in right:
        known = by_key.get(fact.key)
        by_key[fact.key] = fact if known is None else known.merge(fact)
    return tuple(by_key[key] for key in sorted(by_key))
