"""The verbs: each POST of the API, from the request to a change of the books."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simulators.paypal import steps
from simulators.paypal.amounts import read
from simulators.paypal.books import Books
from simulators.paypal.methods import vaulted
from simulators.paypal.order import Json, Order
from simulators.paypal.reauthorizing import reauthorized
from simulators.paypal.refusals import invalid, missing, refused
from simulators.paypal.steps import Change, Moment

UNIT_FIELDS = {
    "reference_id": 256,
    "custom_id": 127,
    "invoice_id": 127,
    "description": 127,
    "soft_descriptor": 22,
}
"""The texts of a purchase unit, and how long they may be."""


@dataclass(frozen=True)
class Asked:
    """One request: about which object (empty for a new order), under which request id, with what.

    `mocked` is the issue that it asks to be refused with, `operation` what its caller calls it, for the effect log.
    """

    id: str
    key: str | None
    body: dict[str, Any]
    mocked: str
    operation: str


@dataclass(frozen=True)
class Verb:
    """A POST. `name` is what a queued fault is matched with, `status` what a first success is answered with."""

    name: str
    path: str
    status: int
    run: Callable[[Books, Moment, Asked], Change]


def create(books: Books, moment: Moment, asked: Asked) -> Change:
    """A new order, paid at once from a vaulted source."""
    books.room()
    body = asked.body
    unit, source = _unit(body), body.get("payment_source") or {}
    if body.get("intent") not in ("CAPTURE", "AUTHORIZE") or not isinstance(source, dict):
        raise invalid("INVALID_PARAMETER_VALUE")
    method, at_once = vaulted(source)
    order = Order(
        id=moment.mint(),
        intent=body["intent"],
        status="CREATED" if not source else "PAYER_ACTION_REQUIRED",
        unit=unit,
        source=source,
        created=moment.now,
        updated=moment.now,
    )
    if not at_once:
        return steps.created(order, moment, None, asked.key)
    if asked.key is None:
        raise invalid("PAYPAL_REQUEST_ID_REQUIRED")
    if method is None:
        raise refused("PAYMENT_SOURCE_CANNOT_BE_USED")
    books.check_invoice("payment", unit.get("invoice_id", ""))
    return steps.created(order, moment, method, asked.key)


def completing(verb: str) -> Callable[[Books, Moment, Asked], Change]:
    """An approved order is captured or authorized."""

    def run(books: Books, moment: Moment, asked: Asked) -> Change:
        order = books.orders.get(asked.id)
        if order is None:
            raise missing(kept=True)
        books.order(asked.id)
        change = steps.completed(order, moment, verb, asked.key or "")
        if change.refusal is None:
            books.check_invoice("payment", order.unit.get("invoice_id", ""))
        return change

    return run


def capture(books: Books, moment: Moment, asked: Asked) -> Change:
    """Money taken from an authorization."""
    order, hold = books.owner("authorizations", asked.id)
    if asked.body.get("invoice_id"):
        books.check_invoice("payment", str(asked.body["invoice_id"]))
    return steps.captured(order, moment, hold, asked.body, asked.key, "request")


def reauthorize(books: Books, moment: Moment, asked: Asked) -> Change:
    """An authorization made anew."""
    order, hold = books.owner("authorizations", asked.id)
    method, _ = vaulted(order.source)
    issue = method.reauthorization if method is not None else ""
    return reauthorized(order, moment, hold, asked.body, asked.key, asked.operation, issue)


def void(books: Books, moment: Moment, asked: Asked) -> Change:
    """An authorization let go."""
    order, hold = books.owner("authorizations", asked.id)
    return steps.voided(order, moment, hold, asked.key, asked.operation)


def refund(books: Books, moment: Moment, asked: Asked) -> Change:
    """Money given back."""
    order, taken = books.owner("captures", asked.id)
    if asked.body.get("invoice_id"):
        books.check_invoice("refund", str(asked.body["invoice_id"]))
    method, _ = vaulted(order.source)
    pends = method is not None and method.refund_pends
    return steps.refunded(order, moment, taken, asked.body, asked.key or "", pends)


def _unit(body: Json) -> Json:
    units = body.get("purchase_units")
    if not isinstance(units, list) or len(units) != 1 or not isinstance(units[0], dict):
        raise invalid("INVALID_ARRAY_MIN_ITEMS")
    unit = units[0]
    read(unit.get("amount"))
    told: Json = {"reference_id": "default", "amount": unit["amount"]}
    for name, chars_max in UNIT_FIELDS.items():
        value = unit.get(name)
        if value is None:
            continue
        if not isinstance(value, str) or not 0 < len(value) <= chars_max:
            raise invalid("INVALID_STRING_LENGTH")
        told[name] = value
    return told


VERBS = (
    Verb("create", "/v2/checkout/orders", 201, create),
    Verb("complete", "/v2/checkout/orders/{id}/capture", 201, completing("capture")),
    Verb("complete", "/v2/checkout/orders/{id}/authorize", 201, completing("authorize")),
    Verb("capture", "/v2/payments/authorizations/{id}/capture", 201, capture),
    Verb("adjust", "/v2/payments/authorizations/{id}/reauthorize", 201, reauthorize),
    Verb("cancel", "/v2/payments/authorizations/{id}/void", 200, void),
    Verb("refund", "/v2/payments/captures/{id}/refund", 201, refund),
)
