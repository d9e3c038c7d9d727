"""The engine at a desk: plans are claimed and lessons settled on one aggregate in memory, by the pure functions alone.

The desk keeps what a store would: claims by the store's guards, settlements by its version and epochs, and the history,
the observations and the replies that came of them.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from gateway.app.adjusting import plan_adjust
from gateway.app.engine import Plan
from gateway.app.failover import plan_next_step
from gateway.app.identity import Wish, identity_of
from gateway.app.learning import aggregate_after
from gateway.app.leaving import last_operation
from gateway.app.planning import (
    plan_cancel,
    plan_capture,
    plan_complete,
    plan_confirm,
    plan_create,
    plan_refund,
)
from gateway.app.replies import CommandView
from gateway.app.requests import (
    AdjustAuthorization,
    CancelPayment,
    CapturePayment,
    CommandRequest,
    CompletePayment,
    ConfirmPayment,
    CreatePayment,
    RefundPayment,
    request_hash,
)
from gateway.app.settings import EngineSettings
from gateway.app.settling import Lesson, settlement_of
from gateway.app.verdicts import Verdict, classify
from gateway.domain.adjustments import AdjustmentTerms
from gateway.domain.commands import EXCLUSIVE_KINDS, Caller, Command, CommandKind, Operation, PreparedRequest
from gateway.domain.observations import Observation, ObservationKind, Source
from gateway.domain.payments import CaptureMethod, ConfirmationMethod, Payment, PaymentTerms, Refund
from gateway.domain.providers import (
    Account,
    AccountHealth,
    Admission,
    Capabilities,
    Lookup,
    OperationReference,
    Outcome,
    Snapshot,
)
from gateway.domain.routes import Route
from gateway.domain.states import CommandState, PaymentState
from gateway.domain.storage import Aggregate, CallbackChange, CallbackState, Entity, Settlement, Transition

CALLER = Caller("tenant_1", "org_1", "billing", "corr_1")
NOW_US = 1_700_000_000_000_000
SETTINGS = EngineSettings()

CAPABILITIES = Capabilities(
    provider="paper",
    currencies=frozenset(),
    capture_methods=frozenset(CaptureMethod),
    confirmation_methods=frozenset(ConfirmationMethod),
    partial_capture=True,
    multiple_capture=True,
    refunds=True,
    partial_refund=True,
    key_window_s=86_400,
    absence_is_consistent=True,
    flight_s_max=60,
    adjustment=AdjustmentTerms(raises_amount=True, extends_validity=True),
)


class PaperAdapter:
    """Prepares requests, and has no wire to send them by."""

    def __init__(self, capabilities: Capabilities = CAPABILITIES) -> None:
        self._capabilities = capabilities

    @property
    def account_id(self) -> str:
        return "paper_main"

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def execute(self, prepared: PreparedRequest, *, send_before: float, timeout_s: float) -> Outcome:
        raise AssertionError("a paper adapter sends nothing")

    async def fetch(self, provider_payment_id: str, *, timeout_s: float) -> Lookup:
        raise AssertionError("a paper adapter reads nothing")

    async def lookup(self, payment_id: str, *, timeout_s: float) -> Lookup:
        raise AssertionError("a paper adapter reads nothing")

    async def close(self) -> None: ...

    def prepare_create(self, reference: OperationReference, terms: PaymentTerms) -> PreparedRequest:
        return _prepared(reference, "/create", terms.amount_minor)

    def prepare_confirm(
        self, reference: OperationReference, payment: Payment, *, payment_method: str, return_url: str
    ) -> PreparedRequest:
        return _prepared(reference, "/confirm", payment.terms.amount_minor)

    def prepare_complete(self, reference: OperationReference, payment: Payment) -> PreparedRequest:
        return _prepared(reference, "/complete", payment.terms.amount_minor)

    def prepare_capture(
        self, reference: OperationReference, payment: Payment, *, amount_minor: int, final: bool
    ) -> PreparedRequest:
        return _prepared(reference, "/capture", amount_minor)

    def prepare_adjust(self, reference: OperationReference, payment: Payment, *, total_minor: int) -> PreparedRequest:
        return _prepared(reference, "/adjust", total_minor)

    def prepare_cancel(self, reference: OperationReference, payment: Payment, *, reason: str) -> PreparedRequest:
        return _prepared(reference, "/cancel", 0)

    def prepare_refund(
        self, reference: OperationReference, payment: Payment, *, amount_minor: int, reason: str
    ) -> PreparedRequest:
        return _prepared(reference, "/refund", amount_minor)


def _prepared(reference: OperationReference, path: str, amount_minor: int) -> PreparedRequest:
    return PreparedRequest("POST", path, str(amount_minor), reference.idempotency_key, "1", CAPABILITIES.key_window_s)


@dataclass(frozen=True)
class PaperAccount:
    """An account without a breaker and a bulkhead: nothing is sent."""

    adapter: Any = field(default_factory=PaperAdapter)
    account_id: str = "paper_main"
    provider: str = "paper"
    health: AccountHealth = AccountHealth.CLOSED

    async def admit(self, *, wait_s: float) -> Admission:
        raise AssertionError("nothing is sent from paper")


ACCOUNT: Account = PaperAccount()


class Words:
    """A codec: a view in words, equal for equal views."""

    def encode(self, view: CommandView) -> bytes:
        return repr((view.rpc, view.command_id, view.state, view.decline, view.payment, view.refund)).encode()


def wish_of(kind: CommandKind, request: CommandRequest) -> Wish:
    """Who asks, at the desk."""
    return Wish(CALLER, f"{kind.title()}Payment", kind, request.idempotency_key, request_hash(request), NOW_US)


def creation(**terms: Any) -> CreatePayment:
    """A payment of $1.00 unless `terms` say otherwise."""
    return CreatePayment(**{"idempotency_key": "key-create", "amount_minor": 100, "currency": "USD", **terms})


class GuardRefused(Exception):
    """The claim's guard did not hold: nothing was written."""


class Desk:
    """One payment and its commands, from its create on."""

    def __init__(self, request: CreatePayment | None = None, route: Route | None = None) -> None:
        request = request or creation()
        wish = wish_of(CommandKind.CREATE, request)
        plan = plan_create(wish, request, ACCOUNT, identity_of(wish), route)
        assert plan.payment is not None
        self.created_as = plan.payment
        self.aggregate = Aggregate(plan.payment, (), (), ())
        self.history: list[Transition] = [Transition(Entity.PAYMENT, plan.payment.payment_id, "", plan.payment.state)]
        self.observations: list[Observation] = []
        self.replies: dict[str, bytes] = {}
        self.create = self.claim(plan)

    @property
    def payment(self) -> Payment:
        return self.aggregate.payment

    # Commands

    def plan(self, kind: CommandKind, amount_minor: int | None = None, **rest: Any) -> Plan:
        """The plan of a later command on the payment as it stands, under a key of its own."""
        key, base = f"key-{len(self.aggregate.commands)}", self.aggregate
        currency = "" if amount_minor is None else base.payment.terms.currency
        named: dict[str, Any] = {"idempotency_key": key, "payment_id": base.payment.payment_id, **rest}
        amount: dict[str, Any] = {"amount_minor": amount_minor, "currency": currency}
        payment_id = base.payment.payment_id
        account = PaperAccount(account_id=base.payment.account_id)
        match kind:
            case CommandKind.CONFIRM:
                confirm = ConfirmPayment(**named)
                wish = wish_of(kind, confirm)
                return plan_confirm(wish, confirm, base, account, identity_of(wish, payment_id))
            case CommandKind.CAPTURE:
                capture = CapturePayment(**named, **amount)
                wish = wish_of(kind, capture)
                return plan_capture(wish, capture, base, account, identity_of(wish, payment_id))
            case CommandKind.ADJUST:
                adjust = AdjustAuthorization(**named, **amount)
                wish = wish_of(kind, adjust)
                return plan_adjust(wish, adjust, base, account, identity_of(wish, payment_id))
            case CommandKind.CANCEL:
                cancel = CancelPayment(**named)
                wish = wish_of(kind, cancel)
                return plan_cancel(wish, cancel, base, account, identity_of(wish, payment_id))
            case CommandKind.REFUND:
                refund = RefundPayment(**named, **amount)
                wish = wish_of(kind, refund)
                return plan_refund(wish, refund, base, account, identity_of(wish, payment_id))
            case CommandKind.COMPLETE:
                complete = CompletePayment(**named)
                wish = wish_of(kind, complete)
                return plan_complete(wish, base, account, identity_of(wish, payment_id))
            case CommandKind.CREATE:
                raise AssertionError("a payment is created once")

    def claim(self, plan: Plan) -> Operation:
        """Write the claim by the store's guards. Raises GuardRefused."""
        if plan.expected_version is not None and plan.expected_version != self.payment.version:
            raise GuardRefused("the payment has moved on")
        operation = replace(plan.operation, epoch=1, lease_until_us=NOW_US, last_send_us=NOW_US)
        payment = self._guarded(operation, version=self.payment.version + (plan.payment is None))
        old = self.aggregate
        refunds = (*old.refunds, plan.refund) if plan.refund else old.refunds
        self.aggregate = Aggregate(payment, (*old.commands, plan.command), (*old.operations, operation), refunds)
        self._began(operation, "")
        return operation

    def claim_again(self, operation: Operation) -> Operation:
        """The same key once more, for a command that provably had no effect. Raises GuardRefused."""
        now = self.operation(operation)
        assert now.state is CommandState.NOT_SENT
        reserved = now.amount_minor if now.kind in (CommandKind.CAPTURE, CommandKind.REFUND) else 0
        sending = CommandState.SENDING
        again = replace(now, state=sending, epoch=now.epoch + 1, reserved_minor=reserved, lease_until_us=NOW_US)
        old = self.aggregate
        self.aggregate = Aggregate(
            self._guarded(again, version=self.payment.version + 1),
            tuple(replace(c, state=sending) if c.command_id == now.command_id else c for c in old.commands),
            tuple(again if o.operation_id == now.operation_id else o for o in old.operations),
            tuple(replace(r, state=sending) if r.refund_id == now.refund_id else r for r in old.refunds),
        )
        self._began(again, CommandState.NOT_SENT)
        return again

    def go_on(self, account: Account) -> Operation:
        """The create's next step at `account`, by the store's guards. Raises GuardRefused."""
        command = next(c for c in self.aggregate.commands if c.kind is CommandKind.CREATE)
        route = self.payment.route
        assert route is not None
        if command.state is not CommandState.SENDING:
            raise GuardRefused("the create is over")
        step = last_operation(command.command_id, self.aggregate.operations).step + 1
        plan = plan_next_step(command, self.aggregate, account, step, replace(route, failing_over=False))
        assert plan.payment is not None
        old = self.aggregate
        operation = replace(plan.operation, epoch=1, lease_until_us=NOW_US, last_send_us=NOW_US)
        moved = replace(plan.payment, version=old.payment.version + 1)
        self.aggregate = Aggregate(moved, old.commands, (*old.operations, operation), old.refunds)
        self.history.append(Transition(Entity.OPERATION, operation.operation_id, "", CommandState.SENDING))
        return operation

    def _guarded(self, operation: Operation, version: int) -> Payment:
        payment, kind, wanted = self.payment, operation.kind, operation.reserved_minor
        exclusive = kind in EXCLUSIVE_KINDS
        if exclusive and payment.busy_command_id is not None:
            raise GuardRefused("the payment is busy")
        if kind is CommandKind.CAPTURE and wanted > payment.capturable_minor:
            raise GuardRefused("more than is capturable")
        if kind is CommandKind.REFUND and wanted > payment.refundable_minor:
            raise GuardRefused("more than is refundable")
        capture, refund = kind is CommandKind.CAPTURE, kind is CommandKind.REFUND
        return replace(
            payment,
            version=version,
            busy_command_id=operation.command_id if exclusive else payment.busy_command_id,
            reserved_capture_minor=payment.reserved_capture_minor + (wanted if capture else 0),
            reserved_refund_minor=payment.reserved_refund_minor + (wanted if refund else 0),
        )

    def _began(self, operation: Operation, before: str) -> None:
        ids = {
            Entity.COMMAND: operation.command_id,
            Entity.OPERATION: operation.operation_id,
            Entity.REFUND: operation.refund_id,
        }
        self.history += [Transition(of, name, before, CommandState.SENDING) for of, name in ids.items() if name]

    def send(self, kind: CommandKind, amount_minor: int | None = None, **rest: Any) -> Operation:
        """Plan and claim."""
        return self.claim(self.plan(kind, amount_minor, **rest))

    # Lessons

    def answered(self, operation: Operation, outcome: Outcome, *, resend: bool = False) -> Settlement:
        """The provider's answer to a send of `operation`, classified and settled."""
        now = self.operation(operation)
        return self.concluded(now, classify(now, self.payment.terms, outcome, resend=resend))

    def concluded(self, operation: Operation, verdict: Verdict, source: Source = Source.API_REPLY) -> Settlement:
        """A verdict of the holder of `operation`'s lease."""
        now = self.operation(operation)
        lesson = Lesson(
            source=source,
            causation_id=now.operation_id,
            snapshot=verdict.snapshot,
            operation_id=now.operation_id,
            epoch=now.epoch,
            verdict=verdict,
            contradiction=verdict.failure if verdict.quarantined else "",
        )
        settlement = self.learn(lesson)
        assert settlement is not None
        return settlement

    def called_back(self, snapshot: Snapshot) -> Settlement | None:
        """A callback from the inbox, whose object was fetched."""
        change = CallbackChange("cbk_1", 1, CallbackState.APPLIED)
        return self.learn(Lesson(Source.CALLBACK, "cbk_1", snapshot, callback=change))

    def read(self, snapshot: Snapshot) -> Settlement | None:
        """A reader's snapshot, as SyncPayment has one."""
        return self.learn(Lesson(Source.RECOVERY, "sync", snapshot))

    def learn(self, lesson: Lesson) -> Settlement | None:
        """Settle a lesson as the store would, by version and epochs, and keep what it says."""
        before = self.aggregate
        settlement = settlement_of(before, lesson, now_us=NOW_US, codec=Words(), settings=SETTINGS)
        if settlement is None:
            return None
        assert settlement.expected_version == before.payment.version
        assert settlement.payment.version == before.payment.version + 1
        epochs = {o.operation_id: o.epoch for o in before.operations}
        for change in settlement.operations:
            assert change.expected_epoch == epochs[change.operation.operation_id]
        for command in settlement.commands:
            if command.reply is not None:
                self.replies.setdefault(command.command_id, command.reply)
        self.history += settlement.transitions
        self.observations += settlement.observations
        after = aggregate_after(before, settlement)
        ended = {change.operation.operation_id for change in settlement.operations}
        operations = tuple(replace(o, lease_until_us=None) if o.operation_id in ended else o for o in after.operations)
        self.aggregate = replace(after, operations=operations)
        return settlement

    # What is known

    def state(self) -> PaymentState:
        """The payment axis as it stands."""
        return self.aggregate.payment.state

    def operation(self, operation: Operation) -> Operation:
        """`operation` as it stands."""
        return next(o for o in self.aggregate.operations if o.operation_id == operation.operation_id)

    def command(self, operation: Operation) -> Command:
        """The command of `operation` as it stands."""
        return next(c for c in self.aggregate.commands if c.command_id == operation.command_id)

    def refund(self, operation: Operation) -> Refund:
        """The refund of `operation` as it stands."""
        return next(r for r in self.aggregate.refunds if r.refund_id == operation.refund_id)

    def said(self, kind: ObservationKind) -> list[Observation]:
        """The observations of a kind, in order."""
        return [each for each in self.observations if each.kind is kind]
