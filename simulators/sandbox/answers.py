"""Answers: what the API says, as JSON, and what a fault makes of it before it is stored."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from simulators.faults import Fault
from simulators.sandbox.changes import Change
from simulators.sandbox.idempotency import Answer
from simulators.sandbox.outcomes import UNKNOWN_STATUS
from simulators.sandbox.payment import shown_payment
from simulators.sandbox.refusals import Refusal

INTERNAL_ERROR = {"error": {"type": "api_error", "code": "internal_error", "message": "Something went wrong here."}}
RATE_LIMITED = {"error": {"type": "rate_limit_error", "code": "rate_limited", "message": "Too many requests."}}


def answer_of(change: Change) -> Answer:
    """The payment, with 200; or the decline, with 402 and the payment inside."""
    shown = shown_payment(change.payment)
    if not change.declined:
        return Answer(200, json.dumps(shown))
    decline = shown["last_decline"]
    error = {name: decline[name] for name in ("code", "message", "advice")}
    return Answer(402, json.dumps({"error": {"type": "card_error", **error, "payment": shown}}))


def refusal_answer(refusal: Refusal) -> Answer:
    """The refusal, with its own status."""
    return Answer(refusal.status, json.dumps(refusal.body()))


def altered(fault: Fault | None, answer: Answer) -> Answer:
    """The answer as the provider computes it under this fault. The books are right all the same."""
    match fault.name if fault else None:
        case "http_500_after" | "http_500_before":
            return Answer(500, json.dumps(INTERNAL_ERROR))
        case "http_429":
            return Answer(429, json.dumps(RATE_LIMITED))
        case "wrong_amount" if answer.status == 200:
            return Answer(200, json.dumps(_each(json.loads(answer.body), "amount", lambda amount: amount + 1)))
        case "unknown_status" if answer.status == 200:
            return Answer(200, json.dumps(_each(json.loads(answer.body), "status", lambda status: UNKNOWN_STATUS)))
        case _:
            return answer


def sent(answer: Answer, replayed: bool = False) -> Response:
    """The answer as an HTTP response."""
    headers = {"Idempotent-Replayed": "true"} if replayed else {}
    if answer.status == 429:
        headers["Retry-After"] = "1"
    return Response(answer.body, answer.status, headers, media_type="application/json")


def _each(shown: Any, name: str, change: Any) -> Any:
    """The JSON value with every field of this name changed, at every depth."""
    if isinstance(shown, list):
        return [_each(value, name, change) for value in shown]
    if not isinstance(shown, dict):
        return shown
    return {
        field: change(value) if field == name and value is not None else _each(value, name, change)
        for field, value in shown.items()
    }
