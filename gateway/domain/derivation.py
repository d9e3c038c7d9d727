"""State is derived: a total function from facts and from the commands that opened the payment.

Precedence, first match wins: REFUNDED, PARTIALLY_REFUNDED, CAPTURED, PARTIALLY_CAPTURED, UNKNOWN (of create and confirm
only), CANCELLED, EXPIRED, AUTHORIZED, PROCESSING, REQUIRES_ACTION, FAILED, CREATED. Money that came and went (a capture
taken back, a hold that was let go) tells the state until a later try at the open object is under way.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from gateway.domain.movements import (
    Attempt,
    AttemptStatus,
    Closure,
    Facts,
    MovementKind,
    MovementStatus,
)
from gateway.domain.states import CommandState, DisputeState, PaymentState


@dataclass(frozen=True, slots=True)
class MoneySums:
    """Sums of movements in minor units; `refunded` includes pending refunds, `disputed` is open and lost.

    `authorized_open` is what is held and not closed, whether captured from or not, less what a capture took and lost
    again: a reversed capture does not refill the hold that it came from. An authorization that was adjusted counts
    once, at its latest total.
    """

    authorized_minor: int = 0
    authorized_open_minor: int = 0
    captured_minor: int = 0
    capture_pending_minor: int = 0
    refunded_minor: int = 0
    refund_pending_minor: int = 0
    disputed_minor: int = 0
    fee_minor: int = 0


def derive_sums(facts: Facts) -> MoneySums:
    """The amounts of a payment; every one is a sum of movements."""
    totals: dict[tuple[MovementKind, MovementStatus], int] = defaultdict(int)
    for movement in facts.standing():
        totals[movement.kind, movement.status] += movement.amount_minor
    kind, status = MovementKind, MovementStatus
    held_minor = totals[kind.AUTHORIZATION, status.SUCCEEDED]
    closed_minor = totals[kind.AUTHORIZATION, status.EXPIRED] + totals[kind.AUTHORIZATION, status.RELEASED]
    used_up_minor = max(0, totals[kind.CAPTURE, status.REVERSED] - closed_minor)
    refund_pending_minor = totals[kind.REFUND, status.PENDING]
    return MoneySums(
        authorized_minor=held_minor + closed_minor,
        authorized_open_minor=max(0, held_minor - used_up_minor),
        captured_minor=totals[kind.CAPTURE, status.SUCCEEDED],
        capture_pending_minor=totals[kind.CAPTURE, status.PENDING],
        refunded_minor=totals[kind.REFUND, status.SUCCEEDED] + refund_pending_minor,
        refund_pending_minor=refund_pending_minor,
        disputed_minor=totals[kind.DISPUTE, status.OPEN] + totals[kind.DISPUTE, status.LOST],
        fee_minor=totals[kind.FEE, status.SUCCEEDED],
    )


def derive_payment_state(facts: Facts, entry: Collection[CommandState]) -> PaymentState:
    """The payment axis; `entry` holds the states of the payment's create and confirm operations."""
    money = _money_state(facts)
    if money is not None:
        return money
    return PaymentState.UNKNOWN if CommandState.UNKNOWN in entry else _flow_state(facts, entry)


def derive_dispute_state(facts: Facts) -> DisputeState:
    """The dispute axis: what hurts most among all disputes of the payment."""
    statuses = {movement.status for movement in facts.movements if movement.kind is MovementKind.DISPUTE}
    for status, state in (
        (MovementStatus.OPEN, DisputeState.OPEN),
        (MovementStatus.INQUIRY, DisputeState.INQUIRY),
        (MovementStatus.LOST, DisputeState.LOST),
        (MovementStatus.WON, DisputeState.WON),
    ):
        if status in statuses:
            return state
    return DisputeState.NONE


def _money_state(facts: Facts) -> PaymentState | None:
    sums = derive_sums(facts)
    refunded = sums.refunded_minor - sums.refund_pending_minor
    if sums.captured_minor == 0:
        return None
    if refunded >= sums.captured_minor:
        return PaymentState.REFUNDED
    if refunded > 0:
        return PaymentState.PARTIALLY_REFUNDED
    if sums.captured_minor < sums.authorized_open_minor:
        return PaymentState.PARTIALLY_CAPTURED
    return PaymentState.CAPTURED


def _flow_state(facts: Facts, entry: Collection[CommandState]) -> PaymentState:
    closures = {view.closure for view in facts.objects}
    if closures and Closure.OPEN not in closures:
        return PaymentState.CANCELLED if Closure.CANCELLED in closures else PaymentState.EXPIRED
    if derive_sums(facts).authorized_open_minor > 0:
        return PaymentState.AUTHORIZED
    standing = facts.standing()
    holds = [movement for movement in standing if movement.kind is MovementKind.AUTHORIZATION]
    captures = [movement for movement in standing if movement.kind is MovementKind.CAPTURE]
    if any(m.status is MovementStatus.PENDING for m in (*holds, *captures)):
        return PaymentState.PROCESSING
    if _tried_again(facts, [m.operation_id for m in (*holds, *captures) if m.status is not MovementStatus.FAILED]):
        return _attempt_state(facts, entry)
    if any(m.status is MovementStatus.REVERSED for m in captures):
        return PaymentState.FAILED
    if any(m.status is MovementStatus.RELEASED for m in holds):
        return PaymentState.CANCELLED
    if any(m.status is MovementStatus.EXPIRED for m in holds):
        return PaymentState.EXPIRED
    return _attempt_state(facts, entry)


def _tried_again(facts: Facts, with_money: Collection[str | None]) -> bool:
    """Whether a later try is under way than those whose money has come and gone."""
    last = _last_attempt(facts)
    under_way = last is not None and last.status in (AttemptStatus.REQUIRES_ACTION, AttemptStatus.PENDING)
    return under_way and last is not None and last.operation_id not in with_money


def _last_attempt(facts: Facts) -> Attempt | None:
    """The last try at an object that is open."""
    open_objects = {view.key for view in facts.objects if view.closure is Closure.OPEN}
    attempts = [a for a in facts.attempts if (a.account_id, a.provider_payment_id) in open_objects]
    # Several objects exist only after a failover, which takes place when the former is closed: the last one speaks.
    return max(attempts, key=lambda attempt: (attempt.ordinal, attempt.key), default=None)


def _attempt_state(facts: Facts, entry: Collection[CommandState]) -> PaymentState:
    last = _last_attempt(facts)
    if last is None:
        never_opened = not facts.objects and bool(entry) and set(entry) <= {CommandState.FAILED}
        return PaymentState.FAILED if never_opened else PaymentState.CREATED
    return {
        AttemptStatus.REQUIRES_ACTION: PaymentState.REQUIRES_ACTION,
        AttemptStatus.PENDING: PaymentState.PROCESSING,
        AttemptStatus.FAILED: PaymentState.FAILED,
        # The provider says yes and no money is seen yet: it is on its way, and only evidence ends that.
        AttemptStatus.SUCCEEDED: PaymentState.PROCESSING,
    }[last.status]
