"""The SDK on our wire: what leaves is what was prepared, to the byte, and nothing of this machine leaves with it."""

import asyncio
import json
import logging
import subprocess
import sys
from typing import Any
from urllib.parse import parse_qsl

import pytest
import stripe
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.providers import NotSent
from providers.http import NeverSent, Received, WireLimits
from providers.secret import Secret
from providers.settings import ProviderAccountSettings
from providers.stripe.adapter import StripeAdapter
from providers.stripe.capabilities import API_VERSION
from providers.stripe.form import decode, encode
from providers.stripe.wire import StripeWire
from tests.unit.providers.misbehaving import answer, answering, misbehaving
from tests.unit.providers.stripe_objects import created, intent

NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20) | st.integers(0, 10**9)
# Of lists we send such of texts alone: in them the SDK spells booleans and None as Python does.
VALUES = st.recursive(
    TEXTS | st.booleans() | st.none() | st.lists(TEXTS, max_size=3),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


def test_the_version_is_the_sdks_own() -> None:
    """What we pin is what this SDK was written for: an upgrade of one is an upgrade of both."""
    assert stripe.api_version == API_VERSION


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_our_form_is_the_sdks(values: dict[str, Any]) -> None:
    """What we encode is what the SDK would encode, and what it makes of the decoded text again."""
    from stripe._encode import _api_encode

    ours = encode(values)
    theirs = [(name, str(value)) for name, value in _api_encode(values)]
    assert parse_qsl(ours, keep_blank_values=True) == theirs
    assert encode(decode(ours)) == ours


async def test_what_leaves_is_what_was_prepared() -> None:
    """Body, key, version and account as they were kept; no header that describes this machine."""
    prepared = created(description="Größe & Ärger [1]=2", connected_account="acct_1", metadata={"größe": "a=b&c"})
    async with misbehaving(answering(answer(json.dumps(intent()).encode()))) as server:
        made = ProviderAccountSettings("acc-1", "stripe", server.base_url, Secret("planted"))
        adapter = StripeAdapter(made, unmapped=lambda kind, value: None)
        await adapter.execute(prepared, send_before=asyncio.get_running_loop().time() + 5, timeout_s=5.0)
        await adapter.close()
        head, _, body = bytes(server.got[0]).partition(b"\r\n\r\n")
    assert body == prepared.body.encode()
    headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    assert (headers[b"Idempotency-Key"], headers[b"Stripe-Version"], headers[b"Stripe-Account"]) == (
        b"key-1",
        API_VERSION.encode(),
        b"acct_1",
    )
    assert headers[b"Authorization"] == b"Bearer planted"
    assert b"X-Stripe-Client-User-Agent" not in headers
    assert b"X-Stripe-Client-Telemetry" not in headers
    assert headers[b"User-Agent"] == b"obol"


async def test_a_body_that_the_sdk_would_build_otherwise_is_not_sent() -> None:
    """What cannot be sent to the byte is not sent at all."""
    async with misbehaving(answering(answer(b"{}"))) as server:
        wire = StripeWire(server.base_url, Secret("planted"), WireLimits())
        told = await wire.write(
            "/v1/refunds",
            "amount=1&amount=2",
            key="k",
            version=API_VERSION,
            send_before=asyncio.get_running_loop().time() + 5,
            timeout_s=5.0,
        )
        await wire.close()
        assert (type(told.exchange), server.requests) == (NeverSent, 0)


async def test_nothing_is_sent_after_the_last_moment() -> None:
    """The guard stands behind the SDK as it stands before every write."""
    async with misbehaving(answering(answer(b"{}"))) as server:
        made = ProviderAccountSettings("acc-1", "stripe", server.base_url, Secret("planted"))
        adapter = StripeAdapter(made, unmapped=lambda kind, value: None)
        late = await adapter.execute(created(), send_before=asyncio.get_running_loop().time(), timeout_s=5.0)
        await adapter.close()
        assert (type(late), server.requests) == (NotSent, 0)


async def test_calls_at_a_time_do_not_mix() -> None:
    """Each call on its own: the answer to one is never another's."""
    async with misbehaving(answering(*[answer(b'{"id": "x"}')] * 9)) as server:
        wire = StripeWire(server.base_url, Secret("planted"), WireLimits())
        send_before = asyncio.get_running_loop().time() + 5

        async def one(number: int) -> bool:
            told = await wire.write(
                f"/v1/payment_intents/pi_{number}",
                f"description=n{number}",
                key=f"k{number}",
                version=API_VERSION,
                send_before=send_before,
                timeout_s=5.0,
            )
            return isinstance(told.exchange, Received) and told.error is None

        assert all(await asyncio.gather(*(one(number) for number in range(20))))
        await wire.close()
        sent = b"".join(bytes(each) for each in server.got)
        assert all(sent.count(f"description=n{number}".encode()) >= 1 for number in range(20))


async def test_bodies_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The SDK logs what it sends and gets at DEBUG; here nobody hears it, whatever the root logger wants."""
    with caplog.at_level(logging.DEBUG):
        async with misbehaving(answering(answer(json.dumps(intent()).encode()))) as server:
            wire = StripeWire(server.base_url, Secret("planted"), WireLimits())
            await wire.read("/v1/payment_intents/pi_1", {}, timeout_s=5.0)
            await wire.close()
    assert "pi_1_secret" not in caplog.text


def test_the_sidecar_loads_no_sdk() -> None:
    """Verifying a callback imports neither the SDK nor an HTTP client."""
    program = "import sys, providers.stripe.callbacks; print([m for m in ('stripe', 'aiohttp') if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
