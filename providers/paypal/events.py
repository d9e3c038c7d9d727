"""What PayPal's events are about. Loaded by the sidecar: the standard library and light modules of ours only.

Only a CRC32 binds an event's body to its signature, and bodies with an equal one are made at will. So of a body nothing
is taken but which object to fetch: no reference of ours, no time, no amount. Where an event is not of an order, the
object that leads to one is named with its kind ("capture:3C6..."), and `PayPalAdapter.fetch` finds the way.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from gateway.domain.providers import CallbackHint
from providers.callbacks import VerifiedEvent
from providers.fields import Fields, UnreadableAnswer, bounded
from providers.strict_json import parse_object

WORDS_CHARACTERS_MAX = 200

ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
"""An id of PayPal's as it may stand in a path."""

_CAPTURE_LINK = re.compile(r"https?://[^/?#]+/v2/payments/captures/(?P<id>[A-Za-z0-9_-]{1,64})\Z")


def read_event(body: bytes, *, livemode: bool) -> VerifiedEvent:
    """What a body whose signature was right says of itself. Raises ValueError."""
    event = Fields(parse_object(body), "event")
    return VerifiedEvent(event.text("id"), bounded(event.text("event_type"), WORDS_CHARACTERS_MAX), livemode)


def interpret(body: bytes) -> CallbackHint:
    """Which object a verified event is about. Raises ValueError where the body is no event."""
    event = Fields(parse_object(body), "event")
    event_type = bounded(event.text("event_type"), WORDS_CHARACTERS_MAX)
    family = next((prefix for prefix in FAMILIES if event_type.startswith(prefix)), "")
    resource = event.optional("resource")
    found = FAMILIES[family](resource) if family and resource else None
    return CallbackHint(event.text("id"), event_type, found, known_type=bool(family))


def capture_of(refund: Fields) -> str:
    """The capture that a refund names as what it came from. Raises UnreadableAnswer."""
    for link in refund.objects("links"):
        read = _CAPTURE_LINK.match(link.optional_text("href"))
        if link.optional_text("rel") == "up" and read:
            return read["id"]
    raise UnreadableAnswer(f"{refund.where}.links: no capture")


def refunded_by(refund: Fields) -> str | None:
    """The capture that a refund is of, where it says so."""
    try:
        return capture_of(refund)
    except UnreadableAnswer:
        return None


def checked_id(fields: Fields, name: str) -> str:
    """An id of PayPal's. Raises UnreadableAnswer for what could be none."""
    told = fields.text(name)
    if not ID.match(told):
        raise UnreadableAnswer(f"{fields.where}.{name}: not an id")
    return told


def related_order(resource: Fields) -> str:
    """The order that a capture or an authorization belongs to; empty where it does not say."""
    data = resource.optional("supplementary_data")
    related = data.optional("related_ids") if data else None
    return checked_id(related, "order_id") if related and related.optional_text("order_id") else ""


def _order(resource: Fields) -> str | None:
    return checked_id(resource, "id")


def _authorization(resource: Fields) -> str | None:
    return related_order(resource) or f"authorization:{checked_id(resource, 'id')}"


def _capture(resource: Fields) -> str | None:
    order_id = related_order(resource)
    if order_id:
        return order_id
    # PAYMENT.CAPTURE.REFUNDED and .REVERSED bring the refund, which names its capture.
    ups = [each.optional_text("href") for each in resource.objects("links") if each.optional_text("rel") == "up"]
    if any(_CAPTURE_LINK.match(href) for href in ups):
        return f"refund:{checked_id(resource, 'id')}"
    return f"capture:{checked_id(resource, 'id')}"


def _refund(resource: Fields) -> str | None:
    return f"refund:{checked_id(resource, 'id')}"


def _dispute(resource: Fields) -> str | None:
    return f"dispute:{checked_id(resource, 'dispute_id')}"


def _of_no_payment(resource: Fields) -> str | None:
    """Kept and acknowledged: the gateway knows no subscriptions yet."""
    return None


FAMILIES: Mapping[str, Callable[[Fields], str | None]] = MappingProxyType(
    {
        "CHECKOUT.ORDER.": _order,
        "PAYMENT.AUTHORIZATION.": _authorization,
        "PAYMENT.CAPTURE.": _capture,
        "PAYMENT.REFUND.": _refund,
        "CUSTOMER.DISPUTE.": _dispute,
        "BILLING.SUBSCRIPTION.": _of_no_payment,
        "PAYMENT.SALE.": _of_no_payment,
    }
)
"""The families of events that we know, by the beginning of their type."""

SUBSCRIBED = (
    "CHECKOUT.ORDER.APPROVED",
    "CHECKOUT.ORDER.COMPLETED",
    "CHECKOUT.ORDER.VOIDED",
    "PAYMENT.AUTHORIZATION.CREATED",
    "PAYMENT.AUTHORIZATION.VOIDED",
    "PAYMENT.CAPTURE.COMPLETED",
    "PAYMENT.CAPTURE.DECLINED",
    "PAYMENT.CAPTURE.PENDING",
    "PAYMENT.CAPTURE.REFUNDED",
    "PAYMENT.CAPTURE.REVERSED",
    "PAYMENT.REFUND.FAILED",
    "PAYMENT.REFUND.PENDING",
    "CUSTOMER.DISPUTE.CREATED",
    "CUSTOMER.DISPUTE.UPDATED",
    "CUSTOMER.DISPUTE.RESOLVED",
)
"""The types that a webhook has to be subscribed to, or payments come to rest late: `obol providers check` looks."""
