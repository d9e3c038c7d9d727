"""The play: nine scenes, each with what to notice. What is otherwise than it should be is said and counted.

What differs between providers is asked of the gateway (`Stage.account`, as ListProviders tells it), never assumed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.text import Text

from gateway.demo import wording
from gateway.demo.billing import Billing, on_the_wire
from gateway.demo.installation import ACCOUNT, ACCOUNT_AWAY, RULE_OF_AWAY
from gateway.demo.provider import ProviderSide
from gateway.demo.telling import Telling
from obol.client import CallRecord, Pace, key_for, repeat_until_answered
from obol.v1.money_pb2 import Money
from obol.v1.observation_pb2 import Observation, ObservationKind, ObservationSource
from obol.v1.operations_pb2 import ProviderAccount
from obol.v1.payment_gateway_pb2 import (
    CapturePaymentRequest,
    CreatePaymentRequest,
    GetPaymentTimelineRequest,
    RefundPaymentRequest,
)
from obol.v1.payment_pb2 import CaptureMethod, DeclineReason, DisputeState, Payment, PaymentState, RouteOutcome

RETURN_URL = "https://shop.example/thanks"


@dataclass(slots=True)
class Stage:
    """What scenes play on, and what earlier ones left there: payments by order, and disagreements.

    `account` is what the gateway says that its account can do. `check` raises where a process has ended, so that nobody
    waits for it.
    """

    billing: Billing
    provider: ProviderSide
    account: ProviderAccount
    telling: Telling
    check: Callable[[], None]
    payments: dict[str, Payment] = field(default_factory=dict)
    requests: dict[str, CreatePaymentRequest] = field(default_factory=dict)
    first_reply: bytes = b""
    otherwise: list[str] = field(default_factory=list)

    def can(self, capability: str) -> bool:
        """Whether the account can do this, in the words of ListProviders."""
        return capability in self.account.capabilities

    def currency(self, *wanted: str) -> str:
        """The first of these that the account takes."""
        return next(code for code in wanted if code in self.account.currencies)

    @property
    def pace(self) -> Pace:
        """For calls that are repeated: nobody waits for a process that has ended."""

        def sleep(seconds: float) -> None:
            self.check()
            time.sleep(seconds)

        return Pace(sleep=sleep)

    def say(self, who: str, *words: str | Text) -> None:
        """Tell one line."""
        self.telling.say(wording.Line(who, Text.assemble(*words)))

    def expect(self, holds: bool, otherwise: str) -> None:
        """Count a disagreement unless `holds`."""
        if not holds:
            self.otherwise.append(otherwise)
            self.say("WRONG", Text(otherwise, "bold red"))

    def expect_state(self, payment: Payment, wanted: PaymentState.ValueType) -> None:
        """Count a disagreement unless the payment is in this state."""
        found = PaymentState.Name(payment.state)
        self.expect(payment.state == wanted, f"{payment.order_reference} is {found}, not {PaymentState.Name(wanted)}")

    def create(self, order: str, amount: Money, method: str, *, manual: bool = False) -> Payment:
        """Billing asks for a payment, and repeats until there is an answer."""
        request = CreatePaymentRequest(
            # From what identifies the charge in the books of Billing: a crash and a new start make the same key.
            idempotency_key=key_for("invoice", order, "attempt", 1),
            amount=amount,
            capture_method=CaptureMethod.CAPTURE_METHOD_MANUAL if manual else CaptureMethod.CAPTURE_METHOD_AUTOMATIC,
            payment_method=method,
            return_url=RETURN_URL,
            order_reference=order,
            order_reference_unique=True,
            description=f"Invoice for {order}",
        )
        self.say(
            "billing",
            f"CreatePayment {order}, {wording.money(amount)}, {method}",
            ", to be captured later" if manual else "",
        )
        reply = repeat_until_answered(self.billing.payments.create_payment, request, pace=self.pace)
        self.requests[order] = request
        self.first_reply = self.first_reply or on_the_wire(reply)
        return self.answered(reply.payment)

    def capture(self, order: str, amount: Money, *, final: bool) -> Payment:
        """Billing captures a part."""
        request = CapturePaymentRequest(
            idempotency_key=key_for("shipment", order, "parcel", 2 if final else 1),
            payment_id=self.payments[order].payment_id,
            amount=amount,
            final_capture=final,
        )
        self.say("billing", f"CapturePayment {wording.money(amount)}", ", final" if final else ", more to come")
        reply = repeat_until_answered(self.billing.payments.capture_payment, request, pace=self.pace)
        return self.answered(reply.payment)

    def refund(self, order: str, note: str, amount: Money | None) -> Payment:
        """Billing gives money back; without an amount all that is left."""
        request = RefundPaymentRequest(
            idempotency_key=key_for("credit-note", order, note),
            payment_id=self.payments[order].payment_id,
            amount=amount,
            reason=note,
        )
        self.say("billing", f"RefundPayment {'of all that is left' if amount is None else wording.money(amount)}")
        reply = repeat_until_answered(self.billing.payments.refund_payment, request, pace=self.pace)
        return self.answered(reply.payment)

    def answered(self, payment: Payment, *, replayed: bool = False) -> Payment:
        """Tell how a payment stands, keep it, and wait until Billing has observed that too."""
        self.say("gateway", wording.payment(payment, replayed=replayed))
        self.payments[payment.order_reference] = payment
        state = PaymentState.Name(payment.state)
        self.hear(payment.order_reference, state, lambda seen: seen.payment_version >= payment.version)
        return payment

    def hear(self, order: str, what: str, matches: Callable[[Observation], bool]) -> Observation:
        """Wait until Billing has observed this of an order."""
        return self.billing.ledger.wait_for(
            lambda seen: seen.order_reference == order and matches(seen), f"{order}: {what}", self.check
        )


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene: its title, what to notice, and how it goes."""

    title: str
    notice: str
    play: Callable[[Stage], None]


def _captured(stage: Stage) -> None:
    payment = stage.create(
        "order-1001", Money(amount_minor=4_990, currency_code="EUR"), stage.provider.methods.approved
    )
    stage.expect_state(payment, PaymentState.PAYMENT_STATE_CAPTURED)


def _again(stage: Stage) -> None:
    request, before = stage.requests["order-1001"], len(stage.provider.effects())
    stage.say("billing", "CreatePayment order-1001, with the same idempotency key")
    reply, replayed = stage.billing.create_again(request)
    same, charged = reply == stage.first_reply, len(stage.provider.effects()) - before
    stage.say(
        "gateway",
        f"the same {len(reply)} bytes" if same else "another reply",
        Text("  obol-replayed: true" if replayed else "  not marked as a replay", "dim"),
    )
    stage.say(stage.provider.name, f"{charged} new charges")
    stage.expect(same, "the same call again got another reply")
    stage.expect(replayed, "the repeated reply is not marked obol-replayed")
    stage.expect(not charged, "the same call again charged a second time")


def _action(stage: Stage) -> None:
    order = "order-1002"
    payment = stage.create(order, Money(amount_minor=12_500, currency_code="USD"), stage.provider.methods.needs_action)
    stage.expect_state(payment, PaymentState.PAYMENT_STATE_REQUIRES_ACTION)
    stage.say("customer", f"approves at {payment.next_action.redirect_url}")
    back = stage.provider.approve(payment.next_action.redirect_url)
    stage.say("customer", f"is sent back to {back}; Billing does not believe a browser, and waits")
    wanted = stage.provider.sent_back(RETURN_URL, payment.provider_reference.provider_payment_id)
    stage.expect(back == wanted, f"the customer was sent to {back or 'nowhere'}")
    seen = stage.hear(order, "CAPTURED", lambda seen: seen.payment_state == PaymentState.PAYMENT_STATE_CAPTURED)
    if seen.source == ObservationSource.OBSERVATION_SOURCE_API_REPLY and stage.can("COMPLETE"):
        stage.say("gateway", "heard of the approval by the webhook, and completed the payment itself")
        stage.say("billing", "heard of that, as an observation")
        return
    stage.expect(
        seen.source == ObservationSource.OBSERVATION_SOURCE_CALLBACK,
        f"the webhook should have told it, but {ObservationSource.Name(seen.source)} did",
    )
    stage.say("billing", "heard of it by the webhook, as an observation")


def _part(stage: Stage) -> None:
    order, currency = "order-1003", "EUR"
    held = stage.create(
        order, Money(amount_minor=12_000, currency_code=currency), stage.provider.methods.approved, manual=True
    )
    stage.expect_state(held, PaymentState.PAYMENT_STATE_AUTHORIZED)
    taken = stage.capture(order, Money(amount_minor=8_000, currency_code=currency), final=True)
    stage.expect_state(taken, PaymentState.PAYMENT_STATE_CAPTURED)
    stage.expect(
        taken.money.captured.amount_minor == 8_000 and not taken.money.capturable.amount_minor,
        f"{wording.money(taken.money.captured)} are captured, {wording.money(taken.money.capturable)} still capturable",
    )


def _parts(stage: Stage) -> None:
    order, currency = "order-1003", "EUR"
    held = stage.create(
        order, Money(amount_minor=12_000, currency_code=currency), stage.provider.methods.approved, manual=True
    )
    stage.expect_state(held, PaymentState.PAYMENT_STATE_AUTHORIZED)
    part = stage.capture(order, Money(amount_minor=8_000, currency_code=currency), final=False)
    stage.expect_state(part, PaymentState.PAYMENT_STATE_PARTIALLY_CAPTURED)
    whole = stage.capture(order, Money(amount_minor=4_000, currency_code=currency), final=True)
    stage.expect_state(whole, PaymentState.PAYMENT_STATE_CAPTURED)


def _declined(stage: Stage) -> None:
    # Three decimals where they are taken.
    amount = Money(amount_minor=25_000, currency_code=stage.currency("KWD", "GBP"))
    payment = stage.create("order-1004", amount, stage.provider.methods.declined)
    stage.expect_state(payment, PaymentState.PAYMENT_STATE_FAILED)
    stage.expect(
        payment.decline.reason == DeclineReason.DECLINE_REASON_INSUFFICIENT_FUNDS,
        f"the decline says {DeclineReason.Name(payment.decline.reason)}",
    )


def _unknown(stage: Stage) -> None:
    order, before = "order-1005", len(stage.provider.effects())
    # Without webhooks it is recovery alone that finds out; with them either could be first, and the scene another.
    with stage.provider.callbacks_lost():
        stage.say(stage.provider.name, "books the charge, drops the connection, and sends no webhook")
        method = stage.provider.lose_next_answer()
        payment = stage.create(order, Money(amount_minor=3_000, currency_code="JPY"), method)
        stage.expect_state(payment, PaymentState.PAYMENT_STATE_UNKNOWN)
        stage.say("billing", "does not pay again, and waits")
        seen = stage.hear(order, "CAPTURED", lambda seen: seen.payment_state == PaymentState.PAYMENT_STATE_CAPTURED)
    stage.expect(
        seen.source == ObservationSource.OBSERVATION_SOURCE_RECOVERY,
        f"recovery should have found it, but {ObservationSource.Name(seen.source)} did",
    )
    stage.say("billing", f"CreatePayment {order}, with the same idempotency key")
    record = CallRecord()
    request, create = stage.requests[order], stage.billing.payments.create_payment
    reply = repeat_until_answered(create, request, pace=stage.pace, record=record)
    stage.answered(reply.payment, replayed=record.replayed)
    stage.expect_state(reply.payment, PaymentState.PAYMENT_STATE_CAPTURED)
    charged = len(stage.provider.effects()) - before
    stage.say(stage.provider.name, f"{charged} charge in all")
    stage.expect(charged == 1, f"one payment made {charged} charges")


def _failover(stage: Stage) -> None:
    order, before = "order-1006", len(stage.provider.effects())
    stage.say("rule", f"{RULE_OF_AWAY}: {ACCOUNT_AWAY} first, then {ACCOUNT}; {ACCOUNT_AWAY} refuses every connection")
    payment = stage.create(order, Money(amount_minor=7_700, currency_code="CHF"), stage.provider.methods.approved)
    stage.expect_state(payment, PaymentState.PAYMENT_STATE_CAPTURED)
    stage.expect(
        payment.provider_reference.account_id == ACCOUNT,
        f"{order} is at {payment.provider_reference.account_id}, not at {ACCOUNT}",
    )
    asked = GetPaymentTimelineRequest(payment_id=payment.payment_id)
    route = stage.billing.payments.get_payment_timeline(asked).route
    for reason in route.reasons:
        stage.say("why", reason)
    for attempt in route.attempts:
        outcome = RouteOutcome.Name(attempt.outcome).removeprefix("ROUTE_OUTCOME_")
        stage.say("why", f"{attempt.account_id}: {outcome}", f", {attempt.detail}" if attempt.detail else "")
    tried = [(attempt.account_id, attempt.outcome) for attempt in route.attempts]
    stage.expect(
        tried == [(ACCOUNT_AWAY, RouteOutcome.ROUTE_OUTCOME_NOT_SENT), (ACCOUNT, RouteOutcome.ROUTE_OUTCOME_CHOSEN)],
        f"{order} was tried at {tried}",
    )
    charged = len(stage.provider.effects()) - before
    stage.say(stage.provider.name, f"{charged} charge in all")
    stage.expect(charged == 1, f"one payment made {charged} charges")


def _refunds(stage: Stage) -> None:
    order = "order-1001"
    part = stage.refund(order, "credit-note-1", Money(amount_minor=1_490, currency_code="EUR"))
    stage.expect_state(part, PaymentState.PAYMENT_STATE_PARTIALLY_REFUNDED)
    whole = stage.refund(order, "credit-note-2", None)
    stage.expect_state(whole, PaymentState.PAYMENT_STATE_REFUNDED)


def _dispute(stage: Stage) -> None:
    # Captured at once: of one captured in parts, some providers have a dispute for each capture.
    order = "order-1005"
    payment = stage.payments[order]
    stage.say(stage.provider.name, f"the customer's bank asks the {wording.money(payment.money.captured)} back")
    stage.provider.dispute(payment.provider_reference.provider_payment_id, payment.money.captured.amount_minor)
    seen = stage.hear(order, "a dispute", lambda seen: seen.kind == ObservationKind.OBSERVATION_KIND_DISPUTE_CHANGED)
    stage.expect(
        seen.dispute_state == DisputeState.DISPUTE_STATE_OPEN and seen.money.disputed == payment.money.captured,
        f"the dispute is {DisputeState.Name(seen.dispute_state)} over {wording.money(seen.money.disputed)}",
    )
    stage.say("billing", "nobody asked for this one: the gateway adopted it, and Billing knows")


def scenes(stage: Stage) -> tuple[Scene, ...]:
    """The play, as this account can play it."""
    parts = Scene("Captured in two parts", "The money is held first, then taken parcel by parcel.", _parts)
    part = Scene("Captured in part", "The money is held first; a part is taken, and the rest is let go.", _part)
    return (
        Scene("A payment", "One call, one charge, and an observation that Billing accepts as a fact.", _captured),
        Scene("The same call again", "The reply is the same, byte for byte, and nobody is charged twice.", _again),
        Scene(
            "The customer must act",
            "REQUIRES_ACTION is no failure: the customer approves, and a webhook leads to the payment's end.",
            _action,
        ),
        parts if stage.can("CAPTURE_MULTIPLE") else part,
        Scene("A decline", "A decline is an answer with a reason and advice, not an error.", _declined),
        Scene(
            "The answer is lost",
            "UNKNOWN is not FAILED: the gateway asks the provider, and only its evidence ends the doubt. One charge.",
            _unknown,
        ),
        Scene(
            "The first provider is not there",
            "A refused connection proves that nothing was sent: the payment goes on to the next account. "
            "After UNKNOWN it never would.",
            _failover,
        ),
        Scene(
            "Refunds", "A part of the first payment goes back, then the rest; never more than was captured.", _refunds
        ),
        Scene("A dispute", "The provider moves money by itself; the payment shows it on an axis of its own.", _dispute),
    )
