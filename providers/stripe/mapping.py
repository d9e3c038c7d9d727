"""A PaymentIntent with its charges and disputes, in our words. `tables` has the vocabulary.

Attempts. Stripe numbers none. Each of ours that confirms says its number in the metadata (`obol_attempt`), which a
charge copies when it is made: the first charge under a number is our operation's, further ones under it are the payer's
own tries. What failed or waits without a charge (3D Secure) the PaymentIntent alone tells, under its present number.

Captures. Stripe has no object for them. The metadata have an entry for each of ours (`obol_<operation>`), and whatever
`amount_captured` has beyond those is somebody else's. An automatic capture is its charge's.

Adjustments. Each of ours has an entry in the metadata too. They count only where they lead without a gap to the present
amount (`adjustments`): then each is an authorization in the former one's place.

Releases. What was held and never taken shows as a refund: it is none.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gateway.domain.declines import Decline, DeclineReason, RetryAdvice
from gateway.domain.money import CURRENCY_EXPONENTS
from gateway.domain.movements import (
    Attempt,
    AttemptStatus,
    Closure,
    Facts,
    Movement,
    MovementKind,
    MovementStatus,
    ProviderObject,
)
from gateway.domain.payments import NextAction
from gateway.domain.providers import Snapshot
from gateway.domain.risk import RiskSignal
from providers.fields import Fields, UnreadableAnswer, bounded
from providers.stripe.adjustments import Adjusted, adjustments_of, breaks, holds
from providers.stripe.currencies import to_minor
from providers.stripe.refunds import given_back
from providers.stripe.requests import CREATE, OUR_PREFIX, Place
from providers.stripe.risk import risk_of
from providers.stripe.tables import (
    ADVICE,
    CHARGE_STATUSES,
    CLOSURES,
    DECLINES,
    DISPUTES,
    EXPIRIES,
    REFUNDS,
    next_action_of,
)

WORDS_CHARACTERS_MAX = 200
ATTEMPT_NUMBER_MAX = 1000

Unmapped = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Pieces:
    """One PaymentIntent as it was read. `charges` oldest first, none younger than its latest; each may hold refunds."""

    intent: Fields
    charges: Sequence[Fields] = ()
    refunds: Sequence[Fields] = ()
    disputes: Sequence[Fields] = ()
    account: str = ""


class StripeMapping:
    """Reads the objects of one account. `unmapped(kind, value)` hears of each value that a table does not have."""

    def __init__(self, account_id: str, unmapped: Unmapped) -> None:
        self.account_id = account_id
        self._unmapped = unmapped

    def snapshot(self, pieces: Pieces) -> Snapshot:
        """The pieces as a snapshot. Raises ValueError (UnreadableAnswer, FactError) where they are none."""
        return _Reading(pieces, self).snapshot()

    def decline(self, error: Fields) -> Decline:
        """An error object: a card_error, or a PaymentIntent's `last_payment_error`, which may have a type alone."""
        code = error.optional_text("decline_code") or error.optional_text("code") or error.text("type")
        return self._decline(code, error.optional_text("message"), error.optional_text("advice_code"))

    def decline_of_charge(self, charge: Fields) -> Decline:
        """Why a charge failed, as its error would have told."""
        outcome = charge.optional("outcome")
        told = outcome if outcome is not None and outcome.optional_text("type") == "issuer_declined" else None
        code = told.optional_text("reason") if told else ""
        blocked = outcome.optional_text("reason") if outcome is not None and told is None else ""
        own = charge.optional_text("failure_code")
        # Radar's reasons are no decline codes; its error says "fraudulent".
        code = code or ("fraudulent" if blocked in DECLINES else own) or "card_declined"
        advice = outcome.optional_text("advice_code") if outcome is not None else ""
        return self._decline(code, charge.optional_text("failure_message"), advice)

    def tell(self, kind: str, value: str) -> str:
        """Count an unmapped value; returns it as `Snapshot.unmapped` names it."""
        told = bounded(value, WORDS_CHARACTERS_MAX)
        self._unmapped(kind, told)
        return f"{kind}={told}"

    def _decline(self, code: str, message: str, advice: str) -> Decline:
        if code not in DECLINES:
            self.tell("decline", code)
        reason, usual = DECLINES.get(code, (DeclineReason.UNMAPPED, RetryAdvice.NONE))
        if advice and advice not in ADVICE:
            self.tell("advice", advice)
        return Decline(
            reason,
            bounded(code, WORDS_CHARACTERS_MAX),
            bounded(message, WORDS_CHARACTERS_MAX),
            ADVICE.get(advice, usual),
        )


class _Reading:
    """One PaymentIntent on its way to a snapshot."""

    def __init__(self, pieces: Pieces, mapping: StripeMapping) -> None:
        intent = pieces.intent
        if intent.text("object") != "payment_intent":
            raise UnreadableAnswer("object: not a PaymentIntent")
        self._pieces, self._intent, self._mapping = pieces, intent, mapping
        self._account_id = mapping.account_id
        self._unmapped: list[str] = []
        self._id = str(Place(intent.text("id"), pieces.account))
        self._status = intent.text("status")
        self._metadata = intent.texts("metadata")
        self._adjustments = adjustments_of(self._metadata)
        self._currency = intent.text("currency").upper()
        if self._currency not in CURRENCY_EXPONENTS:
            raise UnreadableAnswer("payment_intent.currency: not an ISO 4217 code")

    def snapshot(self) -> Snapshot:
        action = next_action_of(self._intent)
        if isinstance(action, str):
            self._tell("next_action.type", action)
        attempts = tuple(self._attempts())
        facts = Facts().merge(Facts(tuple(self._movements()), attempts, (self._object(),)))
        return Snapshot(
            self._account_id,
            self._id,
            self._first_amount(),
            self._currency,
            facts,
            payment_id=self._metadata.get("obol_payment", ""),
            tenant_id=self._metadata.get("obol_tenant", ""),
            next_action=action if isinstance(action, NextAction) else None,
            decline=attempts[-1].decline if attempts and self._status == "requires_payment_method" else None,
            provider_time_us=self._intent.time_us("created"),
            unmapped=tuple(self._unmapped),
            # What an earlier release made has no such entry: the last write is the create, or one of ours at least.
            operation_id=self._metadata.get(CREATE) or self._metadata.get("obol_operation", ""),
            order_reference=self._metadata.get("obol_order", ""),
        )

    def _object(self) -> ProviderObject:
        closure = CLOSURES.get(self._status)
        if closure is None:
            self._tell("payment_intent.status", self._status)
            closure = Closure.OPEN
        if closure is Closure.CANCELLED and self._intent.optional_text("cancellation_reason") in EXPIRIES:
            closure = Closure.EXPIRED
        return ProviderObject(self._account_id, self._id, closure)

    # Attempts ---------------------------------------------------------------------------------------------------

    def _attempts(self) -> Iterator[Attempt]:
        last, under = 0, dict[int, int]()
        for charge in self._pieces.charges:
            metadata = charge.texts("metadata")
            number, place = _number(metadata), under.get(_number(metadata), 0)
            under[number] = place + 1
            last = max(max(number, 1) + place, last + 1)
            status, decline = self._attempted(charge)
            if status is not None:
                risk = risk_of(charge, self._mapping.tell)
                yield self._attempt(last, status, metadata if number and not place else {}, decline, risk)
        number = _number(self._metadata)
        place = under.get(number, 0)
        status, decline = self._unattempted()
        if status is not None:
            ordinal = max(max(number, 1) + place, last + 1)
            yield self._attempt(ordinal, status, self._metadata if number and not place else {}, decline)

    def _attempted(self, charge: Fields) -> tuple[AttemptStatus | None, Decline | None]:
        match charge.text("status"):
            case "succeeded":
                return AttemptStatus.SUCCEEDED, None
            case "failed":
                return AttemptStatus.FAILED, self._mapping.decline_of_charge(charge)
            case "pending":
                waits = self._status == "requires_action" and charge.text("id") == self._latest_charge
                return (AttemptStatus.REQUIRES_ACTION if waits else AttemptStatus.PENDING), None
            case _:
                return None, None  # told with its movement

    def _unattempted(self) -> tuple[AttemptStatus | None, Decline | None]:
        """The attempt under way, or just failed, that none of the charges is about."""
        latest = self._pieces.charges[-1].optional_text("status") if self._pieces.charges else ""
        error = self._intent.optional("last_payment_error")
        match self._status:
            case "requires_action" if latest != "pending":
                return AttemptStatus.REQUIRES_ACTION, None
            case "processing" if latest != "pending":
                return AttemptStatus.PENDING, None
            case "requires_payment_method" | "requires_confirmation" if error is not None:
                charged = error.optional_text("charge")
                if charged and any(each.text("id") == charged for each in self._pieces.charges):
                    return None, None
                return AttemptStatus.FAILED, self._mapping.decline(error)
            case _:
                return None, None

    def _attempt(
        self,
        ordinal: int,
        status: AttemptStatus,
        metadata: Mapping[str, str],
        decline: Decline | None,
        risk: RiskSignal | None = None,
    ) -> Attempt:
        operation = metadata.get("obol_operation") or None
        return Attempt(self._account_id, self._id, ordinal, status, operation, decline, risk)

    # Movements --------------------------------------------------------------------------------------------------

    def _movements(self) -> Iterator[Movement]:
        seen = set[int]()
        for charge in self._pieces.charges:
            number = _number(charge.texts("metadata"))
            ours = number > 0 and number not in seen
            seen.add(number)
            yield from self._of_charge(charge, charge.texts("metadata").get("obol_operation") if ours else None)
        known = set[str]()
        for each in given_back(self._pieces.charges, self._pieces.refunds, self._held):
            if each.text("id") not in known and (moved := self._refund(each)) is not None:
                known.add(each.text("id"))
                yield moved
        for each in self._pieces.disputes:
            status = DISPUTES.get(each.text("status"))
            if status is None:
                self._tell("dispute.status", each.text("status"))
            else:
                yield self._movement(MovementKind.DISPUTE, each, status, reason=each.optional_text("reason"))

    def _of_charge(self, charge: Fields, operation: str | None) -> Iterator[Movement]:
        status, captured, risk = charge.text("status"), charge.whole("amount_captured"), self._risky(charge)
        if status not in CHARGE_STATUSES:
            self._tell("charge.status", status)
        elif status == "pending" and self._status != "requires_action":
            yield self._movement(MovementKind.CAPTURE, charge, MovementStatus.PENDING, operation)
        elif status == "failed" and not _is_card(charge):
            # It was pending, and money that is told to be on its way has to be told to have turned back.
            yield self._movement(MovementKind.CAPTURE, charge, MovementStatus.FAILED, operation)
        elif status == "succeeded":
            manual = self._intent.text("capture_method") == "manual" or not charge.flag("captured")
            if manual:
                hold = self._movement(MovementKind.AUTHORIZATION, charge, self._hold(charge), operation, reason=risk)
                yield from holds(hold, self._adjusted(charge))
                yield from self._captures(charge, captured)
            else:
                taken = MovementStatus.SUCCEEDED
                yield self._movement(MovementKind.CAPTURE, charge, taken, operation, captured, reason=risk)

    def _risky(self, charge: Fields) -> str:
        """What of Radar's assessment is not ordinary, in a word that is kept."""
        signal = risk_of(charge, self._mapping.tell)
        return "" if signal is None or signal.is_ordinary else f"risk {signal.level.lower()}"

    def _hold(self, charge: Fields) -> MovementStatus:
        if self._status in ("requires_capture", "processing"):
            return MovementStatus.SUCCEEDED
        if self._status == "canceled":
            expired = self._intent.optional_text("cancellation_reason") in EXPIRIES
            return MovementStatus.EXPIRED if expired else MovementStatus.RELEASED
        whole = charge.whole("amount_captured") >= self._held(charge)
        return MovementStatus.SUCCEEDED if whole else MovementStatus.RELEASED

    def _held(self, charge: Fields) -> int:
        """What a charge held in all, in Stripe's units, whether or not its own amount tells of the adjustments."""
        return max([charge.whole("amount"), *(each.total for each in self._adjusted(charge))])

    def _adjusted(self, charge: Fields) -> Sequence[Adjusted]:
        return self._adjustments if charge.text("id") == self._latest_charge else ()

    def _first_amount(self) -> int:
        """What the PaymentIntent was for before our adjustments; what does not add up is told."""
        amount = self._intent.whole("amount")
        if broken := breaks(self._adjustments, amount):
            self._tell("adjustment.sum", broken)
        return to_minor(self._adjustments[0].held if self._adjustments else amount, self._currency)

    def _captures(self, charge: Fields, captured: int) -> Iterator[Movement]:
        told = 0
        for name, text in sorted(self._metadata.items()):
            what, _, amount = text.partition(" ")
            if not name.startswith(OUR_PREFIX) or what != "capture" or not amount.isdecimal() or len(amount) > 12:
                continue
            told += int(amount)
            operation = name.removeprefix(OUR_PREFIX)
            yield Movement(
                self._account_id,
                MovementKind.CAPTURE,
                f"{charge.text('id')}/{operation}",
                to_minor(int(amount), self._currency),
                self._currency,
                MovementStatus.SUCCEEDED,
                operation_id=operation,
            )
        if told > captured:
            self._tell("capture.sum", f"{told} of {captured}")
        elif told < captured:
            yield self._movement(MovementKind.CAPTURE, charge, MovementStatus.SUCCEEDED, None, captured - told)

    def _refund(self, refund: Fields) -> Movement | None:
        status = REFUNDS.get(refund.text("status"))
        if status is None:
            self._tell("refund.status", refund.text("status"))
            return None
        if status is MovementStatus.FAILED and refund.raw.get("failure_balance_transaction") is not None:
            # It was on Stripe's books, and this is what took it off again.
            status = MovementStatus.REVERSED
        metadata = refund.texts("metadata")
        reason = refund.optional_text("failure_reason") or metadata.get("obol_reason") or refund.optional_text("reason")
        operation = metadata.get("obol_operation") or None
        return self._movement(MovementKind.REFUND, refund, status, operation, reason=reason)

    def _movement(
        self,
        kind: MovementKind,
        of: Fields,
        status: MovementStatus,
        operation: str | None = None,
        amount: int | None = None,
        *,
        reason: str = "",
    ) -> Movement:
        if of.text("currency").upper() != self._currency:
            self._tell(f"{kind.lower()}.currency", of.text("currency"))
        return Movement(
            self._account_id,
            kind,
            of.text("id"),
            self._money(of, "amount") if amount is None else to_minor(amount, self._currency),
            self._currency,
            status,
            operation_id=operation or None,
            provider_time_us=of.time_us("created"),
            reason=bounded(reason, WORDS_CHARACTERS_MAX),
        )

    @property
    def _latest_charge(self) -> str:
        return latest_charge(self._intent)

    def _money(self, of: Fields, name: str) -> int:
        return to_minor(of.whole(name), self._currency)

    def _tell(self, kind: str, value: str) -> None:
        self._unmapped.append(self._mapping.tell(kind, value))


def latest_charge(intent: Fields) -> str:
    """The id of a PaymentIntent's latest charge, "" where it has none; expanded or not."""
    value = intent.raw.get("latest_charge")
    if isinstance(value, dict):
        return Fields(value, "latest_charge").text("id")
    return intent.optional_text("latest_charge")


def _number(metadata: Mapping[str, str]) -> int:
    """Which attempt of ours this is, 0 where it is none."""
    text = metadata.get("obol_attempt", "")
    whole = int(text) if text.isascii() and text.isdecimal() and len(text) <= 6 else 0
    return min(whole, ATTEMPT_NUMBER_MAX)


def _is_card(charge: Fields) -> bool:
    details = charge.optional("payment_method_details")
    return details is not None and details.optional_text("type") == "card"
