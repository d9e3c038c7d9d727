"""What callbacks, looks and disputes teach of a payment: what is new, and nothing else."""

from dataclasses import replace

from gateway.app.settling import Lesson, next_attempt_s
from gateway.app.verdicts import NEVER_EXECUTED, Verdict
from gateway.domain.commands import CommandKind
from gateway.domain.errors import Sent
from gateway.domain.movements import AttemptStatus, Closure, MovementKind, MovementStatus
from gateway.domain.observations import ObservationKind, Source
from gateway.domain.providers import Ambiguous
from gateway.domain.states import CommandState, DisputeState, PaymentState
from tests.unit.app.beginnings import begun, captured
from tests.unit.app.books import Books
from tests.unit.app.desk import SETTINGS, Desk

C, P, O = CommandKind, PaymentState, ObservationKind  # noqa: E741  observations
K, S = MovementKind, MovementStatus
LOST = Ambiguous("the connection broke")
ABSENT = Verdict(CommandState.FAILED, Sent.MAYBE, decline=NEVER_EXECUTED)


class TestReaders:
    """Callbacks and looks teach what is new, and nothing else."""

    def test_a_repeated_callback_teaches_nothing(self) -> None:
        """A view that was seen before writes no version of the payment, whoever brings it."""
        desk, books = captured()
        before = desk.aggregate
        assert desk.read(books.snapshot()) is None
        assert desk.aggregate == before
        assert desk.called_back(books.snapshot()) is None
        assert desk.aggregate == before

    def test_a_late_failure_event_never_downgrades_a_paid_payment(self) -> None:
        """The decline that came before the success, delivered after it, changes nothing (#902)."""
        desk, books = begun(outcome=AttemptStatus.FAILED)
        declined = books.snapshot()
        confirm = desk.send(C.CONFIRM)
        desk.answered(confirm, books.execute(confirm))
        assert desk.state() is P.CAPTURED
        desk.called_back(declined)
        assert desk.state() is P.CAPTURED
        assert desk.command(confirm).state is CommandState.SUCCEEDED

    def test_a_reader_fences_the_holder_that_it_overtakes(self) -> None:
        """Concluding an operation that somebody holds raises its epoch: the holder's older news changes nothing."""
        desk = Desk()
        books = Books(desk.payment)
        books.execute(desk.create)
        desk.called_back(books.snapshot())
        assert desk.operation(desk.create).state is CommandState.SUCCEEDED
        assert desk.operation(desk.create).epoch == desk.create.epoch + 1

    def test_a_reader_does_not_end_the_lease_of_a_call_in_flight(self) -> None:
        """A view that concludes nothing leaves a held operation's row alone: no recovery beside the call."""
        desk = Desk()
        books = Books(desk.payment)
        books.made = True
        settlement = desk.called_back(books.snapshot())
        assert settlement is not None
        assert settlement.operations == ()
        assert desk.operation(desk.create).lease_until_us is not None
        assert desk.payment.provider_payment_id == books.object_id

    def test_an_unleased_operation_learns_its_object(self) -> None:
        """Where no call is under way, the provider's id is kept on the operation as well."""
        desk = Desk()
        books = Books(desk.payment)
        desk.answered(desk.create, LOST)
        books.made = True
        desk.called_back(books.snapshot())
        assert desk.operation(desk.create).provider_payment_id == books.object_id

    def test_what_the_payer_must_do_is_shown_while_it_must_be_done(self) -> None:
        """The next action goes when the payment no longer requires it."""
        desk, books = begun(outcome=AttemptStatus.REQUIRES_ACTION)
        waiting, redirect = desk.payment, books.snapshot()
        assert waiting.next_action is not None
        assert desk.command(desk.create).state is CommandState.REQUIRES_ACTION
        books.finish_attempt(succeeds=True)
        desk.called_back(books.snapshot())
        assert desk.payment.next_action is None
        desk.called_back(redirect)  # late
        assert desk.payment.next_action is None
        assert desk.command(desk.create).state is CommandState.SUCCEEDED

    def test_a_contradiction_that_a_reader_brings_is_said(self) -> None:
        """A quarantined callback changes no fact and is told."""
        desk, _ = captured()
        desk.learn(Lesson(Source.CALLBACK, "cbk_2", contradiction="mismatch: amount 1, not 100"))
        assert [o.detail for o in desk.said(O.CONTRADICTION)] == ["mismatch: amount 1, not 100"]
        assert desk.state() is P.CAPTURED


class TestDisputes:
    """The dispute axis goes its own way."""

    def test_a_dispute_opens_is_lost_and_is_told(self) -> None:
        """Each step is one observation; the payment axis does not move."""
        desk, books = captured()
        books.dispute(60, S.INQUIRY)
        desk.called_back(books.snapshot())
        for before, after in ((S.INQUIRY, S.OPEN), (S.OPEN, S.LOST)):
            assert books.move(K.DISPUTE, before, after)
            desk.called_back(books.snapshot())
        told = [(o.dispute_state, o.subject_amount_minor) for o in desk.said(O.DISPUTE_CHANGED)]
        assert told == [(DisputeState.INQUIRY, 0), (DisputeState.OPEN, 60), (DisputeState.LOST, 60)]
        assert desk.state() is P.CAPTURED
        assert desk.payment.refundable_minor == 40

    def test_one_dispute_won_beside_an_inquiry_settles(self) -> None:
        """OPEN gives way to the inquiry that is left, and nothing is refused."""
        desk, books = captured()
        books.dispute(50, S.OPEN)
        books.dispute(50, S.INQUIRY)
        desk.called_back(books.snapshot())
        assert books.move(K.DISPUTE, S.OPEN, S.WON)
        desk.called_back(books.snapshot())
        assert desk.payment.dispute_state is DisputeState.INQUIRY


def test_a_live_operation_has_a_next_attempt() -> None:
    """UNKNOWN is looked at often, PENDING seldom, what has ended never; pauses grow to their bound (I15)."""
    desk = Desk()
    for state in CommandState:
        pause = next_attempt_s(replace(desk.create, state=state), SETTINGS)
        live = state in (CommandState.SENDING, CommandState.UNKNOWN, CommandState.PENDING, CommandState.REQUIRES_ACTION)
        assert (pause is not None) == live
    unknown = [replace(desk.create, state=CommandState.UNKNOWN, recoveries=n) for n in range(60)]
    pauses = [next_attempt_s(operation, SETTINGS) or 0.0 for operation in unknown]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (SETTINGS.unknown_check_first_s, SETTINGS.unknown_check_s_max)


def test_an_expired_object_is_told() -> None:
    """An action that nobody finished ends as EXPIRED, and its command as FAILED."""
    desk, books = begun(outcome=AttemptStatus.REQUIRES_ACTION)
    books.cancel(Closure.EXPIRED)
    desk.called_back(books.snapshot())
    assert desk.state() is P.EXPIRED
    assert desk.command(desk.create).state is CommandState.FAILED
