"""Orders as PayPal writes them, for tests that read them."""

import json
from typing import Any

from gateway.domain.commands import Caller, PreparedRequest
from gateway.domain.derivation import derive_dispute_state, derive_payment_state, derive_sums
from gateway.domain.payments import CaptureMethod, ConfirmationMethod, Payment, PaymentTerms
from gateway.domain.providers import OperationReference, Snapshot
from providers.http import Received
from providers.paypal import requests
from providers.paypal.mapping import PayPalMapping

ACCOUNT = "paypal-main"
ORDER, HOLD, CAPTURE, REFUND = "5O190127TN364715T", "0AW2184448108334S", "3C679366HH908993F", "1JU08902781691411"
TIME = "2026-03-01T10:00:00Z"

REFERENCE = OperationReference("op_1", "cmd_1", "pay_1", Caller("t1", "org", "billing", "corr"), "key-1")
UNIT = {"reference_id": "t1:org:corr:", "custom_id": "pay_1.op_1.cmd_1", "invoice_id": "op_1"}


def dollars(value: str) -> dict[str, str]:
    """A money object."""
    return {"currency_code": "USD", "value": value}


def part(part_id: str, status: str, value: str = "10.00", **more: Any) -> dict[str, Any]:
    """A capture, a refund or an authorization; it has the order's invoice id unless told otherwise."""
    told = {"id": part_id, "status": status, "amount": dollars(value), "invoice_id": "op_1", "create_time": TIME}
    return {**told, **more}


def order(status: str = "COMPLETED", intent: str = "CAPTURE", **payments: Any) -> dict[str, Any]:
    """An order of ten dollars; `payments` are its captures, authorizations and refunds."""
    unit: dict[str, Any] = {**UNIT, "amount": dollars("10.00")}
    if payments:
        unit["payments"] = payments
    links = [{"href": "https://www.paypal.com/checkoutnow?token=X", "rel": "payer-action", "method": "GET"}]
    return {"id": ORDER, "intent": intent, "status": status, "purchase_units": [unit], "links": links}


class Unmapped(list[tuple[str, str]]):
    """Hears what no table has."""

    def __call__(self, kind: str, value: str) -> None:
        self.append((kind, value))


def mapping(unmapped: Unmapped | None = None, merchant_id: str = "") -> PayPalMapping:
    """A mapping of the account."""
    return PayPalMapping(ACCOUNT, merchant_id, unmapped if unmapped is not None else Unmapped())


def terms(**changed: Any) -> PaymentTerms:
    """Terms of ten dollars, captured at once."""
    told: dict[str, Any] = {
        "amount_minor": 1_000,
        "currency": "USD",
        "capture_method": CaptureMethod.AUTOMATIC,
        "confirmation_method": ConfirmationMethod.AUTOMATIC,
        "payment_method": "",
        "customer_reference": "",
        "description": "",
        "statement_descriptor": "",
        "return_url": "https://shop.example/back",
        "metadata": {},
        "order_reference": "",
        "order_reference_unique": False,
        "connected_account": "",
        "expire_time_us": None,
    }
    return PaymentTerms(**{**told, **changed})


def payment(snapshot: Snapshot, **changed: Any) -> Payment:
    """The payment after this snapshot."""
    return Payment(
        payment_id="pay_1",
        tenant_id="t1",
        organization_id="org",
        correlation_id="corr",
        terms=terms(**changed),
        provider="paypal",
        account_id=ACCOUNT,
        facts=snapshot.facts,
        sums=derive_sums(snapshot.facts),
        state=derive_payment_state(snapshot.facts, ()),
        dispute_state=derive_dispute_state(snapshot.facts),
        version=1,
        created_time_us=0,
        updated_time_us=0,
        provider_payment_id=snapshot.provider_payment_id,
    )


def create() -> PreparedRequest:
    """A create of ten dollars."""
    return requests.create(REFERENCE, terms())


def received(status: int, body: Any, **headers: str) -> Received:
    """An answer."""
    return Received(status, headers, json.dumps(body).encode())


def error(name: str, issue: str = "", words: str = "words") -> dict[str, Any]:
    """An error as PayPal writes it."""
    details = [{"issue": issue, "description": words}] if issue else []
    return {"name": name, "message": "message", "details": details}
