"""The sandbox's requests: from what is asked to the exact bytes. Deterministic: the same arguments give the same bytes.

Every write carries our references in its metadata, so that each movement it causes can be traced to its operation, and
two lost refunds of one amount can be told apart.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from gateway.domain.commands import PreparedRequest
from gateway.domain.payments import ConfirmationMethod, Payment, PaymentTerms
from gateway.domain.providers import OperationReference
from providers.sandbox.capabilities import API_VERSION, CAPABILITIES

PAYMENTS_PATH = f"/{API_VERSION}/payments"

METADATA_ENTRIES_MAX = 40
METADATA_NAME_CHARACTERS_MAX = 40
METADATA_VALUE_CHARACTERS_MAX = 500
OUR_PREFIX = "obol_"

_HEADERS = MappingProxyType({"Content-Type": "application/json"})


def create(reference: OperationReference, terms: PaymentTerms) -> PreparedRequest:
    """A new payment, confirmed at once unless the terms leave that for later."""
    metadata = {**_callers(terms.metadata), **references(reference)}
    if terms.order_reference:
        metadata["obol_order"] = terms.order_reference[:METADATA_VALUE_CHARACTERS_MAX]
    body = {
        "amount": terms.amount_minor,
        "currency": terms.currency,
        "capture": terms.capture_method.lower(),
        "confirm": terms.confirmation_method is ConfirmationMethod.AUTOMATIC,
        "payment_method": terms.payment_method,
        "customer": terms.customer_reference,
        "description": terms.description,
        "statement_descriptor": terms.statement_descriptor,
        "return_url": terms.return_url,
    }
    return _prepared(reference, PAYMENTS_PATH, body, metadata)


def confirm(reference: OperationReference, payment: Payment, payment_method: str, return_url: str) -> PreparedRequest:
    """One more attempt, with `payment_method` or, where it is empty, the one that the payment has."""
    body = {"payment_method": payment_method, "return_url": return_url}
    return _prepared(reference, _path(payment, "confirm"), body, references(reference))


def capture(reference: OperationReference, payment: Payment, amount_minor: int, final: bool) -> PreparedRequest:
    """`amount_minor` of the authorization; `final` closes the rest of it."""
    body = {"amount": amount_minor, "final": final}
    return _prepared(reference, _path(payment, "capture"), body, references(reference))


def adjust(reference: OperationReference, payment: Payment, total_minor: int) -> PreparedRequest:
    """`total_minor` is held instead, valid anew."""
    return _prepared(reference, _path(payment, "adjust"), {"amount": total_minor}, references(reference))


def cancel(reference: OperationReference, payment: Payment, reason: str) -> PreparedRequest:
    """What was not captured is let go."""
    return _prepared(reference, _path(payment, "cancel"), {"reason": reason}, references(reference))


def refund(reference: OperationReference, payment: Payment, amount_minor: int, reason: str) -> PreparedRequest:
    """`amount_minor` of what was captured is given back."""
    body = {"amount": amount_minor, "reason": reason}
    return _prepared(reference, _path(payment, "refunds"), body, references(reference))


def payment_path(provider_payment_id: str) -> str:
    """Where a payment is read; the id is quoted, because it is the provider's text and not ours."""
    return f"{PAYMENTS_PATH}/{quote(provider_payment_id, safe='')}"


def references(reference: OperationReference) -> dict[str, str]:
    """What a write of ours is known by."""
    caller = reference.caller
    return {
        "obol_payment": reference.payment_id,
        "obol_operation": reference.operation_id,
        "obol_command": reference.command_id,
        "obol_tenant": caller.tenant_id,
        "obol_organization": caller.organization_id,
        "obol_correlation": caller.correlation_id,
    }


def _callers(metadata: Mapping[str, str]) -> dict[str, str]:
    """The caller's own metadata within the sandbox's bounds; a name that could pass for one of ours is left out."""
    fitting = [
        name
        for name in sorted(metadata)
        if len(name) <= METADATA_NAME_CHARACTERS_MAX and not name.lower().startswith(OUR_PREFIX)
    ]
    return {name: metadata[name][:METADATA_VALUE_CHARACTERS_MAX] for name in fitting[:METADATA_ENTRIES_MAX]}


def _path(payment: Payment, verb: str) -> str:
    if payment.provider_payment_id is None:
        raise ValueError(f"{payment.payment_id} has no object at the provider")
    return f"{payment_path(payment.provider_payment_id)}/{verb}"


def _prepared(
    reference: OperationReference, path: str, body: Mapping[str, Any], metadata: Mapping[str, str]
) -> PreparedRequest:
    told = {name: value for name, value in body.items() if value != ""}
    return PreparedRequest(
        method="POST",
        path=path,
        body=json.dumps({**told, "metadata": metadata}, sort_keys=True, separators=(",", ":")),
        idempotency_key=reference.idempotency_key,
        api_version=API_VERSION,
        key_window_s=CAPABILITIES.key_window_s,
        headers=_HEADERS,
    )
