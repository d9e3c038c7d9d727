"""Stripe's callbacks: the signature over the raw bytes, and what an event is about.

    Stripe-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>." + body>[,v1=...][,v0=...]

Snapshot events carry an object, thin ones (version 2 of the API) name it. https://docs.stripe.com/webhooks/signature

Loaded by the sidecar: the standard library and light modules of ours only, and no SDK.
"""

import calendar
import hashlib
import hmac
import re
import time
from collections.abc import Collection, Mapping, Sequence

from gateway.domain.providers import CallbackHint
from providers.callbacks import (
    BODY_BYTES_MAX,
    TOLERANCE_S,
    CallbackRejected,
    CallbackSettings,
    Rejection,
    VerifiedEvent,
)
from providers.fields import Fields, UnreadableAnswer, bounded
from providers.secret import Secret
from providers.strict_json import StrictJsonError, parse_object

SIGNATURE_HEADER = "stripe-signature"
HEADER_CHARACTERS_MAX = 1000
SIGNATURES_MAX = 8
WORDS_CHARACTERS_MAX = 200

_TIME = re.compile(r"[0-9]{1,12}\Z")
_V1 = re.compile(r"[0-9a-f]{64}\Z")
_INTENT = re.compile(r"pi_[A-Za-z0-9_]{1,200}\Z")
_ACCOUNT = re.compile(r"acct_[A-Za-z0-9_]{1,60}\Z")

_PAYMENT_INTENT = (
    "amount_capturable_updated",
    "canceled",
    "created",
    "partially_funded",
    "payment_failed",
    "processing",
    "requires_action",
    "succeeded",
)
_CHARGE = ("captured", "expired", "failed", "pending", "refund.updated", "refunded", "succeeded", "updated")
_DISPUTE = ("closed", "created", "funds_reinstated", "funds_withdrawn", "updated")

PAYMENT_EVENTS = frozenset(
    {
        *(f"payment_intent.{each}" for each in _PAYMENT_INTENT),
        *(f"charge.{each}" for each in _CHARGE),
        *(f"charge.dispute.{each}" for each in _DISPUTE),
        *(f"refund.{each}" for each in ("created", "failed", "updated")),
    }
)
"""What the adapter needs to hear: these lead to a PaymentIntent."""

LATER_EVENTS = (
    "account.",
    "checkout.session.",
    "customer.subscription.",
    "invoice.",
    "payout.",
    "setup_intent.",
    "v2.core.account",
)
"""Families of events about what the gateway does not know yet: kept, acknowledged, and replayed once it does."""


def verify(
    body: bytes, headers: Mapping[str, str], secrets: Sequence[Secret], now_s: float, tolerance_s: int = TOLERANCE_S
) -> VerifiedEvent:
    """The event that `body` is, signed with one of `secrets` within `tolerance_s` seconds of `now_s` (unix seconds).

    Raises CallbackRejected. The body is parsed only once its signature is right.
    """
    if not any(secrets):
        raise CallbackRejected(Rejection.NO_SECRET, "no signing secret is configured: nothing can be authentic")
    told_s = _check_signature(body, _header(headers), [secret for secret in secrets if secret])
    if told_s < now_s - tolerance_s:
        raise CallbackRejected(Rejection.STALE, f"signed {now_s - told_s:.0f} s ago")
    if told_s > now_s + tolerance_s:
        raise CallbackRejected(Rejection.FUTURE, f"signed {told_s - now_s:.0f} s ahead")
    try:
        return _event(body)
    except (StrictJsonError, UnreadableAnswer) as error:
        raise CallbackRejected(Rejection.UNREADABLE, str(error)) from None


class StripeCallbackVerifier:
    """Implements `providers.callbacks.CallbackVerifier`."""

    def __init__(self, settings: CallbackSettings) -> None:
        self._settings = settings

    async def verify(self, body: bytes, headers: Mapping[str, str], *, now_s: float) -> VerifiedEvent:
        return verify(body, headers, self._settings.secrets, now_s, self._settings.tolerance_s)

    async def close(self) -> None:
        """Nothing is held."""


def build_verifier(settings: CallbackSettings) -> StripeCallbackVerifier:
    """A VerifierBuilder."""
    return StripeCallbackVerifier(settings)


def interpret(body: bytes, connected: Collection[str] = (), *, own: str = "") -> CallbackHint:
    """What a verified event is about. `connected` are accounts that are ours to act for, `own` is the platform's id.

    Raises ValueError where the body is no event.
    """
    event = Fields(parse_object(body), "event")
    thin = event.text("object") == "v2.core.event"
    if not thin and event.text("object") != "event":
        raise UnreadableAnswer("event.object: not an event")
    intent_id, metadata = _related(event) if thin else _snapshot(event)
    # Of an account that is connected and that nobody named there is nothing that we could read.
    account = _connected_account(event)
    account = "" if account == own else account
    readable = intent_id is not None and (not account or account in connected)
    kind = bounded(event.text("type"), WORDS_CHARACTERS_MAX)
    return CallbackHint(
        event.text("id"),
        kind,
        (f"{intent_id}@{account}" if account else intent_id) if readable else None,
        payment_id=metadata.get("obol_payment", ""),
        tenant_id=metadata.get("obol_tenant", ""),
        provider_time_us=_time_us(event),
        known_type=kind.removeprefix("v1.") in PAYMENT_EVENTS or kind.removeprefix("v1.").startswith(LATER_EVENTS),
    )


def _snapshot(event: Fields) -> tuple[str | None, Mapping[str, str]]:
    """The PaymentIntent that the event's object is, or belongs to, with the metadata where the object has ours."""
    data = event.optional("data")
    about = data.optional("object") if data is not None else None
    if about is None:
        return None, {}
    kind = about.optional_text("object")
    if kind not in ("payment_intent", "charge", "refund", "dispute"):
        return None, {}
    found = about.raw.get("id") if kind == "payment_intent" else about.raw.get("payment_intent")
    if isinstance(found, dict):
        found = found.get("id")
    intent_id = found if isinstance(found, str) and _INTENT.match(found) else None
    return intent_id, about.texts("metadata")


def _related(event: Fields) -> tuple[str | None, Mapping[str, str]]:
    related = event.optional("related_object")
    if related is None or related.optional_text("type") != "payment_intent":
        return None, {}
    intent_id = related.text("id")
    return intent_id if _INTENT.match(intent_id) else None, {}


def _connected_account(event: Fields) -> str:
    account = event.optional_text("account") or event.optional_text("context")
    return account if _ACCOUNT.match(account) else ""


def _time_us(event: Fields) -> int | None:
    """When it was created: whole seconds in a snapshot event, RFC 3339 in a thin one."""
    if isinstance(event.raw.get("created"), str):
        try:
            parsed = time.strptime(event.text("created")[:19], "%Y-%m-%dT%H:%M:%S")
        except ValueError:
            return None
        return calendar.timegm(parsed) * 1_000_000
    return event.time_us("created")


def _header(headers: Mapping[str, str]) -> str:
    found = [value for name, value in headers.items() if name.lower() == SIGNATURE_HEADER]
    if not found:
        raise CallbackRejected(Rejection.UNSIGNED, f"no {SIGNATURE_HEADER}")
    if len(found) > 1:
        raise CallbackRejected(Rejection.FORGED, f"{SIGNATURE_HEADER} more than once")
    return found[0]


def _check_signature(body: bytes, header: str, secrets: Sequence[Secret]) -> int:
    """The signed time in unix seconds."""
    told, given = _parsed(header)
    if len(body) > BODY_BYTES_MAX:
        raise CallbackRejected(Rejection.UNREADABLE, f"more than {BODY_BYTES_MAX} bytes")
    matched = False
    for secret in secrets:
        signed = hmac.new(secret.reveal().encode(), f"{told}.".encode() + body, hashlib.sha256).hexdigest()
        for signature in given:
            matched |= hmac.compare_digest(signed, signature)
    if not matched:
        raise CallbackRejected(Rejection.FORGED, "the signature is of no secret of ours")
    return int(told)


def _parsed(header: str) -> tuple[str, list[str]]:
    """The time and the v1 signatures; other schemes are passed over, as Stripe asks."""
    # The patterns are ASCII alone: a digit of another script would pass `isdigit`, and compare_digest refuses its text.
    parts = [part.partition("=") for part in header.split(",")] if len(header) <= HEADER_CHARACTERS_MAX else []
    times = [value for name, _, value in parts if name.strip() == "t" and _TIME.match(value)]
    given = [value for name, _, value in parts if name.strip() == "v1" and _V1.match(value)]
    if len(times) != 1 or not 0 < len(given) <= SIGNATURES_MAX:
        raise CallbackRejected(Rejection.FORGED, f"malformed {SIGNATURE_HEADER}")
    return times[0], given


def _event(body: bytes) -> VerifiedEvent:
    event = Fields(parse_object(body), "event")
    if event.text("object") not in ("event", "v2.core.event"):
        raise UnreadableAnswer("event.object: not an event")
    return VerifiedEvent(
        event.text("id"),
        bounded(event.text("type"), WORDS_CHARACTERS_MAX),
        event.flag("livemode"),
        _connected_account(event),
    )
