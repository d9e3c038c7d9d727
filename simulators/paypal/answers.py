"""Answers: what the API says, as JSON, and what a fault makes of it on its way. The books are right all the same."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from simulators.faults import Fault
from simulators.paypal.imitation import Imitation
from simulators.paypal.order import shown_order, shown_part
from simulators.paypal.refusals import Refusal, error_body
from simulators.paypal.request_ids import StoredAnswer
from simulators.paypal.steps import part

UNKNOWN_STATUS = "QUANTUM_HELD"


@dataclass(frozen=True)
class Answer:
    """What a request is answered with. `body` is a JSON text."""

    status: int
    body: str


def answered(imitation: Imitation, stored: StoredAnswer, status: int) -> Answer:
    """What a request came to, as it stands now."""
    if stored.status:
        return Answer(stored.status, json.dumps(error_body(stored.status, stored.issue, stored.words)))
    order = imitation.books.orders.get(stored.order_id)
    assert order is not None
    if not stored.kind:
        return Answer(status, json.dumps(shown_order(order, imitation.settings.merchant.merchant_id, imitation.url)))
    made = part(getattr(order, stored.kind), stored.part_id)
    # A refund does not say which order it belongs to; captures and authorizations do.
    return Answer(status, json.dumps(made if stored.kind == "refunds" else shown_part(order, made)))


def refusal_answer(refusal: Refusal) -> Answer:
    """The refusal, with its own status."""
    return Answer(refusal.status, json.dumps(refusal.body()))


def altered(fault: Fault | None, answer: Answer) -> Answer:
    """The answer as a caller gets it under this fault."""
    match fault.name if fault else None:
        case "http_500_after" | "http_500_before":
            return Answer(500, json.dumps(error_body(500)))
        case "http_429":
            return Answer(429, json.dumps(error_body(429)))
        case "wrong_amount" if answer.status < 300:
            return Answer(answer.status, json.dumps(_each(json.loads(answer.body), "value", lambda value: f"1{value}")))
        case "unknown_status" if answer.status < 300:
            changed = _each(json.loads(answer.body), "status", lambda status: UNKNOWN_STATUS)
            return Answer(answer.status, json.dumps(changed))
        case _:
            return answer


def sent(answer: Answer) -> Response:
    """The answer as an HTTP response."""
    headers = {"Retry-After": "1"} if answer.status == 429 else {}
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
