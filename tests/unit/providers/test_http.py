"""The wire against real sockets: what was not sent is proved, and everything else is Lost."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from providers.http import Exchange, HttpWire, Lost, NeverSent, Received, WireLimits, checked_base_url
from tests.unit.providers.misbehaving import (
    Behaviour,
    Misbehaving,
    answer,
    answering,
    closing_after,
    dripping,
    flooding,
    misbehaving,
    resetting,
    silent,
)

LIMITS = WireLimits(connect_s=10.0, body_bytes_max=4096)
SECRET = "planted-credential-7f3a"
FOR_EVER_S = 1e12


@asynccontextmanager
async def wired(
    *behaviours: Behaviour, now: Callable[[], float] | None = None, limits: WireLimits = LIMITS
) -> AsyncIterator[tuple[HttpWire, Misbehaving]]:
    """A wire to a server that behaves so."""
    async with misbehaving(*behaviours) as server:
        wire = HttpWire(server.base_url, limits, now=now)
        try:
            yield wire, server
        finally:
            await wire.close()


async def write(
    wire: HttpWire,
    *,
    method: str = "POST",
    send_before: float = FOR_EVER_S,
    timeout_s: float = 20.0,
    body: bytes = b"{}",
) -> Exchange:
    headers = {"Authorization": f"Bearer {SECRET}"}
    return await wire.write(
        method, "/v1/payments", headers=headers, body=body, send_before=send_before, timeout_s=timeout_s
    )


async def test_a_whole_answer_is_received_as_it_is() -> None:
    """Status, lower-case headers and body come back, and the request was sent to the byte."""
    async with wired(answering(answer(b'{"a":1}', 402, "Retry-After: 7"))) as (wire, server):
        received = await write(wire, body=b'{"amount":1}')
        assert isinstance(received, Received)
        assert (received.status, received.body, received.headers["retry-after"]) == (402, b'{"a":1}', "7")
        assert server.got[0].endswith(b'\r\n\r\n{"amount":1}')


@pytest.mark.parametrize(
    "behaviour",
    [
        resetting(read_first=True),
        closing_after(),
        answering(b"\x00\x01\x02 what is this\r\n\r\n"),
        answering(answer(b"x" * 5000)),
        flooding(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFF\r\n"),
        flooding(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"),
        answering(answer(b"\x1f\x8b\x08", 200, "Content-Encoding: gzip")),
        dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", 0.01),
    ],
    ids=["reset", "closed", "no HTTP", "oversized", "endless chunks", "endless", "encoded", "dripping body"],
)
async def test_what_was_sent_and_not_answered_is_lost(behaviour: Behaviour) -> None:
    """No broken answer is ever taken for an answer, or for a request that was not sent."""
    async with wired(behaviour) as (wire, server):
        begun = asyncio.get_running_loop().time()
        assert isinstance(await write(wire, timeout_s=120.0), Lost)
        assert asyncio.get_running_loop().time() - begun < 60.0
        assert server.requests == 1


@pytest.mark.parametrize(
    "behaviour",
    [
        answering(answer(b"x" * 100)[:-50]),
        answering(b"HTTP/1.1 200 OK\r\nContent-Le"),
        dripping(b"HTTP/1.1 200 OK\r\nX-Slow:", 0.01),
        silent(),
    ],
    ids=["truncated body", "truncated head", "dripping head", "silence"],
)
async def test_what_was_sent_and_takes_too_long_is_lost(behaviour: Behaviour) -> None:
    """An answer that does not end costs the timeout, whole, and not what it would take."""
    async with wired(behaviour) as (wire, server):
        begun = asyncio.get_running_loop().time()
        assert isinstance(await write(wire, timeout_s=1.0), Lost)
        assert 0.9 <= asyncio.get_running_loop().time() - begun < 30.0
        assert server.requests == 1


@pytest.mark.parametrize(
    "behaviour",
    [
        flooding(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"),
        dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", 0.01),
    ],
    ids=["by what came", "by what was announced"],
)
async def test_an_oversized_answer_is_refused_at_once(behaviour: Behaviour) -> None:
    """The bound ends the reading, long before the time does, and holds no more than it allows."""
    async with wired(behaviour) as (wire, _):
        begun = asyncio.get_running_loop().time()
        assert await write(wire, timeout_s=120.0) == Lost("oversized answer")
        assert asyncio.get_running_loop().time() - begun < 60.0


async def test_a_reset_before_reading_is_lost() -> None:
    """A connection that was made and then reset may have carried the request."""
    async with wired(resetting(read_first=False)) as (wire, _):
        assert isinstance(await write(wire), Lost)


async def test_a_refused_connection_proves_that_nothing_was_sent() -> None:
    """Nobody listens there: NeverSent."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        wire = HttpWire(f"http://127.0.0.1:{held.getsockname()[1]}", LIMITS)
        assert isinstance(await write(wire), NeverSent)
        await wire.close()


async def test_an_unknown_name_proves_that_nothing_was_sent() -> None:
    """The name has no address: NeverSent."""
    wire = HttpWire("https://provider.invalid", LIMITS)
    assert isinstance(await write(wire), NeverSent)
    await wire.close()


async def test_a_failed_tls_handshake_proves_that_nothing_was_sent() -> None:
    """The other side speaks no TLS: NeverSent."""
    async with misbehaving(answering(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
        wire = HttpWire(server.base_url.replace("http:", "https:"), LIMITS)
        assert isinstance(await write(wire), NeverSent)
        assert b"POST" not in b"".join(server.got)
        await wire.close()


async def test_a_connection_that_is_never_made_proves_that_nothing_was_sent() -> None:
    """A TLS handshake that hangs until the time is over: NeverSent."""
    async with misbehaving(silent()) as server:
        wire = HttpWire(server.base_url.replace("http:", "https:"), WireLimits(connect_s=0.1))
        assert isinstance(await write(wire, timeout_s=2.0), NeverSent)
        assert isinstance(await write(wire, timeout_s=0.05), NeverSent)
        await wire.close()


async def test_waiting_for_the_pool_proves_that_nothing_was_sent() -> None:
    """A request that found no connection free within its time was not sent."""
    limits = WireLimits(connect_s=0.1, connections_max=1)
    async with wired(silent(), limits=limits) as (wire, server):
        first = asyncio.create_task(write(wire, timeout_s=0.5))
        await asyncio.sleep(0.05)
        assert isinstance(await write(wire, timeout_s=1.0), NeverSent)
        assert isinstance(await first, Lost)
        assert server.requests == 1


async def test_nothing_is_sent_after_the_last_moment() -> None:
    """send_before has passed before anything began: NeverSent, and no connection is made."""
    async with wired(answering(answer(b"{}"))) as (wire, server):
        result = await write(wire, send_before=asyncio.get_running_loop().time())
        assert isinstance(result, NeverSent)
        assert result.late
        assert server.got == []


@pytest.mark.parametrize("reads_in_time", range(1, 5))
@pytest.mark.parametrize("body", [b"{}", b""], ids=["body", "no body"])
@pytest.mark.parametrize("warm", [False, True], ids=["new connection", "reused connection"])
async def test_a_process_stopped_on_the_way_sends_nothing_late(warm: bool, body: bytes, reads_in_time: int) -> None:
    """Wherever the process was stopped between the call and the first byte, nothing is written after send_before."""
    reads = 0
    armed = False

    def now() -> float:
        nonlocal reads
        reads += armed
        return 100.0 if reads > reads_in_time else 1.0

    async with wired(answering(*[answer(b"{}")] * 9), now=now) as (wire, server):
        if warm:
            await write(wire)
        before = server.requests
        armed = True
        result = await write(wire, send_before=50.0, body=body)
        await asyncio.sleep(0.02)
        if server.requests > before:
            # The clock was not read again once it stood past the moment: every read up to the byte was in time.
            assert reads <= reads_in_time
            assert isinstance(result, Received)
        else:
            assert isinstance(result, NeverSent)
            assert result.late


async def test_the_clock_is_read_when_the_connection_is_there() -> None:
    """The last look at the clock comes after connecting: a moment that passes meanwhile stops the write."""
    clock = {"now": 1.0}

    async def stopped(*_: object) -> None:
        clock["now"] = 100.0

    async with wired(answering(answer(b"{}")), now=lambda: clock["now"]) as (wire, server):
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(stopped)
        trace.freeze()
        wire._opened()._trace_configs.append(trace)
        result = await write(wire, send_before=50.0)
        await asyncio.sleep(0.02)
        assert isinstance(result, NeverSent)
        assert server.requests == 0


async def test_the_clock_is_read_with_the_body_in_hand() -> None:
    """The very last look comes after the head was built: a moment that passes then still stops the whole request."""
    clock = {"now": 1.0}

    async def stopped(*_: object) -> None:
        clock["now"] = 100.0

    async with wired(answering(answer(b"{}")), now=lambda: clock["now"]) as (wire, server):
        trace = aiohttp.TraceConfig()
        # Runs after the guard's own hook of the same signal: only the body's hook can still see it.
        trace.on_request_headers_sent.append(stopped)
        trace.freeze()
        wire._opened()._trace_configs.append(trace)
        result = await write(wire, send_before=50.0)
        await asyncio.sleep(0.02)
        assert isinstance(result, NeverSent)
        assert result.late
        assert b"".join(server.got) == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_write_on_a_stale_connection_is_lost_and_sent_once(method: str) -> None:
    """A kept connection that dies under a write leaves it Lost; aiohttp's own repetition does not get out."""
    stale = closing_after(answer(b"{}"))
    async with wired(stale, answering(answer(b"{}"))) as (wire, server):
        assert isinstance(await write(wire), Received)
        assert isinstance(await write(wire, method=method), Lost)
        await asyncio.sleep(0.02)
        assert server.requests == 2


async def test_a_read_on_a_stale_connection_is_repeated() -> None:
    """A GET bears repetition: the dead connection costs nothing."""
    async with wired(closing_after(answer(b"{}")), answering(answer(b"[]"))) as (wire, _):
        assert isinstance(await wire.read("/v1/a", headers={}, timeout_s=20.0), Received)
        again = await wire.read("/v1/a", headers={}, timeout_s=20.0)
        assert isinstance(again, Received)
        assert again.body == b"[]"


async def test_a_connection_that_broke_under_one_answer_is_not_used_for_the_next() -> None:
    """The rest of a refused answer is never read as the answer to the next request."""
    half = answer(b"x" * 100_000)[:60_000]
    async with wired(answering(half, b"x" * 60_000 + answer(b"wrong")), answering(answer(b"right"))) as (wire, _):
        assert isinstance(await write(wire), Lost)
        received = await write(wire)
        assert isinstance(received, Received)
        assert received.body == b"right"


async def test_redirects_are_not_followed() -> None:
    """A redirect is an answer like any other: the request, and its credential, go nowhere else."""
    async with misbehaving(answering(answer(b"{}"))) as elsewhere:
        told = answer(b"", 307, f"Location: {elsewhere.base_url}/v1/payments")
        async with wired(answering(told)) as (wire, _):
            received = await write(wire)
            assert isinstance(received, Received)
            assert received.status == 307
            assert elsewhere.got == []


async def test_cookies_are_not_kept() -> None:
    """What a provider sets does not come back to it."""
    async with wired(answering(answer(b"{}", 200, "Set-Cookie: a=b"), answer(b"{}"))) as (wire, server):
        await write(wire)
        await write(wire)
        assert b"Cookie" not in server.got[0].split(b"\r\n\r\n", 2)[1]


async def test_the_environments_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY does not send credentials elsewhere."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with wired(answering(answer(b"{}"))) as (wire, _):
        assert isinstance(await write(wire), Received)


async def test_a_failure_names_no_credential_and_no_body() -> None:
    """What is kept of a failure says kinds of errors only."""
    for behaviour in (resetting(read_first=True), closing_after(), answering(b"\x00" + SECRET.encode() + b"\r\n\r\n")):
        async with wired(behaviour) as (wire, _):
            result = await write(wire, body=SECRET.encode())
            assert isinstance(result, Lost)
            assert SECRET not in result.failure


@pytest.mark.parametrize("path", ["payments", "/v1/ü", "/v1/a b", "/v1/a\r\nX: y", "/" + "a" * 3000])
async def test_a_malformed_path_is_not_sent(path: str) -> None:
    """What could be read as two requests never leaves."""
    async with wired(answering(answer(b"{}"))) as (wire, server):
        result = await wire.write("POST", path, headers={}, body=b"{}", send_before=FOR_EVER_S, timeout_s=20.0)
        assert isinstance(result, NeverSent)
        assert server.got == []


async def test_a_malformed_header_is_not_sent() -> None:
    """A header with a line break never leaves."""
    async with wired(answering(answer(b"{}"))) as (wire, server):
        result = await wire.write(
            "POST",
            "/v1/a",
            headers={"Idempotency-Key": "a\r\nX: y"},
            body=b"{}",
            send_before=FOR_EVER_S,
            timeout_s=20.0,
        )
        assert isinstance(result, NeverSent)
        assert server.got == []


async def test_a_cancelled_write_ends_at_once_and_leaves_no_connection() -> None:
    """Cancelling is passed on, and the half-used connection is not kept."""
    async with wired(silent()) as (wire, _):
        task = asyncio.create_task(write(wire, timeout_s=60.0))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        connector = wire._opened().connector
        assert connector is not None
        assert not connector._acquired
        assert not connector._conns


async def test_a_closed_wire_sends_nothing() -> None:
    """After close every write is NeverSent, and closing again is harmless."""
    async with wired(answering(answer(b"{}"))) as (wire, server):
        await wire.close()
        await wire.close()
        assert isinstance(await write(wire), NeverSent)
        assert server.got == []


@pytest.mark.parametrize(
    "base_url",
    [
        "http://provider.example",
        "http://10.0.0.1",
        "http://localhost.example",
        "ftp://127.0.0.1",
        "https://key@provider.example",
        "https://provider.example?a=b",
        "https://provider.example#a",
        "https://",
        "provider.example",
    ],
)
def test_credentials_travel_encrypted(base_url: str) -> None:
    """Plain http is for this very machine; nothing but scheme, host, port and path belongs in a base URL."""
    with pytest.raises(ValueError, match="base_url"):
        checked_base_url(base_url)


@pytest.mark.parametrize(
    "base_url", ["https://provider.example/", "http://127.0.0.1:80", "http://[::1]", "http://localhost"]
)
def test_loopback_may_be_plain(base_url: str) -> None:
    """A simulator on this machine needs no certificate."""
    assert checked_base_url(base_url) == base_url.rstrip("/")


async def test_certificates_are_verified() -> None:
    """The session's connector verifies TLS with the default context."""
    wire = HttpWire("https://provider.example", LIMITS)
    connector = wire._opened().connector
    assert isinstance(connector, aiohttp.TCPConnector)
    assert connector._ssl is True
    assert aiohttp.connector._SSL_CONTEXT_VERIFIED.verify_mode is ssl.CERT_REQUIRED
    await wire.close()
