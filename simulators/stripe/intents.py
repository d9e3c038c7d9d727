"""PaymentIntents: the way from a new one to money, or to a decline.

create -> confirm -> approved: captured, or held until it is captured (capture_method "manual")
                  -> declined: requires_payment_method again
                  -> requires_action -> the payer approves or refuses
                  -> processing -> settled
"""

from __future__ import annotations

from simulators.effects import Origin
from simulators.stripe.books import Step
from simulators.stripe.charges import declined, dispute_due, held, last_error, sold
from simulators.stripe.methods import TestMethod, authentication_error, decline_error, method_for
from simulators.stripe.objects import Object, charge, refund, shown
from simulators.stripe.refusals import Refusal, invalid, refused

CONFIRMABLE = ("requires_payment_method", "requires_confirmation", "requires_action")
INCREMENTS_MAX = 10
CANCELLABLE = (*CONFIRMABLE, "requires_capture", "processing")


class Declined(Exception):
    """The step stands, and its answer is this refusal with the PaymentIntent inside."""

    def __init__(self, intent: Object, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.intent, self.refusal = intent, refusal


def unexpected(intent: Object, what: str) -> Refusal:
    """400: its status forbids it."""
    message = f"You cannot {what} this PaymentIntent because it has a status of {intent['status']}."
    return refused("payment_intent_unexpected_state", message, payment_intent=shown(intent))


def confirm(step: Step, intent: Object, payment_method: str | None, return_url: str | None) -> Object:
    """One attempt. Raises Refusal, and Declined where the attempt was made and failed."""
    if intent["status"] not in CONFIRMABLE:
        raise unexpected(intent, "confirm")
    wanted = payment_method or intent["payment_method"]
    if wanted is None:
        message = "You cannot confirm this PaymentIntent because it's missing a payment method."
        raise refused("payment_intent_unexpected_state", message, "payment_method", payment_intent=shown(intent))
    method = method_for(wanted)
    if method.kind == "us_bank_account" and intent["capture_method"] == "manual":
        # A bank account is debited at once or not at all: nothing can be held there.
        message = "The payment method type us_bank_account cannot be used with capture_method=manual."
        raise refused("payment_intent_incompatible_payment_method", message, "payment_method")
    intent |= {
        "payment_method": wanted,
        "next_action": None,
        "_key": step.key,
        "_return_url": return_url or intent.get("_return_url"),
    }
    if method.attempt == "action":
        return _asked(step, intent)
    return _charged(step, intent, method, "request")


def acted(step: Step, intent: Object, *, approved: bool) -> Object:
    """The payer has answered 3D Secure. Raises Refusal, and Declined as `confirm` does."""
    if intent["status"] != "requires_action":
        raise unexpected(intent, "authenticate")
    intent["next_action"] = None
    if approved:
        return _charged(step, intent, method_for(intent["payment_method"]), "customer")
    refusal = authentication_error()
    intent |= {"status": "requires_payment_method", "payment_method": None, "last_payment_error": last_error(refusal)}
    step.tell("payment_intent.payment_failed", intent)
    raise Declined(intent, refusal)


def settled(step: Step, intent: Object, *, succeeded: bool) -> Object:
    """The bank's word on a payment that is processing. Raises Refusal, and Declined."""
    if intent["status"] != "processing":
        raise unexpected(intent, "settle")
    taken = step.load("charge", intent["latest_charge"])
    taken["_due"] = None
    if succeeded:
        return sold(step, intent, taken, "provider")
    refusal = decline_error("insufficient_funds", charge=taken["id"])
    raise Declined(declined(step, intent, taken, refusal), refusal)


def cancel(step: Step, intent: Object, reason: str | None, *, expired: bool = False) -> Object:
    """Close it, and let go what is held. Raises Refusal."""
    if intent["status"] not in CANCELLABLE:
        raise unexpected(intent, "cancel")
    if intent["latest_charge"] and intent["amount_capturable"]:
        origin: Origin = "provider" if expired else "request"
        _released(step, step.load("charge", intent["latest_charge"]), intent, origin, expired=expired)
    part = intent["amount_received"] > 0
    intent |= {
        # What was captured already stays captured.
        "status": "succeeded" if part else "canceled",
        "amount_capturable": 0,
        "canceled_at": None if part else step.seconds,
        "cancellation_reason": None if part else reason,
        "next_action": None,
        "_due": None,
    }
    step.tell("payment_intent.succeeded" if part else "payment_intent.canceled", intent)
    return intent


def capture(step: Step, intent: Object, amount: int | None, *, final: bool, metadata: dict[str, str]) -> Object:
    """Take money from what is held. Raises Refusal `amount_too_large`, or for its status."""
    if intent["status"] != "requires_capture":
        raise unexpected(intent, "capture")
    taken = step.load("charge", intent["latest_charge"])
    left = intent["amount_capturable"]
    wanted = left if amount is None else amount
    if wanted > left:
        message = f"The amount could not be captured: it is greater than the {left} that are left to capture."
        raise refused("amount_too_large", message, "amount_to_capture")
    if not final and not intent.get("_multicapture"):
        raise refused(None, "This PaymentIntent is not eligible for multiple captures.", "final_capture")
    intent["metadata"] |= metadata
    if not taken["amount_captured"]:
        taken["_due"] = dispute_due(step, method_for(taken["payment_method"]).disputed)
    taken["amount_captured"] += wanted
    closed = final or wanted == left
    movement = f"{taken['id']}/{metadata['obol_operation']}" if "obol_operation" in metadata else taken["id"]
    step.effect("capture", movement, taken, wanted, "request", metadata)
    intent["amount_received"] += wanted
    intent["amount_capturable"] = 0 if closed else left - wanted
    if closed:
        taken["captured"] = True
        _release_rest(step, taken)
        intent |= {"status": "succeeded", "_due": None}
    step.tell("charge.captured", taken)
    step.tell("payment_intent.succeeded" if closed else "payment_intent.amount_capturable_updated", intent)
    return intent


def increment(step: Step, intent: Object, total: int, metadata: dict[str, str]) -> Object:
    """Hold `total` instead. Raises Refusal, also where the bank declines: then nothing has changed."""
    if intent["status"] != "requires_capture" or intent["amount_received"]:
        raise unexpected(intent, "increment")
    taken = step.load("charge", intent["latest_charge"])
    card = taken["payment_method_details"].get("card", {})
    if card.get("incremental_authorization", {}).get("status") != "available":
        raise refused(None, "This PaymentIntent is not eligible for incremental authorizations.")
    if total <= intent["amount"]:
        raise refused(
            "amount_too_small", f"The amount must be greater than the {intent['amount']} authorized.", "amount"
        )
    attempts = intent.get("_increments", 0)
    if attempts >= INCREMENTS_MAX:
        raise refused(None, f"A PaymentIntent can be incremented {INCREMENTS_MAX} times.")
    intent["_increments"] = attempts + 1
    method = method_for(taken["payment_method"])
    if method.increment_decline is not None:
        # "no fields on the PaymentIntent or Charge are updated", says the reference: the attempt alone counts.
        raise Declined(intent, decline_error(method.increment_decline, charge=taken["id"]))
    intent["metadata"] |= metadata
    intent |= {"amount": total, "amount_capturable": total}
    taken["amount"] = card["amount_authorized"] = total
    movement = f"{taken['id']}/{metadata['obol_operation']}" if "obol_operation" in metadata else taken["id"]
    step.effect("authorization", movement, taken, total, "request", metadata)
    step.tell("payment_intent.amount_capturable_updated", intent)
    return intent


def _asked(step: Step, intent: Object) -> Object:
    if intent.get("_return_url"):
        url = f"{step.customer_url}{intent['id']}"
        action = {"type": "redirect_to_url", "redirect_to_url": {"return_url": intent["_return_url"], "url": url}}
    else:
        action = {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}
    intent |= {"status": "requires_action", "next_action": action}
    step.tell("payment_intent.requires_action", intent)
    return intent


def _charged(step: Step, intent: Object, method: TestMethod, origin: Origin) -> Object:
    taken = step.add(charge(intent, method, step.created_at()))
    if intent["capture_method"] == "manual" and method.kind == "card":
        available = intent.get("_incremental") and method.increments
        taken["payment_method_details"]["card"] |= {
            "amount_authorized": intent["amount"],
            "incremental_authorization": {"status": "available" if available else "unavailable"},
        }
    intent["latest_charge"] = taken["id"]
    if method.decline is not None:
        refusal = decline_error(method.decline, charge=taken["id"])
        raise Declined(declined(step, intent, taken, refusal), refusal)
    if method.attempt == "process":
        intent["status"] = "processing"
        wait = step.terms.processing_seconds
        taken["_due"] = None if wait is None else {"at": step.now + wait, "action": "settle"}
        step.tell("payment_intent.processing", intent)
        step.tell("charge.pending", taken)
        return intent
    if intent["capture_method"] == "manual":
        return held(step, intent, taken, origin)
    return sold(step, intent, taken, origin)


def _released(step: Step, taken: Object, intent: Object, origin: Origin, *, expired: bool) -> None:
    left = intent["amount_capturable"]
    taken["amount_refunded"] += left
    taken["refunded"] = not taken["amount_captured"]
    taken["captured"] = bool(taken["amount_captured"])
    # A cancellation takes no metadata, so that nobody can tell by the log which one it was.
    step.effect("void", taken["id"], taken, left, origin, {})
    step.tell("charge.expired" if expired else "charge.refunded", taken)


def _release_rest(step: Step, taken: Object) -> None:
    """A capture of a part shows as a refund of the rest, which was never taken."""
    rest = taken["amount"] - taken["amount_captured"]
    if rest:
        made = refund({**taken, "captured": False}, rest, step.seconds, status="succeeded", reason=None, metadata={})
        step.add(made)
        taken["amount_refunded"] += rest
        step.tell("charge.refunded", taken)


def checked_currency(text: str | None) -> str:
    """A currency code in lower case. Raises Refusal."""
    if text is None:
        raise invalid("parameter_missing", "Missing required param: currency.", "currency")
    if len(text) != 3 or not text.isascii() or not text.isalpha():
        raise invalid(None, f"Invalid currency: {text[:8]}", "currency")
    return text.lower()
