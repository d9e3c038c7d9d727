"""Re-authorizing: a new authorization in the place of one whose honor period is over."""

from __future__ import annotations

from datetime import datetime

from simulators.effects import Origin
from simulators.paypal.amounts import read, units, written
from simulators.paypal.order import Json, Order, iso, replaced, touched
from simulators.paypal.refusals import refused
from simulators.paypal.steps import Change, Moment, effect, of_part

PERCENT_MAX = 115
MORE_MAX = {"USD": 75_00}
"""By how much the amount may grow at most, in the units of `amounts`; PayPal says it of the USA."""


def reauthorized(
    order: Order, moment: Moment, hold: Json, asked: Json, key: str | None, operation: str, issue: str
) -> Change:
    """The authorization anew. It takes no invoice id: `operation` is what its caller calls it. Raises Refusal."""
    if hold["status"] in ("CAPTURED", "PARTIALLY_CAPTURED"):
        raise refused("AUTHORIZATION_ALREADY_CAPTURED")
    if hold["status"] == "VOIDED":
        raise refused("AUTHORIZATION_VOIDED")
    if hold != order.authorizations[0]:
        raise refused("REAUTHORIZATION_NOT_SUPPORTED")
    before = units(hold["amount"])
    amount, currency = read(asked["amount"]) if "amount" in asked else (before, order.currency)
    if currency != order.currency:
        raise refused("AUTH_CURRENCY_MISMATCH")
    early = moment.now < datetime.fromisoformat(hold["create_time"]).timestamp() + moment.terms.honor_seconds
    too_much = amount * 100 > before * PERCENT_MAX or amount - before > MORE_MAX.get(currency, amount)
    if issue or early or too_much:
        # PayPal's document has no issue for the second and the third.
        raise refused(issue or "TRANSACTION_REFUSED")
    made: Json = {
        **hold,
        "id": (made_id := moment.mint()),
        "status": "CREATED",
        "amount": written(amount, currency),
        "create_time": iso(moment.now),
        "update_time": iso(moment.now),
        "links": [{"href": f"{moment.url}/v2/payments/authorizations/{made_id}", "rel": "self", "method": "GET"}],
    }
    former = {**hold, "status": "VOIDED", "update_time": iso(moment.now)}
    after = touched(order, moment.now, authorizations=(*replaced(order.authorizations, former), made))
    origin: Origin = "request" if key else "dashboard"
    return Change(
        after,
        (of_part("PAYMENT.AUTHORIZATION.CREATED", "authorization", after, made),),
        (effect("authorization", after, moment, {**made, "invoice_id": operation}, key, origin),),
        ("authorizations", made_id),
    )
