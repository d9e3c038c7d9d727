"""The relay says that a request was given up where its sender hung up, and where nobody else ended it."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from gateway.demo.installation import free_ports
from tests.torture.nursery import address_of
from tests.torture.relay import HOST, Relay

REQUEST = b"POST /v1/payments HTTP/1.1\r\nidempotency-key: obol-1\r\n\r\n"


@dataclass
class Heard:
    """What a relay told."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    over: list[tuple[str, str]] = field(default_factory=list)

    def sent(self, request: str, head: bytes) -> None:
        del request, head
        self.begun.set()

    def given_up(self, request: str, head: bytes, age_s: float, sender: str) -> None:
        assert head == REQUEST
        assert age_s >= 0
        self.over.append((request, sender))


class Provider:
    """Takes requests, and answers or ends them only when told."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        self.over = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):
                while await reader.read(1_024):
                    self.asked.put_nowait(writer)
        finally:
            writer.close()
            self.over.set()


@dataclass
class Between:
    """A relay with a silent provider behind it."""

    relay: Relay
    provider: Provider
    heard: Heard
    port: int

    async def send(self, sender: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, asyncio.StreamWriter]:
        """A request that has reached the provider: the sender's two ends, and the provider's."""
        reader, writer = await asyncio.open_connection(HOST, self.port, local_addr=(sender, 0))
        writer.write(REQUEST)
        return reader, writer, await self.provider.asked.get()


@pytest.fixture
async def between() -> AsyncIterator[Between]:
    port, upstream = free_ports(2)
    provider, heard = Provider(), Heard()
    server = await asyncio.start_server(provider, HOST, upstream)
    relay = Relay(port, upstream, heard)
    await relay.open()
    try:
        yield Between(relay, provider, heard, port)
    finally:
        await relay.shut(shut=True)
        server.close()


@pytest.mark.parametrize("resets", [False, True])
async def test_a_sender_that_hangs_up_is_told_by_its_address(between: Between, resets: bool) -> None:
    """In order or not, and known from every other process of this machine."""
    sender = address_of(4_194_303)
    _, writer, _ = await between.send(sender)
    if resets:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    writer.close()
    await between.provider.over.wait()
    assert between.heard.over == [("POST /v1/payments HTTP/1.1", sender)]
    assert sender != address_of(4_194_302)


async def test_what_the_relay_itself_cuts_nobody_gave_up(between: Between) -> None:
    """A reset of the relay's own, as the weather asks for it, is nobody's hanging up."""
    reader, writer, _ = await between.send(HOST)
    await between.relay.shut(shut=True)
    with contextlib.suppress(OSError):
        assert await reader.read() == b""
    await between.provider.over.wait()
    writer.close()
    assert between.heard.over == []


@pytest.mark.parametrize("resets", [False, True])
async def test_what_the_provider_ends_nobody_gave_up(between: Between, resets: bool) -> None:
    """The sender did not hang up first, in whatever way the other side did."""
    reader, writer, there = await between.send(HOST)
    if resets:
        there.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        there.transport.abort()
    there.close()
    with contextlib.suppress(OSError):
        assert await reader.read() == b""
    writer.close()
    assert between.heard.over == []


async def test_what_was_answered_is_over(between: Between) -> None:
    """Who hangs up with an answer in hand gave nothing up."""
    reader, writer, there = await between.send(HOST)
    there.write(b"HTTP/1.1 200 OK\r\n\r\n")
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    writer.close()
    await between.provider.over.wait()
    assert between.heard.over == []
