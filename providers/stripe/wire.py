"""The official SDK on our wire: it builds the request and tells errors apart, the wire sends it, once and in time.

`AIOHTTPClient` takes a session. Ours hands each request to `providers.http.HttpWire`, which bounds the answer, proves
what was never sent, and never follows a redirect; docs/adr/0014 has why. Retries and telemetry are off.
"""

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import stripe

from providers.http import Exchange, HttpWire, NeverSent, Received, WireLimits
from providers.secret import Secret
from providers.stripe.capabilities import API_VERSION
from providers.stripe.form import Values, decode, encode

HEADERS_SENT = frozenset({"Authorization", "Content-Type", "Idempotency-Key", "Stripe-Account", "Stripe-Version"})
"""What is sent of the SDK's headers: its others describe this machine."""


class NoAnswer(Exception):
    """What the session raises where no answer came; the SDK makes an APIConnectionError of it."""


class AnotherRequest(Exception):
    """The SDK built something else than what was prepared: it is not sent."""


@dataclass(frozen=True, slots=True)
class Told:
    """What came of one call: the exchange, and the SDK's error, None for a success."""

    exchange: Exchange
    error: Exception | None = None


@dataclass(slots=True)
class _Call:
    """One call on its way through the SDK. `body` None is a read."""

    path: str
    body: str | None
    timeout_s: float
    send_before: float = 0.0
    exchange: Exchange | None = None


_CALL: ContextVar[_Call] = ContextVar("stripe_call")


class StripeWire:
    """Talks to Stripe for one account. Raises nothing but CancelledError. `now` is the clock of `send_before`."""

    def __init__(
        self, base_url: str, api_key: Secret, limits: WireLimits, *, now: Callable[[], float] | None = None
    ) -> None:
        self._wire = HttpWire(base_url, limits, now=now)
        # The SDK logs bodies, in which client secrets are, wherever somebody asks the root logger for everything.
        logging.getLogger("stripe").disabled = True
        stripe.enable_telemetry = False
        self._client = stripe.StripeClient(
            api_key.reveal(),
            stripe_version=API_VERSION,
            base_addresses={"api": base_url.rstrip("/")},
            max_network_retries=0,
            http_client=stripe.AIOHTTPClient(session=_WireSession(self._wire, base_url.rstrip("/")), timeout=None),
        )

    async def write(
        self,
        path: str,
        body: str,
        *,
        key: str,
        version: str,
        account: str = "",
        send_before: float,
        timeout_s: float,
    ) -> Told:
        """POST `body`, byte for byte, not after `send_before`. `account` acts for a connected one."""
        call = _Call(path, body, timeout_s, send_before)
        options = {"idempotency_key": key, "stripe_version": version}
        return await self._told(call, "post", path, decode(body), options, account)

    async def read(self, path: str, query: Values, *, account: str = "", timeout_s: float) -> Told:
        """GET."""
        asked = decode(encode(query))
        return await self._told(_Call(path, None, timeout_s), "get", path, asked, {}, account)

    async def close(self) -> None:
        """Close every connection. Idempotent."""
        await self._wire.close()

    async def _told(
        self, call: _Call, method: str, path: str, asked: Mapping[str, Any], options: dict[str, str], account: str
    ) -> Told:
        token = _CALL.set(call)
        if account:
            options["stripe_account"] = account
        error: Exception | None = None
        try:
            await self._client.raw_request_async(method, path, **asked, **options)
        except Exception as raised:  # noqa: BLE001  every failure is a value; the table of `answers` says which
            error = raised
        finally:
            _CALL.reset(token)
        if call.exchange is None:
            return Told(NeverSent(type(error).__name__ if error else "the SDK sent nothing"), error)
        return Told(call.exchange, error)


class _WireSession:
    """What AIOHTTPClient takes for an aiohttp session: one method of it, which sends over our wire."""

    def __init__(self, wire: HttpWire, base_url: str) -> None:
        self._wire = wire
        self._base_url = base_url

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], data: str | None = None
    ) -> "_Response":
        call = _CALL.get()
        sent = {name: value for name, value in headers.items() if name in HEADERS_SENT}
        path = url.removeprefix(self._base_url)
        if call.body is None:
            call.exchange = await self._wire.read(path, headers=sent, timeout_s=call.timeout_s)
        elif (method, path, data or "") != ("post", call.path, call.body):
            call.exchange = NeverSent("the SDK built another request than was prepared")
            raise AnotherRequest
        else:
            call.exchange = await self._wire.write(
                "POST",
                path,
                headers=sent,
                body=call.body.encode(),
                send_before=call.send_before,
                timeout_s=call.timeout_s,
            )
        if not isinstance(call.exchange, Received):
            raise NoAnswer(call.exchange.failure)
        return _Response(call.exchange.status, _Content(call.exchange.body))


@dataclass(frozen=True, slots=True)
class _Content:
    """The body, which is here already."""

    body: bytes

    async def read(self) -> bytes:
        return self.body


@dataclass(frozen=True, slots=True)
class _Response:
    """What the SDK reads of an answer. It gets no headers: it would only turn notices into warnings."""

    status: int
    content: _Content
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
