"""The classification of Stripe's answers, row by row, through the official SDK and over a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import stripe
from stripe import oauth_error

from gateway.domain.declines import DeclineReason
from gateway.domain.providers import Ambiguous, Answered, Declined, NotExecuted, NotSent, Outcome
from providers.http import WireLimits
from providers.refusals import Refusal, refusal_of
from providers.secret import Secret
from providers.sent import SENT_BY_ERROR
from providers.settings import ProviderAccountSettings
from providers.stripe.adapter import StripeAdapter
from providers.stripe.answers import READERS, reader_of
from tests.unit.providers.misbehaving import answer, answering, misbehaving, resetting
from tests.unit.providers.stripe_objects import OURS, charge, created, intent
from tests.unit.providers.test_sent import AIOHTTP_ERRORS

TIMEOUT_S = 5.0


@asynccontextmanager
async def told(raw: bytes) -> AsyncIterator[StripeAdapter]:
    """An adapter whose provider answers everything with this."""
    async with misbehaving(answering(*[raw] * 9)) as server:
        settings = ProviderAccountSettings(
            "acc-1", "stripe", server.base_url, Secret("planted"), wire=WireLimits(body_bytes_max=200_000)
        )
        adapter = StripeAdapter(settings, unmapped=lambda kind, value: None)
        try:
            yield adapter
        finally:
            await adapter.close()


async def outcome(body: object, status: int = 200, *headers: str) -> Outcome:
    """What a create comes to that is answered so."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with told(answer(raw, status, *headers)) as adapter:
        send_before = asyncio.get_running_loop().time() + TIMEOUT_S
        return await adapter.execute(created(), send_before=send_before, timeout_s=TIMEOUT_S)


def error(kind: str, code: str | None = None, **more: Any) -> dict[str, Any]:
    named = {} if code is None else {"code": code}
    return {"error": {"type": kind, "message": "said", **named, **more}}


def declined_intent(**changed: Any) -> dict[str, Any]:
    failed = error("card_error", "card_declined", decline_code="insufficient_funds", charge="ch_1")["error"]
    return intent(**{"status": "requires_payment_method", "last_payment_error": failed, **changed})


async def test_a_matching_answer_is_answered() -> None:
    """200 with the PaymentIntent that was asked for."""
    result = await outcome(intent(latest_charge=charge()))
    assert isinstance(result, Answered)
    assert (result.snapshot.payment_id, result.snapshot.unmapped) == ("pay_1", ())


@pytest.mark.parametrize(
    "changed",
    [{"amount": 1001}, {"currency": "eur"}, {"metadata": {**OURS, "obol_payment": "pay_2"}}, {"metadata": {}}],
)
async def test_an_answer_about_something_else_is_ambiguous(changed: dict[str, Any]) -> None:
    """Another amount, currency or reference: nothing is known, and it contradicts."""
    result = await outcome(intent(latest_charge=None, **changed))
    assert isinstance(result, Ambiguous)
    assert result.contradicts


async def test_a_card_error_is_a_decline_of_the_key() -> None:
    """402 card_error: definite, with the PaymentIntent, and what Stripe keeps under the key."""
    body = error("card_error", "card_declined", decline_code="insufficient_funds", payment_intent=declined_intent())
    result = await outcome(body, 402)
    assert isinstance(result, Declined)
    assert (result.decline.reason, result.decline.provider_code) == (
        DeclineReason.INSUFFICIENT_FUNDS,
        "insufficient_funds",
    )
    assert result.of_key
    assert result.snapshot is not None
    (attempt,) = result.snapshot.facts.attempts
    assert (attempt.ordinal, attempt.operation_id, attempt.decline) == (1, "op_1", result.decline)


async def test_a_card_error_about_another_payment_is_ambiguous() -> None:
    """A decline that shows another PaymentIntent is not a decline of ours."""
    other = declined_intent(amount=1001)
    result = await outcome(error("card_error", "card_declined", payment_intent=other), 402)
    assert isinstance(result, Ambiguous)
    assert result.contradicts


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "parameter_unknown"),
        (400, "amount_too_large"),
        (400, "payment_intent_unexpected_state"),
        (404, "resource_missing"),
    ],
)
async def test_what_the_books_refuse_is_declined_and_not_of_the_key(status: int, code: str) -> None:
    """400 and 404 are definite on a first send; Stripe keeps no answer of a validation, so a resend's says nothing."""
    result = await outcome(error("invalid_request_error", code), status)
    assert isinstance(result, Declined)
    assert (result.decline.reason, result.decline.provider_code) == (DeclineReason.REFUSED_BY_PROVIDER, code)
    assert not result.of_key


async def test_a_replayed_refusal_is_of_the_key() -> None:
    """Where Stripe says that it replays, the refusal is what the first send came to."""
    body = error("invalid_request_error", "amount_too_large")
    result = await outcome(body, 400, "Idempotent-Replayed: true")
    assert isinstance(result, Declined)
    assert result.of_key


@pytest.mark.parametrize(
    ("status", "refusal"), [(401, Refusal.CREDENTIALS), (403, Refusal.PERMISSION), (429, Refusal.RATE_LIMITED)]
)
async def test_what_was_not_executed_is_no_decline(status: int, refusal: Refusal) -> None:
    """401, 403 and 429: Stripe did nothing, and it is nobody's decline."""
    result = await outcome(error("invalid_request_error", "whatever"), status, "Retry-After: 7")
    assert isinstance(result, NotExecuted)
    assert (refusal_of(result), result.retry_after_s) == (refusal, 7.0 if status == 429 else result.retry_after_s)


async def test_an_object_that_is_locked_was_not_touched() -> None:
    """429 lock_timeout: another process had the object."""
    result = await outcome(error("invalid_request_error", "lock_timeout"), 429)
    assert isinstance(result, NotExecuted)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (409, error("idempotency_error", "idempotency_key_in_use")),
        (400, error("idempotency_error")),
        (402, error("api_error")),
        (400, error("api_error")),
        (500, error("api_error")),
        (502, b"<html>bad gateway"),
        (503, {}),
        (504, b""),
        (418, error("invalid_request_error", "teapot")),
        (400, error("card_error", "card_declined")),
        (200, b"pi_<!-- upstream"),
        (200, b""),
        (200, {}),
        (200, []),
        (200, b"\xff"),
        (200, b"[" * 100_000),
        (200, b'{"a":' * 50_000),
        (200, intent(latest_charge=7)),
        (200, intent(amount="1000")),
        (200, intent(amount=True)),
        (302, b""),
        (400, {"error": "invalid_request"}),
        (400, {"error": []}),
    ],
)
async def test_everything_else_is_unknown(status: int, body: object) -> None:
    """A busy key, a reused one, 5xx, what cannot be read: neither success nor failure."""
    assert isinstance(await outcome(body, status), Ambiguous)


async def test_a_key_of_another_request_was_sent_before() -> None:
    """Something of the command was there (ADR 0009): no absence ends it. A key that is in use says no such thing."""
    told = await outcome(error("idempotency_error"), 400)
    assert isinstance(told, Ambiguous)
    assert told.key_known
    busy = await outcome(error("idempotency_error", "idempotency_key_in_use"), 409)
    assert isinstance(busy, Ambiguous)
    assert not busy.key_known


async def test_a_stored_500_says_nothing_and_is_not_sent_again() -> None:
    """A 500 that Stripe replays for its key: unknown, and one request in all."""
    raw = answer(json.dumps(error("api_error")).encode(), 500, "Idempotent-Replayed: true")
    async with misbehaving(answering(*[raw] * 9)) as server:
        settings = ProviderAccountSettings("acc-1", "stripe", server.base_url, Secret("planted"))
        adapter = StripeAdapter(settings, unmapped=lambda kind, value: None)
        send_before = asyncio.get_running_loop().time() + TIMEOUT_S
        result = await adapter.execute(created(), send_before=send_before, timeout_s=TIMEOUT_S)
        await adapter.close()
        assert (type(result), server.requests) == (Ambiguous, 1)


async def test_a_reset_after_the_request_is_unknown_and_sent_once() -> None:
    """The connection breaks when the request is out: neither the SDK nor the wire tries again."""
    async with misbehaving(resetting(read_first=True)) as server:
        settings = ProviderAccountSettings("acc-1", "stripe", server.base_url, Secret("planted"))
        adapter = StripeAdapter(settings, unmapped=lambda kind, value: None)
        send_before = asyncio.get_running_loop().time() + TIMEOUT_S
        result = await adapter.execute(created(), send_before=send_before, timeout_s=TIMEOUT_S)
        await adapter.close()
        assert (type(result), server.requests) == (Ambiguous, 1)


async def test_a_connection_that_is_refused_is_not_sent() -> None:
    """Nobody listens: provably nothing went out."""
    async with misbehaving(resetting(read_first=True)) as server:
        gone = server.base_url
    settings = ProviderAccountSettings("acc-1", "stripe", gone, Secret("planted"))
    adapter = StripeAdapter(settings, unmapped=lambda kind, value: None)
    send_before = asyncio.get_running_loop().time() + TIMEOUT_S
    assert isinstance(await adapter.execute(created(), send_before=send_before, timeout_s=TIMEOUT_S), NotSent)
    await adapter.close()


def standing(kind: type[BaseException]) -> set[type[BaseException]]:
    """A class and all below it."""
    return {kind}.union(*(standing(each) for each in kind.__subclasses__()))


SDK_ERRORS = sorted(
    (each for each in standing(stripe.StripeError) if each.__module__.startswith("stripe")),
    key=lambda kind: (kind.__name__, kind.__module__),
)


@pytest.mark.parametrize("kind", SDK_ERRORS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_error_of_the_sdk_is_in_the_table(kind: type[Exception]) -> None:
    """A new error of the SDK fails here until somebody has decided what it says."""
    assert kind in READERS or issubclass(kind, oauth_error.OAuthError)


@pytest.mark.parametrize("kind", AIOHTTP_ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_of_aiohttp_is_in_a_table(kind: type[BaseException]) -> None:
    """The wire decides what an error of aiohttp proves; one that the SDK let through raw would be unknown."""
    assert kind in SENT_BY_ERROR
    assert reader_of(kind.__new__(kind)) is READERS[Exception]  # type: ignore[arg-type]  # all of them are Exceptions


def test_no_error_is_a_decline_but_two() -> None:
    """Of all the SDK's errors, CardError and InvalidRequestError alone can say a definite no."""
    definite = {READERS[stripe.CardError], READERS[stripe.InvalidRequestError]}
    assert {kind for kind, reader in READERS.items() if reader in definite} == {
        stripe.CardError,
        stripe.InvalidRequestError,
    }
