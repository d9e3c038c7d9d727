"""Movements: what happens to money after an attempt succeeded. Capture, cancel, refund, expiry, reversal, dispute.

Which status may follow which is data: REFUND_STEPS and DISPUTE_STEPS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from simulators.effects import Effect, Origin, effect_of
from simulators.sandbox.attempts import CONFIRMABLE, abandoned, dispute_due, fees_with
from simulators.sandbox.changes import Change, Moment, bounded, evolved, with_due, without_due
from simulators.sandbox.outcomes import DECLINES, outcome_for
from simulators.sandbox.payment import (
    Capture,
    Decline,
    Dispute,
    DisputeStatus,
    Payment,
    PaymentStatus,
    Refund,
    RefundStatus,
)
from simulators.sandbox.refusals import missing, refused

CAPTURABLE: tuple[PaymentStatus, ...] = ("authorized", "partially_captured")
REFUND_STEPS: dict[RefundStatus, tuple[RefundStatus, ...]] = {
    "pending": ("succeeded", "failed"),
    "succeeded": ("failed", "reversed"),
    "failed": (),
    "reversed": (),
}
DISPUTE_STEPS: dict[DisputeStatus, tuple[DisputeStatus, ...]] = {
    "inquiry": ("inquiry_closed", "open"),
    "inquiry_closed": (),
    "open": ("won", "lost"),
    "won": (),
    "lost": (),
}


def captured(
    payment: Payment,
    moment: Moment,
    amount: int | None,
    final: bool,
    key: str | None,
    metadata: Mapping[str, str],
) -> Change:
    """Take money from the authorization: all that is left unless `amount` says less. `final` closes the rest.

    Raises Refusal `payment_not_capturable`, `amount_too_large`.
    """
    held = payment.authorization
    if payment.status not in CAPTURABLE or held is None:
        raise refused("payment_not_capturable", f"A payment that is {payment.status} cannot be captured.")
    taken = held.amount_capturable if amount is None else amount
    if taken > held.amount_capturable:
        raise refused("amount_too_large", f"Only {held.amount_capturable} is left to capture.", "amount")
    bounded("captures", len(payment.captures))
    left = held.amount_capturable - taken
    closed = final or left == 0
    capture = Capture(moment.mint("scap"), taken, "succeeded", final, metadata, moment.seconds, key)
    after = evolved(
        payment,
        moment,
        status="captured" if closed else "partially_captured",
        authorization=replace(
            held,
            amount_capturable=0 if closed else left,
            status="released" if closed and left else "succeeded",
        ),
        captures=(*payment.captures, capture),
        fees=fees_with(payment, moment, taken),
        due=without_due(payment, held.id) if closed else payment.due,
    )
    effect = effect_of("capture", payment, capture.id, taken, "request", metadata, key)
    event = "payment.captured" if closed else "payment.partially_captured"
    return Change(dispute_due(after, moment, capture.id), (event,), (effect,))


def cancelled(
    payment: Payment, moment: Moment, reason: str | None, key: str | None, metadata: Mapping[str, str]
) -> Change:
    """Close the payment, or what is left of its authorization. Raises Refusal `payment_not_cancellable`."""
    if payment.status not in (*CONFIRMABLE, *CAPTURABLE):
        raise refused("payment_not_cancellable", f"A payment that is {payment.status} cannot be cancelled.")
    closed, effects = _closed(payment, "request", metadata, key)
    status = "captured" if payment.captured else "cancelled"
    after = evolved(
        closed,
        moment,
        status=status,
        cancellation_reason=reason,
        cancellation_metadata=metadata,
        attempts=abandoned(payment),
        next_action=None,
    )
    return Change(after, ("payment.cancelled",), effects)


def expired(payment: Payment, moment: Moment) -> Change:
    """The provider gives up waiting. Raises Refusal `payment_not_expirable` once nothing is open."""
    if payment.status not in (*CONFIRMABLE, *CAPTURABLE):
        raise refused("payment_not_expirable", f"A payment that is {payment.status} cannot expire.")
    closed, effects = _closed(payment, "provider", {}, None)
    if closed.authorization is not None and effects:
        closed = replace(closed, authorization=replace(closed.authorization, status="expired"))
    status = "captured" if payment.captured else "expired"
    after = evolved(closed, moment, status=status, attempts=abandoned(payment), next_action=None)
    return Change(after, ("payment.expired",), effects)


def refunded(
    payment: Payment,
    moment: Moment,
    amount: int | None,
    reason: str | None,
    key: str | None,
    metadata: Mapping[str, str],
    origin: Origin = "request",
) -> Change:
    """Give money back: all that is refundable unless `amount` says less. Raises Refusal `refund_exceeds_captured`."""
    given = payment.refundable if amount is None else amount
    trusted = moment.terms.trusting and origin == "request" and given <= payment.captured
    if given <= 0 or not (trusted or given <= payment.refundable):
        raise refused("refund_exceeds_captured", f"Only {payment.refundable} is left to refund.", "amount")
    bounded("refunds", len(payment.refunds))
    behaviour = "succeeds" if origin == "dashboard" else outcome_for(payment.payment_method, payment.amount).refund
    status: RefundStatus = "pending" if behaviour == "pends" else "succeeded"
    refund = Refund(moment.mint("sref"), given, status, reason, metadata, moment.seconds, key)
    after = evolved(payment, moment, refunds=(*payment.refunds, refund))
    if behaviour != "succeeds":
        after = replace(after, due=with_due(after, moment, moment.terms.refund_seconds, "refund", refund.id))
    effect = effect_of("refund", payment, refund.id, given, origin, metadata, key)
    return Change(after, ("refund.created",), () if status == "pending" else (effect,))


def refund_moved(payment: Payment, moment: Moment, refund_id: str, status: RefundStatus) -> Change:
    """A refund ends, or comes back. Raises Refusal `refund_step_refused` for a step that REFUND_STEPS has not."""
    refund = next(each for each in payment.refunds if each.id == refund_id)
    if status not in REFUND_STEPS[refund.status]:
        raise refused("refund_step_refused", f"A refund that is {refund.status} cannot become {status}.", "status")
    moved = tuple(replace(each, status=status) if each.id == refund_id else each for each in payment.refunds)
    after = evolved(payment, moment, refunds=moved, due=without_due(payment, refund_id))
    effects: tuple[Effect, ...] = ()
    if status == "succeeded":
        effects = (effect_of("refund", payment, refund_id, refund.amount, "provider", refund.metadata, refund.key),)
    elif refund.status == "succeeded":
        effects = (effect_of("reversal", payment, refund_id, refund.amount, "provider"),)
    return Change(after, ("refund.updated",), effects)


def capture_reversed(payment: Payment, moment: Moment, capture_id: str | None) -> Change:
    """The bank takes a capture back (the last one unless named). Raises Refusal `no_such_capture`."""
    found = [each for each in payment.captures if each.status == "succeeded" and capture_id in (None, each.id)]
    if not found:
        raise missing("capture", capture_id or "that succeeded", kept=True)
    capture = found[-1]
    moved = tuple(replace(each, status="reversed") if each.id == capture.id else each for each in payment.captures)
    after = evolved(payment, moment, captures=moved)
    if not after.captured:
        after = _reopened(after)
    effect = effect_of("reversal", payment, capture.id, capture.amount, "provider")
    return Change(after, ("payment.updated",), (effect,))


def disputed(payment: Payment, moment: Moment, amount: int | None, status: DisputeStatus, reason: str) -> Change:
    """The customer's bank asks money back, or asks about it. Raises Refusal `dispute_exceeds_captured`."""
    asked = payment.captured if amount is None else amount
    if not 0 < asked <= payment.captured:
        raise refused("dispute_exceeds_captured", f"Only {payment.captured} was captured.", "amount")
    if status not in ("inquiry", "open"):
        raise refused("dispute_step_refused", f"A dispute cannot begin as {status}.", "status")
    bounded("disputes", len(payment.disputes))
    dispute = Dispute(moment.mint("sdis"), asked, status, reason, moment.seconds)
    after = evolved(payment, moment, disputes=(*payment.disputes, dispute))
    effect = effect_of("dispute", payment, dispute.id, asked, "provider")
    return Change(after, ("dispute.opened",), (effect,) if status == "open" else ())


def dispute_moved(payment: Payment, moment: Moment, dispute_id: str, status: DisputeStatus) -> Change:
    """A dispute goes on or ends. Raises Refusal `dispute_step_refused` for a step that DISPUTE_STEPS has not."""
    dispute = next(each for each in payment.disputes if each.id == dispute_id)
    if status not in DISPUTE_STEPS[dispute.status]:
        raise refused("dispute_step_refused", f"A dispute that is {dispute.status} cannot become {status}.", "status")
    moved = tuple(replace(each, status=status) if each.id == dispute_id else each for each in payment.disputes)
    effects: tuple[Effect, ...] = ()
    if status == "open":
        effects = (effect_of("dispute", payment, dispute_id, dispute.amount, "provider"),)
    elif status == "won":
        effects = (effect_of("reversal", payment, dispute_id, dispute.amount, "provider"),)
    event = "dispute.updated" if status == "open" else "dispute.closed"
    return Change(evolved(payment, moment, disputes=moved), (event,), effects)


def _reopened(payment: Payment) -> Payment:
    """A payment whose money all went back: authorized while some is capturable, else open for another method."""
    held = payment.authorization
    if held is not None and held.amount_capturable:
        return replace(payment, status="authorized")
    message, advice = DECLINES["processing_failed"]
    return replace(
        payment,
        status="requires_payment_method",
        authorization=held and replace(held, status="released"),
        last_decline=Decline("processing_failed", message, advice, payment.attempt),
    )


def _closed(
    payment: Payment, origin: Origin, metadata: Mapping[str, str], key: str | None
) -> tuple[Payment, tuple[Effect, ...]]:
    """The payment without what was left of its authorization, and the void of that, if anything was left."""
    held = payment.authorization
    if held is None or not held.amount_capturable:
        return payment, ()
    effect = effect_of("void", payment, held.id, held.amount_capturable, origin, metadata, key)
    released = replace(held, status="released", amount_capturable=0)
    return replace(payment, authorization=released, due=without_due(payment, held.id)), (effect,)
