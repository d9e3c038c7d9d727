"""Objects of the sandbox's API as a test needs them, and what asks for them."""

from types import MappingProxyType
from typing import Any

from gateway.domain.commands import Caller, PreparedRequest
from gateway.domain.payments import CaptureMethod, ConfirmationMethod, PaymentTerms
from gateway.domain.providers import OperationReference
from providers.sandbox import requests

REFERENCE = OperationReference(
    operation_id="op_1",
    command_id="cmd_1",
    payment_id="pay_1",
    caller=Caller("tenant-a", "org-a", "billing", "corr-1"),
    idempotency_key="key-1",
)


def terms(**changed: Any) -> PaymentTerms:
    """Terms of a payment of 10.00 USD."""
    told: dict[str, Any] = {
        "amount_minor": 1000,
        "currency": "USD",
        "capture_method": CaptureMethod.AUTOMATIC,
        "confirmation_method": ConfirmationMethod.AUTOMATIC,
        "payment_method": "card_ok",
        "customer_reference": "",
        "description": "",
        "statement_descriptor": "",
        "return_url": "",
        "metadata": MappingProxyType({}),
        "order_reference": "order-1",
        "order_reference_unique": False,
        "connected_account": "",
        "expire_time_us": None,
    }
    return PaymentTerms(**{**told, **changed})


def prepared() -> PreparedRequest:
    """The create that `payment()` answers."""
    return requests.create(REFERENCE, terms())


def references() -> dict[str, str]:
    return requests.references(REFERENCE)


def movement(prefix: str, status: str, amount: int = 1000, **changed: Any) -> dict[str, Any]:
    """A capture, refund or authorization."""
    told = {"id": f"{prefix}_1", "status": status, "amount": amount, "metadata": references(), "created": 1700000000}
    return {**told, **changed}


def payment(**changed: Any) -> dict[str, Any]:
    """A payment that was captured at once."""
    told: dict[str, Any] = {
        "object": "payment",
        "id": "spay_1",
        "account": "acct_main",
        "amount": 1000,
        "currency": "USD",
        "capture": "automatic",
        "status": "captured",
        "attempt": 1,
        "attempts": [{"number": 1, "status": "succeeded", "operation": "op_1", "decline": None}],
        "authorization": None,
        "captures": [movement("scap", "succeeded", final=True)],
        "refunds": [],
        "disputes": [],
        "fees": [{"id": "sfee_1", "amount": 29}],
        "next_action": None,
        "last_decline": None,
        "metadata": references(),
        "created": 1700000000,
        "updated": 1700000001,
        "version": 2,
    }
    return {**told, **changed}


DECLINE = MappingProxyType({"code": "insufficient_funds", "message": "No.", "advice": "retry_later", "attempt": 1})


def declined_payment() -> dict[str, Any]:
    """A payment whose first attempt was declined."""
    attempt = {"number": 1, "status": "failed", "operation": "op_1", "decline": dict(DECLINE)}
    return payment(
        status="requires_payment_method", captures=[], fees=[], attempts=[attempt], last_decline=dict(DECLINE)
    )
