"""The sandbox's payment object, in our words. The tables are all that is known of its vocabulary.

A value that a table does not have is told in `Snapshot.unmapped`, or as a decline with reason UNMAPPED, and counted.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

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
from gateway.domain.risk import RiskLevel, RiskSignal
from providers.fields import Fields, UnreadableAnswer, bounded

WORDS_CHARACTERS_MAX = 200

_S = MovementStatus

CLOSURES: Mapping[str, Closure] = MappingProxyType(
    {
        "requires_confirmation": Closure.OPEN,
        "requires_payment_method": Closure.OPEN,
        "requires_action": Closure.OPEN,
        "processing": Closure.OPEN,
        "authorized": Closure.OPEN,
        "partially_captured": Closure.OPEN,
        "captured": Closure.OPEN,
        "cancelled": Closure.CANCELLED,
        "expired": Closure.EXPIRED,
    }
)
"""A payment's status to whether its object takes further commands."""

MOVEMENTS: Mapping[MovementKind, Mapping[str, MovementStatus]] = MappingProxyType(
    {
        MovementKind.AUTHORIZATION: {
            "pending": _S.PENDING,
            "succeeded": _S.SUCCEEDED,
            "failed": _S.FAILED,
            "released": _S.RELEASED,
            "expired": _S.EXPIRED,
        },
        MovementKind.CAPTURE: {
            "pending": _S.PENDING,
            "succeeded": _S.SUCCEEDED,
            "failed": _S.FAILED,
            "reversed": _S.REVERSED,
        },
        MovementKind.REFUND: {
            "pending": _S.PENDING,
            "succeeded": _S.SUCCEEDED,
            "failed": _S.FAILED,
            "reversed": _S.REVERSED,
        },
        MovementKind.DISPUTE: {
            "inquiry": _S.INQUIRY,
            "inquiry_closed": _S.INQUIRY_CLOSED,
            "open": _S.OPEN,
            "won": _S.WON,
            "lost": _S.LOST,
        },
    }
)
"""A movement's status, for each kind."""

ATTEMPTS: Mapping[str, AttemptStatus] = MappingProxyType(
    {
        "requires_action": AttemptStatus.REQUIRES_ACTION,
        "processing": AttemptStatus.PENDING,
        "failed": AttemptStatus.FAILED,
        "succeeded": AttemptStatus.SUCCEEDED,
    }
)
"""An attempt's status."""

RISKS: Mapping[str, RiskLevel] = MappingProxyType(
    {"normal": RiskLevel.NORMAL, "elevated": RiskLevel.ELEVATED, "highest": RiskLevel.HIGHEST}
)
"""An attempt's risk level."""

_R = DeclineReason

DECLINES: Mapping[str, DeclineReason] = MappingProxyType(
    {
        "card_declined": _R.DECLINED,
        "insufficient_funds": _R.INSUFFICIENT_FUNDS,
        "expired_card": _R.EXPIRED_METHOD,
        "lost_or_stolen": _R.LOST_OR_STOLEN,
        "suspected_fraud": _R.SUSPECTED_FRAUD,
        "authentication_failed": _R.AUTHENTICATION_FAILED,
        "processing_failed": _R.DECLINED,
    }
)
"""A card error's code to our reason."""

ADVICE: Mapping[str, RetryAdvice] = MappingProxyType(
    {
        "": RetryAdvice.NONE,
        "retry_later": RetryAdvice.RETRY_LATER,
        "try_another_method": RetryAdvice.TRY_ANOTHER_METHOD,
        "do_not_retry": RetryAdvice.DO_NOT_RETRY,
    }
)
"""What the sandbox advises to do next."""

NEXT_ACTIONS = frozenset({"redirect"})

Unmapped = Callable[[str, str], None]


class AnotherAccount(UnreadableAnswer):
    """A well-formed object of an account that was not asked."""


class SandboxMapping:
    """Reads the objects of one account. `unmapped(kind, value)` hears of each value that a table does not have.

    `merchant_id` is the account's id at the provider, "" where it is not checked.
    """

    def __init__(self, account_id: str, merchant_id: str, unmapped: Unmapped) -> None:
        self._account_id = account_id
        self._merchant_id = merchant_id
        self._unmapped = unmapped

    def snapshot(self, payload: object) -> Snapshot:
        """The payment object as a snapshot. Raises ValueError (UnreadableAnswer, FactError) where it is none."""
        payment = Fields(payload, "payment")
        if self._merchant_id and payment.text("account") != self._merchant_id:
            raise AnotherAccount("mismatch: account")
        return _Reading(self._account_id, payment, self).snapshot()

    def decline(self, error: Fields) -> Decline:
        """`error` has code, message and advice: the sandbox's `card_error`, or a payment's `last_decline`."""
        code, advice = error.text("code"), error.optional_text("advice")
        if code not in DECLINES:
            self.tell("decline", code)
        if advice not in ADVICE:
            self.tell("advice", advice)
        return Decline(
            DECLINES.get(code, DeclineReason.UNMAPPED),
            bounded(code, WORDS_CHARACTERS_MAX),
            bounded(error.optional_text("message"), WORDS_CHARACTERS_MAX),
            ADVICE.get(advice, RetryAdvice.NONE),
        )

    def tell(self, kind: str, value: str) -> str:
        """Count an unmapped value; returns it as `Snapshot.unmapped` names it."""
        told = bounded(value, WORDS_CHARACTERS_MAX)
        self._unmapped(kind, told)
        return f"{kind}={told}"


class _Reading:
    """One payment object on its way to a snapshot."""

    def __init__(self, account_id: str, payment: Fields, mapping: SandboxMapping) -> None:
        self._account_id = account_id
        self._payment = payment
        self._mapping = mapping
        self._unmapped: list[str] = []
        self._id = payment.text("id")
        self._currency = payment.text("currency")
        if self._currency not in CURRENCY_EXPONENTS:
            raise UnreadableAnswer("payment.currency: not an ISO 4217 code")

    def snapshot(self) -> Snapshot:
        payment, metadata = self._payment, self._payment.texts("metadata")
        facts = Facts().merge(Facts(self._movements(), self._attempts(), self._objects()))
        return Snapshot(
            self._account_id,
            self._id,
            payment.money("amount", self._currency),
            self._currency,
            facts,
            payment_id=metadata.get("obol_payment", ""),
            tenant_id=metadata.get("obol_tenant", ""),
            next_action=self._next_action(),
            decline=self._decline(),
            provider_time_us=payment.time_us("updated"),
            unmapped=tuple(self._unmapped),
            operation_id=metadata.get("obol_operation", ""),
            order_reference=metadata.get("obol_order", ""),
        )

    def _objects(self) -> tuple[ProviderObject, ...]:
        status = self._payment.text("status")
        closure = CLOSURES.get(status)
        if closure is None:
            self._unmapped.append(self._mapping.tell("payment.status", status))
            closure = Closure.OPEN
        return (ProviderObject(self._account_id, self._id, closure),)

    def _movements(self) -> tuple[Movement, ...]:
        told = [(MovementKind.CAPTURE, each) for each in self._payment.objects("captures")]
        told += [(MovementKind.REFUND, each) for each in self._payment.objects("refunds")]
        told += [(MovementKind.DISPUTE, each) for each in self._payment.objects("disputes")]
        read = [movement for kind, fields in told if (movement := self._movement(kind, fields))]
        fees = [self._fee(each) for each in self._payment.objects("fees")]
        return (*self._holds(), *read, *fees)

    def _holds(self) -> tuple[Movement, ...]:
        """The authorization, and each that an adjustment put in the former one's place; the last one stands."""
        held = self._payment.optional("authorization")
        first = self._movement(MovementKind.AUTHORIZATION, held) if held else None
        if first is None:
            return ()
        holds = [first]
        for each in self._payment.objects("adjustments") if self._payment.raw.get("adjustments") else ():
            former = holds[-1]
            made = replace(
                former,
                provider_movement_id=each.text("id"),
                amount_minor=each.money("amount", self._currency),
                operation_id=each.texts("metadata").get("obol_operation") or None,
                provider_time_us=each.time_us("created"),
                parent_id=former.provider_movement_id,
            )
            holds[-1:] = [replace(former, status=_S.RELEASED), made]
        return tuple(holds)

    def _movement(self, kind: MovementKind, fields: Fields) -> Movement | None:
        status = MOVEMENTS[kind].get(fields.text("status"))
        if status is None:
            self._unmapped.append(self._mapping.tell(f"{kind.lower()}.status", fields.text("status")))
            return None
        return Movement(
            self._account_id,
            kind,
            fields.text("id"),
            fields.money("amount", self._currency),
            self._currency,
            status,
            operation_id=fields.texts("metadata").get("obol_operation") or None,
            # An authorization shows no time of its own.
            provider_time_us=None if kind is MovementKind.AUTHORIZATION else fields.time_us("created"),
            reason=bounded(fields.optional_text("reason"), WORDS_CHARACTERS_MAX),
        )

    def _fee(self, fields: Fields) -> Movement:
        amount_minor = fields.money("amount", self._currency)
        return Movement(
            self._account_id, MovementKind.FEE, fields.text("id"), amount_minor, self._currency, _S.SUCCEEDED
        )

    def _attempts(self) -> tuple[Attempt, ...]:
        read = (self._attempt(each) for each in self._payment.objects("attempts"))
        return tuple(attempt for attempt in read if attempt is not None)

    def _attempt(self, fields: Fields) -> Attempt | None:
        status = ATTEMPTS.get(fields.text("status"))
        if status is None:
            self._unmapped.append(self._mapping.tell("attempt.status", fields.text("status")))
            return None
        ordinal = fields.whole("number")
        if ordinal == 0:
            raise UnreadableAnswer(f"{fields.where}.number: counts from 1")
        declined = fields.optional("decline")
        return Attempt(
            self._account_id,
            self._id,
            ordinal,
            status,
            operation_id=fields.optional_text("operation") or None,
            decline=self._mapping.decline(declined) if declined else None,
            risk=self._risk(fields),
        )

    def _risk(self, fields: Fields) -> RiskSignal | None:
        """What it made of an attempt; a word that the table does not have is counted, and is no assessment."""
        level = fields.optional_text("risk_level")
        if not level:
            return None
        if level not in RISKS:
            self._mapping.tell("attempt.risk_level", level)
            return None
        return RiskSignal(RISKS[level])

    def _next_action(self) -> NextAction | None:
        action = self._payment.optional("next_action")
        if action is None:
            return None
        if action.text("type") not in NEXT_ACTIONS:
            self._unmapped.append(self._mapping.tell("next_action.type", action.text("type")))
            return None
        return NextAction(action.text("url"), action.optional_text("client_secret"))

    def _decline(self) -> Decline | None:
        """Why the last attempt failed; a decline of an earlier one is history, and stands with its attempt."""
        last = self._payment.optional("last_decline")
        if last is None or self._payment.text("status") != "requires_payment_method":
            return None
        return self._mapping.decline(last)
