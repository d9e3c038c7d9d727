"""Events: what the provider tells its accounts, by webhook and in a list, and how a webhook is signed.

Sandbox-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>." + body, keyed with the account's signing
secret>
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simulators.sandbox.payment import Payment, shown_payment


@dataclass(frozen=True)
class Event:
    """One event, with the payment as it was then."""

    id: str
    type: str
    created: int
    payment: Payment


def shown_event(event: Event) -> dict[str, Any]:
    """The event as a caller sees it."""
    return {
        "id": event.id,
        "object": "event",
        "type": event.type,
        "account": event.payment.account,
        "created": event.created,
        "livemode": False,
        "data": {"object": shown_payment(event.payment)},
    }


def event_body(event: Event) -> bytes:
    """The event as a webhook's body."""
    return json.dumps(shown_event(event)).encode()


def signed_headers(event_id: str, secret: str, now: float, body: bytes) -> Mapping[str, str]:
    """The headers of one delivery attempt at `now` (unix seconds)."""
    told = int(now)
    digest = hmac.new(secret.encode(), f"{told}.".encode() + body, hashlib.sha256).hexdigest()
    return {
        "Content-Type": "application/json",
        "Sandbox-Event-Id": event_id,
        "Sandbox-Signature": f"t={told},v1={digest}",
    }
