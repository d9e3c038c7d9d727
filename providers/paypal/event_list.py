"""PayPal's list of events, read so that a missed one is found: everything after a known event, oldest first.

PayPal lists newest first, over a window of times, in pages, and keeps events for thirty days. So the window from the
known event until now is read to its end and turned round; where it holds more than PAGES_MAX pages, its end is moved,
by halves, to where it holds fewer and not none.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import parse_qs, urlencode, urlsplit

from gateway.domain.errors import InvalidRequest, Reason, Unavailable
from gateway.domain.providers import ProviderEvent
from providers.fields import Fields, UnreadableAnswer
from providers.http import Exchange, Received
from providers.paypal.events import ID
from providers.paypal.mapping import listed
from providers.paypal.times import spelled, time_us
from providers.strict_json import parse_object

EVENTS_PATH = "/v1/notifications/webhooks-events"
PAGE = 100
PAGES_MAX = 10
HALVINGS_MAX = 40
KEPT_S = 30 * 24 * 3600
SECOND_US = 1_000_000

Read = Callable[[str, float], Awaitable[Exchange]]


class EventList:
    """The event list of one account."""

    def __init__(self, read: Read) -> None:
        self._read = read

    async def after(
        self, known_id: str, *, limit: int, timeout_s: float, now: Callable[[], float]
    ) -> Sequence[ProviderEvent]:
        """At most `limit` events after `known_id`. Raises Unavailable, or InvalidRequest CURSOR_INVALID for one that
        PayPal does not keep."""
        deadline = now() + timeout_s
        try:
            start_us = await self._start_us(known_id, deadline - now())
            found, whole = await self._window(start_us, None, deadline, now)
            if whole:
                return _behind(known_id, found)[:limit]
            # In whole seconds: nothing is up to `empty_s`, and what came last begins in `crowded_s`.
            crowded_s = found[0].created_time_us // SECOND_US
            empty_s = crowded_s - KEPT_S if start_us is None else start_us // SECOND_US - 1
            for _ in range(HALVINGS_MAX):
                end_s = (empty_s + crowded_s + 1) // 2
                found, whole = await self._window(start_us, end_s * SECOND_US, deadline, now)
                behind = _behind(known_id, found) if whole and found else []
                if behind:
                    return behind[:limit]
                if whole:
                    empty_s = end_s
                elif end_s == found[0].created_time_us // SECOND_US == crowded_s:
                    break
                else:
                    # What came is the younger part of the window: there is more before its oldest.
                    crowded_s = found[0].created_time_us // SECOND_US
        except ValueError as error:
            raise Unavailable(Reason.PROVIDER_UNAVAILABLE, f"PayPal's event list is unreadable: {error}") from None
        raise Unavailable(Reason.PROVIDER_UNAVAILABLE, "PayPal's event list has too many events in one moment")

    async def _start_us(self, known_id: str, timeout_s: float) -> int | None:
        if not known_id:
            return None
        exchange = await self._read(f"{EVENTS_PATH}/{known_id}", timeout_s) if ID.match(known_id) else None
        if exchange is None or (isinstance(exchange, Received) and exchange.status == 404):
            raise InvalidRequest(Reason.CURSOR_INVALID, "PayPal keeps no such event", field="after_event_id")
        return _event(Fields(_body(exchange), "event")).created_time_us

    async def _window(
        self, start_us: int | None, end_us: int | None, deadline: float, now: Callable[[], float]
    ) -> tuple[list[ProviderEvent], bool]:
        """The window's events, oldest first, and whether these are all."""
        query = {"page_size": str(PAGE)}
        if start_us is not None:
            query["start_time"] = spelled(start_us)
        if end_us is not None:
            # To the second, and PayPal includes its end.
            query["end_time"] = spelled(end_us)
        newest_first: list[ProviderEvent] = []
        for _ in range(PAGES_MAX):
            exchange = await self._read(f"{EVENTS_PATH}?{urlencode(query)}", deadline - now())
            page = Fields(_body(exchange), "page")
            newest_first += [_event(each) for each in listed(page, "events")]
            following = _next(page)
            if following is None:
                return newest_first[::-1], True
            query = following
        return newest_first[::-1], False


def _next(page: Fields) -> dict[str, str] | None:
    """The next page's query; where it leads to is not taken from the answer."""
    for link in listed(page, "links"):
        if link.optional_text("rel") == "next":
            read = parse_qs(urlsplit(link.text("href")).query)
            return {name: values[-1] for name, values in read.items()}
    return None


def _event(fields: Fields) -> ProviderEvent:
    created_us = time_us(fields, "create_time")
    if created_us is None:
        raise UnreadableAnswer(f"{fields.where}.create_time: missing")
    body = json.dumps(fields.raw, sort_keys=True, separators=(",", ":")).encode()
    return ProviderEvent(fields.text("id"), fields.text("event_type"), body, created_us)


def _behind(known_id: str, found: list[ProviderEvent]) -> list[ProviderEvent]:
    """What comes after the known event; events of its own second may come before it in the window."""
    ids = [each.event_id for each in found]
    if known_id and known_id not in ids:
        raise UnreadableAnswer("the known event is not in its own window")
    return found[ids.index(known_id) + 1 :] if known_id else found


def _body(exchange: Exchange) -> object:
    if not isinstance(exchange, Received):
        raise UnreadableAnswer(exchange.failure)
    if exchange.status != 200:
        raise UnreadableAnswer(f"status {exchange.status}")
    return parse_object(exchange.body)
