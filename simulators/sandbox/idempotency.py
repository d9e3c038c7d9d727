"""Idempotency: the first answer for a key is the answer for that key, for as long as the window lasts.

same key, same request         the stored answer again
same key, another request      422 idempotency_key_reused
same key, first still running  409 idempotency_in_progress
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from simulators.sandbox.refusals import full, key_conflict

TRIPPED_MAX = 100_000

Scoped = tuple[str, str]


@dataclass(frozen=True)
class Answer:
    """What a request is answered with. `body` is a JSON text."""

    status: int
    body: str


@dataclass(frozen=True)
class StoredAnswer:
    """An answer under its account and key. `stored` is in unix seconds."""

    account: str
    key: str
    fingerprint: str
    answer: Answer
    stored: float

    def record(self) -> str:
        """Its JSON text for the journal."""
        return json.dumps({**vars(self), "answer": vars(self.answer)})


def fingerprint_of(method: str, path: str, body: bytes) -> str:
    """What must be equal for a request to be the same request."""
    return hashlib.sha256(b"\x00".join((method.encode(), path.encode(), body))).hexdigest()


class Keys:
    """The keys of all accounts. Holds at most `keys_max`; a key never leaves before its window ends."""

    def __init__(self, window_seconds: float, keys_max: int) -> None:
        self._window_seconds = window_seconds
        self._keys_max = keys_max
        self._stored: OrderedDict[Scoped, StoredAnswer] = OrderedDict()
        self._running: dict[Scoped, str] = {}
        self._tripped: OrderedDict[Scoped, int] = OrderedDict()

    def claim(self, account: str, key: str, fingerprint: str, now: float) -> Answer | None:
        """The stored answer, or None: then the key is claimed, until `store` or `release`.

        Raises Refusal `idempotency_key_reused`, `idempotency_in_progress`, `keys_full`.
        """
        self._forget(now)
        scoped = (account, key)
        stored = self._stored.get(scoped)
        known = self._running.get(scoped) if stored is None else stored.fingerprint
        if known is not None and known != fingerprint:
            raise key_conflict(422, "idempotency_key_reused", "This key was used for another request.")
        if stored is not None:
            return stored.answer
        if known is not None:
            raise key_conflict(409, "idempotency_in_progress", "The first request with this key is still running.")
        if len(self._stored) + len(self._running) >= self._keys_max:
            raise full("keys")
        self._running[scoped] = fingerprint
        return None

    def store(self, stored: StoredAnswer) -> None:
        """Keep the answer; the claim ends. Also how the journal restores one."""
        scoped = (stored.account, stored.key)
        self._running.pop(scoped, None)
        self._tripped.pop(scoped, None)
        self._stored[scoped] = stored

    def release(self, account: str, key: str) -> None:
        """End a claim that was not answered by the books: the same key may try again."""
        self._running.pop((account, key), None)

    def tripped(self, account: str, key: str) -> int:
        """How often this key's requests have been failed before they had an effect."""
        return self._tripped.get((account, key), 0)

    def trip(self, account: str, key: str) -> str:
        """Count one more such failure. Returns its JSON text for the journal."""
        self.restore_trip({"account": account, "key": key})
        return json.dumps({"account": account, "key": key})

    def restore_trip(self, record: dict[str, Any]) -> None:
        """Count a failure that the journal tells of."""
        scoped = (record["account"], record["key"])
        self._tripped[scoped] = self._tripped.get(scoped, 0) + 1
        if len(self._tripped) > TRIPPED_MAX:
            self._tripped.popitem(last=False)

    def _forget(self, now: float) -> None:
        while self._stored:
            scoped, oldest = next(iter(self._stored.items()))
            if oldest.stored + self._window_seconds > now:
                return
            del self._stored[scoped]


def restored_answer(record: dict[str, Any]) -> StoredAnswer:
    """A stored answer from its journal record."""
    return StoredAnswer(**{**record, "answer": Answer(**record["answer"])})
