"""A relay in front of a server, where what passes can be held, and a process killed at an exact point of an exchange.

Every gateway talks to the provider through one of its own. It looks at the first line of each request and at nothing
else; a reset on one side is a reset on the other.

    claimed      the request is whole in here, and no byte of it went on: the claim is committed, nothing is sent
    half_sent    half of the request went on
    sent         all of it went on, and no answer has come
    effected     the provider has answered, and no byte of the answer went on
    answered     the answer went on, some thousandths of a second ago

What passes is told to `told`, and so is a request that its sender gave up before any answer. A sender is known by the
address that it calls from.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

Point = Literal["claimed", "half_sent", "sent", "effected", "answered"]
POINTS: tuple[Point, ...] = get_args(Point)
CHUNK_BYTES = 64 * 1024
HOST = "127.0.0.1"


@dataclass
class Trap:
    """What to do when the next request that `matches` its first line reaches `point`.

    `delay_s`: how long what is held goes on later (claimed, half_sent) or how much later it strikes (sent, answered).
    `drops`: what is held goes on never.
    """

    point: Point
    matches: Callable[[str], bool]
    strike: Callable[[], None]
    delay_s: float = 0.0
    drops: bool = False
    sprung: asyncio.Event = field(default_factory=asyncio.Event)

    def spring(self) -> None:
        """Strike, once."""
        if not self.sprung.is_set():
            self.sprung.set()
            self.strike()


class Told(Protocol):
    """Who is told what passes, by the first line of its request."""

    def sent(self, request: str, head: bytes) -> None:
        """A request begins; `head` is what has come of it at once."""
        ...

    def given_up(self, request: str, head: bytes, age_s: float, sender: str) -> None:
        """Its sender hung up `age_s` later, and no byte of an answer had come."""
        ...


class Relay:
    """Listens at `port` of this machine and passes everything on to `upstream_port`."""

    def __init__(self, port: int, upstream_port: int, told: Told | None = None) -> None:
        self.told = told
        self._port = port
        self._upstream_port = upstream_port
        self._traps: list[Trap] = []
        self._server: asyncio.Server | None = None
        self._connected_now: dict[asyncio.StreamWriter, _Exchange] = {}

    async def open(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._connected, HOST, self._port, backlog=1_024)

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def shut(self, shut: bool) -> None:
        """Refuse every connection and reset those that there are, or listen again."""
        if not shut and self._server is None:
            await self.open()
        elif shut:
            self.close()
            for writer, exchange in tuple(self._connected_now.items()):
                exchange.is_cut = True
                _reset(writer)

    def set(self, trap: Trap) -> None:
        """Lay a trap."""
        self._traps.append(trap)

    def remove(self, trap: Trap) -> None:
        """Take a trap away, sprung or not."""
        with contextlib.suppress(ValueError):
            self._traps.remove(trap)

    def caught(self, point: str, request: str) -> Trap | None:
        """The trap that this request springs at this point."""
        return next(
            (t for t in self._traps if t.point == point and not t.sprung.is_set() and t.matches(request)),
            None,
        )

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, onward = await asyncio.open_connection(HOST, self._upstream_port)
        except OSError:
            _reset(writer)
            return
        exchange = _Exchange(self, str(writer.get_extra_info("peername")[0]))
        self._connected_now[writer] = exchange
        ways = (
            asyncio.create_task(exchange.pass_requests(reader, onward)),
            asyncio.create_task(exchange.pass_answers(there, writer)),
        )
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._connected_now[writer]
            for way in ways:
                way.cancel()
            broken = any(isinstance(end, OSError) for end in await asyncio.gather(*ways, return_exceptions=True))
            for end in (writer, onward):
                _reset(end) if broken else end.close()


class _Exchange:
    """One connection; HTTP/1.1 without pipelining, so that an answer always belongs to the last request."""

    def __init__(self, relay: Relay, sender: str) -> None:
        self.is_cut = False
        """Whether the relay itself has reset it, so that nobody hung up."""
        self._relay = relay
        self._sender = sender
        self._request = ""
        self._head = b""
        self._answering = True
        self._sent_s = 0.0

    async def pass_requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """From the gateway to the provider. Raises OSError where the connection broke."""
        while data := await self._asked(reader):
            if self._answering:
                self._request, self._head = data.partition(b"\r\n")[0].decode("latin-1"), data
                self._answering = False
                self._sent_s = asyncio.get_running_loop().time()
                if self._relay.told is not None:
                    self._relay.told.sent(self._request, data)
            for point, share in (("claimed", 0), ("half_sent", len(data) // 2)):
                if trap := self._relay.caught(point, self._request):
                    writer.write(data[:share])
                    await writer.drain()
                    trap.spring()
                    await self._held(trap)
                    data = data[share:]
            writer.write(data)
            await writer.drain()
            if trap := self._relay.caught("sent", self._request):
                await asyncio.sleep(trap.delay_s)
                trap.spring()

    async def _asked(self, reader: asyncio.StreamReader) -> bytes:
        """What comes next from the sender, b"" where it hung up. Raises OSError where the connection broke."""
        try:
            data = await reader.read(CHUNK_BYTES)
        except OSError:
            self._hung_up()
            raise
        if not data:
            self._hung_up()
        return data

    def _hung_up(self) -> None:
        if self._relay.told is not None and not (self._answering or self.is_cut):
            age_s = asyncio.get_running_loop().time() - self._sent_s
            self._relay.told.given_up(self._request, self._head, age_s, self._sender)

    async def pass_answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """From the provider to the gateway. Raises OSError where the connection broke."""
        while data := await reader.read(CHUNK_BYTES):
            self._answering = True
            if trap := self._relay.caught("effected", self._request):
                trap.spring()
                await self._held(trap)
            writer.write(data)
            await writer.drain()
            if trap := self._relay.caught("answered", self._request):
                await asyncio.sleep(trap.delay_s)
                trap.spring()

    async def _held(self, trap: Trap) -> None:
        if trap.drops:
            raise ConnectionResetError("dropped")
        # Not cut short by the end of the one who sent it: what is in the network arrives.
        await asyncio.shield(asyncio.sleep(trap.delay_s))


def _reset(writer: asyncio.StreamWriter) -> None:
    held = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        if held is not None:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
