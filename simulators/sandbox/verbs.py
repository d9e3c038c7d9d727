"""The verbs: each POST of the API, from the request's fields to a change of the books."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast, get_args

from simulators.sandbox.adjusting import adjusted
from simulators.sandbox.attempts import confirmed, created
from simulators.sandbox.books import Books
from simulators.sandbox.changes import Change, Moment
from simulators.sandbox.movements import cancelled, captured, refunded
from simulators.sandbox.outcomes import AMOUNTS
from simulators.sandbox.params import Params
from simulators.sandbox.payment import CaptureMode, Payment

DESCRIPTOR_CHARS_MAX = 22
URL_CHARS_MAX = 2_048

Tried = tuple[str | None, int]


@dataclass(frozen=True)
class Asked:
    """One request: whose, under which idempotency key, about which payment (empty for a new one), with what."""

    account: str
    key: str
    payment_id: str
    params: Params


@dataclass(frozen=True)
class Verb:
    """A POST. `name` is what a queued fault is matched with; `fields` are the parameters that it knows.

    `tries` gives the payment method (None: by amount) and the amount of the attempt that the request makes,
    or None for no attempt.
    """

    name: str
    fields: frozenset[str]
    run: Callable[[Books, Moment, Asked], Change]
    tries: Callable[[Books, Asked], Tried | None]


def create(books: Books, moment: Moment, asked: Asked) -> Change:
    """A new payment, confirmed at once where the request says so."""
    params = asked.params
    method = params.text("payment_method")
    at = books.created_at(moment.seconds)
    metadata = params.metadata()
    payment = Payment(
        id=moment.mint("spay"),
        account=asked.account,
        amount=params.required_amount("amount"),
        currency=params.currency("currency"),
        capture=cast(CaptureMode, params.choice("capture", get_args(CaptureMode), "automatic")),
        status="requires_confirmation" if method else "requires_payment_method",
        payment_method=method,
        customer=params.text("customer"),
        description=params.text("description"),
        statement_descriptor=params.text("statement_descriptor", DESCRIPTOR_CHARS_MAX),
        return_url=params.text("return_url", URL_CHARS_MAX),
        metadata=metadata,
        created=at,
        updated=at,
    )
    if not params.flag("confirm", False):
        return created(payment)
    return confirmed(payment, moment, None, asked.key, metadata)


def confirm(books: Books, moment: Moment, asked: Asked) -> Change:
    """One attempt."""
    params = asked.params
    token, url, metadata = (
        params.text("payment_method"),
        params.text("return_url", URL_CHARS_MAX),
        params.metadata(),
    )
    payment = books.payment(asked.account, asked.payment_id, kept=True)
    return confirmed(payment, moment, token, asked.key, metadata, url)


def capture(books: Books, moment: Moment, asked: Asked) -> Change:
    """Money taken from an authorization."""
    params = asked.params
    amount, final, metadata = params.amount("amount"), params.flag("final", True), params.metadata()
    payment = books.payment(asked.account, asked.payment_id, kept=True)
    return captured(payment, moment, amount, final, asked.key, metadata)


def adjust(books: Books, moment: Moment, asked: Asked) -> Change:
    """Another total held."""
    total, metadata = asked.params.required_amount("amount"), asked.params.metadata()
    return adjusted(books.payment(asked.account, asked.payment_id, kept=True), moment, total, asked.key, metadata)


def cancel(books: Books, moment: Moment, asked: Asked) -> Change:
    """A payment closed."""
    reason, metadata = asked.params.text("reason"), asked.params.metadata()
    payment = books.payment(asked.account, asked.payment_id, kept=True)
    return cancelled(payment, moment, reason, asked.key, metadata)


def refund(books: Books, moment: Moment, asked: Asked) -> Change:
    """Money given back."""
    params = asked.params
    amount, reason, metadata = params.amount("amount"), params.text("reason"), params.metadata()
    payment = books.payment(asked.account, asked.payment_id, kept=True)
    return refunded(payment, moment, amount, reason, asked.key, metadata)


def _create_tries(books: Books, asked: Asked) -> Tried | None:
    params = asked.params
    if not params.flag("confirm", False):
        return None
    return params.text("payment_method"), params.required_amount("amount")


def _confirm_tries(books: Books, asked: Asked) -> Tried | None:
    payment = books.payments(asked.account).get(asked.payment_id)
    if payment is None:
        return None
    return asked.params.text("payment_method") or payment.payment_method, payment.amount


def _adjust_tries(books: Books, asked: Asked) -> Tried | None:
    total = asked.params.required_amount("amount")
    return (None, total) if total % 100 in AMOUNTS else None


def _tries_nothing(books: Books, asked: Asked) -> None:
    return None


_CREATE_FIELDS = frozenset(
    (
        "amount",
        "currency",
        "capture",
        "confirm",
        "payment_method",
        "customer",
        "description",
        "statement_descriptor",
        "return_url",
        "metadata",
    )
)

VERBS: dict[str, Verb] = {
    "/v1/payments": Verb("payments", _CREATE_FIELDS, create, _create_tries),
    "/v1/payments/{id}/confirm": Verb(
        "confirm", frozenset(("payment_method", "return_url", "metadata")), confirm, _confirm_tries
    ),
    "/v1/payments/{id}/capture": Verb("capture", frozenset(("amount", "final", "metadata")), capture, _tries_nothing),
    "/v1/payments/{id}/adjust": Verb("adjust", frozenset(("amount", "metadata")), adjust, _adjust_tries),
    "/v1/payments/{id}/cancel": Verb("cancel", frozenset(("reason", "metadata")), cancel, _tries_nothing),
    "/v1/payments/{id}/refunds": Verb("refunds", frozenset(("amount", "reason", "metadata")), refund, _tries_nothing),
}
