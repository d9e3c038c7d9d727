"""The reads: each GET of the API, from the books to JSON, and `expand`. Consistent, all but the search."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from simulators.roll import Roll
from simulators.stripe.books import Books, Scope
from simulators.stripe.form import Params
from simulators.stripe.objects import API_VERSION, Object, page, shown
from simulators.stripe.refusals import invalid, missing

PAGE_MAX = 100
PAGE_DEFAULT = 10
REFUNDS_SHOWN_MAX = 10
EXPAND_DEPTH_MAX = 4
_SEARCHED = re.compile(r"metadata\[['\"]([^'\"]{1,40})['\"]\]\s*:\s*['\"]([^'\"]{1,500})['\"]")

REFERENCES = {"latest_charge": "charge", "charge": "charge", "payment_intent": "payment_intent"}
"""Fields that hold an object's id, and of which kind it is."""

LIST_FIELDS = ("created", "ending_before", "expand", "limit", "starting_after")


def expanded(books: Books, scope: Scope, of: Object, paths: Iterable[str]) -> Object:
    """The object as the API shows it, with what `paths` name in place of ids. Raises Refusal."""
    told = shown(of)
    for path in paths:
        parts = path.split(".")
        if len(parts) > EXPAND_DEPTH_MAX:
            raise invalid(None, f"You cannot expand more than {EXPAND_DEPTH_MAX} levels of a property.", "expand")
        _expand(books, scope, told, parts)
    return told


def _expand(books: Books, scope: Scope, told: Object, parts: list[str]) -> None:
    name, rest = parts[0], parts[1:]
    if told["object"] == "charge" and name == "refunds":
        told.setdefault("refunds", _refunds(books, scope, told["id"]))
        return
    if name not in REFERENCES or name not in told:
        raise invalid(None, f"This property cannot be expanded ({name[:64]}).", "expand")
    value = told[name]
    if isinstance(value, str):
        value = told[name] = shown(books.get(scope, REFERENCES[name], value))
    if rest and value is not None:
        _expand(books, scope, value, rest)


def _refunds(books: Books, scope: Scope, charge_id: str) -> Object:
    intent = books.get(scope, "charge", charge_id)["payment_intent"]
    found = [shown(each) for each in books.of_payment(scope, "refund", intent) if each["charge"] == charge_id]
    newest = found[::-1]
    url = f"/v1/charges/{charge_id}/refunds"
    return page(newest[:REFUNDS_SHOWN_MAX], url, more=len(newest) > REFUNDS_SHOWN_MAX)


def retrieved(books: Books, scope: Scope, kind: str, object_id: str, params: Params) -> Object:
    """One object by its id."""
    return expanded(books, scope, books.get(scope, kind, object_id), params.listed("expand"))


def listed(books: Books, scope: Scope, kind: str, params: Params) -> Object:
    """A page of objects, newest first."""
    intent = params.text("payment_intent")
    if intent is not None:
        found = books.of_payment(scope, kind, intent)[::-1]
        return _page(books, scope, found, f"/v1/{kind}s", params)
    return _page(books, scope, _window(books.roll(scope, kind), params), f"/v1/{kind}s", params)


def searched(books: Books, scope: Scope, params: Params, *, seen_before: float) -> Object:
    """PaymentIntents by metadata, of what was created before `seen_before`: the search lags behind the books."""
    read = _SEARCHED.fullmatch(params.text("query") or "")
    if read is None:
        raise invalid(None, "This imitation searches by metadata['name']:'value' alone.", "query")
    found = [
        expanded(books, scope, each, [])
        for each in books.roll(scope, "payment_intent").after(None)
        if each["metadata"].get(read[1]) == read[2] and each["created"] <= seen_before
    ]
    told = {"object": "search_result", "url": "/v1/payment_intents/search", "has_more": False, "next_page": None}
    return told | {"data": found[::-1][: _limit(params)]}


def events(books: Books, scope: Scope, params: Params) -> Object:
    """A page of events, newest first."""
    wanted = set(params.listed("types")) or ({params.text("type")} - {None})
    found: Iterable[Object] = _window(books.events(scope), params)
    return _page(books, scope, (each for each in found if not wanted or each["type"] in wanted), "/v1/events", params)


def account(scope: Scope) -> Object:
    """Whose key this is."""
    return {
        "id": scope.id,
        "object": "account",
        "charges_enabled": True,
        "country": "US",
        "default_currency": "usd",
        "details_submitted": True,
        "payouts_enabled": True,
        "type": "standard",
    }


def webhook_endpoint(url: str) -> Object:
    """The one endpoint of this account."""
    return {
        "id": "we_simulated",
        "object": "webhook_endpoint",
        "api_version": API_VERSION,
        "application": None,
        "created": 1_700_000_000,
        "description": None,
        "enabled_events": ["*"],
        "livemode": False,
        "metadata": {},
        "status": "enabled",
        "url": url,
    }


def _window(roll: Roll[Object], params: Params) -> list[Object]:
    """What lies in the asked window of creation times and between the cursors, newest first."""
    bounds = params.nested("created")
    since, until = bounds.whole("gte"), bounds.whole("lte")
    before = bounds.whole("lt")
    last = until if before is None else before - 1
    found = roll.since(lambda each: each["created"], since or 0)
    return [each for each in found if last is None or each["created"] <= last][::-1]


def _page(books: Books, scope: Scope, found: Iterable[Object], url: str, params: Params) -> Object:
    limit = _limit(params)
    after, before = params.text("starting_after"), params.text("ending_before")
    newest = list(found)
    if after is not None:
        newest = newest[_place(newest, after) + 1 :]
    if before is not None:
        # Backwards from the cursor: the nearest, still shown newest first.
        upto = newest[: _place(newest, before)]
        told, more = upto[-limit:], len(upto) > limit
    else:
        told, more = newest[:limit], len(newest) > limit
    paths = [path.removeprefix("data.") for path in params.listed("expand")]
    return page([expanded(books, scope, each, paths) for each in told], url, more=more)


def _place(found: list[Object], cursor: str) -> int:
    for place, each in enumerate(found):
        if each["id"] == cursor:
            return place
    raise missing("object", cursor, "starting_after", in_body=True)


def _limit(params: Params) -> int:
    limit = params.whole("limit")
    if limit is not None and not 0 < limit <= PAGE_MAX:
        raise invalid("parameter_invalid_integer", f"Invalid limit: 1 to {PAGE_MAX}.", "limit")
    return PAGE_DEFAULT if limit is None else limit


Reader = Callable[[Books, Scope, Params, str], Object]

_KINDS = {"payment_intents": "payment_intent", "charges": "charge", "refunds": "refund", "disputes": "dispute"}
_FILTERS = {"payment_intents": ("customer",), "charges": ("payment_intent",), "refunds": ("payment_intent",)}


def readers() -> Iterator[tuple[str, tuple[str, ...], Reader]]:
    """Each path of a plain read, the parameters that it knows, and its reader."""
    for name, kind in _KINDS.items():

        def one(books: Books, scope: Scope, params: Params, object_id: str, kind: str = kind) -> Object:
            return retrieved(books, scope, kind, object_id, params)

        def many(books: Books, scope: Scope, params: Params, object_id: str, kind: str = kind) -> Object:
            return listed(books, scope, kind, params)

        yield f"/v1/{name}/{{id}}", ("expand", "client_secret"), one
        yield f"/v1/{name}", (*LIST_FIELDS, *_FILTERS.get(name, ("payment_intent",))), many


def whole(text: str | None, default: int, most: int) -> int:
    """A whole number of a control's query."""
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise invalid(None, "A whole number.", "query")
    return min(int(text), most)
