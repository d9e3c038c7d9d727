"""Reading: PaymentIntents whole, by id, by our reference and by window; and the event list. Every loop is bounded."""

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from gateway.domain.errors import InvalidRequest, Reason, Unavailable
from gateway.domain.providers import Absent, Found, Lookup, ProviderEvent, Snapshot, Unreadable
from providers.fields import Fields, UnreadableAnswer
from providers.http import Received
from providers.strict_json import parse_object
from providers.stripe.answers import error_of
from providers.stripe.form import Values
from providers.stripe.mapping import Pieces, StripeMapping, latest_charge
from providers.stripe.requests import INTENTS_PATH, Place, intent_path
from providers.stripe.wire import StripeWire

PAGE_MAX = 100
PIECE_PAGES_MAX = 5
LOOKUP_PAGES_MAX = 20
EVENT_PAGES_MAX = 100
BEFORE_S, AFTER_S = 300, 3600
"""Where a PaymentIntent of ours lies in time around the making of our id: clocks differ, and a send may be repeated."""

_UUID7 = re.compile(r"[a-z]+_(?P<ms>[0-9a-f]{12})7[0-9a-f]{19}\Z")

T = TypeVar("T")


class StripeReader:
    """Reads one account, and the `connected` ones for which it acts. `consistent` is what an absence is told to be."""

    def __init__(self, wire: StripeWire, mapping: StripeMapping, *, connected: Sequence[str], consistent: bool) -> None:
        self._wire = wire
        self._mapping = mapping
        self._connected = tuple(connected)
        self._consistent = consistent

    async def fetch(self, provider_payment_id: str, *, timeout_s: float) -> Lookup:
        """The PaymentIntent by our name of its place."""
        deadline = _now() + timeout_s
        place = Place.of(provider_payment_id)
        try:
            path = intent_path(place)
            exchange = (await self._wire.read(path, {}, account=place.account, timeout_s=timeout_s)).exchange
            if isinstance(exchange, Received) and exchange.status == 404:
                return self._absence(exchange)
            intent = Fields(_body(exchange), "payment_intent")
            if intent.text("id") != place.intent_id:
                return Unreadable("mismatch: id")
            return Found(self._mapping.snapshot(await self._pieces(intent, place.account, deadline)))
        except ValueError as error:
            return Unreadable(str(error))

    async def lookup(self, payment_id: str, *, timeout_s: float) -> Lookup:
        """The PaymentIntent whose metadata has our id: the platform's, or one of the connected accounts'."""
        deadline = _now() + timeout_s
        try:
            found = [
                Place(intent.text("id"), account)
                for account in ("", *self._connected)
                for intent in await self._with_reference(payment_id, account, deadline)
            ]
        except ValueError as error:
            return Unreadable(str(error))
        match found:
            case []:
                return Absent(consistent=self._consistent)
            case [place]:
                return await self.fetch(str(place), timeout_s=deadline - _now())
            case _:
                return Unreadable("more than one object carries this reference")

    async def payments(
        self, *, created_from_us: int, created_before_us: int, page_token: str, limit: int, timeout_s: float
    ) -> tuple[Sequence[Snapshot], str]:
        """A page of those created in [from, before): the platform's, then each connected account's, newest first.

        The token is the place after which the next page begins, with no id at the beginning of an account. Accounts
        that have none are passed over while half of the time is left. Raises Unavailable, InvalidRequest.
        """
        begun, window = _now(), {"gte": _seconds_up(created_from_us), "lt": _seconds_up(created_before_us)}
        query: Values = {"created": window, "limit": _bounded(limit), "expand": ["data.latest_charge.refunds"]}
        page, token = await self._place(query, page_token, begun + timeout_s)
        while not page and token and _now() < begun + timeout_s / 2:
            page, token = await self._place(query, token, begun + timeout_s)
        return page, token

    async def _place(self, query: Values, token: str, deadline: float) -> tuple[Sequence[Snapshot], str]:
        """A page of one account, and the next one's token: of the same account, of the one after it, or of none."""
        # By name: a walk that goes on after a restart passes over none, however the options order them by now.
        accounts, after = ("", *sorted(self._connected)), Place.of(token)
        if after.account not in accounts:
            raise InvalidRequest(Reason.CURSOR_INVALID, "the account is not in options.connected_accounts any more")
        query = {**query, "starting_after": after.intent_id or None}
        page = await self._page(INTENTS_PATH, query, deadline, after.account)
        try:
            intents = list(page.objects("data"))
            pieces = [await self._listed(each, after.account, deadline) for each in intents]
            snapshots = [self._mapping.snapshot(each) for each in pieces]
            if page.flag("has_more") and intents:
                return snapshots, str(Place(intents[-1].text("id"), after.account))
        except ValueError as error:
            raise _unreadable(error) from None
        later = accounts[accounts.index(after.account) + 1 :]
        return snapshots, str(Place("", later[0])) if later else ""

    async def events(self, *, after_event_id: str, limit: int, timeout_s: float) -> Sequence[ProviderEvent]:
        """Events after a known one ("" from the oldest kept, 30 days back), oldest first.

        Raises Unavailable, or InvalidRequest CURSOR_INVALID where Stripe keeps no such event any more.
        """
        deadline = _now() + timeout_s
        if after_event_id:
            query: Values = {"ending_before": after_event_id, "limit": _bounded(limit)}
            newest = list((await self._page("/v1/events", query, deadline)).objects("data"))
        else:
            newest = await self._oldest_events(deadline)
        try:
            return [_event(each) for each in newest[::-1][: _bounded(limit)]]
        except ValueError as error:
            raise _unreadable(error) from None

    async def get(self, path: str, query: Values, *, timeout_s: float) -> Fields:
        """One object. Raises ValueError where the answer is none."""
        return Fields(_body((await self._wire.read(path, query, timeout_s=timeout_s)).exchange), path)

    async def pieces(self, intent: Fields, account: str, *, timeout_s: float) -> Pieces:
        """All that belongs to a PaymentIntent that was read just before. Raises ValueError."""
        return await self._pieces(intent, account, _now() + timeout_s)

    async def _pieces(self, intent: Fields, account: str, deadline: float) -> Pieces:
        intent_id, latest = intent.text("id"), latest_charge(intent)
        if not latest:
            return Pieces(intent, account=account)
        query: Values = {"payment_intent": intent_id, "limit": PAGE_MAX, "expand": ["data.refunds"]}
        charges = (await self._all("/v1/charges", query, account, deadline))[::-1]
        ids = [each.text("id") for each in charges]
        if latest not in ids:
            raise UnreadableAnswer("the charges lack the latest one")
        # What is younger than the PaymentIntent as it was read belongs to a later state of it.
        charges = charges[: ids.index(latest) + 1]
        refunds, disputes = [], []
        if any(_has_more(each) for each in charges):
            refunds = await self._all(
                "/v1/refunds", {"payment_intent": intent_id, "limit": PAGE_MAX}, account, deadline
            )
        if any(each.flag("disputed") for each in charges):
            disputes = await self._all(
                "/v1/disputes", {"payment_intent": intent_id, "limit": PAGE_MAX}, account, deadline
            )
        return Pieces(intent, charges, refunds, disputes, account)

    async def _listed(self, intent: Fields, account: str, deadline: float) -> Pieces:
        """A PaymentIntent of a list, with what came with it; its disputes are asked for where it has any."""
        latest = intent.raw.get("latest_charge")
        if not isinstance(latest, dict):
            return Pieces(intent, account=account)
        charge = Fields(latest, "latest_charge")
        if charge.flag("disputed") or _has_more(charge):
            return await self._pieces(intent, account, deadline)
        return Pieces(intent, (charge,), account=account)

    async def _with_reference(self, payment_id: str, account: str, deadline: float) -> list[Fields]:
        read = _UUID7.match(payment_id)
        made_s = int(read["ms"], 16) // 1000 if read else None
        window: Values = {} if made_s is None else {"gte": made_s - BEFORE_S, "lte": made_s + AFTER_S}
        after, found = "", list[Fields]()
        for _ in range(LOOKUP_PAGES_MAX):
            query: Values = {"created": window, "limit": PAGE_MAX, "starting_after": after or None}
            page = await self._read(INTENTS_PATH, query, account, deadline)
            intents = list(page.objects("data"))
            found += [each for each in intents if each.texts("metadata").get("obol_payment") == payment_id]
            if found or not page.flag("has_more") or not intents:
                return found
            after = intents[-1].text("id")
        return await self._searched(payment_id, account, deadline)

    async def _searched(self, payment_id: str, account: str, deadline: float) -> list[Fields]:
        """By the search, which lags: good to find something with, and for nothing else."""
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", payment_id):
            raise UnreadableAnswer("too many payments, and no reference that could be searched")
        query: Values = {"query": f"metadata['obol_payment']:'{payment_id}'", "limit": 2}
        found = list((await self._read(f"{INTENTS_PATH}/search", query, account, deadline)).objects("data"))
        if not found:
            raise UnreadableAnswer("too many payments to look through, and the search does not show it yet")
        return found

    async def _oldest_events(self, deadline: float) -> list[Fields]:
        kept: list[Fields] = []
        for _ in range(EVENT_PAGES_MAX):
            query: Values = {"limit": PAGE_MAX, "starting_after": kept[-1].text("id") if kept else None}
            page = await self._page("/v1/events", query, deadline)
            # The oldest page and what is before it: with one page alone the last could be nearly empty.
            kept = [*kept[-PAGE_MAX:], *page.objects("data")]
            if not page.flag("has_more"):
                return kept
        raise Unavailable(
            Reason.PROVIDER_UNAVAILABLE, f"Stripe keeps more than {EVENT_PAGES_MAX * PAGE_MAX} events: begin at one"
        )

    async def _all(self, path: str, query: Values, account: str, deadline: float) -> list[Fields]:
        found: list[Fields] = []
        for _ in range(PIECE_PAGES_MAX):
            after = found[-1].text("id") if found else None
            page = await self._read(path, {**query, "starting_after": after}, account, deadline)
            found += page.objects("data")
            if not page.flag("has_more"):
                return found
        raise UnreadableAnswer(f"{path}: more than {PIECE_PAGES_MAX} pages")

    async def _read(self, path: str, query: Values, account: str, deadline: float) -> Fields:
        told = await self._wire.read(path, query, account=account, timeout_s=deadline - _now())
        return Fields(_body(told.exchange), "page")

    async def _page(self, path: str, query: Values, deadline: float, account: str = "") -> Fields:
        exchange = (await self._wire.read(path, query, account=account, timeout_s=deadline - _now())).exchange
        if isinstance(exchange, Received) and exchange.status in (400, 404):
            code = _readable(lambda: error_of(exchange).optional_text("code"))
            if code == "resource_missing":
                raise InvalidRequest(Reason.CURSOR_INVALID, "Stripe keeps no such event or payment")
        return _readable(lambda: Fields(_body(exchange), "page"))

    def _absence(self, received: Received) -> Lookup:
        # A 404 of something in between says nothing about the books.
        if error_of(received).optional_text("code") != "resource_missing":
            return Unreadable("404 without Stripe's word")
        return Absent(consistent=self._consistent)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _body(exchange: object) -> object:
    """The JSON of a good answer to a read. Raises UnreadableAnswer, StrictJsonError."""
    if not isinstance(exchange, Received):
        raise UnreadableAnswer(str(getattr(exchange, "failure", "no answer")))
    if exchange.status != 200:
        raise UnreadableAnswer(f"status {exchange.status}")
    return parse_object(exchange.body)


def _has_more(charge: Fields) -> bool:
    refunds = charge.optional("refunds")
    return refunds is not None and refunds.flag("has_more")


def _event(fields: Fields) -> ProviderEvent:
    body = json.dumps(fields.raw, sort_keys=True, separators=(",", ":")).encode()
    return ProviderEvent(fields.text("id"), fields.text("type"), body, fields.time_us("created"))


def _readable(read: Callable[[], T]) -> T:
    """A list has no value for a failure: it raises Unavailable."""
    try:
        return read()
    except ValueError as error:
        raise _unreadable(error) from None


def _unreadable(error: ValueError) -> Unavailable:
    return Unavailable(Reason.PROVIDER_UNAVAILABLE, f"Stripe's list is unreadable: {error}")


def _bounded(limit: int) -> int:
    return max(1, min(limit, PAGE_MAX))


def _seconds_up(time_us: int) -> int:
    """The first whole second that is not before `time_us`; Stripe's times are whole seconds."""
    return -(-time_us // 1_000_000)
