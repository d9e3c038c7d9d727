"""The reads: each GET of the API, from the books to JSON."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request

from simulators.paypal.events import shown_event
from simulators.paypal.imitation import Imitation
from simulators.paypal.order import Json, shown_order, shown_part
from simulators.paypal.refusals import invalid, missing
from simulators.paypal.reporting import TRANSACTIONS_PATH, transactions
from simulators.paypal.steps import shown_dispute

PAGE_MAX = 300
EVENTS_PATH = "/v1/notifications/webhooks-events"


def order(imitation: Imitation, request: Request) -> Json:
    """One order."""
    found = imitation.books.order(request.path_params["id"])
    return shown_order(found, imitation.settings.merchant.merchant_id, imitation.url)


def authorization(imitation: Imitation, request: Request) -> Json:
    """One authorization."""
    return shown_part(*imitation.books.owner("authorizations", request.path_params["id"]))


def capture(imitation: Imitation, request: Request) -> Json:
    """One capture."""
    return shown_part(*imitation.books.owner("captures", request.path_params["id"]))


def refund(imitation: Imitation, request: Request) -> Json:
    """One refund."""
    return imitation.books.owner("refunds", request.path_params["id"])[1]


def dispute(imitation: Imitation, request: Request) -> Json:
    """One dispute."""
    return shown_dispute(imitation.books.owner("disputes", request.path_params["id"])[1])


def webhooks(imitation: Imitation, request: Request) -> Json:
    """The one webhook, subscribed to everything; none where nothing is delivered."""
    url = imitation.settings.delivered_to
    merchant = imitation.settings.merchant
    return {"webhooks": [{"id": merchant.webhook_id, "url": url, "event_types": [{"name": "*"}]}] if url else []}


def events(imitation: Imitation, request: Request) -> Json:
    """Events of a window of times, newest first, in pages that lead to each other."""
    query = request.query_params
    size = _whole(query.get("page_size", "10"), PAGE_MAX)
    start, end = _time(query.get("start_time")), _time(query.get("end_time"))
    skip = _whole(query.get("start_index", "0"), 10**9)
    inside = [
        event
        for event in imitation.books.events.after(None)
        if (start is None or int(event.created) >= start) and (end is None or int(event.created) <= end)
    ][::-1]
    page = inside[skip : skip + size]
    told: Json = {"events": [shown_event(each, imitation.url) for each in page], "count": len(page), "links": []}
    if skip + size < len(inside):
        following = urlencode({**dict(query), "start_index": str(skip + size)})
        told["links"].append({"href": f"{imitation.url}{EVENTS_PATH}?{following}", "rel": "next", "method": "GET"})
    return told


def event(imitation: Imitation, request: Request) -> Json:
    """One event."""
    found = imitation.books.events.get(request.path_params["id"])
    if found is None:
        raise missing()
    return shown_event(found, imitation.url)


READERS: dict[str, Callable[[Imitation, Request], Any]] = {
    "/v2/checkout/orders/{id}": order,
    "/v2/payments/authorizations/{id}": authorization,
    "/v2/payments/captures/{id}": capture,
    "/v2/payments/refunds/{id}": refund,
    "/v1/customer/disputes/{id}": dispute,
    "/v1/notifications/webhooks": webhooks,
    EVENTS_PATH: events,
    f"{EVENTS_PATH}/{{id}}": event,
    TRANSACTIONS_PATH: transactions,
}


def _whole(text: str, at_most: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > at_most:
        raise invalid("INVALID_PARAMETER_VALUE")
    return int(text)


def _time(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise invalid("INVALID_PARAMETER_SYNTAX") from None
