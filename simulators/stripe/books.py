"""The books: every object, event and idempotency key, in memory and in the journal.

One way in: a `Step`, which collects what changes, and `book`, which takes it at once, within one step of the event
loop, and queues one journal record. Whoever answers a caller waits for `durable()` first, so that nobody has seen what
a restart would forget. One way back: `restore`.
"""

from __future__ import annotations

import asyncio
import heapq
import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from simulators.effects import Effect, EffectKind, Origin
from simulators.journal import Journal
from simulators.roll import Roll
from simulators.stripe.idempotency import Keys, StoredAnswer, restored_answer
from simulators.stripe.objects import Object, event, iso_minor
from simulators.stripe.refusals import full, missing
from simulators.stripe.settings import Bounds, Terms

NAMES = {"payment_intent": "PaymentIntent", "charge": "charge", "refund": "refund", "dispute": "dispute"}
"""The kinds of object, and how a message names them."""


@dataclass(frozen=True)
class Scope:
    """Whose objects: a platform's own, or those of an account that is connected to it."""

    account: str
    connected: str | None = None

    @property
    def id(self) -> str:
        """The account in which the objects lie."""
        return self.connected or self.account


@dataclass
class Step:
    """One step: the objects that it changes, the events that tell of it, the money that moved.

    `key` is the idempotency key of the request that it came with, None for one that the provider takes by itself.
    `customer_url` is where a payer's browser is sent, without the PaymentIntent's id.
    """

    books: Books
    scope: Scope
    now: float
    terms: Terms
    customer_url: str
    key: str | None = None
    request: str | None = None
    changed: dict[str, Object] = field(default_factory=dict)
    events: list[Object] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)

    @property
    def seconds(self) -> int:
        """Now, in whole unix seconds."""
        return int(self.now)

    def created_at(self) -> int:
        """When something made now was created. Raises Refusal where the books are full."""
        return self.books.created_at(self.seconds)

    def load(self, kind: str, object_id: str, *, kept: bool = True) -> Object:
        """An object to change. Raises Refusal `resource_missing`."""
        if object_id not in self.changed:
            self.changed[object_id] = deepcopy(self.books.get(self.scope, kind, object_id, kept=kept))
        return self.changed[object_id]

    def add(self, made: Object) -> Object:
        """A new object."""
        self.changed[made["id"]] = made
        return made

    def tell(self, kind: str, of: Object) -> None:
        """An event about the object as it is now."""
        told = event(kind, of, self.seconds, request=self.request, key=self.key, connected=self.scope.connected)
        self.events.append(told)

    def effect(
        self, kind: EffectKind, movement_id: str, charge: Object, amount: int, origin: Origin, metadata: dict[str, str]
    ) -> None:
        """Money of `charge` that moves; `metadata` are of whoever asked for it."""
        self.effects.append(
            Effect(
                kind,
                movement_id,
                charge["payment_intent"],
                iso_minor(amount, charge["currency"]),
                charge["currency"].upper(),
                self.scope.account,
                self.key,
                metadata.get("obol_operation"),
                metadata.get("obol_tenant"),
                origin,
            )
        )


class Books:
    """Objects and events by scope. `announce` hears of each event once it is on disk."""

    def __init__(self, journal: Journal, keys: Keys, bounds: Bounds, announce: Callable[[Scope, Object], None]) -> None:
        self._journal, self._keys, self._bounds = journal, keys, bounds
        self._announce = announce
        self._objects: dict[tuple[str, str], Roll[Object]] = {}
        self._events: dict[str, Roll[Object]] = {}
        self._scopes: dict[str, Scope] = {}
        self._of_payment: dict[str, list[str]] = {}
        self._agenda: list[tuple[float, str]] = []
        self._newest = 0
        self.agenda_grew = asyncio.Event()

    def book(self, step: Step | None, answered: Callable[[], StoredAnswer] | None) -> None:
        """Take a step and the answer that goes with it, or either alone. The answer is made when the step is in."""
        parts: dict[str, str] = {}
        if step is not None and (step.changed or step.events):
            objects = list(step.changed.values())
            parts["scope"] = json.dumps([step.scope.account, step.scope.connected])
            parts["objects"], parts["events"] = json.dumps(objects), json.dumps(step.events)
            self._place(step.scope, objects, step.events)
        if answered is not None:
            stored = answered()
            parts["stored"] = stored.record()
            self._keys.store(stored)
        if not parts:
            return
        synced = self._journal.append(parts, step.effects if step is not None else ())
        if step is not None and step.events:
            synced.add_done_callback(lambda done: self._announce_all(done, step.scope, step.events))

    async def durable(self) -> None:
        """Return once everything booked so far is on disk."""
        await self._journal.synced()

    def restore(self, record: dict[str, Any]) -> None:
        """Take one journal record again."""
        if "objects" in record:
            self._place(Scope(*record["scope"]), record["objects"], record["events"])
        if "stored" in record:
            self._keys.store(restored_answer(record["stored"]))

    def created_at(self, seconds: int) -> int:
        """The creation time of an object made now: never before the last one's. Raises Refusal."""
        if len(self._scopes) >= self._bounds.objects_max:
            raise full("objects")
        self._newest = max(self._newest, seconds)
        return self._newest

    def get(self, scope: Scope, kind: str, object_id: str, *, kept: bool = False) -> Object:
        """This scope's object, not to be changed. Raises Refusal `resource_missing`."""
        found = self.roll(scope, kind).get(object_id)
        if found is None:
            raise missing(NAMES[kind], object_id, kept=kept)
        return found

    def scope_of(self, object_id: str) -> Scope:
        """Where an object lies. Raises Refusal `resource_missing`."""
        if object_id not in self._scopes:
            raise missing("object", object_id)
        return self._scopes[object_id]

    def roll(self, scope: Scope, kind: str) -> Roll[Object]:
        """This scope's objects of a kind, oldest first."""
        return self._objects.setdefault((scope.id, kind), Roll(self._bounds.objects_max))

    def of_payment(self, scope: Scope, kind: str, payment_intent: str) -> list[Object]:
        """The charges, refunds or disputes of a PaymentIntent, oldest first."""
        roll = self.roll(scope, kind)
        found = (roll.get(each) for each in self._of_payment.get(payment_intent, ()))
        return [each for each in found if each is not None]

    def events(self, scope: Scope) -> Roll[Object]:
        """This scope's events, oldest first."""
        return self._events.setdefault(scope.id, Roll(self._bounds.events_max))

    def all_events(self) -> Iterator[tuple[Scope, Object]]:
        """Every event, with its scope."""
        for scope in {scope.id: scope for scope in self._scopes.values()}.values():
            for told in self.events(scope).after(None):
                yield scope, told

    def due(self, now: float) -> Iterator[tuple[Scope, Object, str]]:
        """Take what is due off the agenda: the scope, the object, and what is to happen to it."""
        while self._agenda and self._agenda[0][0] <= now:
            _, object_id = heapq.heappop(self._agenda)
            scope = self._scopes[object_id]
            for kind in NAMES:
                found = self.roll(scope, kind).get(object_id)
                # After a restart, or a change of plan, an older entry may be there: only what is due is taken.
                if found is not None and (due := found.get("_due")) and due["at"] <= now:
                    yield scope, found, due["action"]

    def next_due(self) -> float | None:
        """When the next entry of the agenda is due, in unix seconds."""
        return self._agenda[0][0] if self._agenda else None

    def shown(self) -> dict[str, Any]:
        """Counts, as JSON."""
        return {
            "objects": {f"{scope} {kind}": len(roll) for (scope, kind), roll in self._objects.items()},
            "events": {scope: len(roll) for scope, roll in self._events.items()},
            "agenda": len(self._agenda),
            "syncs": self._journal.syncs_count,
        }

    def _place(self, scope: Scope, objects: list[Object], events: list[Object]) -> None:
        for each in objects:
            if each["id"] not in self._scopes:
                self._scopes[each["id"]] = scope
                self._newest = max(self._newest, each["created"])
                if each["object"] != "payment_intent":
                    self._of_payment.setdefault(each["payment_intent"], []).append(each["id"])
            self.roll(scope, each["object"]).put(each["id"], each)
            if due := each.get("_due"):
                heapq.heappush(self._agenda, (due["at"], each["id"]))
                self.agenda_grew.set()
        for told in events:
            self.events(scope).put(told["id"], told)

    def _announce_all(self, synced: asyncio.Future[None], scope: Scope, events: list[Object]) -> None:
        # Cancelled or failed: the change may be forgotten at a restart, so nobody is told.
        if not synced.cancelled() and synced.exception() is None:
            for told in events:
                self._announce(scope, told)
