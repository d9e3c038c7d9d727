"""Whether anything was sent: a guard in front of the first byte, and a table of what each transport error proves.

`NotSent` needs two proofs: the guard saw no byte of the request go out, and the table says that this error comes before
sending. With one of them missing the provider may have got the request. An error that the table does not name is MAYBE.

A request that has a body is proved by its body: aiohttp keeps the head back until the first chunk and writes both at
once, and a head alone would be no request that a provider could act on.
"""

import ssl
from collections.abc import Callable, Mapping
from types import MappingProxyType, SimpleNamespace

import aiohttp
from aiohttp.client_exceptions import UnixClientConnectorError

from gateway.domain.errors import Sent


class SendRefused(Exception):
    """The guard let nothing out: too late, or a second time."""


class SendTooLate(SendRefused):
    """`send_before` has passed; the process may have been stopped since the request was built."""


class SentBefore(SendRefused):
    """aiohttp was about to repeat a write by itself on a new connection."""


class SendGuard:
    """Stands before the first byte of one write. `send_before` is on `now`'s clock, in seconds."""

    def __init__(self, *, send_before: float, now: Callable[[], float], has_body: bool) -> None:
        self._send_before = send_before
        self._now = now
        self._has_body = has_body
        self._begun = False

    @property
    def begun(self) -> bool:
        """Whether a byte may have been written."""
        return self._begun

    def before_head(self) -> None:
        """Called before the head is written, or kept back for the body. Raises SendRefused."""
        self._check()
        if not self._has_body:
            self._begun = True

    def before_body(self) -> None:
        """Called with the first chunk about to be written. Raises SendRefused; nothing awaits after this returns."""
        if not self._begun:
            self._check()
            self._begun = True

    def _check(self) -> None:
        if self._begun:
            raise SentBefore("a write is sent once")
        if self._now() >= self._send_before:
            raise SendTooLate("send_before has passed")


def guarding() -> aiohttp.TraceConfig:
    """Hooks for a session: a request with `trace_request_ctx=SendGuard(...)` passes its guard before each first byte.

    aiohttp calls both hooks right before it writes (in spite of their names), and an exception stops the write.
    """
    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(_before_head)
    trace.on_request_chunk_sent.append(_before_body)
    return trace


async def _before_head(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestHeadersSentParams
) -> None:
    if isinstance(context.trace_request_ctx, SendGuard):
        context.trace_request_ctx.before_head()


async def _before_body(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestChunkSentParams
) -> None:
    if isinstance(context.trace_request_ctx, SendGuard):
        context.trace_request_ctx.before_body()


_NO, _MAYBE = Sent.NO, Sent.MAYBE

SENT_BY_ERROR: Mapping[type[BaseException], Sent] = MappingProxyType(
    {
        # No connection was made: names, routes, refusals, TLS, waiting for a place in the pool.
        aiohttp.ClientConnectorError: _NO,
        aiohttp.ClientConnectorDNSError: _NO,
        aiohttp.ClientConnectorCertificateError: _NO,
        aiohttp.ClientConnectorSSLError: _NO,
        aiohttp.ClientSSLError: _NO,
        aiohttp.ClientProxyConnectionError: _NO,
        UnixClientConnectorError: _NO,
        aiohttp.ConnectionTimeoutError: _NO,
        aiohttp.ServerFingerprintMismatch: _NO,
        aiohttp.InvalidURL: _NO,
        aiohttp.InvalidUrlClientError: _NO,
        aiohttp.NonHttpUrlClientError: _NO,
        SendTooLate: _NO,
        # Our own time limit: the guard alone knows whether it ended the connecting or the waiting for an answer.
        TimeoutError: _NO,
        # The request was on its way, or an answer began to come.
        SentBefore: _MAYBE,
        SendRefused: _MAYBE,
        aiohttp.RedirectClientError: _MAYBE,
        aiohttp.InvalidUrlRedirectClientError: _MAYBE,
        aiohttp.NonHttpUrlRedirectClientError: _MAYBE,
        aiohttp.TooManyRedirects: _MAYBE,
        aiohttp.ClientResponseError: _MAYBE,
        aiohttp.ContentTypeError: _MAYBE,
        aiohttp.WSServerHandshakeError: _MAYBE,
        aiohttp.ClientHttpProxyError: _MAYBE,
        aiohttp.ClientPayloadError: _MAYBE,
        aiohttp.UploadAbortedError: _MAYBE,
        aiohttp.ClientConnectionError: _MAYBE,
        aiohttp.ClientConnectionResetError: _MAYBE,
        aiohttp.ClientOSError: _MAYBE,
        aiohttp.ServerConnectionError: _MAYBE,
        aiohttp.ServerDisconnectedError: _MAYBE,
        aiohttp.ServerTimeoutError: _MAYBE,
        aiohttp.SocketTimeoutError: _MAYBE,
        aiohttp.ClientError: _MAYBE,
        ssl.SSLError: _MAYBE,
        OSError: _MAYBE,
        Exception: _MAYBE,
    }
)
"""What an error proves while the guard has seen nothing go out; the nearest class of the error's MRO decides."""


def was_sent(error: Exception, guard: SendGuard) -> Sent:
    """NO only where the error and the guard both prove it; else MAYBE."""
    if guard.begun:
        return Sent.MAYBE
    # aiohttp wraps what a hook raises while the body is written.
    if isinstance(error.__cause__, SendTooLate):
        return Sent.NO
    return next((SENT_BY_ERROR[kind] for kind in type(error).__mro__ if kind in SENT_BY_ERROR), Sent.MAYBE)
