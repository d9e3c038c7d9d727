"""Any sequence of commands, answers, losses, callbacks and provider's deeds keeps the promises of settling.

The machine holds the gateway's desk and the provider's books side by side. Nothing that the desk learns is more than an
answer, a look or a callback would bring, early, late, twice or never.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import reduce

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.app.requests import CreatePayment
from gateway.app.verdicts import NEVER_EXECUTED, Verdict, verdict_of_facts
from gateway.domain.commands import CommandKind, Operation
from gateway.domain.derivation import derive_dispute_state, derive_payment_state, derive_sums
from gateway.domain.errors import Precondition
from gateway.domain.movements import AttemptStatus, Closure, Facts, MovementKind, MovementStatus, Origin
from gateway.domain.observations import ObservationKind, Source
from gateway.domain.payments import CaptureMethod, ConfirmationMethod
from gateway.domain.providers import Ambiguous, Answered, NotExecuted, NotSent, Snapshot
from gateway.domain.states import (
    FINAL_COMMAND_STATES,
    RESERVING_STATES,
    CommandState,
    DisputeState,
    PaymentState,
    check_edge,
)
from gateway.domain.storage import Entity
from tests.unit.app.books import Books
from tests.unit.app.desk import Desk, GuardRefused, creation

C, K, S = CommandKind, MovementKind, MovementStatus
OUTCOMES = st.sampled_from(AttemptStatus)
AMOUNTS = st.sampled_from([None, 1, 40, 60, 100])


class Settling(RuleBasedStateMachine):
    """The desk and the books."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk()
        self.books = Books(self.desk.payment)
        self.seen: list[Snapshot] = []
        self.learned: list[Facts] = []
        self.replies: dict[str, bytes] = {}
        self.provider_took_money = False
        self.came_late = False

    @initialize(
        capture=st.sampled_from(CaptureMethod),
        confirmation=st.sampled_from(ConfirmationMethod),
        begun=st.sampled_from(["claimed", "made", "made", "approved", "approved"]),
        keeps_former=st.booleans(),
    )
    def create(self, capture: CaptureMethod, confirmation: ConfirmationMethod, begun: str, keeps_former: bool) -> None:
        completes = begun == "approved"
        confirmation = ConfirmationMethod.AUTOMATIC if completes else confirmation
        request: CreatePayment = creation(capture_method=capture, confirmation_method=confirmation)
        self.desk = Desk(request)
        self.books = Books(self.desk.payment, completes=completes, keeps_former=keeps_former)
        if completes:
            self.answered(self.desk.create, AttemptStatus.REQUIRES_ACTION)
            self.books.approve()
        if begun == "made":
            self.answered(self.desk.create, AttemptStatus.SUCCEEDED)
            if confirmation is ConfirmationMethod.MANUAL:
                self.answered(self.desk.send(C.CONFIRM), AttemptStatus.SUCCEEDED)

    # Our side

    @rule(
        kind=st.sampled_from([C.CONFIRM, C.CAPTURE, C.ADJUST, C.CANCEL, C.REFUND, C.REFUND]),
        amount=AMOUNTS,
        final=st.booleans(),
    )
    def ask(self, kind: CommandKind, amount: int | None, final: bool) -> None:
        """A command, where the payment can take it; where we complete there is no confirming, and the other way."""
        if kind is C.CONFIRM and self.books.completes:
            kind = C.COMPLETE
        rest = {"final": final} if kind is C.CAPTURE else {}
        if kind is C.ADJUST and amount is not None:
            amount += 100  # a total, of what was 100 at first
        with suppress(Precondition, GuardRefused):
            self.desk.send(kind, amount if kind in (C.CAPTURE, C.ADJUST, C.REFUND) else None, **rest)

    @precondition(lambda self: self.operations(CommandState.SENDING))
    @rule(data=st.data(), outcome=OUTCOMES)
    def answer_arrives(self, data: st.DataObject, outcome: AttemptStatus) -> None:
        """The provider carried it out, or refused, and says so."""
        self.answered(self.drawn(data, CommandState.SENDING), outcome)

    @precondition(lambda self: self.operations(CommandState.SENDING))
    @rule(data=st.data(), outcome=OUTCOMES, arrives=st.booleans())
    def answer_is_lost(self, data: st.DataObject, outcome: AttemptStatus, arrives: bool) -> None:
        """Nobody knows whether it was carried out."""
        operation = self.drawn(data, CommandState.SENDING)
        if arrives:
            self.books.execute(operation, outcome)
        self.settled(operation, lambda: self.desk.answered(operation, Ambiguous("timed out")))

    @precondition(lambda self: self.operations(CommandState.SENDING))
    @rule(data=st.data(), reached=st.booleans())
    def nothing_is_done(self, data: st.DataObject, reached: bool) -> None:
        """It was never sent, or the provider documents that it did nothing."""
        operation = self.drawn(data, CommandState.SENDING)
        answer = NotExecuted("429") if reached else NotSent("no connection")
        self.settled(operation, lambda: self.desk.answered(operation, answer))

    @precondition(lambda self: self.operations(CommandState.NOT_SENT))
    @rule(data=st.data())
    def the_key_tries_again(self, data: st.DataObject) -> None:
        """A command that provably had no effect is claimed again, as itself."""
        operation = self.drawn(data, CommandState.NOT_SENT)
        with suppress(GuardRefused):
            self.desk.claim_again(operation)

    @precondition(lambda self: self.operations(CommandState.NOT_SENT))
    @rule(data=st.data(), outcome=OUTCOMES)
    def what_was_held_for_not_sent_is_begun(self, data: st.DataObject, outcome: AttemptStatus) -> None:
        """The provider said that it did nothing, and did it all the same: only evidence can tell."""
        self.came_late |= isinstance(self.books.execute(self.drawn(data, CommandState.NOT_SENT), outcome), Answered)

    @precondition(lambda self: self.operations(CommandState.UNKNOWN))
    @rule(data=st.data(), outcome=OUTCOMES)
    def recovery_resends(self, data: st.DataObject, outcome: AttemptStatus) -> None:
        """The same request again, under the provider's same key."""
        operation = self.drawn(data, CommandState.UNKNOWN)
        answer = self.books.execute(operation, outcome)
        self.settled(operation, lambda: self.desk.answered(operation, answer, resend=True))

    @precondition(lambda self: self.operations(CommandState.UNKNOWN))
    @rule(data=st.data())
    def recovery_finds_nothing(self, data: st.DataObject) -> None:
        """A look that cannot miss, after the longest flight, concludes that it was never executed."""
        operation = self.drawn(data, CommandState.UNKNOWN)
        if operation.operation_id in self.books.executed:
            return
        verdict = Verdict(CommandState.FAILED, operation.sent, decline=NEVER_EXECUTED)
        self.settled(operation, lambda: self.desk.concluded(operation, verdict, Source.RECOVERY))

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), how=st.sampled_from(["callback", "sync"]))
    def an_earlier_view_is_learned(self, data: st.DataObject, how: str) -> None:
        """A callback or a look brings what the object once was: late, again, out of order."""
        snapshot = data.draw(st.sampled_from(self.seen), label="snapshot")
        self.learned_from(snapshot, how)

    @precondition(lambda self: self.books.made)
    @rule(how=st.sampled_from(["callback", "sync"]))
    def the_object_is_learned(self, how: str) -> None:
        """A callback or a look brings what the object is now."""
        self.shown(self.books.snapshot())
        self.learned_from(self.seen[-1], how)

    # The provider's side

    @precondition(lambda self: self.books.made)
    @rule(data=st.data())
    def the_provider_acts(self, data: st.DataObject) -> None:
        """Something happens at the provider that no command of ours asked for now."""
        books = self.books
        deeds: dict[str, Callable[[], bool]] = {
            "payer approves": books.approve,
            "attempt succeeds": lambda: books.finish_attempt(succeeds=True),
            "attempt fails": lambda: books.finish_attempt(succeeds=False),
            "dashboard cancels": books.cancel,
            "expires": lambda: books.cancel(Closure.EXPIRED),
            "refund succeeds": lambda: books.move(K.REFUND, S.PENDING, S.SUCCEEDED),
            "refund fails": lambda: books.move(K.REFUND, S.PENDING, S.FAILED),
            "refund comes back": lambda: books.move(K.REFUND, S.SUCCEEDED, S.FAILED),
            "refund is reversed": lambda: books.move(K.REFUND, S.SUCCEEDED, S.REVERSED),
            "inquiry": lambda: books.dispute(60, S.INQUIRY),
            "inquiry ends": lambda: books.move(K.DISPUTE, S.INQUIRY, S.INQUIRY_CLOSED),
            "dispute won": lambda: books.move(K.DISPUTE, S.OPEN, S.WON),
        }
        taking: dict[str, Callable[[], bool]] = {
            "dashboard refunds": lambda: books.refund_by_dashboard(60),
            "capture reversed": lambda: books.move(K.CAPTURE, S.SUCCEEDED, S.REVERSED),
            "dispute": lambda: books.dispute(60, S.OPEN),
            "dispute lost": lambda: books.move(K.DISPUTE, S.OPEN, S.LOST),
            "inquiry escalates": lambda: books.move(K.DISPUTE, S.INQUIRY, S.OPEN),
        }
        # The first of the drawn order that can happen, so that a step is seldom idle.
        for deed in data.draw(st.permutations(sorted({**deeds, **taking})), label="deeds"):
            if {**deeds, **taking}[deed]():
                self.provider_took_money |= deed in taking
                break
        if data.draw(st.booleans(), label="somebody looks"):
            self.shown(books.snapshot())

    @precondition(lambda self: any(o.decline == NEVER_EXECUTED for o in self.operations(CommandState.FAILED)))
    @rule(data=st.data())
    def a_send_arrives_after_all(self, data: st.DataObject) -> None:
        """What was held for never executed is executed: only evidence can tell."""
        absent = [o for o in self.operations(CommandState.FAILED) if o.decline == NEVER_EXECUTED]
        operation = data.draw(st.sampled_from(absent), label="operation")
        # A closure and a completion name no operation: the payment tells it, the command cannot.
        if operation.kind not in (C.CANCEL, C.COMPLETE):
            self.came_late |= isinstance(self.books.execute(operation), Answered)

    # What holds after every step

    @invariant()
    def reservations_are_those_of_operations_without_a_movement(self) -> None:
        payment, operations = self.desk.payment, self.desk.aggregate.operations
        for kind, reserved in ((C.CAPTURE, payment.reserved_capture_minor), (C.REFUND, payment.reserved_refund_minor)):
            holding = [o for o in operations if o.kind is kind and o.state in RESERVING_STATES]
            assert reserved == sum(o.amount_minor for o in holding)
        assert all(o.reserved_minor == 0 for o in operations if o.state not in RESERVING_STATES)

    @invariant()
    def our_money_fits(self) -> None:
        payment, sums = self.desk.payment, self.desk.payment.sums
        assert payment.capturable_minor >= 0
        assert payment.refundable_minor >= 0
        if not (self.provider_took_money or self.came_late):
            held = max(payment.terms.amount_minor, sums.authorized_minor)
            assert sums.captured_minor + payment.reserved_capture_minor <= held
            assert sums.refunded_minor + payment.reserved_refund_minor <= sums.captured_minor

    @invariant()
    def state_follows_from_facts(self) -> None:
        payment = self.desk.payment
        assert payment.facts == reduce(Facts.merge, reversed(self.learned), Facts())
        entry = [o.state for o in self.desk.aggregate.operations if o.kind in (C.CREATE, C.CONFIRM, C.COMPLETE)]
        assert payment.state is derive_payment_state(payment.facts, entry)
        assert payment.dispute_state is derive_dispute_state(payment.facts)
        assert payment.sums == derive_sums(payment.facts)

    @invariant()
    def a_command_concludes_once(self) -> None:
        concluded = Counter(o.command_id for o in self.desk.said(ObservationKind.COMMAND_CONCLUDED))
        for command in self.desk.aggregate.commands:
            assert concluded[command.command_id] == (command.state in FINAL_COMMAND_STATES)
            assert (command.reply is not None) == (command.state in FINAL_COMMAND_STATES)
        for observation in self.desk.said(ObservationKind.COMMAND_REVERSED):
            assert concluded[observation.command_id] == 1

    @invariant()
    def a_final_reply_never_changes(self) -> None:
        now = {c.command_id: c.reply for c in self.desk.aggregate.commands if c.reply is not None}
        assert self.replies == {command_id: now[command_id] for command_id in self.replies}
        self.replies = now

    @invariant()
    def replaying_the_history_gives_the_rows(self) -> None:
        replayed: dict[tuple[Entity, str], str] = {}
        for edge in self.desk.history:
            key = (edge.entity, edge.entity_id)
            assert replayed.get(key, "NONE" if edge.entity is Entity.DISPUTE else "") == edge.before
            if edge.before:
                check_edge(STATES[edge.entity](edge.before), STATES[edge.entity](edge.after))
            replayed[key] = edge.after
        aggregate = self.desk.aggregate
        rows = {
            (Entity.PAYMENT, aggregate.payment.payment_id): aggregate.payment.state,
            **{(Entity.COMMAND, c.command_id): c.state for c in aggregate.commands},
            **{(Entity.OPERATION, o.operation_id): o.state for o in aggregate.operations},
            **{(Entity.REFUND, r.refund_id): r.state for r in aggregate.refunds},
        }
        dispute = replayed.pop((Entity.DISPUTE, aggregate.payment.payment_id), "NONE")
        assert dispute == aggregate.payment.dispute_state
        assert replayed == rows

    @invariant()
    def what_shows_in_the_books_is_not_held_for_not_sent(self) -> None:
        payment = self.desk.payment
        for operation in self.operations(CommandState.NOT_SENT):
            assert verdict_of_facts(operation, payment.facts, payment.terms.confirmation_method) is None

    @invariant()
    def a_foreign_refund_is_adopted_once(self) -> None:
        refunds = self.desk.aggregate.refunds
        booked = {m.provider_movement_id: m for m in self.desk.payment.facts.movements if m.kind is K.REFUND}
        adopted = [r for r in refunds if r.origin is Origin.PROVIDER]
        foreign = sorted(name for name, movement in booked.items() if movement.operation_id is None)
        assert sorted(str(r.provider_refund_id) for r in adopted) == foreign
        assert all(r.command_id is None for r in adopted)
        known = [r.provider_refund_id for r in refunds if r.provider_refund_id]
        assert len(known) == len(set(known))

    @invariant()
    def an_exclusive_command_holds_the_payment_while_it_may_be_at_the_provider(self) -> None:
        exclusive = [
            o.command_id
            for o in self.desk.aggregate.operations
            if o.kind in (C.CONFIRM, C.CAPTURE, C.CANCEL, C.COMPLETE, C.ADJUST) and o.state in RESERVING_STATES
        ]
        assert exclusive == ([self.desk.payment.busy_command_id] if self.desk.payment.busy_command_id else [])

    def teardown(self) -> None:
        """With the books shown at last, what the gateway says is what is in them."""
        if not self.books.made:
            return
        self.learned_from(self.books.snapshot(), "sync")
        for operation in self.desk.aggregate.operations:
            if operation.state is CommandState.SUCCEEDED:
                assert self.books.stands(operation), operation
            elif operation.state in (CommandState.FAILED, CommandState.NOT_SENT, CommandState.REVERSED):
                assert operation.kind in (C.CANCEL, C.COMPLETE) or not self.books.stands(operation), operation
        payment = self.desk.payment
        if not payment.reserved_capture_minor and payment.state is not PaymentState.UNKNOWN:
            assert payment.capturable_minor == max(0, self.books.capturable_minor)
        open_and_unpaid = self.books.closure is Closure.OPEN and not payment.sums.captured_minor
        if self.books.waits and open_and_unpaid and payment.state is not PaymentState.UNKNOWN:
            assert payment.state is PaymentState.REQUIRES_ACTION
            assert payment.next_action is not None
        holds = [m for m in self.books.movements if m.kind is K.AUTHORIZATION]
        if any(m.parent_id for m in holds) and len({m.operation_id for m in holds if not m.parent_id}) == 1:
            # Whatever became of it: one authorization, at its latest total.
            assert payment.sums.authorized_minor == holds[-1].amount_minor
        assert payment.sums.captured_minor == self.books.total(K.CAPTURE, S.SUCCEEDED)
        assert payment.sums.refunded_minor == self.books.total(K.REFUND, S.PENDING, S.SUCCEEDED)

    # How it is done

    def operations(self, state: CommandState) -> list[Operation]:
        return [o for o in self.desk.aggregate.operations if o.state is state]

    def answered(self, operation: Operation, outcome: AttemptStatus) -> None:
        answer = self.books.execute(operation, outcome)
        if isinstance(answer, Answered):
            self.shown(answer.snapshot)
        self.settled(operation, lambda: self.desk.answered(operation, answer))

    def drawn(self, data: st.DataObject, state: CommandState) -> Operation:
        return data.draw(st.sampled_from(self.operations(state)), label="operation")

    def shown(self, snapshot: Snapshot) -> None:
        self.seen.append(snapshot)

    def learned_from(self, snapshot: Snapshot, how: str) -> None:
        before = {o.operation_id: o for o in self.desk.aggregate.operations}
        self.learned.append(snapshot.facts)
        if how == "callback":
            self.desk.called_back(snapshot)
        else:
            self.desk.read(snapshot)
        self.unknown_ends_on_evidence(before, concluded_by_look="")

    def settled(self, operation: Operation, settle: Callable[[], object]) -> None:
        before = {o.operation_id: o for o in self.desk.aggregate.operations}
        facts = self.desk.payment.facts
        settle()
        if self.desk.payment.facts != facts:
            self.learned.append(self.desk.payment.facts)
        self.unknown_ends_on_evidence(before, concluded_by_look=operation.operation_id)

    def unknown_ends_on_evidence(self, before: dict[str, Operation], concluded_by_look: str) -> None:
        payment = self.desk.payment
        for operation in self.desk.aggregate.operations:
            was = before[operation.operation_id]
            assert operation.sent.rank >= was.sent.rank
            if was.state is not CommandState.UNKNOWN or operation.state is CommandState.UNKNOWN:
                continue
            assert operation.state is not CommandState.NOT_SENT
            by_facts = verdict_of_facts(was, payment.facts, payment.terms.confirmation_method)
            by_look = operation.operation_id == concluded_by_look and operation.decline == NEVER_EXECUTED
            assert by_facts is not None or by_look


STATES = {
    Entity.PAYMENT: PaymentState,
    Entity.DISPUTE: DisputeState,
    Entity.COMMAND: CommandState,
    Entity.OPERATION: CommandState,
    Entity.REFUND: CommandState,
}

TestSettling = Settling.TestCase
TestSettling.settings = settings(max_examples=120, stateful_step_count=25)
