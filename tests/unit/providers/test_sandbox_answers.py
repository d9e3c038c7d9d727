"""The classification of answers, row by row: what is a decline, what was not executed, and that the rest is unknown."""

import json
from types import MappingProxyType
from typing import Any

import pytest

from gateway.domain.declines import DeclineReason
from gateway.domain.providers import Ambiguous, Answered, Declined, NotExecuted, NotSent, Outcome
from providers.http import Exchange, Lost, NeverSent, Received
from providers.refusals import Refusal, refusal_of
from providers.sandbox.answers import outcome_of
from providers.sandbox.mapping import SandboxMapping
from tests.unit.providers.sandbox_objects import DECLINE, declined_payment, payment, prepared


def outcome(exchange: Exchange, merchant_id: str = "acct_main") -> Outcome:
    return outcome_of(exchange, prepared(), SandboxMapping("acc-1", merchant_id, lambda kind, value: None))


def received(status: int, body: Any, **headers: str) -> Received:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Received(status, MappingProxyType(named), raw)


def error(kind: str, code: str, **more: Any) -> dict[str, Any]:
    return {"error": {"type": kind, "code": code, "message": "said", **more}}


def test_a_matching_answer_is_answered() -> None:
    """200 with the payment that was asked for."""
    answered = outcome(received(200, payment()))
    assert isinstance(answered, Answered)
    assert answered.snapshot.payment_id == "pay_1"


@pytest.mark.parametrize(
    "changed",
    [
        {"amount": 1001},
        {"currency": "EUR"},
        {"account": "acct_other"},
        {"metadata": {"obol_payment": "pay_2"}},
        {"metadata": {}},
    ],
)
def test_an_answer_about_something_else_is_ambiguous(changed: dict[str, Any]) -> None:
    """Another amount, currency, account or reference: nothing is known, and the word is mismatch."""
    result = outcome(received(200, payment(**changed)))
    assert isinstance(result, Ambiguous)
    assert result.contradicts
    assert "mismatch" in result.failure


def test_a_decline_with_another_amount_is_ambiguous() -> None:
    """A decline that shows another payment is not a decline of ours."""
    shown = {**declined_payment(), "amount": 1001}
    result = outcome(received(402, error("card_error", "card_declined", payment=shown)))
    assert isinstance(result, Ambiguous)
    assert result.contradicts


def test_a_card_error_is_a_decline_with_its_object() -> None:
    """402 card_error carries the payment, open for another method."""
    told = error("card_error", str(DECLINE["code"]), advice=DECLINE["advice"], payment=declined_payment())
    result = outcome(received(402, told))
    assert isinstance(result, Declined)
    assert result.decline.reason is DeclineReason.INSUFFICIENT_FUNDS
    assert result.snapshot is not None


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_refusal_of_the_books_is_a_decline(status: int) -> None:
    """An invalid request is a definite no on its first send."""
    result = outcome(received(status, error("invalid_request_error", "no_such_payment_method")))
    assert isinstance(result, Declined)
    assert result.decline.reason is DeclineReason.REFUSED_BY_PROVIDER
    assert result.decline.provider_code == "no_such_payment_method"


def test_a_key_that_is_in_use_is_ambiguous() -> None:
    """Another send of ours under the key is on its way and may take effect: nothing is known."""
    assert isinstance(outcome(received(409, error("idempotency_error", "idempotency_in_progress"))), Ambiguous)


def test_a_reused_key_is_ambiguous() -> None:
    """The key belongs to another request: what became of ours is unknown, and it was there before."""
    reused = outcome(received(422, error("idempotency_error", "idempotency_key_reused")))
    assert isinstance(reused, Ambiguous)
    assert reused.key_known


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        (received(401, error("authentication_error", "invalid_key")), Refusal.CREDENTIALS),
        (received(401, b"<html>"), Refusal.CREDENTIALS),
        (received(403, error("authentication_error", "forbidden")), Refusal.PERMISSION),
        (received(429, error("rate_limit_error", "rate_limited"), retry_after="7"), Refusal.RATE_LIMITED),
    ],
)
def test_a_request_that_was_not_looked_at_is_not_executed(answer: Received, refusal: Refusal) -> None:
    """Credentials, permission and the rate limit are no declines."""
    result = outcome(answer)
    assert isinstance(result, NotExecuted)
    assert refusal_of(result) is refusal


def test_a_rate_limit_tells_how_long() -> None:
    """Retry-After is passed on where it is a number of seconds, bounded."""
    for header, expected in (("7", 7.0), ("999999", 3600.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("٣", None)):
        result = outcome(received(429, b"", retry_after=header))
        assert isinstance(result, NotExecuted)
        assert result.retry_after_s == expected


@pytest.mark.parametrize(
    "answer",
    [
        received(500, error("api_error", "internal_error")),
        received(502, b"<html>bad gateway"),
        received(503, error("api_error", "payments_full")),
        received(504, b""),
        received(200, b""),
        received(200, b"<html>"),
        received(200, b"[]"),
        received(200, b"{}"),
        received(200, b"[" * 100_000),
        received(200, b'{"id":"a","id":"b"}'),
        received(200, b"\xff\xfe"),
        received(204, b""),
        received(202, payment()),
        received(302, b""),
        received(100, b""),
        received(402, b"pay us"),
        received(402, error("invalid_request_error", "odd")),
        received(400, b"<html>proxy says no"),
        received(404, b"not here"),
        received(404, error("api_error", "odd")),
        received(409, error("idempotency_error", "idempotency_in_progress")),
        received(409, error("idempotency_error", "odd")),
        received(409, b""),
        received(413, error("invalid_request_error", "body_too_large")),
        received(418, error("invalid_request_error", "teapot")),
        Lost("ServerDisconnectedError"),
    ],
)
def test_everything_else_is_ambiguous(answer: Exchange) -> None:
    """No broken, foreign or unmapped answer becomes a success or a decline; being unreadable contradicts nothing."""
    result = outcome(answer)
    assert isinstance(result, Ambiguous)
    assert not result.contradicts


@pytest.mark.parametrize("status", sorted(set(range(100, 600)) - {200, 201, 401, 403, 429}))
def test_no_status_alone_is_an_answer(status: int) -> None:
    """Without the provider's own words, only 401, 403 and 429 mean anything."""
    assert isinstance(outcome(received(status, b"")), Ambiguous)


def test_an_unmapped_status_in_an_answer_is_told() -> None:
    """A 200 whose payment has an unknown status is answered with what is unmapped, for the engine to leave UNKNOWN."""
    result = outcome(received(200, payment(status="quantum_held")))
    assert isinstance(result, Answered)
    assert result.snapshot.unmapped


def test_what_was_not_sent_stays_not_sent() -> None:
    """NeverSent becomes NotSent."""
    assert isinstance(outcome(NeverSent("ClientConnectorError")), NotSent)


def test_failures_are_bounded() -> None:
    """However much a provider says, what is kept of it is short."""
    result = outcome(received(422, error("idempotency_error", "x" * 900)))
    assert isinstance(result, Ambiguous)
    assert len(result.failure) <= 200
