"""The verbs: each POST of the API, from the request's parameters to a step of the books and its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simulators.stripe import intents
from simulators.stripe.books import Step
from simulators.stripe.charges import refunded
from simulators.stripe.form import Params
from simulators.stripe.objects import ISO_UNITS, Object, payment_intent
from simulators.stripe.refusals import Refusal, invalid, missing, refused

DESCRIPTOR_CHARS_MAX = 22
URL_CHARS_MAX = 2_048
THREE_DECIMALS = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})
MINIMUM = {"usd": 50, "eur": 50, "gbp": 30, "jpy": 50}
CAPTURE_METHODS = ("automatic", "automatic_async", "manual")
CANCELLATION_REASONS = ("duplicate", "fraudulent", "requested_by_customer", "abandoned")
REFUND_REASONS = ("duplicate", "fraudulent", "requested_by_customer")


@dataclass(frozen=True)
class Verb:
    """A POST. `name` is what a queued fault is matched with; `fields` are the parameters that it knows.

    `run` gets the id of the path, "" for none. What it raises before it has loaded an object was execution not begun.
    """

    name: str
    fields: frozenset[str]
    run: Callable[[Step, str, Params], Object]


def create(step: Step, _: str, params: Params) -> Object:
    """A new PaymentIntent, confirmed at once where the request says so."""
    amount, currency = params.amount("amount"), intents.checked_currency(params.text("currency"))
    if amount is None:
        raise invalid("parameter_missing", "Missing required param: amount.", "amount")
    _check_amount(amount, currency)
    _check_descriptor(params)
    return_url, confirming = params.text("return_url", URL_CHARS_MAX), params.flag("confirm", False)
    automatic = params.nested("automatic_payment_methods")
    redirects = automatic.choice("allow_redirects", ("always", "never"), "always")
    if return_url is not None and not confirming:
        raise invalid("parameter_unknown", "return_url can be given only with confirm=true.", "return_url")
    if confirming and automatic.flag("enabled", True) and redirects == "always" and return_url is None:
        raise invalid(
            None, "A return_url is required, or automatic_payment_methods[allow_redirects]=never.", "return_url"
        )
    made = payment_intent(amount, currency, step.created_at())
    card = params.nested("payment_method_options").nested("card")
    made |= {
        "automatic_payment_methods": {"enabled": automatic.flag("enabled", True), "allow_redirects": redirects},
        "capture_method": params.choice("capture_method", CAPTURE_METHODS, "automatic_async"),
        "customer": params.text("customer"),
        "description": params.text("description"),
        "metadata": {name: text for name, text in params.metadata().items() if text},
        "payment_method": params.text("payment_method"),
        "status": "requires_confirmation" if params.text("payment_method") else "requires_payment_method",
        "statement_descriptor_suffix": params.text("statement_descriptor_suffix"),
        "_incremental": card.choice("request_incremental_authorization", ("if_available", "never"), "never")
        == "if_available",
        "_multicapture": card.choice("request_multicapture", ("if_available", "never"), "never") == "if_available",
    }
    step.add(made)
    step.tell("payment_intent.created", made)
    if confirming:
        intents.confirm(step, made, made["payment_method"], return_url)
    return made


def update(step: Step, intent_id: str, params: Params) -> Object:
    """New metadata, description or payment method; moves no money."""
    metadata, description = params.metadata(), params.text("description")
    method = params.text("payment_method")
    intent = step.load("payment_intent", intent_id)
    merged = {**intent["metadata"], **metadata}
    intent["metadata"] = {name: text for name, text in merged.items() if text}
    # "It will be cleared if the PaymentIntent is later updated for any reason", says the reference.
    intent["last_payment_error"] = None
    if description is not None:
        intent["description"] = description
    if method is not None:
        if intent["status"] not in intents.CONFIRMABLE:
            raise intents.unexpected(intent, "update")
        intent |= {"payment_method": method, "status": "requires_confirmation"}
    return intent


def confirm(step: Step, intent_id: str, params: Params) -> Object:
    """One attempt."""
    method, return_url = params.text("payment_method"), params.text("return_url", URL_CHARS_MAX)
    return intents.confirm(step, step.load("payment_intent", intent_id), method, return_url)


def capture(step: Step, intent_id: str, params: Params) -> Object:
    """Money taken of what is held."""
    amount, final, metadata = params.amount("amount_to_capture"), params.flag("final_capture", True), params.metadata()
    intent = step.load("payment_intent", intent_id)
    return intents.capture(step, intent, amount, final=final, metadata=metadata)


def increment(step: Step, intent_id: str, params: Params) -> Object:
    """More money held."""
    total, metadata = params.amount("amount"), params.metadata()
    if total is None:
        raise invalid("parameter_missing", "Missing required param: amount.", "amount")
    return intents.increment(step, step.load("payment_intent", intent_id), total, metadata)


def cancel(step: Step, intent_id: str, params: Params) -> Object:
    """A PaymentIntent closed."""
    reason = params.text("cancellation_reason")
    if reason is not None and reason not in CANCELLATION_REASONS:
        raise invalid(
            None, f"Invalid cancellation_reason: one of {', '.join(CANCELLATION_REASONS)}", "cancellation_reason"
        )
    return intents.cancel(step, step.load("payment_intent", intent_id), reason)


def refund(step: Step, _: str, params: Params) -> Object:
    """Money given back."""
    amount, reason, metadata = params.amount("amount"), params.text("reason"), params.metadata()
    if reason is not None and reason not in REFUND_REASONS:
        raise invalid(None, f"Invalid reason: must be one of {', '.join(REFUND_REASONS)}", "reason")
    wanted = params.text("payment_intent")
    if wanted is None:
        raise invalid("parameter_missing", "This imitation refunds by payment_intent.", "payment_intent")
    try:
        intent = step.books.get(step.scope, "payment_intent", wanted)
    except Refusal:
        raise missing("payment_intent", wanted, "payment_intent", kept=True, in_body=True) from None
    if intent["latest_charge"] is None:
        message = f"This PaymentIntent ({wanted}) does not have a successful charge to refund."
        raise refused("payment_intent_unexpected_state", message, "payment_intent")
    taken = step.load("charge", intent["latest_charge"])
    return refunded(step, taken, amount, reason, metadata, "request")


def _check_amount(amount: int, currency: str) -> None:
    if currency in THREE_DECIMALS and amount % 10:
        message = f"Invalid amount: the last digit of an amount in {currency} must be 0."
        raise invalid("invalid_charge_amount_no_decimal_compatible", message, "amount")
    if currency in ISO_UNITS and amount % ISO_UNITS[currency]:
        message = f"Invalid amount: amounts in {currency} must be evenly divisible by 100."
        raise invalid("invalid_charge_amount_no_decimal_compatible", message, "amount")
    if amount < MINIMUM.get(currency, 1):
        raise invalid("amount_too_small", f"Amount must be at least {MINIMUM[currency]} {currency}.", "amount")


def _check_descriptor(params: Params) -> None:
    suffix = params.text("statement_descriptor_suffix") or ""
    if len(suffix) > DESCRIPTOR_CHARS_MAX or set(suffix) & set("<>\\'\"*"):
        raise invalid(
            None, "The statement descriptor suffix is too long or has invalid characters.", "statement_descriptor"
        )


_CREATE_FIELDS = frozenset(
    (
        "amount",
        "automatic_payment_methods",
        "capture_method",
        "confirm",
        "currency",
        "customer",
        "description",
        "expand",
        "metadata",
        "payment_method",
        "payment_method_options",
        "return_url",
        "statement_descriptor_suffix",
    )
)

VERBS: dict[str, Verb] = {
    "/v1/payment_intents": Verb("create", _CREATE_FIELDS, create),
    "/v1/payment_intents/{id}": Verb(
        "update", frozenset(("description", "expand", "metadata", "payment_method")), update
    ),
    "/v1/payment_intents/{id}/confirm": Verb("confirm", frozenset(("expand", "payment_method", "return_url")), confirm),
    "/v1/payment_intents/{id}/capture": Verb(
        "capture", frozenset(("amount_to_capture", "expand", "final_capture", "metadata")), capture
    ),
    "/v1/payment_intents/{id}/increment_authorization": Verb(
        "adjust", frozenset(("amount", "expand", "metadata")), increment
    ),
    "/v1/payment_intents/{id}/cancel": Verb("cancel", frozenset(("cancellation_reason", "expand")), cancel),
    "/v1/refunds": Verb("refund", frozenset(("amount", "expand", "metadata", "payment_intent", "reason")), refund),
}
