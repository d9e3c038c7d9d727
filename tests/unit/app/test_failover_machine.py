"""A create over three accounts in any order of answers, losses, callbacks and the provider's own deeds: paid once.

The books of each account are the truth; the gateway knows what it was shown. Late views of every account come back at
any time. A next account is begun where the rules allow it, and the books must then have nothing of the former one.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.app.invariants import check_dossier
from gateway.app.leaving import cancelled_at, entry_states, facts_that_speak, failing_over
from gateway.app.settling import Lesson
from gateway.domain.commands import CommandKind, Operation
from gateway.domain.declines import Decline, DeclineReason
from gateway.domain.derivation import derive_payment_state
from gateway.domain.dossier import Dossier, Invariant
from gateway.domain.errors import Precondition
from gateway.domain.movements import AttemptStatus, Closure, MovementKind, MovementStatus
from gateway.domain.observations import ObservationKind, Source
from gateway.domain.payments import CaptureMethod
from gateway.domain.providers import Ambiguous, NotSent, Outcome, Snapshot
from gateway.domain.routes import FailoverOn, Route
from gateway.domain.states import FINAL_COMMAND_STATES, CommandState
from tests.unit.app.books import Books
from tests.unit.app.desk import Desk, GuardRefused, PaperAccount, creation

ACCOUNTS = {name: PaperAccount(account_id=name) for name in ("paper_main", "paper_other", "paper_third")}
ROUTE = Route("all", (), tuple(ACCOUNTS), frozenset(FailoverOn), attempts_max=3)
OUTCOMES = st.sampled_from([*AttemptStatus, AttemptStatus.FAILED, AttemptStatus.FAILED])


class FailingOver(RuleBasedStateMachine):
    """One create, its failovers, and three providers."""

    desk: Desk
    books: dict[str, Books]
    seen: list[Snapshot]

    @initialize(capture=st.sampled_from(CaptureMethod), soft=st.booleans())
    def create(self, capture: CaptureMethod, soft: bool) -> None:
        self.desk = Desk(creation(capture_method=capture), ROUTE)
        self.books = {name: Books(replace(self.desk.payment, account_id=name)) for name in ACCOUNTS}
        self.seen = []
        self.replies: dict[str, bytes] = {}
        for books in self.books.values():
            books.decline = Decline(DeclineReason.DECLINED if soft else DeclineReason.SUSPECTED_FRAUD, "code")

    def execute(self, operation: Operation, outcome: AttemptStatus) -> Outcome:
        return self.books[operation.account_id].execute(operation, outcome)

    # Our side

    @precondition(lambda self: self.in_state(CommandState.SENDING))
    @rule(data=st.data(), outcome=OUTCOMES)
    def answer_arrives(self, data: st.DataObject, outcome: AttemptStatus) -> None:
        """Carried out, or refused, and told."""
        operation = self.drawn(data, CommandState.SENDING)
        self.desk.answered(operation, self.execute(operation, outcome))

    @precondition(lambda self: self.in_state(CommandState.SENDING))
    @rule(data=st.data(), outcome=OUTCOMES, arrives=st.booleans())
    def answer_is_lost(self, data: st.DataObject, outcome: AttemptStatus, arrives: bool) -> None:
        """Nobody knows."""
        operation = self.drawn(data, CommandState.SENDING)
        if arrives:
            self.execute(operation, outcome)
        self.desk.answered(operation, Ambiguous("timed out"))

    @precondition(lambda self: self.in_state(CommandState.SENDING))
    @rule(data=st.data())
    def nothing_is_sent(self, data: st.DataObject) -> None:
        """Provably."""
        self.desk.answered(self.drawn(data, CommandState.SENDING), NotSent("no connection"))

    @precondition(lambda self: self.in_state(CommandState.NOT_SENT))
    @rule(data=st.data())
    def the_key_tries_again(self, data: st.DataObject) -> None:
        """A command that provably had no effect is claimed again."""
        with suppress(GuardRefused):
            self.desk.claim_again(self.drawn(data, CommandState.NOT_SENT))

    @precondition(lambda self: failing_over(self.desk.payment))
    @rule()
    def the_failover_cancels(self) -> None:
        """A cancellation at the account that declined, while its object is open."""
        with suppress(Precondition, GuardRefused):
            self.desk.send(CommandKind.CANCEL)

    @precondition(lambda self: failing_over(self.desk.payment))
    @rule(data=st.data())
    def the_failover_goes_on(self, data: st.DataObject) -> None:
        """To any account that it has not left, once the cancellation is confirmed."""
        payment = self.desk.payment
        assert payment.route is not None
        if not cancelled_at(payment.facts, payment.account_id):
            return
        name = data.draw(st.sampled_from([n for n in ACCOUNTS if n not in payment.route.left]), label="account")
        with suppress(GuardRefused):
            self.desk.go_on(ACCOUNTS[name])
            self.nothing_is_left_behind()

    @precondition(lambda self: failing_over(self.desk.payment))
    @rule()
    def the_failover_ends(self) -> None:
        """Nobody can take it, or it took too long."""
        self.desk.learn(Lesson(Source.RECOVERY, "failover", ends_failover="too late"))

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def an_earlier_view_is_learned(self, data: st.DataObject) -> None:
        """Of any account that the payment is at, or has left: late, again, out of order."""
        self.learned(data.draw(st.sampled_from(self.seen), label="snapshot"))

    @rule(name=st.sampled_from(sorted(ACCOUNTS)))
    def an_object_is_learned(self, name: str) -> None:
        """As it is now."""
        if self.books[name].made:
            self.seen.append(self.books[name].snapshot())
            self.learned(self.seen[-1])

    # The provider's side

    @rule(name=st.sampled_from(sorted(ACCOUNTS)), data=st.data())
    def a_provider_acts(self, name: str, data: st.DataObject) -> None:
        """The payer acts, the bank answers, the dashboard cancels, the object lapses."""
        books = self.books[name]
        deeds: dict[str, Callable[[], bool]] = {
            "succeeds": lambda: books.finish_attempt(succeeds=True),
            "fails": lambda: books.finish_attempt(succeeds=False),
            "cancels": books.cancel,
            "expires": lambda: books.cancel(Closure.EXPIRED),
        }
        deeds[data.draw(st.sampled_from(sorted(deeds)), label="deed")]()

    # What holds after every step

    def nothing_is_left_behind(self) -> None:
        """The books, not our view of them: whoever was left holds nothing, and never will."""
        payment = self.desk.payment
        assert payment.route is not None
        for name in payment.route.left:
            books = self.books[name]
            assert books.closure is Closure.CANCELLED
            assert not books.total(MovementKind.CAPTURE, MovementStatus.PENDING, MovementStatus.SUCCEEDED)
            assert not books.total(MovementKind.AUTHORIZATION, MovementStatus.PENDING, MovementStatus.SUCCEEDED)

    @invariant()
    def at_most_one_account_is_paid(self) -> None:
        held = (MovementStatus.PENDING, MovementStatus.SUCCEEDED)
        paid = [
            name
            for name, books in self.books.items()
            if books.total(MovementKind.CAPTURE, *held) or books.total(MovementKind.AUTHORIZATION, *held)
        ]
        assert len(paid) <= 1

    @invariant()
    def state_follows_from_what_speaks(self) -> None:
        payment = self.desk.payment
        entry = entry_states(self.desk.aggregate.operations, payment.route)
        assert payment.state is derive_payment_state(facts_that_speak(payment.facts, payment.route), entry)

    @invariant()
    def the_create_is_open_while_it_moves(self) -> None:
        payment = self.desk.payment
        (create,) = [c for c in self.desk.aggregate.commands if c.kind is CommandKind.CREATE]
        if failing_over(payment):
            assert (create.state, create.reply) == (CommandState.SENDING, None)

    @invariant()
    def a_command_concludes_once(self) -> None:
        concluded = Counter(o.command_id for o in self.desk.said(ObservationKind.COMMAND_CONCLUDED))
        for command in self.desk.aggregate.commands:
            assert concluded[command.command_id] == (command.state in FINAL_COMMAND_STATES)
            assert (command.reply is not None) == (command.state in FINAL_COMMAND_STATES)
        now = {c.command_id: c.reply for c in self.desk.aggregate.commands if c.reply is not None}
        assert self.replies == {command_id: now[command_id] for command_id in self.replies}
        self.replies = now

    @invariant()
    def no_invariant_of_the_database_is_broken(self) -> None:
        aggregate = self.desk.aggregate
        dossier = Dossier(aggregate.payment, aggregate.commands, aggregate.operations, (), (), ())
        of_rows = (
            *(Invariant.I1, Invariant.I3, Invariant.I5, Invariant.I6, Invariant.I10, Invariant.I13),
            Invariant.STATE,
        )
        assert [v for v in check_dossier(dossier) if v.invariant in of_rows] == []

    def teardown(self) -> None:
        """Shown everything, the gateway says what the books say."""
        for name, books in self.books.items():
            if books.made:
                self.learned(books.snapshot())
            for operation in self.desk.aggregate.operations:
                if operation.account_id != name or operation.kind is not CommandKind.CREATE:
                    continue
                if operation.state is CommandState.SUCCEEDED:
                    assert books.stands(operation)
                elif operation.state in (CommandState.FAILED, CommandState.NOT_SENT):
                    assert not books.stands(operation)
        paid = sum(books.total(MovementKind.CAPTURE, MovementStatus.SUCCEEDED) for books in self.books.values())
        assert self.desk.payment.sums.captured_minor == paid

    # How it is done

    def in_state(self, state: CommandState) -> list[Operation]:
        return [o for o in self.desk.aggregate.operations if o.state is state]

    def drawn(self, data: st.DataObject, state: CommandState) -> Operation:
        return data.draw(st.sampled_from(self.in_state(state)), label="operation")

    def learned(self, snapshot: Snapshot) -> None:
        payment = self.desk.payment
        left = payment.route.left if payment.route else ()
        if snapshot.account_id in (payment.account_id, *left):
            self.desk.called_back(snapshot)


TestFailingOver = FailingOver.TestCase
TestFailingOver.settings = settings(max_examples=120, stateful_step_count=25)
