"""The books: every payment, event and idempotency key of this provider, in memory and in the journal.

One way in: `book`. It changes memory at once, within one step of the event loop, and queues one journal
record; whoever answers a caller waits for `durable()` first, so that nobody has seen what a restart would
forget. One way back: `restore`.
"""

from __future__ import annotations

import asyncio
import heapq
import json
from collections.abc import Callable, Iterator
from typing import Any

from simulators.journal import Journal
from simulators.roll import Roll
from simulators.sandbox.changes import Change
from simulators.sandbox.events import Event
from simulators.sandbox.idempotency import Keys, StoredAnswer, restored_answer
from simulators.sandbox.payment import Due, Payment, Refund, recorded_payment, restored_payment
from simulators.sandbox.refusals import full, missing
from simulators.sandbox.settings import Bounds


class Books:
    """Payments and events by account. `mint` makes an id from a prefix; `announce` hears of each synced event."""

    def __init__(
        self,
        journal: Journal,
        keys: Keys,
        bounds: Bounds,
        mint: Callable[[str], str],
        announce: Callable[[Event], None],
    ) -> None:
        self._journal, self._keys, self._bounds = journal, keys, bounds
        self._mint, self._announce = mint, announce
        self._payments: dict[str, Roll[Payment]] = {}
        self._events: dict[str, Roll[Event]] = {}
        self._accounts: dict[str, str] = {}
        self._by_reference: dict[tuple[str, str], list[str]] = {}
        self._payment_of: dict[str, str] = {}
        self._agenda: list[tuple[float, str, str]] = []
        self._newest = 0
        self.agenda_grew = asyncio.Event()

    def book(self, change: Change | None, stored: StoredAnswer | None) -> None:
        """Take a change and the answer that goes with it, or either alone."""
        parts: dict[str, str] = {}
        events: list[Event] = []
        if change is not None:
            payment = change.payment
            events = [Event(self._mint("sevt"), told, payment.updated, payment) for told in change.events]
            parts["payment"] = recorded_payment(payment)
            parts["events"] = json.dumps([[event.id, event.type, event.created] for event in events])
            self._place(payment, events)
        if stored is not None:
            parts["stored"] = stored.record()
            self._keys.store(stored)
        synced = self._journal.append(parts, change.effects if change is not None else ())
        if events:
            synced.add_done_callback(lambda done: self._announce_all(done, events))

    def trip(self, account: str, key: str) -> None:
        """Note that a request with this key was failed before it had an effect."""
        self._journal.append({"trip": self._keys.trip(account, key)})

    async def durable(self) -> None:
        """Return once everything booked so far is on disk."""
        await self._journal.synced()

    def restore(self, record: dict[str, Any]) -> None:
        """Take one journal record again."""
        if "payment" in record:
            payment = restored_payment(record["payment"])
            self._place(payment, [Event(told[0], told[1], told[2], payment) for told in record["events"]])
        if "stored" in record:
            self._keys.store(restored_answer(record["stored"]))
        if "trip" in record:
            self._keys.restore_trip(record["trip"])

    def created_at(self, seconds: int) -> int:
        """The creation time of a payment made now: never before the last one's, so that windows over time miss none.

        Raises Refusal `payments_full`.
        """
        if len(self._accounts) >= self._bounds.payments_max:
            raise full("payments")
        self._newest = max(self._newest, seconds)
        return self._newest

    def payment(self, account: str, payment_id: str, kept: bool = False) -> Payment:
        """This account's payment. Raises Refusal `no_such_payment`; `kept` as the refusal is to be."""
        found = self.payments(account).get(payment_id)
        if found is None or found.hidden:
            raise missing("payment", payment_id[:64], kept)
        return found

    def any_payment(self, payment_id: str) -> Payment:
        """The payment, whoever's it is. Raises Refusal `no_such_payment`."""
        found = self.payments(self._accounts.get(payment_id, "")).get(payment_id)
        if found is None:
            raise missing("payment", payment_id[:64])
        return found

    def payments(self, account: str) -> Roll[Payment]:
        """This account's payments, in the order of their creation."""
        return self._payments.setdefault(account, Roll(self._bounds.payments_max))

    def by_reference(self, account: str, reference: str) -> Iterator[Payment]:
        """This account's payments whose metadata.obol_payment is `reference`."""
        found = (self.payments(account).get(each) for each in self._by_reference.get((account, reference), ()))
        return (payment for payment in found if payment is not None and not payment.hidden)

    def refund(self, refund_id: str) -> tuple[Payment, Refund]:
        """A refund and its payment. Raises Refusal `no_such_refund`."""
        payment = self._owner("refund", refund_id)
        return payment, next(each for each in payment.refunds if each.id == refund_id)

    def disputed(self, dispute_id: str) -> Payment:
        """The payment of a dispute. Raises Refusal `no_such_dispute`."""
        return self._owner("dispute", dispute_id)

    def events(self, account: str) -> Roll[Event]:
        """This account's events, oldest first."""
        return self._events.setdefault(account, Roll(self._bounds.events_max))

    def all_events(self) -> Iterator[Event]:
        """Every account's events."""
        for roll in self._events.values():
            yield from roll.after(None)

    def due(self, now: float) -> Iterator[tuple[Payment, Due]]:
        """Take what is due off the agenda, skipping what has been settled otherwise."""
        while self._agenda and self._agenda[0][0] <= now:
            _, payment_id, target = heapq.heappop(self._agenda)
            payment = self.any_payment(payment_id)
            for entry in payment.due:
                # After a restart the agenda may hold an older entry of the same target: only what is due is taken.
                if entry.target == target and entry.at <= now:
                    yield payment, entry

    def next_due(self) -> float | None:
        """When the next entry of the agenda is due, in unix seconds."""
        return self._agenda[0][0] if self._agenda else None

    def shown(self) -> dict[str, Any]:
        """Counts, as JSON."""
        return {
            "payments": {account: len(roll) for account, roll in self._payments.items()},
            "events": {account: len(roll) for account, roll in self._events.items()},
            "agenda": len(self._agenda),
            "syncs": self._journal.syncs_count,
        }

    def _owner(self, what: str, movement_id: str) -> Payment:
        owner = self._payment_of.get(movement_id)
        if owner is None:
            raise missing(what, movement_id[:64])
        return self.any_payment(owner)

    def _place(self, payment: Payment, events: list[Event]) -> None:
        before = self.payments(payment.account).get(payment.id)
        if before is None:
            self._accounts[payment.id] = payment.account
            self._newest = max(self._newest, payment.created)
            reference = payment.metadata.get("obol_payment")
            if reference is not None:
                self._by_reference.setdefault((payment.account, reference), []).append(payment.id)
        self.payments(payment.account).put(payment.id, payment)
        for movement_id in (*(each.id for each in payment.refunds), *(each.id for each in payment.disputes)):
            self._payment_of[movement_id] = payment.id
        for event in events:
            self.events(payment.account).put(event.id, event)
        for entry in payment.due:
            if before is None or entry not in before.due:
                heapq.heappush(self._agenda, (entry.at, payment.id, entry.target))
                self.agenda_grew.set()

    def _announce_all(self, synced: asyncio.Future[None], events: list[Event]) -> None:
        # Cancelled or failed: the change may be forgotten at a restart, so nobody is told.
        if not synced.cancelled() and synced.exception() is None:
            for event in events:
                self._announce(event)
