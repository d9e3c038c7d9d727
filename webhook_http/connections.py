"""What uvicorn leaves open: how long a request's head may take to come, and how many connections there may be.

uvicorn bounds the pause between two requests, but once a byte of the next head is there, or before the first one, it
waits for ever. It also reads on, for ever, after it has answered a request whose body never ends.
"""

import asyncio
from typing import ClassVar, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 with a time limit for heads and a number of connections; both set by `bounded`."""

    head_s_max: ClassVar[float]
    connections_max: ClassVar[int]
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is no asyncio.Transport by its class, only by what it can do.
        super().connection_made(cast(asyncio.Transport, transport))
        if len(self.connections) > self.connections_max:
            self.transport.abort()
            return
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def _watch_head(self) -> None:
        """Run the timer while a head is awaited, or the rest of a body that has its answer; bytes do not renew it."""
        if self.conn.their_state is h11.IDLE or self.conn.our_state is h11.DONE:
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(self.head_s_max, self.transport.abort)
        else:
            self._stop_watching()

    def _stop_watching(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def bounded(*, head_s_max: float, connections_max: int) -> type[BoundedProtocol]:
    """The protocol with these bounds; uvicorn makes one for each connection and passes nothing of ours."""
    bounds = {"head_s_max": head_s_max, "connections_max": connections_max}
    return type("BoundedProtocol", (BoundedProtocol,), bounds)
