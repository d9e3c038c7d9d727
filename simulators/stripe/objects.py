"""The objects, in the shapes of Stripe's API reference. A field whose name begins with `_` is ours and never shown."""

from __future__ import annotations

import secrets
from typing import Any

from simulators.stripe.methods import TestMethod

API_VERSION = "2026-10-28.endive"

ISO_UNITS = {"isk": 100, "ugx": 100}
"""Currencies that Stripe counts in hundredths of their smallest ISO 4217 unit."""
WHOLE_UNITS = {"mga": 100}
"""Currencies that Stripe counts in multiples of it."""

Object = dict[str, Any]


def minted(prefix: str) -> str:
    """A new id: the prefix and 96 random bits."""
    return f"{prefix}_{secrets.token_hex(12)}"


def iso_minor(amount: int, currency: str) -> int:
    """An amount in Stripe's units as ISO 4217 minor units, in which the effect log is kept."""
    return amount // ISO_UNITS.get(currency, 1) * WHOLE_UNITS.get(currency, 1)


def payment_intent(amount: int, currency: str, now: int) -> Object:
    """A PaymentIntent that waits for a payment method."""
    found = minted("pi")
    return {
        "id": found,
        "object": "payment_intent",
        "amount": amount,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": None,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic_async",
        "client_secret": f"{found}_secret_{secrets.token_hex(12)}",
        "confirmation_method": "automatic",
        "created": now,
        "currency": currency,
        "customer": None,
        "description": None,
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": {},
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_options": {},
        "payment_method_types": ["card", "us_bank_account"],
        "processing": None,
        "receipt_email": None,
        "review": None,
        "setup_future_usage": None,
        "shipping": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": "requires_payment_method",
        "transfer_data": None,
        "transfer_group": None,
    }


def charge(intent: Object, method: TestMethod, now: int) -> Object:
    """One attempt to take the PaymentIntent's money; carries its metadata as they are at this moment."""
    return {
        "id": minted("ch" if method.kind == "card" else "py"),
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": 0,
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": None,
        "billing_details": {"address": None, "email": None, "name": None, "phone": None},
        "calculated_statement_descriptor": "OBOL",
        "captured": False,
        "created": now,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "fraud_details": {},
        "livemode": False,
        "metadata": dict(intent["metadata"]),
        "on_behalf_of": intent["on_behalf_of"],
        "outcome": _outcome(method),
        "paid": False,
        "payment_intent": intent["id"],
        "payment_method": intent["payment_method"],
        "payment_method_details": _method_details(method),
        "receipt_email": None,
        "receipt_number": None,
        "receipt_url": None,
        "refunded": False,
        "review": None,
        "shipping": None,
        "source_transfer": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": intent["statement_descriptor_suffix"],
        "status": "pending",
        "transfer_data": None,
        "transfer_group": None,
    }


def refund(of: Object, amount: int, now: int, *, status: str, reason: str | None, metadata: dict[str, str]) -> Object:
    """Money of a charge that goes back; with `balance_transaction`, unless it was never taken."""
    return {
        "id": minted("re"),
        "object": "refund",
        "amount": amount,
        "balance_transaction": minted("txn") if of["captured"] else None,
        "charge": of["id"],
        "created": now,
        "currency": of["currency"],
        "destination_details": {"card": {"type": "refund" if of["captured"] else "reversal"}, "type": "card"},
        "metadata": metadata,
        "payment_intent": of["payment_intent"],
        "reason": reason,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": status,
        "transfer_reversal": None,
    }


def dispute(of: Object, amount: int, now: int, *, status: str, reason: str) -> Object:
    """A dispute of a charge, or an inquiry about it."""
    return {
        "id": minted("dp"),
        "object": "dispute",
        "amount": amount,
        "balance_transactions": [],
        "charge": of["id"],
        "created": now,
        "currency": of["currency"],
        "evidence": {},
        "evidence_details": {
            "due_by": now + 7 * 86_400,
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": status.startswith("warning"),
        "livemode": False,
        "metadata": {},
        "payment_intent": of["payment_intent"],
        "reason": reason,
        "status": status,
    }


def event(kind: str, of: Object, now: int, *, request: str | None, key: str | None, connected: str | None) -> Object:
    """A snapshot event: the object as it is now."""
    told = {
        "id": minted("evt"),
        "object": "event",
        "api_version": API_VERSION,
        "created": now,
        "data": {"object": shown(of)},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": request, "idempotency_key": key},
        "type": kind,
    }
    return told | ({"account": connected} if connected else {})


def shown(of: Object) -> Object:
    """The object as the API shows it."""
    return {name: value for name, value in of.items() if not name.startswith("_")}


def page(found: list[Object], url: str, *, more: bool) -> Object:
    """A list."""
    return {"object": "list", "data": found, "has_more": more, "url": url}


def _outcome(method: TestMethod) -> Object:
    if method.blocked:
        told = ("blocked", "not_sent_to_network", "highest_risk_level", "Stripe blocked this payment.")
    elif method.decline is not None:
        told = ("issuer_declined", "declined_by_network", method.decline, "The bank declined it.")
    else:
        told = ("authorized", "approved_by_network", "", "Payment complete.")
    kind, network, reason, said = told
    return {
        "network_status": network,
        "reason": reason or None,
        "risk_level": method.risk_level if method.kind == "card" else "not_assessed",
        "seller_message": said,
        "type": kind,
    }


def _method_details(method: TestMethod) -> Object:
    if method.kind == "us_bank_account":
        return {"type": method.kind, method.kind: {"account_holder_type": "individual", "last4": "6789"}}
    card = {
        "brand": method.brand,
        "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
        "country": "US",
        "exp_month": 12,
        "exp_year": 2034,
        "fingerprint": "simulated",
        "funding": "credit",
        "last4": method.last4,
        "network": method.brand,
    }
    return {"type": "card", "card": card}
