"""The sandbox's answers to our writes, by one table: status and code to outcome.

2xx, readable and what was asked      Answered
402 card_error                        Declined, with the payment
400, 404, 422 invalid_request_error   Declined: the books say no
401, 403, 429                         NotExecuted
409 busy key                          Ambiguous
everything else                       Ambiguous: 5xx, a reused key, a status that is not in the table, an
                                      answer that cannot be read or is about something else
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from gateway.domain.commands import PreparedRequest
from gateway.domain.declines import Decline, DeclineReason
from gateway.domain.movements import Movement, MovementKind
from gateway.domain.providers import Ambiguous, Answered, Declined, NotSent, Outcome, Snapshot
from providers.fields import Fields, UnreadableAnswer, bounded
from providers.http import Exchange, Lost, NeverSent, Received
from providers.refusals import FAILURE_CHARACTERS_MAX, LATE, Refusal, not_executed, retry_after_s
from providers.sandbox.mapping import WORDS_CHARACTERS_MAX, AnotherAccount, SandboxMapping
from providers.sandbox.requests import PAYMENTS_PATH
from providers.strict_json import parse_object

_VERB = re.compile(rf"{PAYMENTS_PATH}(?:/(?P<id>[^/]+)/(?P<verb>confirm|capture|adjust|cancel|refunds))?\Z")

_MADE = MappingProxyType(
    {"capture": MovementKind.CAPTURE, "adjust": MovementKind.AUTHORIZATION, "refunds": MovementKind.REFUND}
)
"""The verbs that make a movement of their own."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a prepared request asked for, read from it; an answer has to match. `verb` is "" for a create."""

    verb: str
    provider_payment_id: str
    body: Mapping[str, Any]

    @property
    def operation_id(self) -> str:
        return str(self.body["metadata"]["obol_operation"])

    @property
    def payment_id(self) -> str:
        return str(self.body["metadata"]["obol_payment"])


def outcome_of(exchange: Exchange, prepared: PreparedRequest, mapping: SandboxMapping) -> Outcome:
    """Classify what came of sending `prepared` for the first time. Raises nothing."""
    match exchange:
        case NeverSent(failure=failure, late=late):
            return NotSent(f"{LATE}: {failure}" if late else failure)
        case Lost(failure=failure):
            return Ambiguous(failure)
        case Received():
            try:
                return _READERS.get(exchange.status, _unmapped)(exchange, asked_by(prepared), mapping)
            except ValueError as error:
                return _ambiguous(exchange, str(error), contradicts=isinstance(error, AnotherAccount))
            except Exception as error:  # noqa: BLE001  it was sent: whatever goes wrong here, nothing is known
                return _ambiguous(exchange, type(error).__name__)


def asked_by(prepared: PreparedRequest) -> Asked:
    """What `prepared` asks for. Raises ValueError where it is none of ours."""
    read = _VERB.match(prepared.path)
    if read is None:
        raise ValueError("not a request of this adapter")
    return Asked(read["verb"] or "", read["id"] or "", json.loads(prepared.body))


def mismatch(asked: Asked, snapshot: Snapshot) -> str:
    """How the answer differs from what was asked; empty where it does not."""
    if snapshot.payment_id != asked.payment_id:
        return "payment reference"
    if asked.provider_payment_id and snapshot.provider_payment_id != asked.provider_payment_id:
        return "payment id"
    if not asked.verb and snapshot.amount_minor != asked.body["amount"]:
        return "amount"
    if not asked.verb and snapshot.currency != asked.body["currency"]:
        return "currency"
    if asked.verb in _MADE and not snapshot.unmapped:
        made = made_by(asked, snapshot)
        if made is None:
            return "operation"
        return "" if made.amount_minor == asked.body["amount"] else "amount"
    return ""


def made_by(asked: Asked, snapshot: Snapshot) -> Movement | None:
    """The movement that the operation made, for the verbs that make one."""
    kind = _MADE.get(asked.verb)
    own = (each for each in snapshot.facts.movements if each.kind is kind and each.operation_id == asked.operation_id)
    return next(own, None)


def error_code(received: Received) -> tuple[Fields, str, str]:
    """The error of an answer with its type and code. Raises ValueError."""
    error = Fields(parse_object(received.body), "answer").optional("error")
    if error is None:
        raise UnreadableAnswer("answer.error: missing")
    return error, error.text("type"), error.text("code")


def _answered(received: Received, asked: Asked, mapping: SandboxMapping) -> Outcome:
    snapshot = mapping.snapshot(parse_object(received.body))
    differs = mismatch(asked, snapshot)
    if differs:
        return _ambiguous(received, f"mismatch: {differs}", contradicts=True)
    made = made_by(asked, snapshot)
    return Answered(snapshot, made.provider_movement_id if made else None)


def _declined(received: Received, asked: Asked, mapping: SandboxMapping) -> Outcome:
    error, kind, _ = error_code(received)
    if kind != "card_error":
        return _unmapped(received, asked, mapping)
    payment = error.optional("payment")
    if payment is None:
        return Declined(mapping.decline(error), of_key=True)
    snapshot = mapping.snapshot(payment.raw)
    differs = mismatch(asked, snapshot)
    if differs:
        return _ambiguous(received, f"mismatch: {differs}", contradicts=True)
    return Declined(mapping.decline(error), snapshot, of_key=True)


def _refused(received: Received, asked: Asked, mapping: SandboxMapping) -> Outcome:
    error, kind, code = error_code(received)
    # A page of a proxy, or a key that belongs to another request, is no answer of the books.
    if kind != "invalid_request_error":
        return replace(_ambiguous(received, code), key_known=code == "idempotency_key_reused")
    words = bounded(error.optional_text("message"), WORDS_CHARACTERS_MAX)
    # The sandbox keeps what its books refuse under the key, as it keeps what they do.
    decline = Decline(DeclineReason.REFUSED_BY_PROVIDER, bounded(code, WORDS_CHARACTERS_MAX), words)
    # Not so a 404: an account that was pointed elsewhere does not know what it did before.
    return Declined(decline, of_key=received.status != 404)


def _busy(received: Received, asked: Asked, mapping: SandboxMapping) -> Outcome:
    _, _, code = error_code(received)
    if code != "idempotency_in_progress":
        return _unmapped(received, asked, mapping)
    # Somebody's send under this key is on its way, and it can only be ours: it may take effect any moment.
    return _ambiguous(received, "idempotency_in_progress")


def _not_executed(refusal: Refusal) -> Callable[[Received, Asked, SandboxMapping], Outcome]:
    def read(received: Received, asked: Asked, mapping: SandboxMapping) -> Outcome:
        wait_s = retry_after_s(received.headers.get("retry-after"))
        return not_executed(refusal, str(received.status), retry_after_s=wait_s)

    return read


def _failed(received: Received, asked: Asked, mapping: SandboxMapping) -> Outcome:
    return _ambiguous(received, "the provider failed")


def _unmapped(received: Received, asked: Asked, mapping: SandboxMapping) -> Outcome:
    mapping.tell("http.status", str(received.status))
    return _ambiguous(received, "a status that is not in the table")


def _ambiguous(received: Received, seen: str, *, contradicts: bool = False) -> Ambiguous:
    return Ambiguous(bounded(f"{received.status}: {seen}", FAILURE_CHARACTERS_MAX), contradicts)


_READERS: Mapping[int, Callable[[Received, Asked, SandboxMapping], Outcome]] = MappingProxyType(
    {
        200: _answered,
        201: _answered,
        400: _refused,
        401: _not_executed(Refusal.CREDENTIALS),
        402: _declined,
        403: _not_executed(Refusal.PERMISSION),
        404: _refused,
        409: _busy,
        422: _refused,
        429: _not_executed(Refusal.RATE_LIMITED),
        500: _failed,
        502: _failed,
        503: _failed,
        504: _failed,
    }
)
"""HTTP status to the reader of its answer."""
