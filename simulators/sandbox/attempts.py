"""Attempts: the way from a new payment to money, or to a decline.

create -> confirm -> approved: an authorization (capture "manual") or a capture (capture "automatic": one
movement)
                  -> declined: open for another method
                  -> requires_action -> the customer approves or refuses
                  -> processing -> settled
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from simulators.effects import Origin, effect_of
from simulators.sandbox.changes import Change, Moment, bounded, evolved, with_due, without_due
from simulators.sandbox.outcomes import DECLINES, outcome_at, outcome_for
from simulators.sandbox.payment import (
    Attempt,
    AttemptStatus,
    Authorization,
    Capture,
    Decline,
    Fee,
    NextAction,
    Payment,
    PaymentStatus,
)
from simulators.sandbox.refusals import refused

CONFIRMABLE: tuple[PaymentStatus, ...] = (
    "requires_confirmation",
    "requires_payment_method",
    "requires_action",
)


def created(payment: Payment) -> Change:
    """A payment that waits to be confirmed."""
    return Change(payment, ("payment.updated",))


def confirmed(
    payment: Payment,
    moment: Moment,
    token: str | None,
    key: str | None,
    metadata: Mapping[str, str],
    return_url: str | None = None,
) -> Change:
    """One attempt with a payment method. Raises Refusal `payment_not_confirmable`, or for an unknown method."""
    if payment.status not in CONFIRMABLE:
        raise refused("payment_not_confirmable", f"A payment that is {payment.status} cannot be confirmed.")
    bounded("attempts", payment.attempt)
    method = token or payment.payment_method
    outcome = outcome_at(payment.account, method, payment.amount)
    trying = replace(
        payment,
        payment_method=method,
        return_url=return_url or payment.return_url,
        attempt=payment.attempt + 1,
        attempt_metadata=metadata,
        attempts=(
            *abandoned(payment),
            Attempt(payment.attempt + 1, "processing", metadata.get("obol_operation"), risk_level=outcome.risk),
        ),
        attempt_key=key,
        next_action=None,
    )
    match outcome.attempt:
        case "approve":
            return _approved(trying, moment, "request")
        case "decline":
            return _declined(trying, moment, outcome.decline or "card_declined")
        case "action":
            return _redirected(trying, moment)
        case "process":
            return _processing(trying, moment)


def acted(payment: Payment, moment: Moment, approved: bool) -> Change:
    """The customer approved or refused. Raises Refusal `no_action_required`."""
    if payment.status != "requires_action":
        raise refused("no_action_required", f"A payment that is {payment.status} waits for no customer.")
    outcome = outcome_for(payment.payment_method, payment.amount)
    if not approved:
        return _declined(payment, moment, "authentication_failed")
    if outcome.decline is not None:
        return _declined(payment, moment, outcome.decline)
    return _approved(payment, moment, "customer")


def settled(payment: Payment, moment: Moment, succeeded: bool) -> Change:
    """The bank's answer for a payment that is processing. Raises Refusal `payment_not_processing`."""
    if payment.status != "processing":
        raise refused("payment_not_processing", f"A payment that is {payment.status} is not processing.")
    held = payment.authorization
    if held is not None:
        rest = replace(payment, authorization=None, due=without_due(payment, held.id))
        if succeeded:
            return _authorized(rest, moment, "provider", held.id)
        failed = _declined(rest, moment, "processing_failed")
        return replace(
            failed,
            payment=replace(failed.payment, authorization=replace(held, status="failed", amount_capturable=0)),
        )
    pending = payment.captures[-1]
    rest = replace(payment, captures=payment.captures[:-1], due=without_due(payment, pending.id))
    if succeeded:
        return _sold(rest, moment, "provider", pending.id)
    failed = _declined(rest, moment, "processing_failed")
    ended = (*rest.captures, replace(pending, status="failed"))
    return replace(failed, payment=replace(failed.payment, captures=ended))


def fees_with(payment: Payment, moment: Moment, amount: int) -> tuple[Fee, ...]:
    """The payment's fees and the fee for one more capture, if the provider charges any."""
    fee = amount * moment.terms.fee_basis_points // 10_000
    return (*payment.fees, Fee(moment.mint("sfee"), fee)) if fee else payment.fees


def abandoned(payment: Payment) -> tuple[Attempt, ...]:
    """The payment's attempts, with a redirect that nobody will follow any more at its end: it failed."""
    if payment.status != "requires_action":
        return payment.attempts
    message, advice = DECLINES["authentication_failed"]
    return _attempts(payment, "failed", Decline("authentication_failed", message, advice, payment.attempt))


def dispute_due(payment: Payment, moment: Moment, capture_id: str) -> Payment:
    """The payment with its dispute to come, where its method is disputed and this is its first capture."""
    outcome = outcome_for(payment.payment_method, payment.amount)
    if not outcome.disputed or sum(each.status == "succeeded" for each in payment.captures) != 1:
        return payment
    return replace(payment, due=with_due(payment, moment, moment.terms.dispute_seconds, "dispute", capture_id))


def _approved(payment: Payment, moment: Moment, origin: Origin) -> Change:
    if payment.capture == "automatic":
        return _sold(payment, moment, origin, moment.mint("scap"))
    return _authorized(payment, moment, origin, moment.mint("sauth"))


def _sold(payment: Payment, moment: Moment, origin: Origin, capture_id: str) -> Change:
    told, key = payment.attempt_metadata or {}, payment.attempt_key
    capture = Capture(capture_id, payment.amount, "succeeded", True, told, moment.seconds, key)
    after = evolved(
        payment,
        moment,
        status="captured",
        captures=(*payment.captures, capture),
        fees=fees_with(payment, moment, payment.amount),
        attempts=_attempts(payment, "succeeded"),
        next_action=None,
    )
    effect = effect_of("capture", payment, capture_id, payment.amount, origin, told, key)
    return Change(dispute_due(after, moment, capture_id), ("payment.captured",), (effect,))


def _authorized(payment: Payment, moment: Moment, origin: Origin, authorization_id: str) -> Change:
    told, key = payment.attempt_metadata or {}, payment.attempt_key
    lasts = moment.terms.authorization_seconds
    held = Authorization(
        authorization_id, "succeeded", payment.amount, payment.amount, int(moment.now + lasts), told, key
    )
    due = with_due(payment, moment, lasts, "expire", authorization_id)
    attempts = _attempts(payment, "succeeded")
    after = evolved(
        payment,
        moment,
        status="authorized",
        authorization=held,
        adjustments=(),
        attempts=attempts,
        next_action=None,
        due=due,
    )
    effect = effect_of("authorization", payment, authorization_id, payment.amount, origin, told, key)
    return Change(after, ("payment.authorized",), (effect,))


def _declined(payment: Payment, moment: Moment, code: str) -> Change:
    message, advice = DECLINES[code]
    decline = Decline(code, message, advice, payment.attempt)
    after = evolved(
        payment,
        moment,
        status="requires_payment_method",
        last_decline=decline,
        attempts=_attempts(payment, "failed", decline),
        next_action=None,
    )
    return Change(after, ("payment.failed",), declined=True)


def _redirected(payment: Payment, moment: Moment) -> Change:
    action = NextAction("redirect", f"{moment.customer_url}{payment.id}", moment.mint("ssec"))
    attempts = _attempts(payment, "requires_action")
    after = evolved(payment, moment, status="requires_action", attempts=attempts, next_action=action)
    return Change(after, ("payment.requires_action",))


def _processing(payment: Payment, moment: Moment) -> Change:
    told, key = payment.attempt_metadata or {}, payment.attempt_key
    if payment.capture == "automatic":
        capture = Capture(moment.mint("scap"), payment.amount, "pending", True, told, moment.seconds, key)
        begun = evolved(payment, moment, status="processing", captures=(*payment.captures, capture))
        target = capture.id
    else:
        expires = int(moment.now + moment.terms.authorization_seconds)
        held = Authorization(moment.mint("sauth"), "pending", payment.amount, 0, expires, told, key)
        begun = evolved(payment, moment, status="processing", authorization=held)
        target = held.id
    due = with_due(begun, moment, moment.terms.processing_seconds, "settle", target)
    return Change(replace(begun, due=due), ("payment.processing",))


def _attempts(payment: Payment, status: AttemptStatus, decline: Decline | None = None) -> tuple[Attempt, ...]:
    """The payment's attempts with the last one at `status`."""
    *earlier, last = payment.attempts
    return (*earlier, replace(last, status=status, decline=decline))
