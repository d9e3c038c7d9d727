"""Answers: what the API says, as JSON, and what a fault makes of it before it is stored."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from simulators.faults import Fault
from simulators.stripe.idempotency import Answer
from simulators.stripe.objects import API_VERSION, minted
from simulators.stripe.refusals import Refusal

UNKNOWN_STATUS = "quantum_held"
INTERNAL_ERROR = {"error": {"type": "api_error", "message": "An unknown error occurred."}}
RATE_LIMITED = {
    "error": {"type": "invalid_request_error", "code": "rate_limit", "message": "Too many requests, too quickly."}
}


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
    headers = {"Request-Id": minted("req"), "Stripe-Version": API_VERSION}
    if replayed:
        headers["Idempotent-Replayed"] = "true"
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
