"""PayPal's answers to our writes, by one table: status and issue to outcome.

2xx, readable and what was asked        Answered, with the order
201, and the card's processor refused   Answered too: the order shows the failed attempt, and why
400, 422 with an issue of UNSETTLED     Ambiguous: look (declines.py says why for each)
400, 422 with any other issue           Declined, and PayPal gives the same answer to every send with this request id;
                                        of a void and a re-authorization only where it is the first send
404 RESOURCE_NOT_FOUND                  Declined; not of the key, an account that was pointed elsewhere knows nothing
401, 403, 429                           NotExecuted
everything else                         Ambiguous: 409, 5xx, a status that is not in the table, an answer that cannot
                                        be read or is about something else
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

from gateway.domain.commands import PreparedRequest
from gateway.domain.declines import Decline, DeclineReason, RetryAdvice
from gateway.domain.movements import Movement, MovementKind, MovementStatus
from gateway.domain.providers import Ambiguous, Answered, Declined, NotSent, Outcome, Snapshot
from providers.fields import Fields, UnreadableAnswer, bounded
from providers.http import Exchange, Lost, NeverSent, Received
from providers.paypal.amounts import currency_of, minor_of
from providers.paypal.declines import ISSUES, UNSETTLED
from providers.paypal.mapping import (
    AUTHORIZATIONS,
    CAPTURES,
    REFUNDS,
    WORDS_CHARACTERS_MAX,
    AnotherAccount,
    PayPalMapping,
)
from providers.paypal.requests import OPERATION_HEADER, ORDER_HEADER, ORDERS_PATH
from providers.paypal.times import time_us
from providers.refusals import FAILURE_CHARACTERS_MAX, LATE, Refusal, not_executed, retry_after_s
from providers.strict_json import parse_object

_VERB = re.compile(
    rf"(?:{ORDERS_PATH}(?:/(?P<order>[^/]+)/(?P<complete>capture|authorize))?"
    r"|/v2/payments/(?:authorizations/(?P<id>[^/]+)/(?P<hold>capture|reauthorize|void)|captures/(?P<capture>[^/]+)/(?P<refund>refund)))\Z"
)


_OF_HOLD = MappingProxyType({"capture": "capture", "reauthorize": "adjust", "void": "cancel"})


@dataclass(frozen=True, slots=True)
class Asked:
    """What a prepared request asked for, read from it; an answer has to match.

    `verb` is create, complete, capture, adjust, cancel or refund; `order_id` is empty for a create. `parent_id` is
    the authorization or the capture that is asked for it.
    """

    verb: str
    order_id: str
    operation_id: str
    body: Mapping[str, Any]
    parent_id: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """PayPal did what was asked, and did not show the order: `movement` is what it showed, where its status is known.

    `unmapped` names statuses that no table has.
    """

    asked: Asked
    movement: Movement | None
    unmapped: tuple[str, ...] = ()


def read_answer(exchange: Exchange, prepared: PreparedRequest, mapping: PayPalMapping) -> Outcome | Done:
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
    body = json.loads(prepared.body) if prepared.body else {}
    if read["complete"]:
        verb = "complete"
    elif read["hold"]:
        verb = _OF_HOLD[read["hold"]]
    else:
        verb = "refund" if read["refund"] else "create"
    order_id = prepared.headers.get(ORDER_HEADER, "")
    parent_id = unquote(read["id"] or read["capture"] or "")
    return Asked(verb, order_id, prepared.headers.get(OPERATION_HEADER, ""), body, parent_id)


def mismatch(asked: Asked, snapshot: Snapshot) -> str:
    """How an order differs from what was asked; empty where it does not."""
    if asked.order_id:
        return "" if snapshot.provider_payment_id == asked.order_id else "order id"
    unit = asked.body["purchase_units"][0]
    if snapshot.payment_id != unit["custom_id"].partition(".")[0]:
        return "payment reference"
    amount = Fields(unit["amount"], "asked.amount")
    if snapshot.currency != currency_of(amount):
        return "currency"
    return "" if snapshot.amount_minor == minor_of(amount) else "amount"


def error_of(received: Received) -> tuple[str, str, str]:
    """The name, the first issue and its words of an error's answer. Raises ValueError."""
    error = Fields(parse_object(received.body), "answer")
    name, words, issue = error.text("name"), error.optional_text("message"), ""
    if error.raw.get("details"):
        first = next(error.objects("details"))
        issue = first.optional_text("issue")
        words = first.optional_text("description") or words
    return name, issue, bounded(words, WORDS_CHARACTERS_MAX)


def _answered(received: Received, asked: Asked, mapping: PayPalMapping) -> Outcome | Done:
    payload = parse_object(received.body)
    if asked.verb in ("create", "complete"):
        snapshot = mapping.snapshot(payload)
        differs = mismatch(asked, snapshot)
        if differs:
            return _ambiguous(received, f"mismatch: {differs}", contradicts=True)
        return Answered(snapshot)
    return _made(received, asked, Fields(payload, asked.verb), mapping)


def _made(received: Received, asked: Asked, made: Fields, mapping: PayPalMapping) -> Outcome | Done:
    """A capture, a refund, the authorization in the former one's place, or the voided one."""
    amount = made.optional("amount")
    if amount is None:
        raise UnreadableAnswer(f"{asked.verb}.amount: missing")
    status, kind, table = made.text("status"), MovementKind.AUTHORIZATION, _VOIDED
    if asked.verb != "cancel":
        kind, table = _MADE[asked.verb]
        wanted = Fields(asked.body["amount"], "asked.amount")
        if currency_of(amount) != currency_of(wanted) or minor_of(amount) != minor_of(wanted):
            return _ambiguous(received, "mismatch: amount", contradicts=True)
        # A re-authorization takes no invoice id: that it is ours, its being the answer to our request id says.
        if asked.verb != "adjust" and made.text("invoice_id") != asked.operation_id:
            return _ambiguous(received, "mismatch: operation", contradicts=True)
        if asked.verb == "adjust" and made.text("id") == asked.parent_id:
            return _ambiguous(received, "mismatch: authorization", contradicts=True)
    if status not in table:
        return Done(asked, None, (mapping.tell(f"{kind.lower()}.status", status),))
    operation_id = None if asked.verb == "cancel" else asked.operation_id
    return Done(
        asked,
        Movement(
            mapping.account_id,
            kind,
            made.text("id"),
            minor_of(amount),
            currency_of(amount),
            table[status],
            operation_id=operation_id,
            provider_time_us=time_us(made, "create_time"),
            parent_id=asked.parent_id if asked.verb in ("adjust", "refund") else None,
        ),
    )


def _empty(received: Received, asked: Asked, mapping: PayPalMapping) -> Outcome | Done:
    return Done(asked, None) if asked.verb == "cancel" else _unmapped(received, asked, mapping)


def _refused(received: Received, asked: Asked, mapping: PayPalMapping) -> Outcome:
    name, issue, words = error_of(received)
    if name not in ("UNPROCESSABLE_ENTITY", "INVALID_REQUEST", "RESOURCE_NOT_FOUND"):
        # A page of a proxy, or an error that PayPal does not document here, is no answer of the books.
        return _ambiguous(received, name)
    code = issue or name
    if code in UNSETTLED:
        return _ambiguous(received, f"{code}: {UNSETTLED[code]}")
    missing = received.status == 404
    if not missing and code not in ISSUES:
        mapping.tell("decline", code)
    unknown = (DeclineReason.REFUSED_BY_PROVIDER if missing else DeclineReason.UNMAPPED, RetryAdvice.NONE)
    reason, advice = ISSUES.get(code, unknown)
    # PayPal answers every send with one request id by what became of the first. A void has no request id; behind a
    # re-authorization's stands no invoice that is ours alone: were the id forgotten, an earlier send that took effect
    # would be refused as done already, and what it made would be held for not there.
    of_key = not missing and asked.verb not in ("adjust", "cancel")
    return Declined(Decline(reason, bounded(code, WORDS_CHARACTERS_MAX), words, advice), of_key=of_key)


def _conflict(received: Received, asked: Asked, mapping: PayPalMapping) -> Outcome:
    _, issue, _ = error_of(received)
    if issue not in UNSETTLED:
        return _unmapped(received, asked, mapping)
    return _ambiguous(received, issue)


def _not_executed(refusal: Refusal) -> Callable[[Received, Asked, PayPalMapping], Outcome]:
    def read(received: Received, asked: Asked, mapping: PayPalMapping) -> Outcome:
        wait_s = retry_after_s(received.headers.get("retry-after"))
        return not_executed(refusal, str(received.status), retry_after_s=wait_s)

    return read


def _failed(received: Received, asked: Asked, mapping: PayPalMapping) -> Outcome:
    return _ambiguous(received, "PayPal failed")


def _unmapped(received: Received, asked: Asked, mapping: PayPalMapping) -> Outcome:
    mapping.tell("http.status", str(received.status))
    return _ambiguous(received, "a status that is not in the table")


def _ambiguous(received: Received, seen: str, *, contradicts: bool = False) -> Ambiguous:
    return Ambiguous(bounded(f"{received.status}: {seen}", FAILURE_CHARACTERS_MAX), contradicts)


_MADE: Mapping[str, tuple[MovementKind, Mapping[str, MovementStatus]]] = MappingProxyType(
    {
        "capture": (MovementKind.CAPTURE, CAPTURES),
        "adjust": (MovementKind.AUTHORIZATION, AUTHORIZATIONS),
        "refund": (MovementKind.REFUND, REFUNDS),
    }
)
_VOIDED: Mapping[str, MovementStatus] = MappingProxyType({"VOIDED": MovementStatus.RELEASED})

_READERS: Mapping[int, Callable[[Received, Asked, PayPalMapping], Outcome | Done]] = MappingProxyType(
    {
        200: _answered,
        201: _answered,
        204: _empty,
        400: _refused,
        401: _not_executed(Refusal.CREDENTIALS),
        403: _not_executed(Refusal.PERMISSION),
        404: _refused,
        409: _conflict,
        422: _refused,
        429: _not_executed(Refusal.RATE_LIMITED),
        500: _failed,
        502: _failed,
        503: _failed,
        504: _failed,
    }
)
"""HTTP status to the reader of its answer."""
