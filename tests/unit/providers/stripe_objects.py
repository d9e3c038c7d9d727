"""Stripe's objects as the tests tell them, and the requests that they answer."""

from types import MappingProxyType
from typing import Any

from gateway.domain.commands import Caller, PreparedRequest
from gateway.domain.derivation import derive_dispute_state, derive_payment_state, derive_sums
from gateway.domain.movements import Facts
from gateway.domain.payments import CaptureMethod, ConfirmationMethod, Payment, PaymentTerms
from gateway.domain.providers import OperationReference, Snapshot
from providers.fields import Fields
from providers.stripe import requests
from providers.stripe.mapping import Pieces, StripeMapping

REFERENCE = OperationReference("op_1", "cmd_1", "pay_1", Caller("tenant-a", "org-a", "billing", "corr-1"), "key-1")
OURS = {"obol_payment": "pay_1", "obol_tenant": "tenant-a", "obol_operation": "op_1", "obol_attempt": "1"}


def terms(**changed: Any) -> PaymentTerms:
    told: dict[str, Any] = {
        "amount_minor": 1000,
        "currency": "USD",
        "capture_method": CaptureMethod.AUTOMATIC,
        "confirmation_method": ConfirmationMethod.AUTOMATIC,
        "payment_method": "pm_card_visa",
        "customer_reference": "",
        "description": "",
        "statement_descriptor": "",
        "return_url": "",
        "metadata": MappingProxyType({}),
        "order_reference": "",
        "order_reference_unique": False,
        "connected_account": "",
        "expire_time_us": None,
    }
    return PaymentTerms(**{**told, **changed})


def created(**changed: Any) -> PreparedRequest:
    """A prepared create."""
    return requests.create(REFERENCE, terms(**changed), multicapture=False, connected=frozenset({"acct_1"}))


def payment(facts: Facts | None = None, **changed: Any) -> Payment:
    """The payment, as the engine has it."""
    known = facts or Facts()
    told: dict[str, Any] = {
        "payment_id": "pay_1",
        "tenant_id": "tenant-a",
        "organization_id": "org-a",
        "correlation_id": "corr-1",
        "terms": terms(),
        "provider": "stripe",
        "account_id": "acc-1",
        "facts": known,
        "sums": derive_sums(known),
        "state": derive_payment_state(known, ()),
        "dispute_state": derive_dispute_state(known),
        "version": 1,
        "created_time_us": 0,
        "updated_time_us": 0,
        "provider_payment_id": "pi_1",
    }
    return Payment(**{**told, **changed})


def intent(**changed: Any) -> dict[str, Any]:
    """A PaymentIntent that was captured at once, by charge ch_1."""
    told = {
        "id": "pi_1",
        "object": "payment_intent",
        "amount": 1000,
        "amount_capturable": 0,
        "amount_received": 1000,
        "cancellation_reason": None,
        "capture_method": "automatic",
        "client_secret": "pi_1_secret",
        "created": 1_700_000_000,
        "currency": "usd",
        "last_payment_error": None,
        "latest_charge": "ch_1",
        "metadata": OURS,
        "next_action": None,
        "status": "succeeded",
    }
    return {**told, **changed}


def charge(**changed: Any) -> dict[str, Any]:
    """A charge that took everything."""
    told = {
        "id": "ch_1",
        "object": "charge",
        "amount": 1000,
        "amount_captured": 1000,
        "captured": True,
        "created": 1_700_000_000,
        "currency": "usd",
        "disputed": False,
        "failure_code": None,
        "failure_message": None,
        "metadata": OURS,
        "outcome": {"type": "authorized", "reason": None},
        "payment_intent": "pi_1",
        "payment_method_details": {"type": "card"},
        "status": "succeeded",
    }
    return {**told, **changed}


def failed_charge(code: str = "insufficient_funds", **changed: Any) -> dict[str, Any]:
    """A charge that the bank refused."""
    outcome = {"type": "issuer_declined", "reason": code}
    told = {"status": "failed", "captured": False, "amount_captured": 0, "failure_code": "card_declined"}
    return charge(**{**told, "outcome": outcome, **changed})


def refund(**changed: Any) -> dict[str, Any]:
    """A refund of ours."""
    told = {
        "id": "re_1",
        "object": "refund",
        "amount": 300,
        "balance_transaction": "txn_1",
        "created": 1_700_000_100,
        "currency": "usd",
        "metadata": {"obol_operation": "op_9"},
        "reason": None,
        "status": "succeeded",
    }
    return {**told, **changed}


def dispute(**changed: Any) -> dict[str, Any]:
    """A dispute of the whole."""
    told = {
        "id": "dp_1",
        "object": "dispute",
        "amount": 1000,
        "created": 1_700_000_200,
        "currency": "usd",
        "reason": "fraudulent",
        "status": "needs_response",
    }
    return {**told, **changed}


def snapshot(
    of: dict[str, Any],
    *charges: dict[str, Any],
    disputes: tuple[dict[str, Any], ...] = (),
    told: list[Any] | None = None,
) -> Snapshot:
    """What the mapping makes of it; `told` hears of what no table has."""
    heard = [] if told is None else told
    mapping = StripeMapping("acc-1", lambda kind, value: heard.append((kind, value)))
    return mapping.snapshot(
        Pieces(
            Fields(of, "intent"),
            [Fields(each, "charge") for each in charges],
            disputes=[Fields(each, "dispute") for each in disputes],
        )
    )
