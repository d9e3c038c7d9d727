"""An order on the books, and as PayPal shows it.

The authorizations, captures, refunds and disputes are kept as they are shown; what belongs to the order alone is in
fields of its own. A record is never changed in place: each step makes the next one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Order:
    """One order. `funding` is what the payer's wallet does since the approval; `source` the payment source as sent."""

    id: str
    intent: str
    status: str
    unit: Json
    source: Json
    created: float
    updated: float
    funding: str = ""
    authorizations: tuple[Json, ...] = ()
    captures: tuple[Json, ...] = ()
    refunds: tuple[Json, ...] = ()
    disputes: tuple[Json, ...] = ()

    @property
    def currency(self) -> str:
        """Of all its amounts."""
        return str(self.unit["amount"]["currency_code"])

    @property
    def payer_url(self) -> str:
        """Where the payer comes back to; empty where nobody said."""
        context = (self.source.get("paypal") or {}).get("experience_context") or {}
        return str(context.get("return_url", ""))


def recorded(order: Order) -> str:
    """Its JSON text for the journal."""
    return json.dumps(asdict(order))


def restored(record: Json) -> Order:
    """An order from its journal record."""
    lists = {name: tuple(record[name]) for name in ("authorizations", "captures", "refunds", "disputes")}
    return Order(**{**record, **lists})


def replaced(items: tuple[Json, ...], item: Json) -> tuple[Json, ...]:
    """The items with the one of this id replaced."""
    return tuple(item if each["id"] == item["id"] else each for each in items)


def shown_order(order: Order, merchant_id: str, url: str) -> Json:
    """The order as PayPal answers it (`Prefer: return=representation`)."""
    unit: Json = {**order.unit, "payee": {"email_address": "merchant@example.com", "merchant_id": merchant_id}}
    payments = {
        name: list(items)
        for name, items in (
            ("authorizations", order.authorizations),
            ("captures", order.captures),
            ("refunds", order.refunds),
        )
        if items
    }
    if payments:
        unit["payments"] = payments
    shown: Json = {
        "id": order.id,
        "intent": order.intent,
        "status": order.status,
        "purchase_units": [unit],
        "create_time": iso(order.created),
        "update_time": iso(order.updated),
        "links": _links(order, url),
    }
    kind = next((name for name in ("paypal", "card") if name in order.source), "")
    if kind == "paypal":
        shown["payment_source"] = {"paypal": {"email_address": "payer@example.com"}}
    elif kind == "card":
        shown["payment_source"] = {"card": {"last_digits": "1111", "brand": "VISA", "type": "CREDIT"}}
    return shown


def shown_part(order: Order, part: Json) -> Json:
    """An authorization or a capture as its own resource: with the order that it belongs to."""
    return {**part, "supplementary_data": {"related_ids": {"order_id": order.id}}}


def iso(seconds: float) -> str:
    """A time as PayPal writes it."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def touched(order: Order, now: float, **fields: Any) -> Order:
    """The order's next version."""
    return replace(order, updated=now, **fields)


def _links(order: Order, url: str) -> list[Json]:
    own = f"{url}/v2/checkout/orders/{order.id}"
    links = [{"href": own, "rel": "self", "method": "GET"}]
    if order.status in ("CREATED", "PAYER_ACTION_REQUIRED"):
        links.append({"href": f"{url}/checkoutnow/{order.id}?token={order.id}", "rel": "payer-action", "method": "GET"})
    if order.status == "APPROVED":
        verb = "capture" if order.intent == "CAPTURE" else "authorize"
        links.append({"href": f"{url}/checkoutnow/{order.id}?token={order.id}", "rel": "approve", "method": "GET"})
        links.append({"href": f"{own}/{verb}", "rel": verb, "method": "POST"})
    return links
