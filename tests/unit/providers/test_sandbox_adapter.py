"""The adapter before a provider that says odd things: absence and success are the provider's own word, or nothing."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import unquote

import pytest

from gateway.domain.errors import InvalidRequest, Unavailable
from gateway.domain.providers import Absent, Answered, Found, NotSent, Unreadable
from providers.retry import Pace, RetryLimits
from providers.sandbox.adapter import SandboxAdapter
from providers.sandbox.requests import payment_path
from providers.secret import Secret
from providers.settings import ProviderAccountSettings
from tests.unit.providers.misbehaving import answer, answering, misbehaving
from tests.unit.providers.sandbox_objects import payment, prepared


def adapter(base_url: str, **changed: Any) -> SandboxAdapter:
    settings = ProviderAccountSettings("acc-1", "sandbox", base_url, Secret("planted"), retry=RetryLimits(3, 0.05))
    return SandboxAdapter(settings, unmapped=lambda kind, value: None, **changed)


@asynccontextmanager
async def told(body: object, status: int = 200) -> AsyncIterator[SandboxAdapter]:
    """An adapter whose provider answers everything with this."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with misbehaving(answering(*[answer(raw, status)] * 9)) as server:
        made = adapter(server.base_url)
        try:
            yield made
        finally:
            await made.close()


def missing(code: str) -> dict[str, Any]:
    return {"error": {"type": "invalid_request_error", "code": code, "message": "not here"}}


async def test_absence_is_the_providers_own_word() -> None:
    """Its 404 with its code is an absence."""
    async with told(missing("no_such_payment"), 404) as asked:
        assert await asked.fetch("spay_1", timeout_s=1.0) == Absent(consistent=True)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"<html>not found", 404),
        (missing("no_such_route"), 404),
        ({}, 404),
        (missing("no_such_payment"), 400),
        (missing("no_such_payment"), 410),
        (b"", 200),
        ({"data": []}, 500),
        (payment(id="spay_2"), 200),
    ],
)
async def test_nothing_else_is_an_absence(body: object, status: int) -> None:
    """A page of something in between, another code, another status, another object: Unreadable."""
    async with told(body, status) as asked:
        assert isinstance(await asked.fetch("spay_1", timeout_s=1.0), Unreadable)
        assert isinstance(await asked.lookup("pay_1", timeout_s=1.0), Unreadable)


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        [payment(metadata={"obol_payment": "pay_2"})],
        [payment(metadata={})],
        [payment(), payment(id="spay_2")],
        [payment(), {}],
        [None],
    ],
)
async def test_a_lookup_finds_the_one_payment_that_was_asked_for(data: object) -> None:
    """Another payment, two of them, or something else in the list is no answer that anybody could act on."""
    async with told({"data": data, "has_more": False}) as asked:
        assert isinstance(await asked.lookup("pay_1", timeout_s=1.0), Unreadable)


async def test_a_lookup_finds_it() -> None:
    """One payment with our reference is found; an empty list is an absence."""
    async with told({"data": [payment()], "has_more": False}) as asked:
        assert isinstance(await asked.lookup("pay_1", timeout_s=1.0), Found)
    async with told({"data": [], "has_more": False}) as asked:
        assert await asked.lookup("pay_1", timeout_s=1.0) == Absent(consistent=True)


@pytest.mark.parametrize("body", [b"<html>", {}, {"data": [{}], "has_more": False}, {"data": [payment()]}])
async def test_an_unreadable_list_raises(body: object) -> None:
    """A list of payments that cannot be read whole is no list."""
    async with told(body) as asked:
        with pytest.raises(Unavailable):
            await asked.list_payments(created_from_us=0, created_before_us=1, page_token="", limit=10, timeout_s=1.0)


async def test_a_cursor_that_is_not_kept_is_told_as_such() -> None:
    """The reader of a list learns that its place is gone, not that the provider is down."""
    async with told(missing("cursor_unknown"), 400) as asked:
        with pytest.raises(InvalidRequest):
            await asked.list_events(after_event_id="sevt_1", limit=10, timeout_s=1.0)
    async with told(missing("invalid_request"), 400) as asked:
        with pytest.raises(Unavailable):
            await asked.list_events(after_event_id="sevt_1", limit=10, timeout_s=1.0)


@pytest.mark.parametrize("odd", ["../events", "a/b", "a?b=c", "a#b", "a%2Fb", "ü", "a b", "a\r\nb"])
def test_an_id_is_one_segment_of_a_path(odd: str) -> None:
    """Whatever a provider's id looks like, it names one payment and no other resource."""
    assert re.fullmatch(r"/v1/payments/[\w.~%-]+", payment_path(odd), re.ASCII)
    assert unquote(payment_path(odd).removeprefix("/v1/payments/")) == odd


async def test_what_was_not_sent_is_sent_again_in_time() -> None:
    """Refused at first, then the provider is there: one request arrives, and it is answered."""
    async with AsyncExitStack() as stack:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        arrived = []

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            arrived.append(await reader.read(65536))
            writer.write(answer(json.dumps(payment()).encode()))
            await writer.drain()
            writer.close()

        async def sleep(seconds: float) -> None:
            server = await asyncio.start_server(accepted, "127.0.0.1", port)
            stack.push_async_callback(_closed, server)

        loop = asyncio.get_running_loop()
        asked = adapter(f"http://127.0.0.1:{port}", pace=Pace(loop.time, sleep, lambda low, high: high))
        stack.push_async_callback(asked.close)
        outcome = await asked.execute(prepared(), send_before=loop.time() + 5, timeout_s=5.0)
        assert isinstance(outcome, Answered)
        assert len(arrived) == 1


async def test_retries_end_with_the_time_for_the_call() -> None:
    """The waits between attempts are within timeout_s, too."""
    slept: list[float] = []
    now = [100.0]

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    asked = adapter("http://127.0.0.1:1", pace=Pace(lambda: now[0], sleep, lambda low, high: high))
    outcome = await asked.execute(prepared(), send_before=200.0, timeout_s=0.12)
    assert isinstance(outcome, NotSent)
    assert len(slept) == 1
    await asked.close()


async def _closed(server: asyncio.Server) -> None:
    server.close()
