"""The reads: each GET of the API, from the books to JSON. Strongly consistent: what was answered once is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice, takewhile
from typing import Any, TypeVar

from starlette.requests import Request

from simulators.sandbox.books import Books
from simulators.sandbox.events import shown_event
from simulators.sandbox.payment import Payment, shown_payment, shown_refund
from simulators.sandbox.refusals import Refusal, invalid, missing

PAGE_MAX = 100
WHOLE_DIGITS_MAX = 12

T = TypeVar("T")


def payment(books: Books, account: str, request: Request) -> dict[str, Any]:
    """One payment."""
    return shown_payment(books.payment(account, request.path_params["id"]))


def payments(books: Books, account: str, request: Request) -> dict[str, Any]:
    """Payments by reference, or those created in a window, in the order of their creation."""
    query = request.query_params
    reference = query.get("reference")
    if reference is not None:
        return _page(books.by_reference(account, reference), request, shown_payment)
    roll = books.payments(account)
    start, end = whole(request, "created_gte", 0), whole(request, "created_lt", 10**WHOLE_DIGITS_MAX)
    if "after" in query:
        # A cursor is further on than the window's start, so the start is a filter only.
        found = _after(roll.after, query["after"])
        inside: Iterator[Payment] = (each for each in found if each.created >= start)
    else:
        inside = roll.since(lambda each: each.created, start)
    shown = (each for each in takewhile(lambda each: each.created < end, inside) if not each.hidden)
    return _page(shown, request, shown_payment)


def refund(books: Books, account: str, request: Request) -> dict[str, Any]:
    """One refund."""
    found, moved = books.refund(request.path_params["id"])
    if found.account != account:
        raise missing("refund", moved.id)
    return shown_refund(found, moved)


def event(books: Books, account: str, request: Request) -> dict[str, Any]:
    """One event."""
    wanted = request.path_params["id"]
    found = books.events(account).get(wanted)
    if found is None:
        raise missing("event", wanted[:64])
    return shown_event(found)


def events(books: Books, account: str, request: Request) -> dict[str, Any]:
    """The events after a known one, oldest first; from the oldest kept without `after`."""
    found = _after(books.events(account).after, request.query_params.get("after"))
    return _page(found, request, shown_event)


def account_of(books: Books, account: str, request: Request) -> dict[str, Any]:
    """Whose key this is."""
    return {"id": account, "object": "account", "livemode": False}


READERS: dict[str, Callable[[Books, str, Request], dict[str, Any]]] = {
    "/v1/payments": payments,
    "/v1/payments/{id}": payment,
    "/v1/refunds/{id}": refund,
    "/v1/events": events,
    "/v1/events/{id}": event,
    "/v1/account": account_of,
}


def whole(request: Request, name: str, default: int) -> int:
    """A whole number from the query. Raises Refusal `invalid_request`."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > WHOLE_DIGITS_MAX:
        raise invalid(name, "A whole number.")
    return int(text)


def _after(read: Callable[[str | None], Iterator[T]], cursor: str | None) -> Iterator[T]:
    try:
        return read(cursor)
    except KeyError:
        raise Refusal(400, "invalid_request_error", "cursor_unknown", "Nothing is kept by this id.", "after") from None


def _page(found: Iterator[T], request: Request, show: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    limit = whole(request, "limit", PAGE_MAX)
    if not 0 < limit <= PAGE_MAX:
        raise invalid("limit", f"1 to {PAGE_MAX}.")
    page = list(islice(found, limit + 1))
    return {"object": "list", "data": [show(each) for each in page[:limit]], "has_more": len(page) > limit}
