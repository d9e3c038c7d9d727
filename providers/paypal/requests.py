"""PayPal's requests: from what is asked to the exact bytes. Deterministic: the same arguments give the same bytes.

    create      POST /v2/checkout/orders
    complete    POST /v2/checkout/orders/{order}/capture | authorize
    capture     POST /v2/payments/authorizations/{authorization}/capture
    adjust      POST /v2/payments/authorizations/{authorization}/reauthorize
    cancel      POST /v2/payments/authorizations/{authorization}/void
    refund      POST /v2/payments/captures/{capture}/refund

The last four answer with what they are about and not with the order: the order's id and ours travel in headers of our
own, which PayPal passes over, so that a kept request says everything that reading its answer needs.
"""

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from gateway.domain.commands import PreparedRequest
from gateway.domain.errors import InvalidRequest, Precondition, Reason
from gateway.domain.movements import Movement, MovementKind, MovementStatus
from gateway.domain.payments import CaptureMethod, Payment, PaymentTerms
from gateway.domain.providers import OperationReference
from providers.paypal.amounts import money_of
from providers.paypal.capabilities import API_VERSION, ORDERS_KEY_WINDOW_S, PAYMENTS_KEY_WINDOW_S
from providers.paypal.references import custom_id, invoice_id, reference_id

ORDERS_PATH = f"/{API_VERSION}/checkout/orders"
AUTHORIZATIONS_PATH = f"/{API_VERSION}/payments/authorizations"
CAPTURES_PATH = f"/{API_VERSION}/payments/captures"
REFUNDS_PATH = f"/{API_VERSION}/payments/refunds"
DISPUTES_PATH = "/v1/customer/disputes"

ORDER_HEADER, OPERATION_HEADER = "Obol-Order-Id", "Obol-Operation-Id"

DESCRIPTION_CHARACTERS_MAX = 127
NOTE_CHARACTERS_MAX = 255

WALLET = "paypal"
"""The payment method of a payer who approves at PayPal; the same as none at all."""

_VAULT_ID = re.compile(r"[0-9a-zA-Z_-]{1,255}\Z")
_HEADERS = MappingProxyType({"Content-Type": "application/json", "Prefer": "return=representation"})


def create(reference: OperationReference, terms: PaymentTerms) -> PreparedRequest:
    """A new order: for a payer to approve, or paid at once from a vaulted source.

    Raises InvalidRequest for an amount that PayPal cannot take, a method that is none, or a connected account.
    """
    if terms.connected_account:
        raise _invalid("connected_account", "payments for other merchants are not offered at PayPal")
    unit = {
        "reference_id": reference_id(reference, terms.order_reference),
        "custom_id": custom_id(reference),
        "invoice_id": invoice_id(reference),
        "amount": money_of(terms.amount_minor, terms.currency),
        "description": terms.description[:DESCRIPTION_CHARACTERS_MAX],
        "soft_descriptor": terms.statement_descriptor,
    }
    body = {
        "intent": "AUTHORIZE" if terms.capture_method is CaptureMethod.MANUAL else "CAPTURE",
        "purchase_units": [_told(unit)],
        "payment_source": _source(terms.payment_method, terms.return_url),
    }
    return _prepared(reference, ORDERS_PATH, _json(body), ORDERS_KEY_WINDOW_S)


def complete(reference: OperationReference, payment: Payment) -> PreparedRequest:
    """The approved order is captured, or authorized where the terms say so."""
    verb = "authorize" if payment.terms.capture_method is CaptureMethod.MANUAL else "capture"
    order_id = _order_id(payment)
    return _prepared(reference, f"{order_path(order_id)}/{verb}", "{}", ORDERS_KEY_WINDOW_S, order_id)


def capture(reference: OperationReference, payment: Payment, amount_minor: int, final: bool) -> PreparedRequest:
    """`amount_minor` of the authorization; `final` closes the rest of it."""
    body = {
        "amount": money_of(amount_minor, payment.terms.currency),
        "invoice_id": invoice_id(reference),
        "final_capture": final,
        "soft_descriptor": payment.terms.statement_descriptor,
    }
    path = f"{AUTHORIZATIONS_PATH}/{_quoted(_hold(payment).provider_movement_id)}/capture"
    return _prepared(reference, path, _json(_told(body)), PAYMENTS_KEY_WINDOW_S, _order_id(payment))


def adjust(reference: OperationReference, payment: Payment, total_minor: int) -> PreparedRequest:
    """The authorization is made anew, of `total_minor`. It takes no reference of ours: only its answer is evidence."""
    body = _json({"amount": money_of(total_minor, payment.terms.currency)})
    path = f"{AUTHORIZATIONS_PATH}/{_quoted(_hold(payment).provider_movement_id)}/reauthorize"
    return _prepared(reference, path, body, PAYMENTS_KEY_WINDOW_S, _order_id(payment))


def cancel(reference: OperationReference, payment: Payment, reason: str) -> PreparedRequest:
    """The authorization is voided. Raises Precondition before there is one: PayPal cannot cancel an open order."""
    path = f"{AUTHORIZATIONS_PATH}/{_quoted(_hold(payment).provider_movement_id)}/void"
    return _prepared(reference, path, "", PAYMENTS_KEY_WINDOW_S, _order_id(payment))


def refund(reference: OperationReference, payment: Payment, amount_minor: int, reason: str) -> PreparedRequest:
    """`amount_minor` of the capture is given back. Raises Precondition where no one capture has so much left."""
    body = {
        "amount": money_of(amount_minor, payment.terms.currency),
        "invoice_id": invoice_id(reference),
        "custom_id": custom_id(reference),
        "note_to_payer": reason[:NOTE_CHARACTERS_MAX],
    }
    path = f"{CAPTURES_PATH}/{_quoted(_refundable(payment, amount_minor).provider_movement_id)}/refund"
    return _prepared(reference, path, _json(_told(body)), PAYMENTS_KEY_WINDOW_S, _order_id(payment))


def order_path(order_id: str) -> str:
    """Where an order is read; the id is quoted, because it is the provider's text and not ours."""
    return f"{ORDERS_PATH}/{_quoted(order_id)}"


def _source(method: str, return_url: str) -> Mapping[str, Any]:
    kind, _, vault_id = method.rpartition(":")
    if not kind and vault_id in ("", WALLET):
        # The payer comes back to one address, whichever way they chose: the order says which it was.
        urls = {"return_url": return_url, "cancel_url": return_url} if return_url else {}
        context = {"user_action": "PAY_NOW", "shipping_preference": "NO_SHIPPING", **urls}
        return {"paypal": {"experience_context": context}}
    if not _VAULT_ID.match(vault_id):
        raise _invalid("payment_method", "is no id of PayPal's vault")
    match kind:
        case "" | "paypal":
            return {"paypal": {"vault_id": vault_id}}
        case "card":
            return {"card": {"vault_id": vault_id}}
        case "agreement":
            return {"token": {"id": vault_id, "type": "BILLING_AGREEMENT"}}
        case _:
            raise _invalid(
                "payment_method", 'must be "paypal", a vault id, "card:" and a vault id, or "agreement:" and an id'
            )


def _hold(payment: Payment) -> Movement:
    """The authorization that stands; the last one where there are several."""
    kind, status = MovementKind.AUTHORIZATION, MovementStatus.SUCCEEDED
    found = [each for each in payment.facts.standing() if each.kind is kind and each.status is status]
    if not found:
        raise Precondition(
            Reason.PAYMENT_NOT_CANCELLABLE,
            "PayPal has no authorization of this payment to act on; an order that nobody has paid cannot be cancelled "
            "there, it expires by itself within hours",
            details={"payment_id": payment.payment_id, "state": payment.state},
        )
    return max(found, key=lambda each: (each.provider_time_us or 0, each.provider_movement_id))


def _refundable(payment: Payment, amount_minor: int) -> Movement:
    """The capture with the least left that is enough. Raises AMOUNT_EXCEEDS_REFUNDABLE, which names the most.

    What a refund of an unknown capture gave back, and what is reserved for refunds under way, may be of any of them.
    """
    captures, refunds = (
        [m for m in payment.facts.movements if m.kind is kind and m.status in statuses]
        for kind, statuses in (
            (MovementKind.CAPTURE, (MovementStatus.SUCCEEDED,)),
            (MovementKind.REFUND, (MovementStatus.PENDING, MovementStatus.SUCCEEDED)),
        )
    )
    of_any = payment.reserved_refund_minor + sum(each.amount_minor for each in refunds if each.parent_id is None)
    left: dict[str, int] = {each.provider_movement_id: each.amount_minor - of_any for each in captures}
    for each in refunds:
        if each.parent_id in left:
            left[each.parent_id] -= each.amount_minor
    fitting = [each for each in captures if left[each.provider_movement_id] >= amount_minor]
    if not fitting:
        most = max(0, *left.values(), 0)
        raise Precondition(
            Reason.AMOUNT_EXCEEDS_REFUNDABLE,
            f"PayPal refunds one capture at a time, and the most that one has left is {most} minor units of "
            f"{payment.terms.currency}: refund that, and the rest by further calls with keys of their own",
            field="amount.amount_minor",
            details={"payment_id": payment.payment_id, "available_minor": str(most)},
        )
    return min(fitting, key=lambda each: (left[each.provider_movement_id], each.provider_movement_id))


def _order_id(payment: Payment) -> str:
    if payment.provider_payment_id is None:
        raise ValueError(f"{payment.payment_id} has no order at PayPal")
    return payment.provider_payment_id


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _told(body: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in body.items() if value != ""}


def _json(body: Mapping[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


def _invalid(field: str, words: str) -> InvalidRequest:
    return InvalidRequest(Reason.FIELD_INVALID, f"{field}: {words}", field=field)


def _prepared(
    reference: OperationReference, path: str, body: str, key_window_s: int, order_id: str = ""
) -> PreparedRequest:
    own = {OPERATION_HEADER: reference.operation_id, **({ORDER_HEADER: order_id} if order_id else {})}
    return PreparedRequest(
        method="POST",
        path=path,
        body=body,
        idempotency_key=reference.idempotency_key,
        api_version=API_VERSION,
        key_window_s=key_window_s,
        headers=MappingProxyType({**_HEADERS, **own}),
    )
