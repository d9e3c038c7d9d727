"""PayPal-Request-Id: the first request's result is the result for its id, for as long as PayPal keeps the id.

    same id again                          what became of the first, as it stands now; 200 from the Orders API
    first still running                    409 PREVIOUS_REQUEST_IN_PROGRESS
    same id, other contents                the first's result: PayPal does not compare
    first failed before the books          as if it had not been

Ids of orders are kept for hours, those of payments for weeks. https://developer.paypal.com/api/rest/reference/idempotency
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from simulators.paypal.refusals import full, in_progress

Scoped = tuple[str, str]
"""(the path that was posted to, the request id)."""


@dataclass(frozen=True)
class StoredAnswer:
    """What a request came to: the order and the part that it made (both to be shown as they are then), or a refusal."""

    path: str
    request_id: str
    stored: float
    order_id: str = ""
    kind: str = ""
    part_id: str = ""
    status: int = 0
    issue: str = ""
    words: str = ""

    def record(self) -> str:
        """Its JSON text for the journal."""
        return json.dumps(vars(self))


class RequestIds:
    """The ids of one API family. Holds at most `keys_max`."""

    def __init__(self, orders_seconds: float, payments_seconds: float, keys_max: int) -> None:
        self._orders_seconds, self._payments_seconds = orders_seconds, payments_seconds
        self._keys_max = keys_max
        self._stored: OrderedDict[Scoped, StoredAnswer] = OrderedDict()
        self._running: set[Scoped] = set()

    def claim(self, path: str, request_id: str, now: float) -> StoredAnswer | None:
        """What is stored, or None: then the id is claimed, until `store` or `release`. Raises Refusal 409, 503."""
        scoped = (path, request_id)
        stored = self._stored.get(scoped)
        if stored is not None and stored.stored + self._window_seconds(path) > now:
            return stored
        if scoped in self._running:
            raise in_progress()
        if len(self._stored) + len(self._running) >= self._keys_max:
            raise full()
        self._stored.pop(scoped, None)
        self._running.add(scoped)
        return None

    def store(self, stored: StoredAnswer) -> None:
        """Keep the answer; the claim ends. Also how the journal restores one."""
        scoped = (stored.path, stored.request_id)
        self._running.discard(scoped)
        self._stored[scoped] = stored

    def release(self, path: str, request_id: str) -> None:
        """End a claim that was not answered by the books: the same id may try again."""
        self._running.discard((path, request_id))

    def _window_seconds(self, path: str) -> float:
        return self._orders_seconds if path.startswith("/v2/checkout/") else self._payments_seconds


def restored_answer(record: dict[str, Any]) -> StoredAnswer:
    """A stored answer from its journal record."""
    return StoredAnswer(**record)
