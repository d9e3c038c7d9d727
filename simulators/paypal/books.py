"""The books: every order, event and request id of this merchant, in memory and in the journal.

One way in: `book`. It changes memory at once, within one step of the event loop, and queues one journal record; whoever
answers a caller waits for `durable()` first. One way back: `restore`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from simulators.journal import Journal
from simulators.paypal.events import Event
from simulators.paypal.order import Json, Order, recorded, restored
from simulators.paypal.refusals import full, missing, refused
from simulators.paypal.request_ids import RequestIds, StoredAnswer, restored_answer
from simulators.paypal.settings import PayPalSettings
from simulators.paypal.steps import Change, part
from simulators.roll import Roll

PARTS = ("authorizations", "captures", "refunds", "disputes")


class Books:
    """Orders, their parts and events. `announce` hears of each synced event."""

    def __init__(
        self,
        settings: PayPalSettings,
        journal: Journal,
        request_ids: RequestIds,
        mint_event: Callable[[], str],
        announce: Callable[[Event], None],
    ) -> None:
        self._settings, self._journal, self._request_ids = settings, journal, request_ids
        self._mint_event, self._announce = mint_event, announce
        self.orders: Roll[Order] = Roll(settings.bounds.orders_max)
        self.events: Roll[Event] = Roll(settings.bounds.events_max)
        self._order_of: dict[tuple[str, str], str] = {}
        self._invoices: dict[tuple[str, str], str] = {}

    def book(self, change: Change | None, stored: StoredAnswer | None) -> None:
        """Take a change and the answer that goes with it, or either alone."""
        parts: dict[str, str] = {}
        events: list[Event] = []
        if change is not None:
            now = self._settings.clock()
            events = [Event(self._mint_event(), told, now) for told in change.events]
            parts["order"] = recorded(change.order)
            parts["events"] = json.dumps([event.record() for event in events])
            self._place(change.order, events)
        if stored is not None:
            parts["stored"] = stored.record()
            self._request_ids.store(stored)
        synced = self._journal.append(parts, change.effects if change is not None else ())
        if events:
            synced.add_done_callback(lambda done: self._announce_all(done, events))

    def restore(self, record: dict[str, Any]) -> None:
        """Take one journal record again."""
        if "order" in record:
            self._place(restored(record["order"]), [Event.restored(each) for each in record["events"]])
        if "stored" in record:
            self._request_ids.store(restored_answer(record["stored"]))

    async def durable(self) -> None:
        """Return once everything booked so far is on disk."""
        await self._journal.synced()

    def order(self, order_id: str) -> Order:
        """The order. Raises Refusal 404, also for one that nobody approved in time."""
        found = self.orders.get(order_id)
        if found is None or self._lapsed(found):
            raise missing()
        return found

    def owner(self, kind: str, part_id: str) -> tuple[Order, Json]:
        """The order of an authorization, capture, refund or dispute (`kind` in the plural), and that part."""
        order = self.orders.get(self._order_of.get((kind, part_id), ""))
        if order is None:
            raise missing()
        return order, part(getattr(order, kind), part_id)

    def room(self) -> None:
        """Raises Refusal 503 where no further order fits."""
        if len(self.orders) >= self._settings.bounds.orders_max:
            raise full()

    def check_invoice(self, kind: str, invoice_id: str) -> None:
        """Raises Refusal 422 DUPLICATE_INVOICE_ID where a movement of this kind has the invoice id: the merchant's
        account is set to refuse a second one."""
        if invoice_id and (kind, invoice_id) in self._invoices:
            raise refused("DUPLICATE_INVOICE_ID")

    def shown(self) -> Json:
        """Counts, as JSON."""
        return {"orders": len(self.orders), "events": len(self.events), "syncs": self._journal.syncs_count}

    def _lapsed(self, order: Order) -> bool:
        waiting = order.status in ("CREATED", "PAYER_ACTION_REQUIRED", "APPROVED")
        return waiting and order.created + self._settings.terms.order_seconds <= self._settings.clock()

    def _place(self, order: Order, events: list[Event]) -> None:
        self.orders.put(order.id, order)
        for kind in PARTS:
            for each in getattr(order, kind):
                self._order_of[kind, each["id"]] = order.id
        # A hold and the capture of a whole order use the order's invoice id up; so does each capture and refund.
        for kind, items in (("payment", (*order.authorizations, *order.captures)), ("refund", order.refunds)):
            for each in items:
                if each.get("invoice_id") and each["status"] not in ("DECLINED", "DENIED"):
                    self._invoices.setdefault((kind, each["invoice_id"]), each["id"])
        for event in events:
            self.events.put(event.id, event)

    def _announce_all(self, synced: Any, events: list[Event]) -> None:
        # Cancelled or failed: the change may be forgotten at a restart, so nobody is told.
        if not synced.cancelled() and synced.exception() is None:
            for event in events:
                self._announce(event)
