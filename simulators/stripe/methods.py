"""The test payment methods that Stripe publishes, as a table: what each one does, and which decline each code is.

https://docs.stripe.com/testing is the source; the one that is ours says so.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from simulators.stripe.refusals import Refusal, missing

DECLINED_MESSAGE = "Your card was declined."

MESSAGES: dict[str, str] = {
    "insufficient_funds": "Your card has insufficient funds.",
    "expired_card": "Your card has expired.",
    "incorrect_cvc": "Your card's security code is incorrect.",
    "processing_error": "An error occurred while processing your card. Try again in a little bit.",
    "card_velocity_exceeded": "Your card was declined: too many attempts, or more than its limit.",
}
OWN_CODES = frozenset({"expired_card", "incorrect_cvc", "processing_error", "incorrect_number"})
"""Declines whose `code` is the decline itself; the others are `card_declined` with a `decline_code`."""


@dataclass(frozen=True)
class TestMethod:
    """What a payment method does when it is charged, and afterwards.

    `decline` is the decline code where the attempt declines (after the customer's approval, for "action").
    `increment_decline` is that of an increment; `increments` says whether the card allows any.
    `settled` is how a processing attempt ends. `disputed` is the reason of the dispute that follows.
    """

    id: str
    explains: str
    kind: Literal["card", "us_bank_account"] = "card"
    attempt: Literal["approve", "action", "process", "decline"] = "approve"
    decline: str | None = None
    settled: Literal["succeeded", "failed"] = "succeeded"
    refund: Literal["succeeds", "pends", "fails"] = "succeeds"
    disputed: str | None = None
    inquiry: bool = False
    brand: str = "visa"
    last4: str = "4242"
    risk_level: Literal["normal", "elevated", "highest"] = "normal"
    blocked: bool = False
    increments: bool = True
    increment_decline: str | None = None


def _declining(name: str, code: str, last4: str = "0002") -> TestMethod:
    return TestMethod(f"pm_card_{name}", f"declines with {code}", attempt="decline", decline=code, last4=last4)


METHODS: dict[str, TestMethod] = {
    method.id: method
    for method in (
        TestMethod("pm_card_visa", "succeeds"),
        TestMethod("pm_card_visa_debit", "succeeds", last4="5556"),
        TestMethod("pm_card_mastercard", "succeeds", brand="mastercard", last4="4444"),
        TestMethod("pm_card_amex", "succeeds; cannot be incremented", brand="amex", last4="8431", increments=False),
        # Not Stripe's: its own test cards decline no increment.
        TestMethod("pm_card_incrementDeclined", "succeeds; increments decline", increment_decline="insufficient_funds"),
        _declining("visa_chargeDeclined", "generic_decline"),
        _declining("chargeDeclined", "generic_decline"),
        _declining("visa_chargeDeclinedInsufficientFunds", "insufficient_funds", "9995"),
        _declining("visa_chargeDeclinedLostCard", "lost_card", "9987"),
        _declining("visa_chargeDeclinedStolenCard", "stolen_card", "9979"),
        _declining("chargeDeclinedExpiredCard", "expired_card", "0069"),
        _declining("chargeDeclinedIncorrectCvc", "incorrect_cvc", "0127"),
        _declining("chargeDeclinedProcessingError", "processing_error", "0119"),
        _declining("visa_chargeDeclinedVelocityLimitExceeded", "card_velocity_exceeded", "6975"),
        _declining("chargeDeclinedUnheardOf", "quantum_flux", "0000"),  # not Stripe's: a code that no table knows
        TestMethod(
            "pm_card_radarBlock",
            "blocked by Radar as of the highest risk",
            attempt="decline",
            decline="fraudulent",
            last4="0019",
            risk_level="highest",
            blocked=True,
        ),
        TestMethod("pm_card_riskLevelElevated", "succeeds, of elevated risk", last4="9235", risk_level="elevated"),
        TestMethod(
            "pm_card_authenticationRequired", "asks for 3D Secure, then succeeds", attempt="action", last4="3184"
        ),
        TestMethod("pm_card_threeDSecureRequired", "asks for 3D Secure, then succeeds", attempt="action", last4="3063"),
        TestMethod(
            "pm_card_threeDSecure2Required", "asks for 3D Secure, then succeeds", attempt="action", last4="3220"
        ),
        TestMethod(
            "pm_card_threeDSecureRequiredChargeDeclined",
            "asks for 3D Secure, then declines",
            attempt="action",
            decline="generic_decline",
            last4="1629",
        ),
        TestMethod(
            "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds",
            "asks for 3D Secure, then declines with insufficient_funds",
            attempt="action",
            decline="insufficient_funds",
            last4="3178",
        ),
        TestMethod(
            "pm_card_createDispute", "succeeds; then disputed as fraudulent", disputed="fraudulent", last4="0259"
        ),
        TestMethod(
            "pm_card_createDisputeProductNotReceived",
            "succeeds; then disputed as not received",
            disputed="product_not_received",
            last4="2685",
        ),
        TestMethod(
            "pm_card_createDisputeInquiry",
            "succeeds; then the bank inquires",
            disputed="fraudulent",
            inquiry=True,
            last4="1976",
        ),
        TestMethod("pm_card_refundFail", "succeeds; a refund succeeds, then fails", refund="fails", last4="5126"),
        TestMethod("pm_card_pendingRefund", "succeeds; a refund pends, then succeeds", refund="pends", last4="7726"),
        TestMethod("pm_usBankAccount_success", "processes, then succeeds", kind="us_bank_account", attempt="process"),
        TestMethod(
            "pm_usBankAccount_insufficientFunds",
            "processes, then fails",
            kind="us_bank_account",
            attempt="process",
            settled="failed",
        ),
    )
}


def method_for(payment_method: str) -> TestMethod:
    """The method of this id. Raises Refusal."""
    found = METHODS.get(payment_method)
    if found is None:
        raise missing("PaymentMethod", payment_method, "payment_method", kept=True, in_body=True)
    return found


def decline_error(decline: str, **more: Any) -> Refusal:
    """402: the bank, or Radar, says no."""
    code = decline if decline in OWN_CODES else "card_declined"
    told = {"decline_code": decline} | more
    return Refusal(402, "card_error", code, MESSAGES.get(decline, DECLINED_MESSAGE), kept=True, more=told)


def authentication_error() -> Refusal:
    """What a payment shows after its payer has failed 3D Secure."""
    message = "The provided PaymentMethod has failed authentication. Provide another one to try again."
    return Refusal(402, "card_error", "payment_intent_authentication_failure", message, kept=True)


def published() -> dict[str, Any]:
    """The table, as JSON."""
    return {"methods": [asdict(method) for method in METHODS.values()]}
