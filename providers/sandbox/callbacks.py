"""The sandbox's callbacks: the signature over the raw bytes, and what an event is about.

    Sandbox-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>." + body>

Loaded by the sidecar: the standard library and light modules of ours only.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence

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

SIGNATURE_HEADER = "sandbox-signature"
WORDS_CHARACTERS_MAX = 200

_SIGNATURE = re.compile(r"t=(?P<t>[0-9]{1,12})(?P<signatures>(?:,v1=[0-9a-f]{64}){1,4})\Z")

EVENT_TYPES = frozenset(
    {
        "payment.updated",
        "payment.requires_action",
        "payment.processing",
        "payment.authorized",
        "payment.partially_captured",
        "payment.captured",
        "payment.cancelled",
        "payment.expired",
        "payment.failed",
        "refund.created",
        "refund.updated",
        "dispute.opened",
        "dispute.updated",
        "dispute.closed",
    }
)
"""The types of event that we know; another is kept and acknowledged, and its payment is looked at all the same."""


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


class SandboxCallbackVerifier:
    """Implements `providers.callbacks.CallbackVerifier`."""

    def __init__(self, settings: CallbackSettings) -> None:
        self._settings = settings

    async def verify(self, body: bytes, headers: Mapping[str, str], *, now_s: float) -> VerifiedEvent:
        return verify(body, headers, self._settings.secrets, now_s, self._settings.tolerance_s)

    async def close(self) -> None:
        """Nothing is held."""


def build_verifier(settings: CallbackSettings) -> SandboxCallbackVerifier:
    """A VerifierBuilder."""
    return SandboxCallbackVerifier(settings)


def interpret(body: bytes) -> CallbackHint:
    """What a verified event is about. Raises ValueError where the body is no event."""
    event = Fields(parse_object(body), "event")
    data = event.optional("data")
    about = data.optional("object") if data else None
    payment = about if about and about.optional_text("object") == "payment" else None
    metadata = payment.texts("metadata") if payment else {}
    event_type = bounded(event.text("type"), WORDS_CHARACTERS_MAX)
    return CallbackHint(
        event.text("id"),
        event_type,
        payment.text("id") if payment else None,
        payment_id=metadata.get("obol_payment", ""),
        tenant_id=metadata.get("obol_tenant", ""),
        provider_time_us=event.time_us("created"),
        known_type=event_type in EVENT_TYPES,
    )


def _header(headers: Mapping[str, str]) -> str:
    found = [value for name, value in headers.items() if name.lower() == SIGNATURE_HEADER]
    if not found:
        raise CallbackRejected(Rejection.UNSIGNED, f"no {SIGNATURE_HEADER}")
    if len(found) > 1:
        raise CallbackRejected(Rejection.FORGED, f"{SIGNATURE_HEADER} more than once")
    return found[0]


def _check_signature(body: bytes, header: str, secrets: Sequence[Secret]) -> int:
    """The signed time in unix seconds."""
    # The pattern is ASCII alone: a digit of another script would pass `isdigit`, and compare_digest refuses its text.
    read = _SIGNATURE.match(header)
    if read is None:
        raise CallbackRejected(Rejection.FORGED, f"malformed {SIGNATURE_HEADER}")
    if len(body) > BODY_BYTES_MAX:
        raise CallbackRejected(Rejection.UNREADABLE, f"more than {BODY_BYTES_MAX} bytes")
    given = [part.removeprefix("v1=") for part in read["signatures"].split(",") if part]
    matched = False
    for secret in secrets:
        signed = hmac.new(secret.reveal().encode(), f"{read['t']}.".encode() + body, hashlib.sha256).hexdigest()
        for signature in given:
            matched |= hmac.compare_digest(signed, signature)
    if not matched:
        raise CallbackRejected(Rejection.FORGED, "the signature is of no secret of ours")
    return int(read["t"])


def _event(body: bytes) -> VerifiedEvent:
    event = Fields(parse_object(body), "event")
    if event.text("object") != "event":
        raise UnreadableAnswer("event.object: not an event")
    return VerifiedEvent(
        event.text("id"),
        bounded(event.text("type"), WORDS_CHARACTERS_MAX),
        event.flag("livemode"),
        event.text("account"),
    )
