"""Stripe's answers to our writes, by one table: the SDK's error to outcome. docs/stripe.md shows it to people.

a good answer, readable and what was asked    Answered
CardError (402 card_error)                    Declined, with the PaymentIntent; kept under the key
InvalidRequestError (400, 404)                Declined: the books say no. Of the key only where Stripe says that
                                              it replays: what fails validation is not kept
AuthenticationError, PermissionError,         NotExecuted
RateLimitError (429, also lock_timeout)
everything else                               Ambiguous: IdempotencyError (another request: the key is known, so that
                                              something of the command was here before), APIError (409 a key in use,
                                              5xx, what cannot be read), APIConnectionError, errors of other APIs,
                                              and an answer that is about something else

Whether anything was sent is not the SDK's to say: the wire proves it, or the outcome is Ambiguous.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import stripe
from stripe import oauth_error

from gateway.domain.commands import PreparedRequest
from gateway.domain.declines import Decline, DeclineReason
from gateway.domain.movements import Movement, MovementKind
from gateway.domain.providers import Ambiguous, Answered, Declined, NotSent, Outcome, Snapshot
from providers.fields import Fields, UnreadableAnswer, bounded
from providers.http import Lost, NeverSent, Received
from providers.refusals import FAILURE_CHARACTERS_MAX, LATE, Refusal, not_executed, retry_after_s
from providers.strict_json import parse_object
from providers.stripe.form import decode
from providers.stripe.mapping import WORDS_CHARACTERS_MAX, Pieces, StripeMapping
from providers.stripe.requests import ACCOUNT, INTENTS_PATH, REFUNDS_PATH, TAG
from providers.stripe.wire import Told

_VERB = re.compile(
    rf"{INTENTS_PATH}(?:/(?P<id>[A-Za-z0-9_]+)(?:/(?P<verb>confirm|capture|cancel|increment_authorization))?)?\Z"
)

_MADE = MappingProxyType(
    {
        "capture": MovementKind.CAPTURE,
        "increment_authorization": MovementKind.AUTHORIZATION,
        "refund": MovementKind.REFUND,
    }
)
"""The verbs that make a movement of their own."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a prepared request asked for, read from it; an answer has to match. `verb` is "" for a create."""

    verb: str
    intent_id: str
    account: str
    body: Mapping[str, str]
    metadata: Mapping[str, str]

    @property
    def operation_id(self) -> str:
        return self.metadata.get("metadata[obol_operation]", "")


def asked_by(prepared: PreparedRequest) -> Asked:
    """What `prepared` asks for. Raises ValueError where it is none of ours."""
    body, account = decode(prepared.body), prepared.headers.get(ACCOUNT, "")
    if prepared.path == REFUNDS_PATH:
        return Asked("refund", body.get("payment_intent", ""), account, body, body)
    read = _VERB.match(prepared.path)
    if read is None:
        raise ValueError("not a request of this adapter")
    # A confirm's own body has none.
    metadata = {**decode(prepared.headers.get(TAG, "")), **body}
    return Asked(read["verb"] or "", read["id"] or "", account, body, metadata)


def outcome_of(told: Told, prepared: PreparedRequest, mapping: StripeMapping) -> Outcome:
    """Classify what came of sending `prepared` for the first time. Raises nothing."""
    match told.exchange:
        case NeverSent(failure=failure, late=late):
            return NotSent(f"{LATE}: {failure}" if late else failure)
        case Lost(failure=failure):
            return Ambiguous(failure)
        case Received() as received:
            try:
                return reader_of(told.error)(received, asked_by(prepared), mapping)
            except ValueError as error:
                return _ambiguous(received, str(error))
            except Exception as error:  # noqa: BLE001  it was sent: whatever goes wrong here, nothing is known
                return _ambiguous(received, type(error).__name__)


def reader_of(error: Exception | None) -> "Reader":
    """The row of the table for an error: its class's, or its nearest base's."""
    if error is None:
        return _answered
    return next((READERS[kind] for kind in type(error).__mro__ if kind in READERS), _failed)


def error_of(received: Received) -> Fields:
    """The error of an answer. Raises ValueError."""
    error = Fields(parse_object(received.body), "answer").optional("error")
    if error is None:
        raise UnreadableAnswer("answer.error: missing")
    return error


def mismatch(asked: Asked, snapshot: Snapshot, intent: Fields, of: Fields) -> str:
    """How the answer differs from what was asked; empty where it does not. `of` is the answer itself."""
    expected = asked.metadata.get("metadata[obol_payment]", snapshot.payment_id)
    if snapshot.payment_id != expected:
        return "payment reference"
    if asked.intent_id and intent.text("id") != asked.intent_id:
        return "payment id"
    if not asked.verb and str(intent.whole("amount")) != asked.body["amount"]:
        return "amount"
    if not asked.verb and intent.text("currency") != asked.body["currency"]:
        return "currency"
    if asked.verb == "refund" and str(of.whole("amount")) != asked.body["amount"]:
        return "amount"
    if asked.verb == "increment_authorization" and str(intent.whole("amount")) != asked.body["amount"]:
        return "amount"
    if asked.verb in _MADE and not snapshot.unmapped and made_by(asked, snapshot) is None:
        return "operation"
    return ""


def made_by(asked: Asked, snapshot: Snapshot) -> Movement | None:
    """The movement that the operation made, for the verbs that make one."""
    kind = _MADE.get(asked.verb)
    own = (each for each in snapshot.facts.movements if each.kind is kind and each.operation_id == asked.operation_id)
    return next(own, None)


def pieces_of(answer: Fields, account: str) -> Pieces:
    """What an answer holds: a PaymentIntent with its latest charge, or a refund with both. Raises UnreadableAnswer."""
    if answer.text("object") == "refund":
        intent, charge = answer.optional("payment_intent"), answer.optional("charge")
        if intent is None or charge is None:
            raise UnreadableAnswer("refund: not expanded")
        return Pieces(intent, (charge,), refunds=(answer,), account=account)
    # Where it is not expanded there is nothing more to see; what is neither an id nor an object raises.
    latest = answer.optional("latest_charge") if not isinstance(answer.raw.get("latest_charge"), str) else None
    return Pieces(answer, () if latest is None else (latest,), account=account)


Reader = Callable[[Received, Asked, StripeMapping], Outcome]


def _answered(received: Received, asked: Asked, mapping: StripeMapping) -> Outcome:
    answer = Fields(parse_object(received.body), "answer")
    pieces = pieces_of(answer, asked.account)
    snapshot = mapping.snapshot(pieces)
    differs = mismatch(asked, snapshot, pieces.intent, answer)
    if differs:
        return _ambiguous(received, f"mismatch: {differs}", contradicts=True)
    made = made_by(asked, snapshot)
    return Answered(snapshot, made.provider_movement_id if made else None)


def _declined(received: Received, asked: Asked, mapping: StripeMapping) -> Outcome:
    error = error_of(received)
    if error.text("type") != "card_error":
        mapping.tell("error.type", error.text("type"))
        return _ambiguous(received, error.text("type"))
    decline, intent = mapping.decline(error), error.optional("payment_intent")
    if intent is None:
        return Declined(decline, of_key=True)
    snapshot = mapping.snapshot(Pieces(intent, account=asked.account))
    differs = mismatch(asked, snapshot, intent, intent) if asked.verb not in _MADE else ""
    if differs:
        return _ambiguous(received, f"mismatch: {differs}", contradicts=True)
    return Declined(decline, snapshot, of_key=True)


def _refused(received: Received, asked: Asked, mapping: StripeMapping) -> Outcome:
    error = error_of(received)
    # A page of something in between is no answer of the books.
    if error.text("type") != "invalid_request_error":
        mapping.tell("error.type", error.text("type"))
        return _ambiguous(received, error.text("type"))
    code = bounded(error.optional_text("code") or error.optional_text("param"), WORDS_CHARACTERS_MAX)
    words = bounded(error.optional_text("message"), WORDS_CHARACTERS_MAX)
    replayed = received.headers.get("idempotent-replayed") == "true"
    return Declined(Decline(DeclineReason.REFUSED_BY_PROVIDER, code or "invalid_request", words), of_key=replayed)


def _not_executed(refusal: Refusal) -> Reader:
    def read(received: Received, asked: Asked, mapping: StripeMapping) -> Outcome:
        wait_s = retry_after_s(received.headers.get("retry-after"))
        return not_executed(refusal, str(received.status), retry_after_s=wait_s)

    return read


def _failed(received: Received, asked: Asked, mapping: StripeMapping) -> Outcome:
    return _ambiguous(received, "the provider failed, or its answer cannot be read")


def _another(received: Received, asked: Asked, mapping: StripeMapping) -> Outcome:
    if error_of(received).optional_text("code") == "idempotency_key_in_use":
        return _ambiguous(received, "the key is in use")
    return replace(_ambiguous(received, "the key is of another request"), key_known=True)


def _foreign(received: Received, asked: Asked, mapping: StripeMapping) -> Outcome:
    return _ambiguous(received, "an error of another API")


def _ambiguous(received: Received, seen: str, *, contradicts: bool = False) -> Ambiguous:
    return Ambiguous(bounded(f"{received.status}: {seen}", FAILURE_CHARACTERS_MAX), contradicts)


READERS: Mapping[type[Exception], Reader] = MappingProxyType(
    {
        stripe.CardError: _declined,
        stripe.InvalidRequestError: _refused,
        stripe.AuthenticationError: _not_executed(Refusal.CREDENTIALS),
        stripe.PermissionError: _not_executed(Refusal.PERMISSION),
        stripe.RateLimitError: _not_executed(Refusal.RATE_LIMITED),
        stripe.IdempotencyError: _another,
        stripe.APIError: _failed,
        stripe.APIConnectionError: _failed,
        stripe.SignatureVerificationError: _foreign,
        oauth_error.OAuthError: _foreign,
        # What version 2 of the API alone says.
        stripe.AlreadyCanceledError: _foreign,
        stripe.BlockedByStripeError: _foreign,
        stripe.CannotProceedError: _foreign,
        stripe.CapabilityNotEnabledError: _foreign,
        stripe.ControlledByAlternateResourceError: _foreign,
        stripe.FeatureNotEnabledError: _foreign,
        stripe.FinancialAccountNotOpenError: _foreign,
        stripe.FxQuoteNeedsRefreshError: _foreign,
        stripe.InsufficientFundsError: _foreign,
        stripe.InvalidPaymentMethodError: _foreign,
        stripe.InvalidPayoutMethodError: _foreign,
        stripe.InvalidVaultedCredentialError: _foreign,
        stripe.NotCancelableError: _foreign,
        stripe.QuotaExceededError: _foreign,
        stripe.RecipientNotNotifiableError: _foreign,
        stripe.TemporarySessionExpiredError: _foreign,
        stripe.VerificationAttemptFailedError: _foreign,
        stripe.VerificationExpiredError: _foreign,
        stripe.VerificationNotInitiatedError: _foreign,
        stripe.StripeErrorWithParamCode: _failed,
        stripe.StripeError: _failed,
        # Not the SDK's: what its parsing, or ours, can meet in an answer.
        Exception: _failed,
    }
)
"""The SDK's error to the reader of its answer; the nearest class of the error's MRO decides."""
