"""PayPal's order, with all that was made of it, as a snapshot. The tables are the mapping; docs/paypal.md tells them.

An order is the payment's object. It has one purchase unit, and in it the authorizations, captures and refunds. One
attempt is all that an order has: it succeeds with its first money. A status that is in no table makes the snapshot's
outcome UNKNOWN.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from urllib.parse import urlsplit

from gateway.domain.declines import Decline, DeclineReason, RetryAdvice
from gateway.domain.movements import (
    NEVER_HELD,
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
from providers.fields import Fields, UnreadableAnswer, bounded
from providers.paypal.amounts import currency_of, minor_of
from providers.paypal.declines import ISSUES, PROCESSOR_CODES
from providers.paypal.disputes import DisputeReading
from providers.paypal.events import refunded_by
from providers.paypal.references import operation_of, told_by
from providers.paypal.times import time_us

WORDS_CHARACTERS_MAX = 200

_S = MovementStatus

DECLINES: Mapping[str, tuple[DeclineReason, RetryAdvice]] = MappingProxyType({**ISSUES, **PROCESSOR_CODES})
"""Every code with which PayPal or a card processor refuses, to our reason and what to do next."""

ORDERS: Mapping[str, Closure] = MappingProxyType(
    {
        "CREATED": Closure.OPEN,
        "SAVED": Closure.OPEN,
        "PAYER_ACTION_REQUIRED": Closure.OPEN,
        "APPROVED": Closure.OPEN,
        "COMPLETED": Closure.OPEN,
        "VOIDED": Closure.CANCELLED,
    }
)
"""An order's status to whether it takes further commands."""

UNPAID = frozenset({"CREATED", "SAVED", "PAYER_ACTION_REQUIRED", "APPROVED", "VOIDED"})
"""The statuses of an order in which nothing was authorized or captured."""

AUTHORIZATIONS: Mapping[str, MovementStatus] = MappingProxyType(
    {
        "PENDING": _S.PENDING,
        "CREATED": _S.SUCCEEDED,
        "PARTIALLY_CAPTURED": _S.SUCCEEDED,
        "DENIED": _S.FAILED,
        # Nothing more can be captured: what of the hold was not taken is let go.
        "CAPTURED": _S.RELEASED,
        "VOIDED": _S.RELEASED,
        "EXPIRED": _S.EXPIRED,
    }
)
"""An authorization's status."""

CAPTURES: Mapping[str, MovementStatus] = MappingProxyType(
    {
        "PENDING": _S.PENDING,
        "COMPLETED": _S.SUCCEEDED,
        "PARTIALLY_REFUNDED": _S.SUCCEEDED,
        "REFUNDED": _S.SUCCEEDED,
        "DECLINED": _S.FAILED,
        "FAILED": _S.FAILED,
    }
)
"""A capture's status; what was refunded of it is told by the refunds."""

REFUNDS: Mapping[str, MovementStatus] = MappingProxyType(
    {"PENDING": _S.PENDING, "COMPLETED": _S.SUCCEEDED, "FAILED": _S.FAILED, "CANCELLED": _S.FAILED}
)
"""A refund's status."""

APPROVE_RELS = ("payer-action", "approve")
"""The links that lead the payer to PayPal."""

Unmapped = Callable[[str, str], None]


class AnotherAccount(UnreadableAnswer):
    """A well-formed order of a merchant that was not asked."""


class PayPalMapping:
    """Reads the orders of one account. `unmapped(kind, value)` hears of each value that a table does not have.

    `merchant_id` is PayPal's id of the merchant, "" where it is not checked.
    """

    def __init__(self, account_id: str, merchant_id: str, unmapped: Unmapped) -> None:
        self.account_id = account_id
        self._merchant_id = merchant_id
        self._unmapped = unmapped

    def snapshot(self, payload: object, dispute: DisputeReading | None = None) -> Snapshot:
        """An order, and a dispute of it, as a snapshot. Raises ValueError where they are none."""
        order = Fields(payload, "order")
        units = list(listed(order, "purchase_units"))
        if len(units) != 1:
            raise UnreadableAnswer("order.purchase_units: not one")
        payee = units[0].optional("payee")
        told = payee.optional_text("merchant_id") if payee else ""
        if self._merchant_id and told and told != self._merchant_id:
            raise AnotherAccount("mismatch: account")
        return _Reading(self, order, units[0]).snapshot(dispute)

    def decline_of_processor(self, code: str, words: str) -> Decline:
        """Why a card's processor refused; `code` may be empty, which PayPal does not explain further."""
        if code and code not in PROCESSOR_CODES:
            self.tell("decline", code)
        unknown = (DeclineReason.UNMAPPED if code else DeclineReason.DECLINED, RetryAdvice.NONE)
        reason, advice = PROCESSOR_CODES.get(code, unknown)
        return Decline(reason, bounded(code or "DECLINED", WORDS_CHARACTERS_MAX), words, advice)

    def tell(self, kind: str, value: str) -> str:
        """Count an unmapped value; returns it as `Snapshot.unmapped` names it."""
        told = bounded(value, WORDS_CHARACTERS_MAX)
        self._unmapped(kind, told)
        return f"{kind}={told}"


class _Reading:
    """One order on its way to a snapshot."""

    def __init__(self, mapping: PayPalMapping, order: Fields, unit: Fields) -> None:
        self._mapping = mapping
        self._order = order
        self._unit = unit
        self._told = told_by(unit)
        self._id = order.text("id")
        self._status = order.text("status")
        self._holds = order.text("intent") == "AUTHORIZE"
        self._amount = _required(unit, "amount")
        self._unmapped: list[str] = []
        payments = unit.optional("payments")
        self._payments = {
            name: list(listed(payments, name)) if payments else [] for name in ("authorizations", "captures", "refunds")
        }
        self._payments["authorizations"] = _as_made(self._payments["authorizations"])

    def snapshot(self, dispute: DisputeReading | None) -> Snapshot:
        movements = tuple(self._movements())
        disputed = dispute.movement(self._mapping.account_id, self._status_of_dispute) if dispute else None
        facts = Facts().merge(
            Facts(
                (*movements, *((disputed,) if disputed else ())),
                tuple(self._attempts(movements)),
                (ProviderObject(self._mapping.account_id, self._id, self._closure(movements)),),
            )
        )
        return Snapshot(
            self._mapping.account_id,
            self._id,
            self._asked_minor(movements),
            currency_of(self._amount),
            facts,
            payment_id=self._told.payment_id,
            tenant_id=self._told.tenant_id,
            next_action=self._next_action(),
            decline=next((each.decline for each in facts.attempts), None),
            provider_time_us=self._time(self._order),
            unmapped=tuple(self._unmapped),
            operation_id=self._told.operation_id,
            order_reference=self._told.order_reference,
            completion_due=self._status == "APPROVED" and not movements,
        )

    def _movements(self) -> Iterator[Movement]:
        yield from self._authorizations()
        unit_invoice = self._unit.optional_text("invoice_id")
        captures = self._payments["captures"]
        for capture in captures:
            # The one capture of an order that does not hold is the create's; each other one has an invoice of its own.
            operation = operation_of(capture, {unit_invoice}) if self._holds else self._told.operation_id or None
            yield from self._movement(MovementKind.CAPTURE, CAPTURES, capture, operation)
            yield from self._fee(capture)
        inherited = {unit_invoice, *(each.optional_text("invoice_id") for each in captures)}
        for refund in self._payments["refunds"]:
            for read in self._movement(MovementKind.REFUND, REFUNDS, refund, operation_of(refund, inherited)):
                yield replace(read, parent_id=refunded_by(refund))

    def _authorizations(self) -> Iterator[Movement]:
        """The holds: each that took the place of the one before it (re-authorized) says so, and of several one stands.

        The first is the create's. PayPal keeps no reference of ours with a later one: whose it is, its answer told.
        """
        final = any(
            each.raw.get("final_capture") is True and CAPTURES.get(each.optional_text("status")) is _S.SUCCEEDED
            for each in self._payments["captures"]
        )
        holds: list[Movement] = []
        former: str | None = None
        for place, hold in enumerate(self._payments["authorizations"]):
            own = (self._told.operation_id or None) if place == 0 else None
            for read in self._movement(MovementKind.AUTHORIZATION, AUTHORIZATIONS, hold, own):
                holds.append(replace(read, parent_id=former))
                former = former if read.status in NEVER_HELD else read.provider_movement_id
        for each in holds:
            over = each.status is _S.SUCCEEDED and (final or each.provider_movement_id != former)
            yield replace(each, status=_S.RELEASED) if over else each

    def _asked_minor(self, movements: tuple[Movement, ...]) -> int:
        """What the order was made for. PayPal does not say whether a re-authorization raises its amount.

        One that equals what is held in the first authorization's place is told less what was added; any other stays.
        """
        amount_minor, currency = minor_of(self._amount), currency_of(self._amount)
        holds = [m for m in movements if m.kind is MovementKind.AUTHORIZATION and m.status not in NEVER_HELD]
        if len(holds) < 2 or (holds[-1].amount_minor, holds[-1].currency) != (amount_minor, currency):
            return amount_minor
        return holds[0].amount_minor if holds[0].currency == currency else amount_minor

    def _movement(
        self, kind: MovementKind, table: Mapping[str, MovementStatus], fields: Fields, operation_id: str | None
    ) -> Iterator[Movement]:
        status = table.get(fields.text("status"))
        if status is None:
            self._unmapped.append(self._mapping.tell(f"{kind.lower()}.status", fields.text("status")))
            return
        amount = _required(fields, "amount")
        details = fields.optional("status_details")
        yield Movement(
            self._mapping.account_id,
            kind,
            fields.text("id"),
            minor_of(amount),
            currency_of(amount),
            status,
            operation_id=operation_id,
            provider_time_us=time_us(fields, "create_time"),
            reason=bounded(details.optional_text("reason") if details else "", WORDS_CHARACTERS_MAX),
        )

    def _fee(self, capture: Fields) -> Iterator[Movement]:
        """What PayPal kept; one in another currency than the payment's is its books' affair."""
        breakdown = capture.optional("seller_receivable_breakdown")
        fee = breakdown.optional("paypal_fee") if breakdown else None
        if fee is None or currency_of(fee) != currency_of(self._amount):
            return
        if CAPTURES.get(capture.text("status")) is _S.SUCCEEDED:
            account_id, currency = self._mapping.account_id, currency_of(fee)
            yield Movement(account_id, MovementKind.FEE, capture.text("id"), minor_of(fee), currency, _S.SUCCEEDED)

    def _closure(self, movements: tuple[Movement, ...]) -> Closure:
        closure = ORDERS.get(self._status)
        if closure is None:
            self._unmapped.append(self._mapping.tell("order.status", self._status))
            return Closure.OPEN
        statuses = [each.text("status") for each in self._payments["authorizations"]]
        held = [each for each in statuses if AUTHORIZATIONS.get(each) not in NEVER_HELD]
        voided = bool(held) and held[-1] == "VOIDED"
        taken = any(m.kind is MovementKind.CAPTURE and m.status is not _S.FAILED for m in movements)
        return Closure.CANCELLED if voided and not taken else closure

    def _attempts(self, movements: tuple[Movement, ...]) -> Iterator[Attempt]:
        own = [each for each in movements if each.kind in (MovementKind.AUTHORIZATION, MovementKind.CAPTURE)]
        if own:
            status = _reached(own)
        elif self._status in UNPAID:
            status = AttemptStatus.REQUIRES_ACTION
        elif self._unmapped or self._status not in ORDERS:
            return
        else:
            # A short representation: what the order came to is not in it.
            raise UnreadableAnswer("order.purchase_units[0].payments: missing")
        yield Attempt(
            self._mapping.account_id,
            self._id,
            1,
            status,
            operation_id=self._told.operation_id or None,
            decline=self._decline() if status is AttemptStatus.FAILED else None,
        )

    def _decline(self) -> Decline:
        refused = [*self._payments["captures"], *self._payments["authorizations"]]
        for each in refused:
            response = each.optional("processor_response")
            if response is not None:
                return self._mapping.decline_of_processor(response.optional_text("response_code"), "")
        return self._mapping.decline_of_processor("", "")

    def _next_action(self) -> NextAction | None:
        if self._status not in UNPAID or self._status == "VOIDED":
            return None
        links = {each.optional_text("rel"): each for each in listed(self._order, "links")}
        found = next((links[rel].text("href") for rel in APPROVE_RELS if rel in links), "")
        if not found:
            return None
        if urlsplit(found).scheme not in ("https", "http"):
            raise UnreadableAnswer("order.links: not a URL")
        return NextAction(found)

    def _status_of_dispute(self, kind: str, value: str) -> None:
        self._unmapped.append(self._mapping.tell(kind, value))

    def _time(self, fields: Fields) -> int | None:
        return time_us(fields, "update_time") or time_us(fields, "create_time")


def listed(fields: Fields, name: str) -> Iterator[Fields]:
    """A list of objects; none where the field is missing or null, as PayPal leaves out what is empty."""
    return fields.objects(name) if fields.raw.get(name) is not None else iter(())


def _as_made(authorizations: list[Fields]) -> list[Fields]:
    """The first made first: PayPal documents no order of the list. As listed where a time is missing."""
    timed = [(time_us(each, "create_time"), each) for each in authorizations]
    if any(made_us is None for made_us, _ in timed):
        return authorizations
    return [each for _, each in sorted(timed, key=lambda pair: pair[0] or 0)]


def _required(fields: Fields, name: str) -> Fields:
    found = fields.optional(name)
    if found is None:
        raise UnreadableAnswer(f"{fields.where}.{name}: missing")
    return found


def _reached(own: list[Movement]) -> AttemptStatus:
    """What the attempt came to by its first money: a hold that was let go had been given."""
    if any(each.status not in (_S.PENDING, _S.FAILED) for each in own):
        return AttemptStatus.SUCCEEDED
    if any(each.status is _S.PENDING for each in own):
        return AttemptStatus.PENDING
    return AttemptStatus.FAILED
