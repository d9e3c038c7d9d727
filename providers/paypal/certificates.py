"""The certificates that PayPal signs its events with: fetched from where an event says, which is a stranger's word.

A URL has to be `https://<one of four hosts>/v1/notifications/certs/<name>` to the letter. It is fetched once, however
many events name it at a time; redirects are not followed, the answer and the time are bounded, and what comes has to
chain to a bundled root, be made out to PayPal's signing name, and be valid by the caller's clock.

Loaded by the sidecar: the HTTP client is imported when the first certificate is fetched.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

if TYPE_CHECKING:
    from providers.http import HttpWire

ROOTS = Path(__file__).parent / "data" / "roots.pem"

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "https://api.paypal.com": "messageverificationcerts.paypal.com",
        "https://api-m.paypal.com": "messageverificationcerts.paypal.com",
        "https://api.sandbox.paypal.com": "messageverificationcerts.sandbox.paypal.com",
        "https://api-m.sandbox.paypal.com": "messageverificationcerts.sandbox.paypal.com",
    }
)
"""Where certificates may come from, and the name that they must be made out to."""

PATH = "/v1/notifications/certs/"
URL_CHARACTERS_MAX = 500
CERTIFICATES_MAX = 8
DOCUMENT_BYTES_MAX = 64 * 1024
FETCH_S_MAX = 5.0
KEPT_MAX = 16
FETCHES_PER_MINUTE_MAX = 30
"""New URLs that strangers can make us fetch; past it PayPal is asked to deliver again."""

_NAME = re.compile(r"[A-Za-z0-9-]{1,100}\Z")

Fetch = Callable[[str, str], Coroutine[None, None, bytes]]
"""(origin, path) to the document. Raises whatever goes wrong."""


class Untrusted(Exception):
    """The URL or the certificate is not PayPal's; the message says why, in our words alone."""


class Unfetched(Exception):
    """The certificate did not come: nothing is known of the event."""


@dataclass(frozen=True, slots=True)
class Signer:
    """A verified signing certificate; times in unix seconds."""

    key: rsa.RSAPublicKey
    valid_from_s: float
    valid_until_s: float
    livemode: bool


class Certificates:
    """Verified signers by URL. `names` maps an allowed origin to the name to expect there.

    `roots` may be a file that comes to be only after us, as an imitation's does: it is read when it is first needed.
    """

    def __init__(
        self, roots: Sequence[x509.Certificate] | Path, *, names: Mapping[str, str] = NAMES, fetch: Fetch | None = None
    ) -> None:
        self._roots = roots
        self._store: Store | None = None
        self._names = names
        self._wires = _Wires()
        self._fetch = fetch or self._wires.fetch
        self._documents: OrderedDict[str, bytes] = OrderedDict()
        self._fetching: dict[str, asyncio.Task[bytes]] = {}
        self._fetched_s: deque[float] = deque()

    async def signer(self, url: str, *, now_s: float) -> Signer:
        """The signer that `url` names, as of `now_s` (unix seconds). Raises Untrusted, Unfetched."""
        origin, path = self.checked(url)
        document = self._documents.get(url)
        if document is None:
            document = await self._fetched(url, origin, path)
        signer = self._verified(document, origin, now_s)
        # Kept only once it has proved good, so that nobody can fill the cache with something else.
        self._documents[url] = document
        self._documents.move_to_end(url)
        while len(self._documents) > KEPT_MAX:
            self._documents.popitem(last=False)
        return signer

    def checked(self, url: str) -> tuple[str, str]:
        """The origin and path of an allowed URL, compared as text: a parser that reads kindly is no guard."""
        if len(url) <= URL_CHARACTERS_MAX:
            for origin in self._names:
                if url.startswith(origin + PATH) and _NAME.match(url.removeprefix(origin + PATH)):
                    return origin, url.removeprefix(origin)
        raise Untrusted("the certificate's URL is not one of PayPal's")

    async def close(self) -> None:
        """Give up what is being fetched, and the connections."""
        for task in tuple(self._fetching.values()):
            task.cancel()
        await asyncio.gather(*self._fetching.values(), return_exceptions=True)
        await self._wires.close()

    async def _fetched(self, url: str, origin: str, path: str) -> bytes:
        task = self._fetching.get(url)
        if task is None:
            self._admit()
            task = asyncio.create_task(self._fetch(origin, path), name="paypal certificate")
            self._fetching[url] = task
            task.add_done_callback(lambda _: self._fetching.pop(url, None))
        try:
            # Shielded: one delivery that is given up must not take the certificate from the others.
            async with asyncio.timeout(FETCH_S_MAX):
                document = await asyncio.shield(task)
        except Exception as error:
            raise Unfetched(type(error).__name__) from error
        if len(document) > DOCUMENT_BYTES_MAX:
            raise Untrusted("the certificate is oversized")
        return document

    def _admit(self) -> None:
        now_s = asyncio.get_running_loop().time()
        while self._fetched_s and self._fetched_s[0] < now_s - 60:
            self._fetched_s.popleft()
        if len(self._fetched_s) >= FETCHES_PER_MINUTE_MAX:
            raise Unfetched("too many new certificates a minute")
        self._fetched_s.append(now_s)

    def _verified(self, document: bytes, origin: str, now_s: float) -> Signer:
        try:
            leaf, *intermediates = x509.load_pem_x509_certificates(document)
        except ValueError:
            raise Untrusted("the certificate is unreadable") from None
        if len(intermediates) >= CERTIFICATES_MAX:
            raise Untrusted("the chain is too long")
        at = datetime.fromtimestamp(now_s, UTC)
        policy = PolicyBuilder().store(self._trusted()).time(at.replace(tzinfo=None))
        name = self._names[origin]
        try:
            chain = policy.build_server_verifier(x509.DNSName(name)).verify(leaf, intermediates)
        except VerificationError:
            raise Untrusted(
                "the certificate does not chain to a bundled root, or is not PayPal's, or not valid now"
            ) from None
        key = leaf.public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            raise Untrusted("the certificate has no RSA key")
        return Signer(
            key,
            max(each.not_valid_before_utc for each in chain).timestamp(),
            min(each.not_valid_after_utc for each in chain).timestamp(),
            "sandbox" not in name,
        )

    def _trusted(self) -> Store:
        if self._store is None:
            try:
                roots = load_roots(self._roots) if isinstance(self._roots, Path) else self._roots
            except ValueError as error:
                raise Unfetched(str(error)) from None
            self._store = Store(list(roots))
        return self._store


class _Wires:
    """Connections to where certificates come from, each opened when it is first needed."""

    def __init__(self) -> None:
        self._wires: dict[str, HttpWire] = {}

    async def fetch(self, origin: str, path: str) -> bytes:
        # Here and not above: the sidecar of an account that gets no PayPal events loads no HTTP client.
        from providers.http import HttpWire, Received, WireLimits  # noqa: PLC0415  see the line above

        if origin not in self._wires:
            limits = WireLimits(connect_s=FETCH_S_MAX, connections_max=2, body_bytes_max=DOCUMENT_BYTES_MAX)
            self._wires[origin] = HttpWire(origin, limits)
        exchange = await self._wires[origin].read(path, headers={}, timeout_s=FETCH_S_MAX)
        if not isinstance(exchange, Received) or exchange.status != 200:
            raise Unfetched("no certificate came")
        return exchange.body

    async def close(self) -> None:
        for wire in self._wires.values():
            await wire.close()


def load_roots(path: Path = ROOTS) -> tuple[x509.Certificate, ...]:
    """The roots of a PEM file. Raises ValueError."""
    try:
        return tuple(x509.load_pem_x509_certificates(path.read_bytes()))
    except OSError as error:
        raise ValueError(f"roots_file: {error.strerror}") from None
