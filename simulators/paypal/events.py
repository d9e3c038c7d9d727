"""Events, as they are listed and delivered: each with its resource as it was then, signed as PayPal signs."""

from __future__ import annotations

import base64
import json
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simulators.paypal.certificates import Chain
from simulators.paypal.order import Json, iso
from simulators.paypal.steps import Told


@dataclass(frozen=True)
class Event:
    """One event. `created` in unix seconds."""

    id: str
    told: Told
    created: float

    def record(self) -> list[Any]:
        """For the journal."""
        return [self.id, self.told.type, self.told.resource_type, self.told.resource, self.created]

    @staticmethod
    def restored(record: list[Any]) -> Event:
        """From the journal."""
        return Event(record[0], Told(record[1], record[2], record[3]), record[4])


def shown_event(event: Event, url: str) -> Json:
    """The event as PayPal lists and delivers it."""
    own = f"{url}/v1/notifications/webhooks-events/{event.id}"
    return {
        "id": event.id,
        "event_version": "1.0",
        "create_time": iso(event.created),
        "resource_type": event.told.resource_type,
        "resource_version": "2.0",
        "event_type": event.told.type,
        "summary": f"An event of type {event.told.type}",
        "resource": event.told.resource,
        "links": [
            {"href": own, "rel": "self", "method": "GET"},
            {"href": f"{own}/resend", "rel": "resend", "method": "POST"},
        ],
    }


def event_body(event: Event, url: str) -> bytes:
    """The event as a delivery's body."""
    return json.dumps(shown_event(event, url)).encode()


def signed_headers(chain: Chain, webhook_id: str, now: float, body: bytes, cert_url: str) -> Mapping[str, str]:
    """The headers of one delivery at `now` (unix seconds)."""
    transmission_id, told = str(uuid.uuid4()), iso(now)
    message = f"{transmission_id}|{told}|{webhook_id}|{zlib.crc32(body)}".encode()
    return {
        "Content-Type": "application/json",
        "PayPal-Transmission-Id": transmission_id,
        "PayPal-Transmission-Time": told,
        "PayPal-Transmission-Sig": base64.b64encode(chain.sign(message)).decode(),
        "PayPal-Auth-Algo": "SHA256withRSA",
        "PayPal-Cert-Url": cert_url,
    }
