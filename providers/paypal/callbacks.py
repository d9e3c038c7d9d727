"""PayPal's callbacks: the signature over what binds the body, by a certificate that has to be PayPal's.

    PayPal-Transmission-Sig   base64 of SHA256withRSA over "<id>|<time>|<webhook id>|<crc32 of the body, decimal>"
    PayPal-Transmission-Id, PayPal-Transmission-Time, PayPal-Auth-Algo, PayPal-Cert-Url

A webhook id is what ties a delivery to this account: it stands where other providers have a signing secret, two while
one webhook replaces another. PayPal tries to deliver an event for three days and does not say that a later try bears a
time of its own: a delivery that old is passed on, since the inbox takes each event once, and what it says is only which
object to look at.

Loaded by the sidecar: the standard library, `cryptography` and light modules of ours only.
"""

import base64
import binascii
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256

from providers.callbacks import BODY_BYTES_MAX, CallbackRejected, CallbackSettings, Rejection, VerifiedEvent
from providers.fields import UnreadableAnswer
from providers.paypal.certificates import NAMES, Certificates, Signer, Untrusted, load_roots
from providers.paypal.events import read_event
from providers.paypal.times import parsed_us
from providers.secret import Secret
from providers.strict_json import StrictJsonError

ALGORITHM = "SHA256withRSA"
REDELIVERED_S_MAX = 3 * 24 * 3600 + 3600
"""How old a genuine delivery may be: PayPal tries again for three days."""

SIMULATED_NAME = "messageverificationcerts.sandbox.paypal.com"
LOOPBACK = ("127.0.0.1", "::1", "localhost")

_HEADERS = {
    "paypal-transmission-id": re.compile(r"[A-Za-z0-9-]{1,64}\Z"),
    "paypal-transmission-time": re.compile(r"[0-9TtZz:.+-]{20,40}\Z"),
    "paypal-transmission-sig": re.compile(r"[A-Za-z0-9+/]{1,1024}={0,2}\Z"),
    "paypal-auth-algo": re.compile(r"[A-Za-z0-9]{1,40}\Z"),
    "paypal-cert-url": re.compile(r"[!-~]{1,500}\Z"),
}


class PayPalCallbackVerifier:
    """Implements `providers.callbacks.CallbackVerifier`."""

    def __init__(self, settings: CallbackSettings, certificates: Certificates) -> None:
        self._webhook_ids = tuple(secret for secret in settings.secrets if secret)
        self._tolerance_s = settings.tolerance_s
        self._certificates = certificates

    async def verify(self, body: bytes, headers: Mapping[str, str], *, now_s: float) -> VerifiedEvent:
        """The event that `body` is, signed by PayPal for one of our webhooks. Raises CallbackRejected, Unfetched."""
        if not self._webhook_ids:
            raise CallbackRejected(Rejection.NO_SECRET, "no webhook id is configured: nothing can be meant for us")
        told = _read_headers(headers)
        if len(body) > BODY_BYTES_MAX:
            raise CallbackRejected(Rejection.UNREADABLE, f"more than {BODY_BYTES_MAX} bytes")
        self._check_time(told["paypal-transmission-time"], now_s)
        try:
            signer = await self._certificates.signer(told["paypal-cert-url"], now_s=now_s)
        except Untrusted as refused:
            raise CallbackRejected(Rejection.FORGED, str(refused)) from None
        _check_signature(body, told, signer, self._webhook_ids)
        try:
            return read_event(body, livemode=signer.livemode)
        except (StrictJsonError, UnreadableAnswer) as error:
            raise CallbackRejected(Rejection.UNREADABLE, str(error)) from None

    async def close(self) -> None:
        """Give back the connections to where certificates come from."""
        await self._certificates.close()

    def _check_time(self, told: str, now_s: float) -> None:
        try:
            told_s = parsed_us(told) / 1_000_000
        except ValueError:
            raise CallbackRejected(Rejection.FORGED, "malformed paypal-transmission-time") from None
        if told_s < now_s - max(self._tolerance_s, REDELIVERED_S_MAX):
            raise CallbackRejected(Rejection.STALE, f"signed {now_s - told_s:.0f} s ago")
        if told_s > now_s + self._tolerance_s:
            raise CallbackRejected(Rejection.FUTURE, f"signed {told_s - now_s:.0f} s ahead")


def build_verifier(settings: CallbackSettings) -> PayPalCallbackVerifier:
    """A VerifierBuilder. Options: `roots_file`, in place of the bundled roots, and `certificate_origin`, a loopback
    address that certificates may come from as well; both are for an imitation of PayPal. Raises ValueError.
    """
    told = settings.options.get("roots_file", "")
    roots = Path(told) if told else load_roots()
    names = dict(NAMES)
    origin = settings.options.get("certificate_origin", "")
    if origin:
        parts = urlsplit(origin)
        if parts.hostname not in LOOPBACK or parts.scheme != "http" or parts.path or parts.query or parts.username:
            raise ValueError("certificate_origin must be http:// on loopback: it is for an imitation of PayPal")
        names[origin] = SIMULATED_NAME
    return PayPalCallbackVerifier(settings, Certificates(roots, names=names))


def signed_message(transmission_id: str, transmission_time: str, webhook_id: str, body: bytes) -> bytes:
    """What PayPal signs."""
    return f"{transmission_id}|{transmission_time}|{webhook_id}|{zlib.crc32(body)}".encode()


def _read_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    told: dict[str, str] = {}
    for name, value in headers.items():
        lower = name.lower()
        if lower in _HEADERS:
            if lower in told:
                raise CallbackRejected(Rejection.FORGED, f"{lower} more than once")
            told[lower] = value
    missing = next((name for name in _HEADERS if name not in told), "")
    if missing:
        raise CallbackRejected(Rejection.UNSIGNED, f"no {missing}")
    for name, pattern in _HEADERS.items():
        # The patterns are ASCII alone, and a joined duplicate ("a, b") is in none of them.
        if not pattern.match(told[name]):
            raise CallbackRejected(Rejection.FORGED, f"malformed {name}")
    if told["paypal-auth-algo"] != ALGORITHM:
        raise CallbackRejected(Rejection.FORGED, f"signed otherwise than by {ALGORITHM}")
    return told


def _check_signature(body: bytes, told: Mapping[str, str], signer: Signer, webhook_ids: tuple[Secret, ...]) -> None:
    try:
        signature = base64.b64decode(told["paypal-transmission-sig"], validate=True)
    except binascii.Error:
        raise CallbackRejected(Rejection.FORGED, "malformed paypal-transmission-sig") from None
    for webhook_id in webhook_ids:
        message = signed_message(
            told["paypal-transmission-id"], told["paypal-transmission-time"], webhook_id.reveal(), body
        )
        try:
            signer.key.verify(signature, message, padding.PKCS1v15(), SHA256())
        except InvalidSignature:
            continue
        return
    raise CallbackRejected(Rejection.FORGED, "the signature is of no webhook of ours")
