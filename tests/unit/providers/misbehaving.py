"""A server on a real socket that does to its callers what a test tells it, and keeps every byte it got.

What is a request to Stripe or PayPal among them is held to the provider's own documents at the end (`tests.exchanges`).
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tests.exchanges import overheard

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Misbehaving:
    """`got` holds what each connection sent, in the order in which they were accepted."""

    def __init__(self) -> None:
        self.got: list[bytearray] = []
        self.behaviours: list[Behaviour] = []
        self.base_url = ""

    @property
    def requests(self) -> int:
        """How many requests came in, over all connections."""
        return sum(each.count(b" HTTP/1.1\r\n") for each in self.got)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen = bytearray()
        self.got.append(seen)
        behaviour = self.behaviours[min(len(self.got), len(self.behaviours)) - 1]
        try:
            await behaviour(_Recording(reader, seen), writer)  # type: ignore[arg-type]  # reads like a StreamReader
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


class _Recording:
    """Reads on behalf of a behaviour and remembers."""

    def __init__(self, reader: asyncio.StreamReader, seen: bytearray) -> None:
        self._reader, self._seen = reader, seen

    async def read(self, count: int) -> bytes:
        data = await self._reader.read(count)
        self._seen += data
        return data


@asynccontextmanager
async def misbehaving(*behaviours: Behaviour) -> AsyncIterator[Misbehaving]:
    """The n-th connection gets the n-th behaviour; the last one goes on for those that follow."""
    told = Misbehaving()
    told.behaviours = list(behaviours)
    tasks: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(told.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    told.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield told
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in told.got:
            overheard(bytes(connection))


def answering(*answers: bytes) -> Behaviour:
    """One answer for each request, byte for byte; then the connection stays open."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            if not await reader.read(65536):
                return
            writer.write(answer)
            await writer.drain()
        await reader.read(65536)

    return behave


def closing_after(*answers: bytes) -> Behaviour:
    """Answers, then reads one more request and closes without a word: a stale keep-alive connection."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.read(65536)
            writer.write(answer)
            await writer.drain()
        await reader.read(65536)

    return behave


def resetting(*, read_first: bool) -> Behaviour:
    """Resets the connection, before or after reading the request."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if read_first:
            await reader.read(65536)
        held = writer.get_extra_info("socket")
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return behave


def silent() -> Behaviour:
    """Reads and never answers."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass

    return behave


def dripping(head: bytes, pause_s: float) -> Behaviour:
    """A head, then a byte of body at a time, for ever."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(head)
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(pause_s)

    return behave


def flooding(head: bytes) -> Behaviour:
    """A head, then body without end, as fast as it is taken."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(head)
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    return behave


def answer(body: bytes, status: int = 200, *headers: str) -> bytes:
    """A whole answer with its length."""
    lines = [f"HTTP/1.1 {status} Told", f"Content-Length: {len(body)}", "Content-Type: application/json", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
