"""Idempotency keys: the first result that an endpoint began to make is the result for its key, errors and 500s too.

    same key, same request         the stored answer again, with Idempotent-Replayed: true
    same key, another request      400 idempotency_error
    same key, first still running  409 idempotency_key_in_use

https://docs.stripe.com/api/idempotent_requests
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from simulators.stripe.refusals import another_request, full, key_in_use

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

    def claim(self, account: str, key: str, fingerprint: str, now: float) -> Answer | None:
        """The stored answer, or None: then the key is claimed, until `store` or `release`. Raises Refusal."""
        self._forget(now)
        scoped = (account, key)
        stored = self._stored.get(scoped)
        known = self._running.get(scoped) if stored is None else stored.fingerprint
        if known is not None and known != fingerprint:
            raise another_request(key)
        if stored is not None:
            return stored.answer
        if known is not None:
            raise key_in_use(key)
        if len(self._stored) + len(self._running) >= self._keys_max:
            raise full("keys")
        self._running[scoped] = fingerprint
        return None

    def store(self, stored: StoredAnswer) -> None:
        """Keep the answer; the claim ends. Also how the journal restores one."""
        scoped = (stored.account, stored.key)
        self._running.pop(scoped, None)
        self._stored[scoped] = stored

    def release(self, account: str, key: str) -> None:
        """End a claim whose endpoint did not begin: the same key may try again."""
        self._running.pop((account, key), None)

    def _forget(self, now: float) -> None:
        while self._stored:
            scoped, oldest = next(iter(self._stored.items()))
            if oldest.stored + self._window_seconds > now:
                return
            del self._stored[scoped]


def restored_answer(record: dict[str, Any]) -> StoredAnswer:
    """A stored answer from its journal record."""
    return StoredAnswer(**{**record, "answer": Answer(**record["answer"])})
