"""The wire: answers that never come, come in part, come wrong, or never end.

Each is a Starlette response, so an endpoint returns a broken answer as it returns a good one. Closing a
connection without an answer needs the transport, which ASGI does not show: `http_protocol` puts it into the
scope.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from simulators.faults import Fault, Hold

TRANSPORT = "simulators.transport"
HUGE_CHUNK_BYTES = 65_536
DRIP_PIECES = 40


def http_protocol() -> Callable[..., asyncio.Protocol]:
    """uvicorn's HTTP protocol, which gives each request's scope its connection's transport."""

    def connection_made(self: Any, transport: asyncio.Transport) -> None:
        AutoHTTPProtocol.connection_made(self, transport)
        served: ASGIApp = self.app

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[TRANSPORT] = transport
            await served(scope, receive, send)

        self.app = app

    return type("TransportInScope", (AutoHTTPProtocol,), {"connection_made": connection_made})


@dataclass(frozen=True)
class Wire:
    """How long broken answers take, and how large they get."""

    hang_seconds: float
    drip_seconds: float
    huge_bytes: int

    def spoiled(self, fault: Fault | None, answer: Response, hold: Hold) -> Response:
        """The answer as this fault delivers it; the answer itself where the fault leaves the wire alone.

        `hold` waits for some seconds, or until the faults are healed.
        """
        match fault.name if fault else None:
            case "timeout_before" | "timeout_after":
                return _Silence(hold, self.hang_seconds)
            case "reset_before" | "reset_after":
                return _Closed(reset=True)
            case "lost_before" | "lost_after":
                return _Closed(reset=False)
            case "truncated":
                return _Truncated(answer)
            case "malformed":
                return Response(b'{"id": "spay_<!-- upstream', answer.status_code, media_type="application/json")
            case "slow_drip":
                return _Drip(answer, self.drip_seconds)
            case "huge_body":
                return _Huge(answer, self.huge_bytes)
            case _:
                return answer


class _Closed(Response):
    """No answer: the connection closes, or is reset."""

    def __init__(self, reset: bool) -> None:
        super().__init__()
        self._reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = _transport(scope)
        held = transport.get_extra_info("socket")
        if self._reset and held is not None:
            # Linger of zero makes the close a RST, which the caller sees as "connection reset by peer".
            held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
        await _disconnected(receive)


class _Silence(Response):
    """Nothing for a while; then the connection closes. A caller that gives up ends it sooner."""

    def __init__(self, hold: Hold, seconds: float) -> None:
        super().__init__()
        self._hold, self._seconds = hold, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_disconnected(receive))
        held = asyncio.ensure_future(self._hold(self._seconds))
        try:
            await asyncio.wait({gone, held}, return_when=asyncio.FIRST_COMPLETED)
            _transport(scope).abort()
            await gone
        finally:
            gone.cancel()
            held.cancel()


class _Truncated(Response):
    """The head and half of the body, then the connection closes."""

    def __init__(self, answer: Response) -> None:
        super().__init__(answer.body, answer.status_code, media_type="application/json")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _start(self, send)
        half = bytes(self.body[: len(self.body) // 2])
        await send({"type": "http.response.body", "body": half, "more_body": True})
        _transport(scope).close()
        await _disconnected(receive)


class _Drip(Response):
    """The whole answer, in small pieces over `seconds`."""

    def __init__(self, answer: Response, seconds: float) -> None:
        super().__init__(answer.body, answer.status_code, media_type="application/json")
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _start(self, send)
        size = max(1, -(-len(self.body) // DRIP_PIECES))
        for start in range(0, len(self.body), size):
            await asyncio.sleep(self._seconds / DRIP_PIECES)
            piece = bytes(self.body[start : start + size])
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class _Huge(Response):
    """The answer with a field of `size_bytes` before its end, streamed without a content length."""

    def __init__(self, answer: Response, size_bytes: int) -> None:
        super().__init__(answer.body, answer.status_code, media_type="application/json")
        self._size_bytes = size_bytes
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _start(self, send)
        await _piece(send, b'{"padding":"')
        for _ in range(-(-self._size_bytes // HUGE_CHUNK_BYTES)):
            await _piece(send, b"x" * HUGE_CHUNK_BYTES)
            # With the caller gone `send` never waits: give the other requests their turn.
            await asyncio.sleep(0)
        await _piece(send, b'",' + bytes(self.body[1:]))
        await send({"type": "http.response.body", "body": b""})


def _transport(scope: Scope) -> asyncio.Transport:
    transport: asyncio.Transport = scope["extensions"][TRANSPORT]
    return transport


async def _start(answer: Response, send: Send) -> None:
    await send({"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers})


async def _piece(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _disconnected(receive: Receive) -> None:
    """Return when the connection is gone: uvicorn answers 500 for an endpoint that returns before that."""
    while (await receive())["type"] != "http.disconnect":
        pass
