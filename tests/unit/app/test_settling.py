"""Settling by example: a command concludes once, on evidence, and a cancellation is read with care."""

from dataclasses import replace

from gateway.app.verdicts import NEVER_EXECUTED, Verdict
from gateway.domain.commands import CommandKind
from gateway.domain.errors import Sent
from gateway.domain.movements import Facts, Movement, MovementKind, MovementStatus
from gateway.domain.observations import ObservationKind, Source
from gateway.domain.payments import ConfirmationMethod
from gateway.domain.providers import Ambiguous, Answered, Declined, NotExecuted, NotSent, Snapshot
from gateway.domain.risk import RiskLevel, RiskSignal
from gateway.domain.routes import Route
from gateway.domain.states import CommandState, PaymentState
from tests.unit.app.beginnings import authorized, begun, captured
from tests.unit.app.books import DECLINED, Books
from tests.unit.app.desk import Desk, creation

C, P, O = CommandKind, PaymentState, ObservationKind  # noqa: E741  observations
K, S = MovementKind, MovementStatus
LOST = Ambiguous("the connection broke")
ELEVATED = RiskSignal(RiskLevel.ELEVATED, 70)
ABSENT = Verdict(CommandState.FAILED, Sent.MAYBE, decline=NEVER_EXECUTED)


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
        assert desk.state() is P.UNKNOWN
        assert desk.command(desk.create).reply is None
        desk.called_back(books.snapshot())
        assert desk.state() is P.CAPTURED
        assert desk.command(desk.create).state is CommandState.SUCCEEDED
        assert len(desk.said(O.COMMAND_CONCLUDED)) == 1

    def test_an_answer_that_cannot_be_read_whole_still_names_its_object(self) -> None:
        """Nothing of it is believed but the id: by that alone does a provider without a search show it again."""
        desk = Desk()
        books = Books(desk.payment)
        books.execute(desk.create)
        desk.answered(desk.create, Answered(replace(books.snapshot(), unmapped=("status=quantum",))))
        assert desk.state() is P.UNKNOWN
        assert desk.payment.facts == Facts()
        assert desk.payment.provider_payment_id == desk.operation(desk.create).provider_payment_id == books.object_id

    def test_an_answer_about_another_payment_names_nothing(self) -> None:
        """Its id is somebody else's, whatever else it says."""
        desk = Desk()
        books = Books(desk.payment)
        books.execute(desk.create)
        strange = replace(books.snapshot(), payment_id="pay_another", unmapped=("status=quantum",))
        desk.answered(desk.create, Answered(strange))
        assert desk.state() is P.UNKNOWN
        assert desk.payment.provider_payment_id is desk.operation(desk.create).provider_payment_id is None

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
        assert desk.state() is P.FAILED
        books.execute(desk.create)
        desk.called_back(books.snapshot())
        assert desk.state() is P.CAPTURED
        assert desk.command(desk.create).state is CommandState.SUCCEEDED
        assert desk.command(desk.create).reply == reply is not None
        assert len(desk.said(O.COMMAND_CONCLUDED)) == len(desk.said(O.COMMAND_REVERSED)) == 1

    def test_a_holders_late_verdict_does_not_move_what_has_ended(self) -> None:
        """Absence concluded by a stale look does not take a success back, whose facts name no operation."""
        desk, books = authorized()
        cancel = desk.send(C.CANCEL)
        desk.answered(cancel, books.execute(cancel))
        desk.concluded(cancel, ABSENT, Source.RECOVERY)
        assert desk.command(cancel).state is CommandState.SUCCEEDED

    def test_what_may_have_been_sent_stays_so(self) -> None:
        """`sent` is a maximum: a later verdict that knows of less lowers nothing."""
        desk = Desk()
        desk.answered(desk.create, LOST)
        desk.concluded(desk.create, Verdict(CommandState.UNKNOWN, Sent.NO), Source.RECOVERY)
        assert desk.operation(desk.create).sent is Sent.MAYBE

    def test_an_unconfirmed_object_that_was_held_for_absent_can_be_found(self) -> None:
        """FAILED returns to CREATED where the create made an object that nobody confirmed: settling does not refuse."""
        desk = Desk(creation(confirmation_method=ConfirmationMethod.MANUAL))
        books = Books(desk.payment)
        desk.answered(desk.create, LOST)
        desk.concluded(desk.create, ABSENT, Source.RECOVERY)
        books.execute(desk.create)
        desk.called_back(books.snapshot())
        assert desk.state() is P.CREATED
        assert desk.command(desk.create).state is CommandState.SUCCEEDED

    def test_an_unanswered_confirm_of_an_object_that_closed_is_unknown(self) -> None:
        """A confirm whose object was cancelled meanwhile settles as UNKNOWN: it is not refused for want of an edge."""
        desk, books = begun(confirmation=ConfirmationMethod.MANUAL)
        confirm = desk.send(C.CONFIRM)
        books.cancel()
        desk.called_back(books.snapshot())
        assert desk.state() is P.CANCELLED
        desk.answered(confirm, LOST)
        assert desk.state() is P.UNKNOWN
        desk.concluded(confirm, ABSENT, Source.RECOVERY)
        assert desk.state() is P.CANCELLED

    def test_a_command_that_was_not_sent_has_no_reply_and_tries_again(self) -> None:
        """NOT_SENT concludes nothing; the same key is carried out as the same command, and concludes once."""
        desk = Desk()
        desk.answered(desk.create, NotSent("no route"))
        assert desk.command(desk.create).state is CommandState.NOT_SENT
        assert desk.command(desk.create).reply is None
        assert desk.said(O.COMMAND_CONCLUDED) == []
        again = desk.claim_again(desk.create)
        desk.answered(again, Books(desk.payment).execute(again))
        assert desk.state() is P.CAPTURED
        assert len(desk.said(O.COMMAND_CONCLUDED)) == 1

    def test_evidence_outranks_the_proof_that_nothing_was_sent(self) -> None:
        """Money under our operation id after NOT_SENT is merged, concluded, and told as a contradiction."""
        desk = Desk()
        books = Books(desk.payment)
        desk.answered(desk.create, NotExecuted("403"))
        books.execute(desk.create)
        desk.called_back(books.snapshot())
        assert desk.state() is P.CAPTURED
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
        assert desk.state() is P.UNKNOWN
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
        assert desk.state() is P.CANCELLED
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
        assert desk.state() is P.CANCELLED
        late = Movement(books.payment.account_id, K.CAPTURE, "cap_late", 100, "USD", S.SUCCEEDED)
        books.movements.append(late)
        desk.called_back(books.snapshot())
        assert desk.state() is P.CAPTURED
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


class TestRisk:
    """What a provider makes of an attempt is told with it, or once when it comes later, and decides nothing."""

    def test_it_is_told_with_what_concludes_a_command(self) -> None:
        """One observation, with the payment's new state and the risk."""
        desk = Desk()
        books = Books(desk.payment)
        books.execute(desk.create)
        desk.answered(desk.create, Answered(assessed(books.snapshot(), ELEVATED)))
        (told,) = desk.observations
        assert (told.kind, told.payment_state, told.risk) == (O.COMMAND_CONCLUDED, P.CAPTURED, ELEVATED)
        assert desk.payment.risk == ELEVATED

    def test_one_that_comes_later_is_told_once_and_one_that_is_less_is_not(self) -> None:
        """PAYMENT_CHANGED, and the state stays; a view without it, or a lower one, takes nothing back."""
        desk, books = captured()
        for _ in range(2):
            desk.called_back(assessed(books.snapshot(), ELEVATED))
        (told,) = desk.said(O.PAYMENT_CHANGED)
        assert (told.payment_state, told.risk) == (P.CAPTURED, ELEVATED)
        desk.called_back(books.snapshot())
        desk.called_back(assessed(books.snapshot(), RiskSignal(RiskLevel.NORMAL, 99)))
        assert len(desk.observations) == 2
        assert desk.payment.risk == ELEVATED

    def test_an_ordinary_one_that_comes_later_waits_for_the_next_observation(self) -> None:
        """It is kept, and shown with the payment; nobody is told for it alone."""
        desk, books = captured()
        desk.called_back(assessed(books.snapshot(), RiskSignal(RiskLevel.NORMAL, 12)))
        assert desk.payment.risk == RiskSignal(RiskLevel.NORMAL, 12)
        assert len(desk.observations) == 1

    def test_an_account_that_is_left_tells_no_risk(self) -> None:
        """On its way to the next account a payment is what it was before, also in this."""
        desk = Desk()
        books = Books(desk.payment)
        books.execute(desk.create)
        desk.answered(desk.create, Answered(assessed(books.snapshot(), ELEVATED)))
        route = Route("rule", (), (), left=(desk.payment.account_id,), failing_over=True)
        assert replace(desk.payment, route=route).risk is None
        assert replace(desk.payment, account_id="another").risk is None


def assessed(snapshot: Snapshot, risk: RiskSignal) -> Snapshot:
    """The snapshot with this risk on its latest attempt."""
    *earlier, last = snapshot.facts.attempts
    return replace(snapshot, facts=replace(snapshot.facts, attempts=(*earlier, replace(last, risk=risk))))
