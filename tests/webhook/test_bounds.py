"""The sidecar's bounds: no sender costs it more memory, time or connections than is named."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from tests.webhook.sending import PATH, Answer, event, exchange, get, head, post, read_answer, signed
from tests.webhook.serving import QUICK, Inbox, sidecar
from webhook_http.settings import SidecarLimits

BODY = event()
CHUNKED = [*signed(BODY), ("Transfer-Encoding", "chunked")]


WAIT_S_MAX = 20.0
PATIENT = replace(QUICK, head_s_max=60.0, body_s_max=60.0, keep_alive_s=60)
"""Beyond WAIT_S_MAX: what ends in time has not ended by one of these."""


async def closed(reader: asyncio.StreamReader) -> bool:
    """Whether the other side ends the connection within WAIT_S_MAX."""
    try:
        async with asyncio.timeout(WAIT_S_MAX):
            await reader.read()
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


async def taken(ask: Callable[[], Awaitable[Answer]]) -> bool:
    """Whether `ask` is answered with 200 within WAIT_S_MAX, when the other side has seen what happened before."""
    async with asyncio.timeout(WAIT_S_MAX):
        while True:
            try:
                if (await ask()).status == 200:
                    return True
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            await asyncio.sleep(0.05)


async def test_an_announced_oversize_is_refused_before_it_is_sent() -> None:
    """413 comes after the head alone, and no 100 Continue before it."""
    headers = [*signed(BODY), ("Content-Length", str(QUICK.body_bytes_max + 1)), ("Expect", "100-continue")]
    async with sidecar() as up, asyncio.timeout(WAIT_S_MAX):
        assert (await exchange(up.port, [head(PATH, headers)])).status == 413


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 30, "9" * 5_000, "0x10", ""])
async def test_a_length_that_is_none_is_refused(length: str) -> None:
    """No Content-Length makes the sidecar wait for a body or stumble."""
    async with sidecar() as up, asyncio.timeout(WAIT_S_MAX):
        answer = await exchange(up.port, [head(PATH, [*signed(BODY), ("Content-Length", length)])])
        assert answer.status in (400, 413)
        assert (await get(up.port, "/healthz")).status == 200


async def test_an_endless_body_is_cut_off() -> None:
    """Chunks without end get a 413 and a closed connection long before they add up."""
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        yield head(PATH, CHUNKED)
        for _ in itertools.repeat(None):
            sent += 16 * 1024
            yield b"4000\r\n" + b"x" * 16 * 1024 + b"\r\n"

    async with sidecar(limits=PATIENT) as up, asyncio.timeout(3 * WAIT_S_MAX):
        reader, writer = await asyncio.open_connection("127.0.0.1", up.port)
        try:
            for chunk in chunks():
                writer.write(chunk)
                await writer.drain()
                assert sent < 64 * 1024 * 1024, "nobody stops it"
        except ConnectionError:
            pass
        assert await closed(reader)
        assert up.lines[-1]["outcome"] == "TOO_LARGE"
        assert up.inbox.delivered == []


async def test_a_body_that_does_not_come_is_a_408() -> None:
    """An announced body that stops, or trickles, ends at `body_s_max`."""
    async with sidecar(limits=replace(PATIENT, body_s_max=0.4)) as up, asyncio.timeout(3 * WAIT_S_MAX):
        headers = [*signed(BODY), ("Content-Length", str(len(BODY)))]
        reader, writer = await asyncio.open_connection("127.0.0.1", up.port)
        writer.write(head(PATH, headers))
        answering = asyncio.create_task(read_answer(reader))
        for byte in BODY[:50]:
            if answering.done():
                break
            writer.write(bytes([byte]))
            await asyncio.sleep(0.05)
        else:
            raise AssertionError("a trickle was waited for")
        assert (await answering).status == 408
        assert await closed(reader)
        assert up.inbox.delivered == []


@pytest.mark.parametrize("first", [b"", b"P", head(PATH, ())[:-2]])
async def test_a_head_that_does_not_come_ends_the_connection(first: bytes) -> None:
    """Neither silence nor a trickle of header lines holds a connection longer than `head_s_max`."""
    async with sidecar(limits=replace(PATIENT, head_s_max=0.5)) as up:
        reader, writer = await asyncio.open_connection("127.0.0.1", up.port)
        writer.write(first)

        async def trickle() -> None:
            for number in itertools.count():
                writer.write(f"x-{number}: y\r\n".encode() if first else b"")
                await asyncio.sleep(0.1)

        trickling = asyncio.create_task(trickle())
        assert await closed(reader)
        trickling.cancel()


async def test_the_head_of_a_second_request_is_bounded_too() -> None:
    """A kept-alive connection that begins another request and stops is ended."""
    async with sidecar(limits=replace(PATIENT, head_s_max=0.5)) as up:
        reader, writer = await asyncio.open_connection("127.0.0.1", up.port)
        writer.write(head("/healthz", (), method="GET"))
        assert (await read_answer(reader)).status == 200
        writer.write(b"GET /healthz HT")
        assert await closed(reader)


async def test_a_body_after_its_answer_is_not_read_for_ever() -> None:
    """A GET with an endless body is answered, and its connection ends."""
    async with sidecar(limits=replace(PATIENT, head_s_max=0.5)) as up:
        reader, writer = await asyncio.open_connection("127.0.0.1", up.port)
        writer.write(head("/healthz", [("Content-Length", "1000000")], method="GET"))
        assert (await read_answer(reader)).status == 200

        async def trickle() -> None:
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickle())
        assert await closed(reader)
        trickling.cancel()


async def test_a_large_head_is_refused() -> None:
    """Headers beyond `head_bytes_max` are refused, whether they come at once or in pieces."""
    headers = [("x-padding", "y" * 20_000), *signed(BODY), ("Content-Length", str(len(BODY)))]
    whole = head(PATH, headers)
    async with sidecar() as up:
        assert (await exchange(up.port, [whole + BODY])).status == 431
        reader, writer = await asyncio.open_connection("127.0.0.1", up.port)
        for start in range(0, 18_000, 1_000):
            writer.write(whole[start : start + 1_000])
            await asyncio.sleep(0.01)
        assert (await read_answer(reader)).status == 400
        assert up.inbox.delivered == []


async def test_callbacks_at_a_time_are_bounded() -> None:
    """Beyond `callbacks_max` a callback is told to come back, and afterwards it is welcome."""
    release = asyncio.Event()

    async def wait(context: object) -> None:
        await release.wait()

    async with sidecar(inbox=Inbox(before=wait), limits=replace(QUICK, callbacks_max=2)) as up:
        first = [asyncio.create_task(post(up.port, event(f"evt_{n}"), signed(event(f"evt_{n}")))) for n in range(2)]
        for _ in first:
            await up.inbox.arrivals.acquire()
        crowded = await post(up.port, BODY, signed(BODY))
        assert (crowded.status, crowded.headers["retry-after"]) == (503, "10")
        release.set()
        assert [(await answer).status for answer in first] == [200, 200]
        assert (await post(up.port, BODY, signed(BODY))).status == 200


async def test_connections_are_bounded() -> None:
    """Beyond `connections_max` a connection is closed at once; when one goes there is room again."""
    async with sidecar(limits=replace(PATIENT, connections_max=3)) as up, AsyncExitStack() as stack:
        writers = []
        for _ in range(3):
            _, writer = await asyncio.open_connection("127.0.0.1", up.port)
            stack.callback(writer.close)
            writers.append(writer)
        reader, writer = await asyncio.open_connection("127.0.0.1", up.port)
        stack.callback(writer.close)
        assert await closed(reader)
        writers[0].close()
        assert await taken(lambda: get(up.port, "/healthz"))


async def test_a_sender_who_leaves_costs_nothing() -> None:
    """A connection that breaks in the middle of a body delivers nothing and leaves nothing under way."""
    async with sidecar(limits=replace(PATIENT, callbacks_max=1)) as up:
        _, writer = await asyncio.open_connection("127.0.0.1", up.port)
        writer.write(head(PATH, [*signed(BODY), ("Content-Length", str(len(BODY)))]) + BODY[:-1])
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.close()
        assert await taken(lambda: post(up.port, BODY, signed(BODY)))
        assert [each.body for each in up.inbox.delivered] == [BODY]


async def test_the_end_is_bounded() -> None:
    """Told to stop, the sidecar waits `drain_s_max` for a gateway that does not answer, and then says 503."""

    async def stall(context: object) -> None:
        await asyncio.sleep(120)

    limits = SidecarLimits(deliver_s_max=120.0, drain_s_max=1)
    async with asyncio.timeout(3 * WAIT_S_MAX):
        async with sidecar(inbox=Inbox(before=stall), limits=limits) as up:
            answering = asyncio.create_task(post(up.port, BODY, signed(BODY)))
            await up.inbox.arrivals.acquire()
        assert (await answering).status == 503
    assert up.lines[-2]["outcome"] == "DRAINING"


@pytest.mark.parametrize("name", ["body_bytes_max", "head_s_max", "callbacks_max", "retry_after_s"])
def test_no_bound_can_be_switched_off(name: str) -> None:
    """Zero is no bound."""
    with pytest.raises(ValueError, match=name):
        SidecarLimits(**{name: 0})
