"""When a payment leaves an account, case by case: what is confirmed, what is late, and what says nothing."""

from dataclasses import replace

import pytest

from gateway.app.invariants import check_dossier, check_effects
from gateway.app.leaving import cancelled_at, failing_over
from gateway.app.verdicts import mismatch
from gateway.domain.commands import CommandKind, Operation
from gateway.domain.declines import Decline, DeclineReason
from gateway.domain.dossier import Dossier, Effect, Invariant
from gateway.domain.movements import AttemptStatus, Closure, MovementKind, MovementStatus
from gateway.domain.observations import ObservationKind
from gateway.domain.payments import CaptureMethod
from gateway.domain.providers import Ambiguous, NotSent
from gateway.domain.routes import FailoverOn, Route
from gateway.domain.states import CommandState, PaymentState
from tests.unit.app.books import Books
from tests.unit.app.desk import Desk, PaperAccount, creation

OTHER = PaperAccount(account_id="paper_other")
ROUTE = Route("all", (), ("paper_main", "paper_other"), frozenset(FailoverOn), attempts_max=2)


class Move:
    """A create that its first account has declined softly."""

    def __init__(self, route: Route = ROUTE, reason: DeclineReason = DeclineReason.DECLINED, **terms: object) -> None:
        self.desk = Desk(creation(**terms), route)
        self.main = Books(self.desk.payment, decline=Decline(reason, "code"))
        self.other = Books(replace(self.desk.payment, account_id="paper_other"))
        self.desk.answered(self.desk.create, self.main.execute(self.desk.create, AttemptStatus.FAILED))

    def cancelled(self) -> "Move":
        """And its object there is cancelled, as the gateway knows."""
        cancel = self.desk.send(CommandKind.CANCEL)
        self.desk.answered(cancel, self.main.execute(cancel))
        return self

    def gone_on(self) -> Operation:
        """And the next account has been asked."""
        return self.desk.go_on(OTHER)


def test_the_create_stays_open_and_the_payment_as_it_was() -> None:
    """From the decline until the next try: no reply, no observation of the create, and the payment CREATED."""
    move = Move()
    assert failing_over(move.desk.payment)
    assert move.desk.command(move.desk.create).state is CommandState.SENDING
    assert (move.desk.state(), move.desk.observations, move.desk.replies) == (PaymentState.CREATED, [], {})
    move.cancelled()
    assert move.desk.state() is PaymentState.CREATED
    assert [each.payment_state for each in move.desk.observations] == [PaymentState.CREATED]


@pytest.mark.parametrize("closure", [Closure.OPEN, Closure.EXPIRED])
def test_only_a_cancellation_is_a_confirmation(closure: Closure) -> None:
    """An object that lapsed by itself is not one that was cancelled."""
    move = Move()
    if closure is Closure.EXPIRED:
        move.main.cancel(Closure.EXPIRED)
        move.desk.called_back(move.main.snapshot())
    assert not cancelled_at(move.desk.payment.facts, "paper_main")
    assert cancelled_at(move.cancelled().desk.payment.facts, "paper_main") == (closure is Closure.OPEN)


@pytest.mark.parametrize(
    "route",
    [
        replace(ROUTE, failover_on=frozenset({FailoverOn.NOT_SENT})),
        replace(ROUTE, attempts_max=1),
        replace(ROUTE, candidates=("paper_main",)),
    ],
)
def test_without_a_rule_or_an_account_the_decline_is_the_answer(route: Route) -> None:
    """The rule does not say so, its bound is reached, or nobody else is there."""
    move = Move(route)
    assert not failing_over(move.desk.payment)
    assert (move.desk.command(move.desk.create).state, move.desk.state()) == (CommandState.FAILED, PaymentState.FAILED)


def test_after_an_answer_that_the_caller_has_had_nothing_moves() -> None:
    """UNKNOWN was told: evidence of a soft decline ends it, and begins nothing."""
    desk = Desk(creation(), ROUTE)
    books = Books(desk.payment)
    books.execute(desk.create, AttemptStatus.FAILED)
    desk.answered(desk.create, Ambiguous("lost"))
    desk.called_back(books.snapshot())
    assert not failing_over(desk.payment)
    assert desk.command(desk.create).state is CommandState.FAILED


def test_money_at_the_account_ends_the_failover_there() -> None:
    """The decline was no decline: the payment stays, and the create has succeeded."""
    move = Move()
    move.main.attempts[-1] = replace(move.main.attempts[-1], status=AttemptStatus.SUCCEEDED, decline=None)
    move.main._book(MovementKind.CAPTURE, 100, MovementStatus.SUCCEEDED, move.desk.create.operation_id)
    move.desk.called_back(move.main.snapshot())
    payment = move.desk.payment
    assert (failing_over(payment), payment.state, payment.account_id) == (False, PaymentState.CAPTURED, "paper_main")
    assert payment.route is not None
    assert payment.route.left == ()
    assert move.desk.command(move.desk.create).state is CommandState.SUCCEEDED


@pytest.mark.parametrize("next_ends", ["declined", "not sent"])
def test_money_at_an_account_that_was_left_is_told_aloud(next_ends: str) -> None:
    """It said no, cancelled, and charged: a contradiction, and never a create that says that nothing happened."""
    move = Move().cancelled()
    operation = move.gone_on()
    declined = next_ends == "declined"
    move.desk.answered(operation, move.other.execute(operation, AttemptStatus.FAILED) if declined else NotSent("no"))
    move.main.attempts[-1] = replace(move.main.attempts[-1], status=AttemptStatus.SUCCEEDED, decline=None)
    move.main._book(MovementKind.CAPTURE, 100, MovementStatus.SUCCEEDED, move.desk.create.operation_id)
    move.desk.called_back(move.main.snapshot())
    assert move.desk.payment.state is PaymentState.CAPTURED
    assert move.desk.command(move.desk.create).state is CommandState.SUCCEEDED
    told = [each.detail for each in move.desk.said(ObservationKind.CONTRADICTION)]
    assert "paper_main did what it had declined" in told


def test_a_cancellation_at_one_account_says_nothing_of_another() -> None:
    """The next account's cancel is unknown: that the first object is cancelled must not end it."""
    move = Move(capture_method=CaptureMethod.MANUAL).cancelled()
    operation = move.gone_on()
    move.desk.answered(operation, move.other.execute(operation))
    assert move.desk.state() is PaymentState.AUTHORIZED
    cancel = move.desk.send(CommandKind.CANCEL, reason="the caller's own")
    move.desk.answered(cancel, Ambiguous("lost"))
    move.desk.called_back(move.main.snapshot())
    assert move.desk.operation(cancel).state is CommandState.UNKNOWN
    assert move.desk.state() is PaymentState.AUTHORIZED


def test_an_object_of_an_account_that_was_left_is_no_mismatch() -> None:
    """Its snapshots are of this payment; those of an account that it never was at are not."""
    move = Move().cancelled()
    move.gone_on()
    payment = move.desk.payment
    assert mismatch(payment, payment.terms, move.main.snapshot()) == ""
    stranger = replace(move.main.snapshot(), account_id="paper_third")
    assert mismatch(payment, payment.terms, stranger) == "mismatch: account paper_third, not paper_other"


def test_what_an_account_that_was_left_shows_is_not_the_payments_object() -> None:
    """Neither its id nor its payer's action becomes the payment's."""
    move = Move().cancelled()
    operation = move.gone_on()
    assert move.desk.payment.provider_payment_id is None
    move.desk.called_back(move.main.snapshot())
    assert move.desk.payment.provider_payment_id is None
    move.desk.answered(operation, move.other.execute(operation))
    assert move.desk.payment.provider_payment_id == move.other.object_id


def test_the_next_try_has_a_key_of_its_own_at_the_provider() -> None:
    """A function of command, step and account."""
    move = Move().cancelled()
    assert move.gone_on().prepared.idempotency_key != move.desk.create.prepared.idempotency_key


def test_verify_notices_a_next_step_without_its_proof() -> None:
    """Begun while the first object is open, or paid at both: a violation each, and none where it was done right."""

    def told(move: Move) -> list[str]:
        aggregate = move.desk.aggregate
        dossier = Dossier(aggregate.payment, aggregate.commands, aggregate.operations, (), (), ())
        both = {
            o.operation_id: [
                Effect(1, "capture", o.operation_id, "obj", 100, "USD", o.account_id, o.operation_id, 2**60)
            ]
            for o in aggregate.operations
            if o.kind is CommandKind.CREATE
        }
        found = (*check_dossier(dossier), *check_effects(dossier, both, healed=False))
        return [each.message for each in found if each.invariant is Invariant.I1]

    hasty, proper = Move(), Move().cancelled()
    for move in (hasty, proper):
        move.gone_on()
    paid_twice = "was paid at paper_main, paper_other"
    assert told(hasty) == ["was begun, and the object at paper_main is not cancelled", paid_twice]
    assert told(proper) == [paid_twice]
