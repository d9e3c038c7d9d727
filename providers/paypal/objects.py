"""Finding the order: by its id, or by way of what belongs to it.

    <id>                 GET order
    capture:<id>         GET capture, its related order
    authorization:<id>   GET authorization, its related order
    refund:<id>          GET refund, its capture, that one's order
    dispute:<id>         GET dispute, its capture, that one's order; the snapshot holds the dispute as well

Every id here was in an event's body, and a body proves nothing: what counts is what PayPal answers to our own token.
"""

from collections.abc import Awaitable, Callable

from gateway.domain.providers import Absent, Found, Lookup, Unreadable
from providers.fields import Fields, UnreadableAnswer, bounded
from providers.http import Exchange, Received
from providers.paypal.answers import error_of
from providers.paypal.capabilities import CAPABILITIES
from providers.paypal.disputes import DisputeReading
from providers.paypal.events import ID, capture_of, related_order
from providers.paypal.mapping import PayPalMapping
from providers.paypal.requests import AUTHORIZATIONS_PATH, CAPTURES_PATH, DISPUTES_PATH, REFUNDS_PATH, order_path
from providers.strict_json import parse_object

Read = Callable[[str, float], Awaitable[Exchange]]
"""(path, timeout in seconds) to what came back."""


class _Missing(Exception):
    """PayPal says itself that there is no such thing."""


class Objects:
    """Reads orders of one account."""

    def __init__(self, read: Read, mapping: PayPalMapping) -> None:
        self._read = read
        self._mapping = mapping

    async def find(self, wanted: str, *, timeout_s: float, now: Callable[[], float]) -> Lookup:
        """The order that `wanted` is, or leads to; `timeout_s` is for the whole way. Raises nothing."""
        way = _Way(self._read, now() + timeout_s, now)
        kind, _, wanted_id = wanted.rpartition(":")
        if not ID.match(wanted_id):
            return Unreadable("not an id of PayPal's")
        try:
            return await self._found(way, kind, wanted_id)
        except _Missing:
            return Absent(consistent=CAPABILITIES.absence_is_consistent)
        except ValueError as error:
            return Unreadable(bounded(str(error), 200))

    async def _found(self, way: "_Way", kind: str, wanted_id: str) -> Lookup:
        dispute: DisputeReading | None = None
        order_id = wanted_id
        match kind:
            case "":
                pass
            case "capture":
                order_id = await way.order_of_capture(wanted_id)
            case "authorization":
                order_id = related_order(await way.get(f"{AUTHORIZATIONS_PATH}/{wanted_id}", "authorization"))
            case "refund":
                refund = await way.get(f"{REFUNDS_PATH}/{wanted_id}", "refund")
                order_id = await way.order_of_capture(capture_of(refund))
            case "dispute":
                dispute = DisputeReading(await way.get(f"{DISPUTES_PATH}/{wanted_id}", "dispute"))
                order_id = await way.order_of_capture(dispute.capture_id)
            case _:
                return Unreadable("not an id of PayPal's")
        if not order_id:
            raise UnreadableAnswer(f"{kind}: belongs to no order")
        order = await way.get(order_path(order_id), "order")
        snapshot = self._mapping.snapshot(order.raw, dispute)
        if snapshot.provider_payment_id != order_id:
            return Unreadable("mismatch: id")
        return Found(snapshot)


class _Way:
    """Several reads within one deadline."""

    def __init__(self, read: Read, deadline: float, now: Callable[[], float]) -> None:
        self._read = read
        self._deadline = deadline
        self._now = now

    async def order_of_capture(self, capture_id: str) -> str:
        if not ID.match(capture_id):
            raise UnreadableAnswer("capture: not an id")
        return related_order(await self.get(f"{CAPTURES_PATH}/{capture_id}", "capture"))

    async def get(self, path: str, where: str) -> Fields:
        """One object. Raises _Missing, and ValueError for everything else that is none."""
        exchange = await self._read(path, self._deadline - self._now())
        if not isinstance(exchange, Received):
            raise UnreadableAnswer(exchange.failure)
        if exchange.status == 404 and error_of(exchange)[0] == "RESOURCE_NOT_FOUND":
            raise _Missing
        if exchange.status != 200:
            raise UnreadableAnswer(f"status {exchange.status}")
        return Fields(parse_object(exchange.body), where)
