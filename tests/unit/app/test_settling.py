"""Settling by example: what one answer, one loss or one callback makes of a payment."""

from dataclasses import replace

import pytest

from gateway.app.settling import Lesson, next_attempt_s
from gateway.app.verdicts import NEVER_EXECUTED, Verdict
from gateway.domain.commands import CommandKind, Operation
from gateway.domain.errors import Precondition, Reason, Sent
from gateway.domain.movements import AttemptStatus, Closure, Facts, Movement, MovementKind, MovementStatus, Origin
from gateway.domain.observations import ObservationKind, Source
from gateway.domain.payments import CaptureMethod, ConfirmationMethod
from gateway.domain.providers import Ambiguous, Answered, Declined, NotExecuted, NotSent
from gateway.domain.states import CommandState, DisputeState, PaymentState
from gateway.domain.storage import Entity
from tests.unit.app.books import DECLINED, Books
from tests.unit.app.desk import SETTINGS, Desk, GuardRefused, creation

C, P, O = CommandKind, PaymentState, ObservationKind  # noqa: E741  observations
K, S = MovementKind, MovementStatus
LOST = Ambiguous("the connection broke")
ABSENT = Verdict(CommandState.FAILED, Sent.MAYBE, decline=NEVER_EXECUTED)


def begun(
    capture: CaptureMethod = CaptureMethod.AUTOMATIC,
    confirmation: ConfirmationMethod = ConfirmationMethod.AUTOMATIC,
    outcome: AttemptStatus = AttemptStatus.SUCCEEDED,
) -> tuple[Desk, Books]:
    """A payment of 100 whose create was answered."""
    desk = Desk(creation(capture_method=capture, confirmation_method=confirmation))
    books = Books(desk.payment)
    desk.answered(desk.create, books.execute(desk.create, outcome))
    return desk, books


def captured() -> tuple[Desk, Books]:
    """100, paid."""
    desk, books = begun()
    assert desk.payment.state is P.CAPTURED
    return desk, books


def authorized() -> tuple[Desk, Books]:
    """100, held."""
    desk, books = begun(CaptureMethod.MANUAL)
    assert desk.payment.state is P.AUTHORIZED
    return desk, books


def refund_ended(desk: Desk, books: Books, operation: Operation, status: MovementStatus) -> None:
    """The provider finishes a refund, and a callback tells."""
    assert operation.operation_id in books.executed
    assert books.move(K.REFUND, S.PENDING, status)
    desk.called_back(books.snapshot())


class TestRefunds:
    """Refunds run side by side and never exceed what was captured."""

    @pytest.mark.parametrize("first", ["sending", "unknown", "pending", "succeeded"])
    def test_two_refunds_of_60_on_100_do_not_both_pass(self, first: str) -> None:
        """However far the first one is, the second is refused, before it is sent (Hyperswitch #13182)."""
        desk, books = captured()
        refund = desk.send(C.REFUND, 60)
        if first == "unknown":
            desk.answered(refund, LOST)
        if first in ("pending", "succeeded"):
            desk.answered(refund, books.execute(refund))
        if first == "succeeded":
            refund_ended(desk, books, refund, S.SUCCEEDED)
        assert desk.payment.refundable_minor == 40
        with pytest.raises(Precondition) as refused:
            desk.plan(C.REFUND, 60)
        assert refused.value.reason is Reason.AMOUNT_EXCEEDS_REFUNDABLE
        assert refused.value.details["available_minor"] == "40"

    def test_two_refunds_planned_at_once_are_told_apart_by_the_claim(self) -> None:
        """Both plans saw 100 refundable; the reservation of the first is in the way of the second."""
        desk, _ = captured()
        first, second = desk.plan(C.REFUND, 60), desk.plan(C.REFUND, 60)
        desk.claim(first)
        with pytest.raises(GuardRefused):
            desk.claim(second)
        assert desk.payment.reserved_refund_minor == 60

    @pytest.mark.parametrize("answer", [Declined(DECLINED), NotSent("no route"), NotExecuted("429")], ids=repr)
    def test_a_refund_that_did_not_happen_gives_its_reservation_back(
        self, answer: Declined | NotSent | NotExecuted
    ) -> None:
        """Refused or provably not done, the amount is refundable again."""
        desk, _ = captured()
        desk.answered(desk.send(C.REFUND, 60), answer)
        assert (desk.payment.reserved_refund_minor, desk.payment.refundable_minor) == (0, 100)

    def test_an_unknown_refund_keeps_its_reservation_until_evidence(self) -> None:
        """Only a look that cannot miss, or the refund itself, frees the amount."""
        desk, books = captured()
        refund = desk.send(C.REFUND, 60)
        desk.answered(refund, LOST)
        desk.called_back(books.snapshot())
        assert desk.operation(refund).state is CommandState.UNKNOWN
        assert desk.payment.reserved_refund_minor == 60
        desk.concluded(refund, ABSENT, Source.RECOVERY)
        assert desk.operation(refund).state is CommandState.FAILED
        assert desk.payment.refundable_minor == 100

    def test_a_reservation_becomes_a_movement_without_a_gap(self) -> None:
        """When the refund is seen, it counts once: as a movement, not as a reservation too (open-mercato #4508)."""
        desk, books = captured()
        refund = desk.send(C.REFUND, 60)
        desk.answered(refund, books.execute(refund))
        assert desk.payment.reserved_refund_minor == 0
        assert desk.payment.sums.refund_pending_minor == 60
        assert desk.payment.refundable_minor == 40
        refund_ended(desk, books, refund, S.SUCCEEDED)
        assert desk.payment.refundable_minor == 40
        assert desk.payment.state is P.PARTIALLY_REFUNDED

    def test_two_lost_refunds_of_one_amount_are_told_apart(self) -> None:
        """The movement carries our operation id: one is found, the other stays unknown."""
        desk, books = captured()
        one, other = desk.send(C.REFUND, 50), desk.send(C.REFUND, 50)
        desk.answered(one, LOST)
        desk.answered(other, LOST)
        books.execute(other)
        desk.called_back(books.snapshot())
        assert desk.operation(one).state is CommandState.UNKNOWN
        assert desk.operation(other).state is CommandState.PENDING
        assert desk.payment.refundable_minor == 0

    def test_a_refund_in_the_dashboard_is_adopted_once(self) -> None:
        """It becomes a refund of origin PROVIDER with no command, and the next callback adds nothing."""
        desk, books = captured()
        books.refund_by_dashboard(30)
        desk.called_back(books.snapshot())
        desk.called_back(books.snapshot())
        (adopted,) = desk.aggregate.refunds
        assert (adopted.origin, adopted.amount_minor, adopted.command_id) == (Origin.PROVIDER, 30, None)
        assert adopted.state is CommandState.SUCCEEDED
        assert desk.payment.refundable_minor == 70
        assert len(desk.said(O.REFUND_CHANGED)) == 1

    @pytest.mark.parametrize(
        ("path", "state"),
        [
            ((S.PENDING, S.REVERSED), CommandState.FAILED),
            ((S.PENDING, S.SUCCEEDED, S.REVERSED), CommandState.REVERSED),
            ((S.PENDING, S.SUCCEEDED, S.FAILED), CommandState.REVERSED),
            ((S.PENDING, S.FAILED, S.REVERSED), CommandState.FAILED),
        ],
    )
    def test_an_adopted_refund_takes_legal_edges(self, path: tuple[MovementStatus, ...], state: CommandState) -> None:
        """Also where what came between was never seen: no edge of its history is one that the table lacks."""
        desk, books = captured()
        books.refund_by_dashboard(30)
        ours = next(m for m in books.movements if m.kind is K.REFUND)
        for status in path:
            books.movements[-1] = replace(ours, status=status)
            desk.called_back(books.snapshot())
        assert desk.aggregate.refunds[0].state is state
        edges = [(e.before, e.after) for e in desk.history if e.entity is Entity.REFUND]
        assert ("PENDING", "REVERSED") not in edges
        assert ("FAILED", "REVERSED") not in edges

    def test_a_refund_that_the_bank_sends_back_is_reversed(self) -> None:
        """A refund that failed after it had succeeded was not given: its command says so, and the money is there."""
        desk, books = captured()
        refund = desk.send(C.REFUND, 60)
        desk.answered(refund, books.execute(refund))
        refund_ended(desk, books, refund, S.SUCCEEDED)
        assert books.move(K.REFUND, S.SUCCEEDED, S.FAILED)
        desk.called_back(books.snapshot())
        assert desk.command(refund).state is desk.refund(refund).state is CommandState.REVERSED
        assert desk.payment.state is P.CAPTURED
        assert desk.payment.refundable_minor == 100
        assert [o.command_id for o in desk.said(O.COMMAND_REVERSED)] == [refund.command_id]

    def test_our_refund_without_our_reference_is_not_adopted_as_anothers(self) -> None:
        """A movement known by its id as ours moves no refund behind its operation's back."""
        desk, books = captured()
        refund = desk.send(C.REFUND, 60)
        desk.concluded(refund, Verdict(CommandState.UNKNOWN, Sent.YES, result_id="ref_9"))
        nameless = Movement(books.payment.account_id, K.REFUND, "ref_9", 60, "USD", S.SUCCEEDED)
        books.movements.append(nameless)
        for _ in range(2):
            desk.called_back(books.snapshot())
            assert desk.refund(refund).state is desk.operation(refund).state is CommandState.UNKNOWN
        assert len(desk.aggregate.refunds) == 1

    def test_refunds_leave_room_for_disputes(self) -> None:
        """Refundable is what was captured less refunds, reservations and disputes, and never below zero."""
        desk, books = captured()
        desk.send(C.REFUND, 30)
        books.dispute(100, S.OPEN)
        desk.called_back(books.snapshot())
        assert desk.payment.refundable_minor == 0
        assert books.move(K.DISPUTE, S.OPEN, S.WON)
        desk.called_back(books.snapshot())
        assert desk.payment.refundable_minor == 70


class TestCommands:
    """A command concludes once, on evidence."""

    def test_an_answer_concludes_and_is_told_once(self) -> None:
        """One COMMAND_CONCLUDED carries the payment's new state; later views of the same object say nothing."""
        desk, books = captured()
        for _ in range(3):
            desk.called_back(books.snapshot())
        (told,) = desk.observations
        assert (told.kind, told.command_state, told.payment_state) == (
            O.COMMAND_CONCLUDED,
            CommandState.SUCCEEDED,
            P.CAPTURED,
        )
        assert told.captured_minor == 100

    def test_a_success_leaves_no_failure_on_its_operation(self) -> None:
        """What operators read of an operation that succeeded holds no word of doubt."""
        desk, _ = captured()
        assert desk.operation(desk.create).failure == ""

    def test_a_lost_answer_is_unknown_until_the_provider_speaks(self) -> None:
        """A crash between call and commit is found by a callback, with its command (Kill Bill #364)."""
        desk = Desk()
        books = Books(desk.payment)
        books.execute(desk.create)
        desk.answered(desk.create, LOST)
        assert desk.payment.state is P.UNKNOWN
        assert desk.command(desk.create).reply is None
        desk.called_back(books.snapshot())
        assert desk.payment.state is P.CAPTURED
        assert desk.command(desk.create).state is CommandState.SUCCEEDED
        assert len(desk.said(O.COMMAND_CONCLUDED)) == 1

    def test_unknown_does_not_become_failed_by_looking(self) -> None:
        """A look that finds nothing yet, however often, leaves UNKNOWN (Hyperswitch #2380)."""
        desk = Desk()
        desk.answered(desk.create, LOST)
        for _ in range(50):
            desk.concluded(desk.create, Verdict(CommandState.UNKNOWN, Sent.MAYBE), Source.RECOVERY)
        assert desk.command(desk.create).state is CommandState.UNKNOWN
        assert desk.said(O.COMMAND_CONCLUDED) == []

    def test_evidence_raises_failed_to_succeeded(self) -> None:
        """A create held for never executed that did happen is COMMAND_REVERSED; its stored reply stays."""
        desk = Desk()
        books = Books(desk.payment)
        desk.answered(desk.create, LOST)
        desk.concluded(desk.create, ABSENT, Source.RECOVERY)
        reply = desk.command(desk.create).reply
        assert desk.payment.state is P.FAILED
        books.execute(desk.create)
        desk.called_back(books.snapshot())
        assert desk.payment.state is P.CAPTURED
        assert desk.command(desk.create).state is CommandState.SUCCEEDED
        assert desk.command(desk.create).reply == reply is not None
        assert len(desk.said(O.COMMAND_CONCLUDED)) == len(desk.said(O.COMMAND_REVERSED)) == 1

    def test_an_unconfirmed_object_that_was_held_for_absent_can_be_found(self) -> None:
        """FAILED returns to CREATED where the create made an object that nobody confirmed: settling does not refuse."""
        desk = Desk(creation(confirmation_method=ConfirmationMethod.MANUAL))
        books = Books(desk.payment)
        desk.answered(desk.create, LOST)
        desk.concluded(desk.create, ABSENT, Source.RECOVERY)
        books.execute(desk.create)
        desk.called_back(books.snapshot())
        assert desk.payment.state is P.CREATED
        assert desk.command(desk.create).state is CommandState.SUCCEEDED

    def test_an_unanswered_confirm_of_an_object_that_closed_is_unknown(self) -> None:
        """A confirm whose object was cancelled meanwhile settles as UNKNOWN: it is not refused for want of an edge."""
        desk, books = begun(confirmation=ConfirmationMethod.MANUAL)
        confirm = desk.send(C.CONFIRM)
        books.cancel()
        desk.called_back(books.snapshot())
        assert desk.payment.state is P.CANCELLED
        desk.answered(confirm, LOST)
        assert desk.payment.state is P.UNKNOWN
        desk.concluded(confirm, ABSENT, Source.RECOVERY)
        assert desk.payment.state is P.CANCELLED

    def test_a_command_that_was_not_sent_has_no_reply_and_tries_again(self) -> None:
        """NOT_SENT concludes nothing; the same key is carried out as the same command, and concludes once."""
        desk = Desk()
        desk.answered(desk.create, NotSent("no route"))
        assert desk.command(desk.create).state is CommandState.NOT_SENT
        assert desk.command(desk.create).reply is None
        assert desk.said(O.COMMAND_CONCLUDED) == []
        again = desk.claim_again(desk.create)
        desk.answered(again, Books(desk.payment).execute(again))
        assert desk.payment.state is P.CAPTURED
        assert len(desk.said(O.COMMAND_CONCLUDED)) == 1

    def test_evidence_outranks_the_proof_that_nothing_was_sent(self) -> None:
        """Money under our operation id after NOT_SENT is merged, concluded, and told as a contradiction."""
        desk = Desk()
        books = Books(desk.payment)
        desk.answered(desk.create, NotExecuted("403"))
        books.execute(desk.create)
        desk.called_back(books.snapshot())
        assert desk.payment.state is P.CAPTURED
        assert desk.command(desk.create).state is CommandState.SUCCEEDED
        (contradiction,) = desk.said(O.CONTRADICTION)
        assert contradiction.command_id == desk.create.command_id

    def test_a_reversal_seen_before_its_success_is_a_failure(self) -> None:
        """A lost capture that turns up taken back moved no money in the end."""
        desk, books = authorized()
        capture = desk.send(C.CAPTURE)
        desk.answered(capture, LOST)
        books.execute(capture)
        assert books.move(K.CAPTURE, S.SUCCEEDED, S.REVERSED)
        desk.called_back(books.snapshot())
        assert desk.command(capture).state is CommandState.FAILED
        assert desk.payment.reserved_capture_minor == 0

    def test_a_capture_by_confirm_and_by_callback_is_one(self) -> None:
        """The answer and the callback of one capture book it once (Medusa #13301)."""
        desk, books = authorized()
        capture = desk.send(C.CAPTURE)
        answer = books.execute(capture)
        desk.called_back(books.snapshot())
        assert desk.operation(capture).state is CommandState.SUCCEEDED
        assert isinstance(answer, Answered)
        desk.read(answer.snapshot)
        assert desk.payment.sums.captured_minor == 100
        assert len([o for o in desk.said(O.COMMAND_CONCLUDED) if o.command_kind is C.CAPTURE]) == 1

    def test_an_answer_about_other_money_is_quarantined(self) -> None:
        """A genuine answer of $0.01 pays for nothing: UNKNOWN, no fact merged, and a person is told (CVE-2026-9189)."""
        desk = Desk()
        books = Books(desk.payment)
        books.execute(desk.create)
        desk.answered(desk.create, Answered(replace(books.snapshot(), amount_minor=1)))
        assert desk.payment.state is P.UNKNOWN
        assert desk.payment.facts == Facts()
        assert len(desk.said(O.CONTRADICTION)) == 1

    def test_later_commands_show_their_own_unknown(self) -> None:
        """An unanswered capture leaves the payment AUTHORIZED and busy, its amount reserved."""
        desk, _ = authorized()
        capture = desk.send(C.CAPTURE, 60)
        desk.answered(capture, LOST)
        payment = desk.payment
        assert payment.state is P.AUTHORIZED
        assert (payment.reserved_capture_minor, payment.capturable_minor) == (60, 40)
        assert payment.busy_command_id == capture.command_id
        assert payment.latest_command is not None
        assert payment.latest_command.state is CommandState.UNKNOWN


class TestCancellations:
    """A closed object carries no operation id, so it is read with care."""

    def test_a_cancellation_that_was_not_sent_is_not_credited_with_anothers(self) -> None:
        """After NOT_SENT, a cancellation in the dashboard is no deed of ours and no contradiction."""
        desk, books = authorized()
        cancel = desk.send(C.CANCEL)
        desk.answered(cancel, NotSent("no route"))
        books.cancel()
        desk.called_back(books.snapshot())
        assert desk.payment.state is P.CANCELLED
        assert desk.command(cancel).state is CommandState.NOT_SENT
        assert desk.said(O.CONTRADICTION) == []

    def test_a_refused_cancellation_stays_refused_when_the_next_succeeds(self) -> None:
        """Its final answer is not taken back by the effect of another command."""
        desk, books = authorized()
        refused = desk.send(C.CANCEL)
        desk.answered(refused, Declined(DECLINED))
        cancel = desk.send(C.CANCEL)
        desk.answered(cancel, books.execute(cancel))
        assert desk.command(refused).state is CommandState.FAILED
        assert desk.command(cancel).state is CommandState.SUCCEEDED
        assert desk.said(O.COMMAND_REVERSED) == []

    def test_an_unknown_cancellation_ends_when_the_object_is_closed(self) -> None:
        """While it is under way, a cancelled object is its evidence."""
        desk, books = authorized()
        cancel = desk.send(C.CANCEL)
        desk.answered(cancel, LOST)
        books.execute(cancel)
        desk.called_back(books.snapshot())
        assert desk.command(cancel).state is CommandState.SUCCEEDED
        assert desk.payment.busy_command_id is None

    def test_money_after_a_cancellation_is_a_contradiction(self) -> None:
        """It is merged, the payment is CAPTURED, and an observation of its own says so."""
        desk, books = authorized()
        cancel = desk.send(C.CANCEL)
        desk.answered(cancel, books.execute(cancel))
        assert desk.payment.state is P.CANCELLED
        late = Movement(books.payment.account_id, K.CAPTURE, "cap_late", 100, "USD", S.SUCCEEDED)
        books.movements.append(late)
        desk.called_back(books.snapshot())
        assert desk.payment.state is P.CAPTURED
        assert [o.kind for o in desk.observations[-2:]] == [O.PAYMENT_CHANGED, O.CONTRADICTION]

    def test_more_captured_than_the_payment_is_for_is_a_contradiction(self) -> None:
        """A second capture of the whole amount is merged and told, never netted away."""
        desk, books = captured()
        twice = Movement(books.payment.account_id, K.CAPTURE, "cap_twice", 100, "USD", S.SUCCEEDED)
        books.movements.append(twice)
        desk.called_back(books.snapshot())
        desk.called_back(books.snapshot())
        assert desk.payment.sums.captured_minor == 200
        assert len(desk.said(O.CONTRADICTION)) == 1


class TestReaders:
    """Callbacks and looks teach what is new, and nothing else."""

    def test_a_repeated_callback_teaches_nothing(self) -> None:
        """A view that was seen before settles nothing; with a callback's row it settles that row alone."""
        desk, books = captured()
        before = desk.aggregate
        assert desk.read(books.snapshot()) is None
        assert desk.aggregate == before
        settlement = desk.called_back(books.snapshot())
        assert settlement.callback is not None
        assert (settlement.transitions, settlement.observations, settlement.movements) == ((), (), ())
        assert (settlement.operations, settlement.commands, settlement.refunds) == ((), (), ())

    def test_a_late_failure_event_never_downgrades_a_paid_payment(self) -> None:
        """The decline that came before the success, delivered after it, changes nothing (#902)."""
        desk, books = begun(outcome=AttemptStatus.FAILED)
        declined = books.snapshot()
        confirm = desk.send(C.CONFIRM)
        desk.answered(confirm, books.execute(confirm))
        assert desk.payment.state is P.CAPTURED
        desk.called_back(declined)
        assert desk.payment.state is P.CAPTURED
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
        assert desk.payment.next_action is not None
        assert desk.command(desk.create).state is CommandState.REQUIRES_ACTION
        books.finish_attempt(succeeds=True)
        desk.called_back(books.snapshot())
        assert desk.payment.next_action is None
        assert desk.command(desk.create).state is CommandState.SUCCEEDED

    def test_a_contradiction_that_a_reader_brings_is_said(self) -> None:
        """A quarantined callback changes no fact and is told."""
        desk, _ = captured()
        desk.learn(Lesson(Source.CALLBACK, "cbk_2", contradiction="mismatch: amount 1, not 100"))
        assert [o.detail for o in desk.said(O.CONTRADICTION)] == ["mismatch: amount 1, not 100"]
        assert desk.payment.state is P.CAPTURED


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
        assert desk.payment.state is P.CAPTURED
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
    assert desk.payment.state is P.EXPIRED
    assert desk.command(desk.create).state is CommandState.FAILED
