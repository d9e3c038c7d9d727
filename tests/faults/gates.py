"""Barriers in a gateway: a call of one tenant is held at one point, and its caller leaves exactly there.

    claim.before    planned and admitted; nothing is written
    claim.after     the claim is committed; nothing is sent
    half_sent       half of the request is on its way
    effected        the provider has done it; no byte of its answer has come
    settle.before   the answer is here; nothing is written of it
    settle.commit   all of it is written, and not committed
    settle.after    committed; the caller has no reply
    wait_for_observations.after     the caller has its reply; the stream has not sent what it watches for

Nothing waits for a time to pass: who is held says so, and so does a handler whose caller has left.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

CHUNK_BYTES = 64 * 1024


@dataclass
class Gate:
    """`reached`: somebody stands before it. `opened`: whoever comes, or stands there, goes on."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)


class Gates:
    """Every gate of a gateway, each for the first of a tenant that comes to a point. Stands in for an Interruption."""

    point = ""

    def __init__(self) -> None:
        self._gates: dict[tuple[str, str], Gate] = {}

    def shut(self, point: str, tenant: str) -> Gate:
        """A gate at `point` for the next of `tenant`."""
        return self._gates.setdefault((point, tenant), Gate())

    async def at(self, point: str) -> None:
        """Pass a point of a store, in the context of a call."""
        await self.at_for(point, structlog.contextvars.get_contextvars().get("tenant", ""))

    async def at_for(self, point: str, tenant: str) -> None:
        """Pass a point as `tenant`: at once, or when its gate opens."""
        gate = self._gates.pop((point, tenant), None)
        if gate is not None:
            gate.reached.set()
            await gate.opened.wait()

    def held(self, point: str, head: bytes) -> str:
        """The tenant named in `head` that has a gate at `point`, "" for none."""
        return next((tenant for at, tenant in self._gates if at == point and tenant.encode() in head), "")


@asynccontextmanager
async def gated_way(gates: Gates, upstream_port: int) -> AsyncIterator[str]:
    """A way to the provider with gates in the middle of a request, and before the first byte of its answer."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        way: _Way | None = None
        while request := await reader.read(CHUNK_BYTES):
            if way is None or way.answered:
                # A connection for each request: one that the provider hung up on while it was idle is not met here.
                if way is not None:
                    way.close()
                way = _Way(*await asyncio.open_connection("127.0.0.1", upstream_port), gates, writer)
            way.answered_to = gates.held("effected", request)
            if tenant := gates.held("half_sent", request):
                way.onward.write(request[: len(request) // 2])
                await gates.at_for("half_sent", tenant)
                request = request[len(request) // 2 :]
            way.onward.write(request)
        if way is not None:
            way.close()
        writer.close()

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


class _Way:
    """One request's connection to the provider, and the task that brings its answer back."""

    def __init__(
        self, there: asyncio.StreamReader, onward: asyncio.StreamWriter, gates: Gates, writer: asyncio.StreamWriter
    ) -> None:
        self.onward = onward
        self.answered = False
        self.answered_to = ""
        self._answering = asyncio.create_task(self._answer(there, gates, writer))

    def close(self) -> None:
        """Let go of the provider."""
        self._answering.cancel()
        self.onward.close()

    async def _answer(self, there: asyncio.StreamReader, gates: Gates, writer: asyncio.StreamWriter) -> None:
        while data := await there.read(CHUNK_BYTES):
            if self.answered_to:
                await gates.at_for("effected", self.answered_to)
            self.answered = True
            writer.write(data)
