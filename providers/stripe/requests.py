"""Requests: from what is asked to the exact bytes. Deterministic: the same arguments give the same bytes.

Every write carries our references in its metadata, so that each charge, capture and refund can be traced to its
operation. Stripe's confirm takes no metadata: what it is known by travels in TAG, and is put on the PaymentIntent by an
update right before, which moves no money (and clears the former attempt's error).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway.domain.commands import PreparedRequest
from gateway.domain.errors import InvalidRequest, Reason
from gateway.domain.payments import CaptureMethod, ConfirmationMethod, Payment, PaymentTerms
from gateway.domain.providers import OperationReference
from providers.stripe.capabilities import API_VERSION, KEY_WINDOW_S
from providers.stripe.currencies import to_stripe
from providers.stripe.form import Values, encode

INTENTS_PATH = "/v1/payment_intents"
REFUNDS_PATH = "/v1/refunds"
TAG = "Obol-Metadata"
ACCOUNT = "Stripe-Account"

METADATA_ENTRIES_MAX = 15
"""Of the caller's. Stripe keeps 50: ours are 10, and each capture and each adjustment (10 at most) adds one."""
METADATA_NAME_CHARACTERS_MAX = 40
METADATA_VALUE_CHARACTERS_MAX = 500
OUR_PREFIX = "obol_"
CREATE = "obol_create"
"""The create's operation. Every later write overwrites `obol_operation`, and none this."""
DESCRIPTOR_CHARACTERS_MAX = 22

_FORM = MappingProxyType({"Content-Type": "application/x-www-form-urlencoded"})
_CUSTOMER = re.compile(r"cus_[A-Za-z0-9]{8,60}\Z")
_DESCRIPTOR_REFUSED = str.maketrans("", "", "<>\\'\"*")

REFUND_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "duplicate": "duplicate",
        "fraudulent": "fraudulent",
        "requested_by_customer": "requested_by_customer",
        "customer_request": "requested_by_customer",
        "requested": "requested_by_customer",
    }
)
"""Our reasons to Stripe's; any other stays in the metadata alone."""

CANCEL_REASONS: Mapping[str, str] = MappingProxyType({**REFUND_REASONS, "abandoned": "abandoned"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a PaymentIntent is: its id, and the connected account that has it, "" for the platform's own.

    Our id of the provider's payment is both, `pi_...` or `pi_...@acct_...`: without the account nobody could read it.
    """

    intent_id: str
    account: str = ""

    def __str__(self) -> str:
        return f"{self.intent_id}@{self.account}" if self.account else self.intent_id

    @staticmethod
    def of(provider_payment_id: str) -> "Place":
        intent_id, _, account = provider_payment_id.partition("@")
        return Place(intent_id, account)


def create(
    reference: OperationReference,
    terms: PaymentTerms,
    *,
    multicapture: bool,
    incremental: bool = False,
    connected: frozenset[str],
) -> PreparedRequest:
    """A new PaymentIntent, confirmed at once unless the terms leave that for later. Raises InvalidRequest."""
    if terms.connected_account and terms.connected_account not in connected:
        raise InvalidRequest(
            Reason.FIELD_INVALID,
            "connected_account: not in the options.connected_accounts of the account, so that nobody could look it up",
            field="connected_account",
        )
    confirm = terms.confirmation_method is ConfirmationMethod.AUTOMATIC
    manual = terms.capture_method is CaptureMethod.MANUAL
    metadata = {**_callers(terms.metadata), **references(reference), CREATE: reference.operation_id}
    # The number of the attempt that this makes; without it a charge is the payer's own doing.
    metadata |= {"obol_attempt": "1"} if confirm else {}
    metadata |= {"obol_order": terms.order_reference[:METADATA_VALUE_CHARACTERS_MAX]} if terms.order_reference else {}
    customer = terms.customer_reference
    metadata |= {"obol_customer": customer[:METADATA_VALUE_CHARACTERS_MAX]} if customer else {}
    wanted = {"request_multicapture": multicapture, "request_incremental_authorization": incremental}
    card = {name: "if_available" for name, is_wanted in wanted.items() if manual and is_wanted}
    body: Values = {
        "amount": to_stripe(terms.amount_minor, terms.currency),
        "currency": terms.currency.lower(),
        "capture_method": "manual" if manual else "automatic",
        "confirm": confirm,
        "automatic_payment_methods": {
            "enabled": True,
            "allow_redirects": "always" if terms.return_url or not confirm else "never",
        },
        "payment_method": terms.payment_method or None,
        "payment_method_options": {"card": card} if card else None,
        "customer": customer if _CUSTOMER.match(customer) else None,
        "description": terms.description or None,
        "statement_descriptor_suffix": _descriptor(terms.statement_descriptor),
        "return_url": terms.return_url or None if confirm else None,
        "metadata": metadata,
        "expand": ["latest_charge"],
    }
    return _prepared(reference, INTENTS_PATH, body, terms.connected_account)


def confirm(reference: OperationReference, payment: Payment, payment_method: str, return_url: str) -> PreparedRequest:
    """One more attempt, with `payment_method` or, where it is empty, the one that the PaymentIntent has."""
    place = _place(payment)
    mine = (a.ordinal for a in payment.facts.attempts if a.provider_payment_id == str(place))
    tag = {**references(reference), "obol_attempt": str(max(mine, default=0) + 1)}
    url = return_url or payment.terms.return_url
    body: Values = {
        "payment_method": payment_method or None,
        "return_url": url or None,
        "expand": ["latest_charge"],
    }
    return _prepared(reference, f"{intent_path(place)}/confirm", body, place.account, tag)


def capture(reference: OperationReference, payment: Payment, amount_minor: int, final: bool) -> PreparedRequest:
    """`amount_minor` of what is held; `final` lets the rest of it go."""
    place, amount = _place(payment), to_stripe(amount_minor, payment.terms.currency)
    # Stripe has no object for a capture: the entry under our operation's id is what tells one from another.
    metadata = {**references(reference), f"{OUR_PREFIX}{reference.operation_id}": f"capture {amount}"}
    body: Values = {
        "amount_to_capture": amount,
        # The default is true, and an account without multiple captures may not give the parameter at all.
        "final_capture": None if final else False,
        "metadata": metadata,
        "expand": ["latest_charge.refunds"],
    }
    return _prepared(reference, f"{intent_path(place)}/capture", body, place.account)


def adjust(reference: OperationReference, payment: Payment, total_minor: int) -> PreparedRequest:
    """`total_minor` is held in all. What Stripe declines it does not change, metadata included."""
    place, currency = _place(payment), payment.terms.currency
    held, total = (to_stripe(each, currency) for each in (payment.sums.authorized_open_minor, total_minor))
    # From where to where: only an unbroken way from the first amount to the present one shows what was ours.
    metadata = {**references(reference), f"{OUR_PREFIX}{reference.operation_id}": f"adjust {held} {total}"}
    body: Values = {"amount": total, "metadata": metadata, "expand": ["latest_charge.refunds"]}
    return _prepared(reference, f"{intent_path(place)}/increment_authorization", body, place.account)


def cancel(reference: OperationReference, payment: Payment, reason: str) -> PreparedRequest:
    """What is not captured is let go."""
    place = _place(payment)
    body: Values = {"cancellation_reason": CANCEL_REASONS.get(reason), "expand": ["latest_charge.refunds"]}
    return _prepared(reference, f"{intent_path(place)}/cancel", body, place.account)


def refund(reference: OperationReference, payment: Payment, amount_minor: int, reason: str) -> PreparedRequest:
    """`amount_minor` of what was captured is given back."""
    place = _place(payment)
    metadata = references(reference)
    metadata |= {"obol_reason": reason[:METADATA_VALUE_CHARACTERS_MAX]} if reason else {}
    body: Values = {
        "payment_intent": place.intent_id,
        "amount": to_stripe(amount_minor, payment.terms.currency),
        "reason": REFUND_REASONS.get(reason),
        "metadata": metadata,
        "expand": ["payment_intent", "charge.refunds"],
    }
    return _prepared(reference, REFUNDS_PATH, body, place.account)


def intent_path(place: Place) -> str:
    """Where a PaymentIntent is read. Raises ValueError where the id is none: it is Stripe's text and not ours."""
    if not re.fullmatch(r"[A-Za-z0-9_]{1,255}", place.intent_id):
        raise ValueError("not an id of Stripe's")
    return f"{INTENTS_PATH}/{place.intent_id}"


def references(reference: OperationReference) -> dict[str, str]:
    """What a write of ours is known by."""
    caller = reference.caller
    told = {
        "obol_payment": reference.payment_id,
        "obol_operation": reference.operation_id,
        "obol_command": reference.command_id,
        "obol_tenant": caller.tenant_id,
        "obol_organization": caller.organization_id,
        "obol_correlation": caller.correlation_id,
    }
    # To Stripe an empty text means "forget this entry".
    return {name: text[:METADATA_VALUE_CHARACTERS_MAX] for name, text in told.items() if text}


def _callers(metadata: Mapping[str, str]) -> dict[str, str]:
    """The caller's own metadata within bounds; a name that could pass for one of ours is left out."""
    fitting = [
        name
        for name in sorted(metadata)
        if 0 < len(name) <= METADATA_NAME_CHARACTERS_MAX
        and not name.lower().startswith(OUR_PREFIX)
        and not set(name) & set("[]")
        and metadata[name]
    ]
    return {name: metadata[name][:METADATA_VALUE_CHARACTERS_MAX] for name in fitting[:METADATA_ENTRIES_MAX]}


def _descriptor(text: str) -> str | None:
    """As a suffix to the account's own, which is all that cards may have; without what Stripe refuses in it."""
    return text.translate(_DESCRIPTOR_REFUSED)[:DESCRIPTOR_CHARACTERS_MAX] or None


def _place(payment: Payment) -> Place:
    if payment.provider_payment_id is None:
        raise ValueError(f"{payment.payment_id} has no object at the provider")
    return Place.of(payment.provider_payment_id)


def _prepared(
    reference: OperationReference, path: str, body: Values, account: str, tag: Mapping[str, str] | None = None
) -> PreparedRequest:
    headers = dict(_FORM)
    if account:
        headers[ACCOUNT] = account
    if tag:
        headers[TAG] = encode({"metadata": tag})
    return PreparedRequest(
        method="POST",
        path=path,
        body=encode(body),
        idempotency_key=reference.idempotency_key,
        api_version=API_VERSION,
        key_window_s=KEY_WINDOW_S,
        headers=MappingProxyType(headers),
    )
