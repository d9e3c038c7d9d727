"""Anything at all, thrown at the sidecar: it answers, it stays up, and it lets nothing through that is not signed."""

import asyncio
import json
import logging
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.webhook.sending import (
    NOW_S,
    PATH,
    SECOND_SECRET,
    SIGNATURE,
    Answer,
    Headers,
    event,
    exchange,
    get,
    head,
    signature,
    signed,
)
from tests.webhook.serving import Sidecar, sidecar

EXAMPLES = 300
ANSWERS = {200, 400, 401, 404, 405, 408, 413, 415, 431}
QUIETLY = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
FIELDS = st.dictionaries(
    st.sampled_from(["id", "object", "type", "livemode", "account", "data", "created", "x"]), JSON_VALUES, max_size=8
)
BODIES = st.one_of(
    st.just(event()),
    FIELDS.map(lambda fields: json.dumps({**json.loads(event()), **fields}).encode("utf-8", "surrogatepass")),
    st.binary(max_size=2_000),
    st.tuples(st.binary(max_size=3), st.integers(0, 60)).map(
        lambda cut: event()[: cut[1]] + cut[0] + event()[cut[1] :]
    ),
    st.sampled_from([b"[" * 50_000, b'{"a":' * 5_000, event() + b" " * 300_000]),
)
HEADER_VALUES = st.binary(max_size=60).map(lambda raw: bytes(byte for byte in raw if byte >= 0x20 and byte != 0x7F))
NOISE = st.lists(
    st.tuples(
        st.sampled_from(
            ["Content-Type", "Content-Encoding", SIGNATURE, "X-Any", "Expect", "Connection", "Upgrade", "Cookie"]
        ),
        HEADER_VALUES,
    ),
    max_size=3,
)
PATHS = st.one_of(
    st.just(PATH), st.sampled_from(["/", "//", "/webhooks/sandbox/%00", "/webhooks/%ff/x", PATH + "?a=b", PATH + "%2f"])
)


class Throwing:
    """A sidecar in a thread of its own, and what the server behind it complained of."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self._loop = uvloop.new_event_loop()
        self._up: Sidecar | None = None
        self._ready, self._end = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        assert self._ready.wait(10)

    @property
    def up(self) -> Sidecar:
        assert self._up is not None
        return self._up

    def wait(self, doing: Coroutine[Any, Any, Answer]) -> Answer:
        """The answer, within 10 s."""
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result(10)

    def close(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    async def _serve(self) -> None:
        async with sidecar() as up:
            self._up = up
            self._ready.set()
            await self._end.wait()


class _Complaints(logging.Handler):
    def __init__(self, kept: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(self.format(record))


@pytest.fixture(scope="module")
def throwing() -> Iterator[Throwing]:
    """One sidecar for all examples; at the end it is still healthy and nobody complained."""
    it = Throwing()
    complaints = _Complaints(it.complaints)
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).addHandler(complaints)
    try:
        yield it
        assert it.wait(get(it.up.port, "/healthz")).status == 200
        assert it.complaints == []
        assert not [line for line in it.up.lines if line.get("outcome") in ("DEFECT", "VERIFIER_FAILED")]
    finally:
        it.close()


@QUIETLY
@given(
    path=PATHS,
    method=st.sampled_from(["POST", "POST", "POST", "PUT", "G"]),
    body=BODIES,
    noise=NOISE,
    chunked=st.booleans(),
)
def test_what_nobody_signed_is_never_taken(
    throwing: Throwing, path: str, method: str, body: bytes, noise: Headers, chunked: bool
) -> None:
    """Without our secret no body, header, path or framing gets a 2xx, and each gets an answer."""
    forged = [
        ("Content-Type", "application/json"),
        (SIGNATURE, signature(body, secret=SECOND_SECRET)),
    ]
    before = len(throwing.up.inbox.delivered)
    answer = throwing.wait(exchange(throwing.up.port, framed(path, method, body, [*forged, *noise], chunked)))
    assert answer.status in ANSWERS - {200}
    assert len(throwing.up.inbox.delivered) == before


@QUIETLY
@given(body=BODIES, chunked=st.booleans(), skew_s=st.integers(-600, 600))
def test_what_is_signed_is_taken_whole_or_refused(throwing: Throwing, body: bytes, chunked: bool, skew_s: int) -> None:
    """A signed body is delivered byte for byte with a 200 within the tolerance, or refused and not delivered."""
    before = len(throwing.up.inbox.delivered)
    headers = signed(body, at_s=NOW_S + skew_s)
    answer = throwing.wait(exchange(throwing.up.port, framed(PATH, "POST", body, headers, chunked)))
    delivered = [request.body for request in throwing.up.inbox.delivered[before:]]
    if answer.status == 200:
        assert delivered == [body]
        assert abs(skew_s) <= 300
    else:
        assert answer.status in ANSWERS
        assert delivered == []
    if body == event() and abs(skew_s) <= 300:
        assert answer.status == 200


@QUIETLY
@given(raw=st.binary(min_size=1, max_size=400).map(lambda raw: raw + b"\r\n\r\n\r\n\r\n"))
def test_bytes_that_are_no_http_end_in_a_400(throwing: Throwing, raw: bytes) -> None:
    """Garbage on the wire is refused, or the connection closed, and the sidecar is there for the next one."""
    try:
        answer = throwing.wait(exchange(throwing.up.port, [raw]))
    except (asyncio.IncompleteReadError, ConnectionError):
        return
    assert answer.status in {400, 404, 405}


def framed(path: str, method: str, body: bytes, headers: Headers, chunked: bool) -> list[bytes]:
    """A request with its body announced, or in chunks."""
    if not chunked:
        return [head(path, [*headers, ("Content-Length", str(len(body)))], method=method), body]
    halves = [half for half in (body[: len(body) // 2], body[len(body) // 2 :]) if half]
    parts = [b"%x\r\n%s\r\n" % (len(half), half) for half in halves]
    return [head(path, [*headers, ("Transfer-Encoding", "chunked")], method=method), *parts, b"0\r\n\r\n"]
