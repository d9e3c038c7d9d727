"""Refunds run side by side, and together never give back more than was captured."""

from dataclasses import replace

import pytest

from gateway.app.engine import held_after
from gateway.app.verdicts import NEVER_EXECUTED, Verdict
from gateway.domain.commands import CommandKind, Operation
from gateway.domain.errors import Precondition, Reason, Sent
from gateway.domain.movements import Movement, MovementKind, MovementStatus, Origin
from gateway.domain.observations import ObservationKind, Source
from gateway.domain.providers import Ambiguous, Declined, NotExecuted, NotSent
from gateway.domain.states import CommandState, PaymentState
from gateway.domain.storage import Entity
from gateway.domain.transactions import Claimed, ClaimOutcome
from tests.unit.app.beginnings import authorized, captured
from tests.unit.app.books import DECLINED, Books
from tests.unit.app.desk import Desk, GuardRefused

C, P, O = CommandKind, PaymentState, ObservationKind  # noqa: E741  observations
K, S = MovementKind, MovementStatus
LOST = Ambiguous("the connection broke")
ABSENT = Verdict(CommandState.FAILED, Sent.MAYBE, decline=NEVER_EXECUTED)


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

    def test_two_refunds_of_several_captures_are_planned_one_after_the_other(self) -> None:
        """Which one gives it back is chosen by what was read: two plans that read the same would choose the same."""
        desk, books = authorized()
        for part, final in ((30, False), (70, True)):
            capture = desk.send(C.CAPTURE, part, final=final)
            desk.answered(capture, books.execute(capture))
        first, second = desk.plan(C.REFUND, 20), desk.plan(C.REFUND, 20)
        desk.claim(first)
        with pytest.raises(GuardRefused):
            desk.claim(second)
        desk.claim(desk.plan(C.REFUND, 20))
        assert desk.payment.reserved_refund_minor == 40

    def test_a_refund_keeps_nobody_off_also_where_it_depends_on_what_was_read(self) -> None:
        """What its call holds as the payment is what the store wrote: whoever was busy with it still is."""
        desk, books = authorized()
        for part in (30, 40):
            capture = desk.send(C.CAPTURE, part, final=False)
            desk.answered(capture, books.execute(capture))
        capturing = desk.send(C.CAPTURE, 10, final=False)
        plan = desk.plan(C.REFUND, 20)
        assert plan.expected_version == desk.payment.version
        held = held_after(plan, Claimed(ClaimOutcome.CLAIMED, version=desk.payment.version + 1, epoch=1))
        assert held.aggregate is not None
        assert held.aggregate.payment.busy_command_id == capturing.command_id

    def test_two_refunds_of_one_capture_run_side_by_side(self) -> None:
        """There is nothing to choose: only the amount guards them."""
        desk, _ = captured()
        first, second = desk.plan(C.REFUND, 20), desk.plan(C.REFUND, 20)
        desk.claim(first)
        desk.claim(second)
        assert desk.payment.reserved_refund_minor == 40

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
        assert desk.state() is P.PARTIALLY_REFUNDED

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
        assert desk.state() is P.CAPTURED
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
