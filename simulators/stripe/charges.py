"""Charges: what an attempt comes to, and what happens to its money afterwards: refunds, disputes."""

from __future__ import annotations

from typing import Any

from simulators.effects import Origin
from simulators.stripe.books import Step
from simulators.stripe.methods import method_for
from simulators.stripe.objects import Object, dispute, minted, refund
from simulators.stripe.refusals import Refusal, refused

REFUND_STEPS: dict[str, tuple[str, ...]] = {
    "pending": ("succeeded", "failed", "canceled"),
    "succeeded": ("failed",),
    "failed": (),
    "canceled": (),
}
DISPUTE_STEPS: dict[str, tuple[str, ...]] = {
    "warning_needs_response": ("warning_under_review", "warning_closed", "needs_response"),
    "warning_under_review": ("warning_closed", "needs_response"),
    "warning_closed": (),
    "needs_response": ("under_review", "won", "lost"),
    "under_review": ("won", "lost"),
    "won": (),
    "lost": (),
}


def sold(step: Step, intent: Object, taken: Object, origin: Origin) -> Object:
    """The money is taken."""
    method = method_for(intent["payment_method"])
    taken |= {
        "amount_captured": taken["amount"],
        "balance_transaction": minted("txn"),
        "captured": True,
        "paid": True,
        "status": "succeeded",
        "_due": dispute_due(step, method.disputed),
    }
    intent |= {"status": "succeeded", "amount_received": taken["amount"], "last_payment_error": None}
    step.effect("capture", taken["id"], taken, taken["amount"], origin, taken["metadata"])
    step.tell("charge.succeeded", taken)
    step.tell("payment_intent.succeeded", intent)
    return intent


def held(step: Step, intent: Object, taken: Object, origin: Origin) -> Object:
    """The money is held, until it is captured, cancelled, or the hold expires."""
    taken |= {"paid": True, "status": "succeeded"}
    lasts = step.terms.authorization_seconds
    intent |= {
        "status": "requires_capture",
        "amount_capturable": taken["amount"],
        "last_payment_error": None,
        "_due": {"at": step.now + lasts, "action": "expire"},
    }
    step.effect("authorization", taken["id"], taken, taken["amount"], origin, taken["metadata"])
    step.tell("charge.succeeded", taken)
    step.tell("payment_intent.amount_capturable_updated", intent)
    return intent


def declined(step: Step, intent: Object, taken: Object, refusal: Refusal) -> Object:
    """The attempt failed; the PaymentIntent is open for another method."""
    taken |= {"status": "failed", "failure_code": refusal.code, "failure_message": refusal.message}
    intent |= {
        "status": "requires_payment_method",
        "payment_method": None,
        "last_payment_error": last_error(refusal),
        "processing": None,
    }
    step.tell("charge.failed", taken)
    step.tell("payment_intent.payment_failed", intent)
    return intent


def last_error(refusal: Refusal) -> dict[str, Any]:
    """A refusal as `last_payment_error` tells it."""
    told: dict[str, Any] = refusal.body()["error"]
    return told


def refunded(
    step: Step, of: Object, amount: int | None, reason: str | None, metadata: dict[str, str], origin: Origin
) -> Object:
    """Give money back: all that is left unless `amount` says less. Raises Refusal.

    Where the terms trust, a request is held to what was captured, and not to what is left of it.
    """
    left = of["amount_captured"] - refunded_amount(step, of)
    if step.terms.trusting and origin == "request" and amount is not None:
        left = of["amount_captured"]
    if not of["amount_captured"]:
        raise refused("charge_not_refundable", "This charge has not been captured.", "payment_intent")
    given = left if amount is None else amount
    if left <= 0:
        raise refused("charge_already_refunded", f"Charge {of['id']} has already been refunded.")
    if given > left:
        message = f"Refund amount ({given}) is greater than unrefunded amount on charge ({left})"
        raise refused("amount_too_large", message, "amount")
    behaviour = method_for(of["payment_method"]).refund if origin == "request" else "succeeds"
    status = "pending" if behaviour == "pends" else "succeeded"
    taken = {**of, "captured": True}
    made = step.add(refund(taken, given, step.created_at(), status=status, reason=reason, metadata=metadata))
    if behaviour != "succeeds" and step.terms.refund_seconds is not None:
        made["_due"] = {"at": step.now + step.terms.refund_seconds, "action": "refund"}
    of["amount_refunded"] += given
    of["refunded"] = given >= left
    if status == "succeeded":
        step.effect("refund", made["id"], of, given, origin, metadata)
    step.tell("charge.refunded", of)
    step.tell("refund.created", made)
    return made


def refunded_amount(step: Step, of: Object) -> int:
    """What was given back of what was taken, or is on its way."""
    stored = {each["id"]: each for each in step.books.of_payment(step.scope, "refund", of["payment_intent"])}
    known = {**stored, **{key: each for key, each in step.changed.items() if each["object"] == "refund"}}
    return sum(
        each["amount"]
        for each in known.values()
        if each["charge"] == of["id"] and each["balance_transaction"] and each["status"] in ("pending", "succeeded")
    )


def refund_moved(step: Step, made: Object, status: str, failure: str = "lost_or_stolen_card") -> Object:
    """A refund goes on, or fails after all. Raises Refusal."""
    if status not in REFUND_STEPS[made["status"]]:
        raise refused(None, f"A refund that is {made['status']} cannot become {status}.", "status")
    before = made["status"]
    made |= {"status": status, "_due": None}
    of = step.load("charge", made["charge"])
    if status == "succeeded":
        step.effect("refund", made["id"], of, made["amount"], "request", made["metadata"])
    else:
        # Where nothing was on the balance there is nothing that takes it off again, and no null either.
        taken = {"failure_balance_transaction": minted("txn")} if before == "succeeded" else {}
        made |= {"failure_reason": failure, **taken}
        of["amount_refunded"] -= made["amount"]
        of["refunded"] = False
        if before == "succeeded":
            step.effect("reversal", made["id"], of, made["amount"], "provider", {})
    step.tell("refund.updated", made)
    step.tell("refund.failed" if status == "failed" else "charge.refund.updated", made)
    return made


def disputed(step: Step, of: Object, amount: int | None, status: str, reason: str) -> Object:
    """The payer's bank asks money back, or asks about it. Raises Refusal."""
    asked = of["amount_captured"] if amount is None else amount
    if not 0 < asked <= of["amount_captured"]:
        raise refused(None, f"Only {of['amount_captured']} was captured.", "amount")
    made = step.add(dispute(of, asked, step.created_at(), status=status, reason=reason))
    of |= {"disputed": True, "_due": None}
    if not status.startswith("warning"):
        step.effect("dispute", made["id"], of, asked, "provider", {})
    step.tell("charge.dispute.created", made)
    return made


def dispute_moved(step: Step, made: Object, status: str) -> Object:
    """A dispute goes on, or ends. Raises Refusal."""
    if status not in DISPUTE_STEPS[made["status"]]:
        raise refused(None, f"A dispute that is {made['status']} cannot become {status}.", "status")
    before = made["status"]
    made["status"] = status
    of = step.load("charge", made["charge"])
    if status == "needs_response" and before.startswith("warning"):
        step.effect("dispute", made["id"], of, made["amount"], "provider", {})
        step.tell("charge.dispute.funds_withdrawn", made)
    elif status == "won":
        step.effect("reversal", made["id"], of, made["amount"], "provider", {})
        step.tell("charge.dispute.funds_reinstated", made)
    closed = status in ("won", "lost", "warning_closed")
    step.tell("charge.dispute.closed" if closed else "charge.dispute.updated", made)
    return made


def dispute_due(step: Step, reason: str | None) -> Object | None:
    """When the dispute comes of money that was just taken, where its method is disputed."""
    if reason is None or step.terms.dispute_seconds is None:
        return None
    return {"at": step.now + step.terms.dispute_seconds, "action": "dispute"}
