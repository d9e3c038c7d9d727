"""What two operators vouch for against what the books show: evidence outranks, and what lost its reference is told."""

from dataclasses import replace

import pytest

from gateway.app.verdicts import verdict_of_facts
from gateway.app.vouching import RESULT_KINDS, Contradicted, executed, not_executed
from gateway.domain.commands import CommandKind, Operation
from gateway.domain.movements import AttemptStatus, Facts, Movement, MovementKind, MovementStatus
from gateway.domain.payments import CaptureMethod
from gateway.domain.providers import Absent, Ambiguous, Found, Lookup, Snapshot
from gateway.domain.resolutions import Proposal, Resolution
from gateway.domain.states import CommandState
from tests.unit.app.beginnings import authorized, begun, captured
from tests.unit.app.books import Books
from tests.unit.app.desk import Desk

C, K, S = CommandKind, MovementKind, MovementStatus
LOST = Ambiguous("the connection broke")


def proposal(operation: Operation, result_id: str = "", movement_id: str = "") -> Proposal:
    """EXECUTED, with the provider's ids."""
    return Proposal(
        proposal_id="prp_1",
        tenant_id=operation.tenant_id,
        payment_id=operation.payment_id,
        command_id=operation.command_id,
        operation_id=operation.operation_id,
        resolution=Resolution.EXECUTED,
        reason="seen",
        actor="ann",
        correlation_id="",
        version=1,
        last_send_us=0,
        provider_result_id=result_id,
        provider_movement_id=movement_id,
    )


def lost(desk: Desk, kind: CommandKind, amount_minor: int | None = None) -> Operation:
    """An operation of unknown outcome."""
    operation = desk.send(kind, amount_minor)
    desk.answered(operation, LOST)
    return desk.operation(operation)


def said(desk: Desk, operation: Operation, snapshot: Snapshot) -> CommandState | None:
    """What the facts say of the operation once the snapshot is merged."""
    facts = desk.payment.facts.merge(snapshot.facts)
    found = verdict_of_facts(operation, facts, desk.payment.terms.confirmation_method)
    return found[0] if found else None


def forgetting(snapshot: Snapshot) -> Found:
    """The object with every reference of ours lost."""
    facts = snapshot.facts
    return Found(
        replace(
            snapshot,
            payment_id="",
            tenant_id="",
            facts=replace(
                facts,
                movements=tuple(replace(m, operation_id=None) for m in facts.movements),
                attempts=tuple(replace(a, operation_id=None) for a in facts.attempts),
            ),
        )
    )


def test_a_refund_whose_reference_was_lost_is_told_to_be_ours() -> None:
    """Made by hand in the dashboard for the caller: it counts once, as this command's."""
    desk, books = captured()
    refund = lost(desk, C.REFUND, 40)
    assert books.refund_by_dashboard(40)
    made = books.movements[-1].provider_movement_id
    snapshot = executed(proposal(refund, made), refund, desk.payment, Found(books.snapshot()))
    assert said(desk, refund, snapshot) is CommandState.SUCCEEDED
    assert [m.operation_id for m in snapshot.facts.movements if m.kind is K.REFUND] == [refund.operation_id]


@pytest.mark.parametrize("wrong", ["amount", "missing", "another's", "failed"])
def test_a_result_that_cannot_be_it_is_refused(wrong: str) -> None:
    """Another amount, one that is not there, one of another command, one that failed."""
    desk, books = captured()
    refund = lost(desk, C.REFUND, 40)
    if wrong == "amount":
        books.refund_by_dashboard(30)
    elif wrong == "another's":
        other = desk.send(C.REFUND, 40)
        desk.answered(other, books.execute(other))
    elif wrong == "failed":
        books.execute(refund)
        books.move(K.REFUND, S.PENDING, S.FAILED)
    result_id = "re_none" if wrong == "missing" else books.movements[-1].provider_movement_id
    with pytest.raises(Contradicted):
        executed(proposal(refund, result_id), refund, desk.payment, Found(books.snapshot()))


def test_an_attempt_whose_reference_was_lost_is_told_to_be_ours() -> None:
    """A create that was confirmed: its attempt and its money are this operation's."""
    desk = Desk()
    books = Books(desk.payment)
    books.execute(desk.create)
    desk.answered(desk.create, LOST)
    create = desk.operation(desk.create)
    found = forgetting(books.snapshot())
    snapshot = executed(proposal(create, books.object_id), create, desk.payment, found)
    assert said(desk, create, snapshot) is CommandState.SUCCEEDED
    assert {m.operation_id for m in snapshot.facts.movements} == {create.operation_id}


def test_a_completion_by_word_is_booked_under_the_create() -> None:
    """Nobody can be asked: what was completed is the create's attempt, and its money the create's."""
    desk = Desk()
    books = Books(desk.payment, completes=True)
    desk.answered(desk.create, books.execute(desk.create, AttemptStatus.REQUIRES_ACTION))
    books.approve()
    complete = lost(desk, C.COMPLETE)
    create = desk.operation(desk.create)
    snapshot = executed(proposal(complete, books.object_id, "cap_1"), complete, desk.payment, None)
    assert {said(desk, each, snapshot) for each in (create, complete)} == {CommandState.SUCCEEDED}
    assert [m.operation_id for m in snapshot.facts.movements] == [create.operation_id]


def test_an_attempt_that_failed_took_no_effect() -> None:
    """The provider's last attempt was declined: nobody makes a success of it."""
    desk, books = begun(outcome=AttemptStatus.FAILED)
    confirm = lost(desk, C.CONFIRM)
    books.execute(confirm, AttemptStatus.FAILED)
    with pytest.raises(Contradicted):
        executed(proposal(confirm, books.object_id), confirm, desk.payment, forgetting(books.snapshot()))


def test_a_confirm_without_an_attempt_of_its_own_did_not_happen() -> None:
    """Only the attempt of an earlier command is there: it is not given away."""
    desk, books = begun(outcome=AttemptStatus.FAILED)
    confirm = lost(desk, C.CONFIRM)
    with pytest.raises(Contradicted, match="no attempt"):
        executed(proposal(confirm, books.object_id), confirm, desk.payment, Found(books.snapshot()))


def test_a_cancellation_is_done_when_the_object_is_closed_and_only_then() -> None:
    """Open: refused. Closed: the closure is the evidence."""
    desk, books = authorized()
    cancel = lost(desk, C.CANCEL)
    with pytest.raises(Contradicted):
        executed(proposal(cancel), cancel, desk.payment, Found(books.snapshot()))
    books.execute(cancel)
    snapshot = executed(proposal(cancel), cancel, desk.payment, Found(books.snapshot()))
    assert said(desk, cancel, snapshot) is CommandState.SUCCEEDED
    with pytest.raises(Contradicted):
        not_executed(cancel, desk.payment, Found(books.snapshot()))


def test_an_object_of_another_payment_is_no_evidence() -> None:
    """Another currency, amount or reference: refused, however sure the operators are."""
    desk, books = captured()
    refund = lost(desk, C.REFUND, 40)
    books.execute(refund)
    result_id = books.movements[-1].provider_movement_id
    for change in ({"currency": "KWD"}, {"amount_minor": 99}, {"payment_id": "pay_other"}):
        other = replace(books.snapshot(), **change)
        with pytest.raises(Contradicted, match="mismatch"):
            executed(proposal(refund, result_id), refund, desk.payment, Found(other))


@pytest.mark.parametrize("lookup", [None, Absent(consistent=True), Absent(consistent=False), "unmapped"])
def test_where_the_provider_can_tell_nothing_the_word_becomes_the_facts(lookup: Lookup | str | None) -> None:
    """No account, an object that is known here and gone there, values in no table: the refund under its own id."""
    desk, books = captured()
    refund = lost(desk, C.REFUND, 40)
    if lookup == "unmapped":
        lookup = Found(replace(books.snapshot(), unmapped=("status=quantum",)))
    assert not isinstance(lookup, str)
    snapshot = executed(proposal(refund, "re_1"), refund, desk.payment, lookup)
    (movement,) = snapshot.facts.movements
    assert (movement.provider_movement_id, movement.amount_minor, movement.status) == ("re_1", 40, S.SUCCEEDED)
    assert said(desk, refund, snapshot) is CommandState.SUCCEEDED
    assert not_executed(refund, desk.payment, lookup) is None


def test_a_word_that_known_facts_deny_is_refused_even_where_nobody_can_be_asked() -> None:
    """A refund that is known to have failed at the bank did not succeed."""
    desk, books = captured()
    books.refund_by_dashboard(40)
    books.move(K.REFUND, S.SUCCEEDED, S.FAILED)
    desk.called_back(books.snapshot())
    refund = lost(desk, C.REFUND, 40)
    with pytest.raises(Contradicted):
        executed(proposal(refund, books.movements[-1].provider_movement_id), refund, desk.payment, None)


@pytest.mark.parametrize("wrong", ["another's", "amount"])
@pytest.mark.parametrize("kind", [C.CAPTURE, C.REFUND, C.ADJUST])
def test_a_word_cannot_give_a_known_movement_away(kind: CommandKind, wrong: str) -> None:
    """Where nobody can be asked: it belongs to another command, or is of another amount."""
    desk, _ = captured() if kind is C.REFUND else authorized()
    operation = lost(desk, kind, 100)
    amount, owner, why = (100, "op_other", "belongs to") if wrong == "another's" else (70, None, "is of 70")
    of = RESULT_KINDS[kind]
    seen = Movement(desk.payment.account_id, of, "mov_1", amount, "USD", S.SUCCEEDED, operation_id=owner)
    known = replace(desk.payment, facts=desk.payment.facts.merge(Facts((seen,))))
    with pytest.raises(Contradicted, match=why):
        executed(proposal(operation, "mov_1"), operation, known, None)
    # Another account's of the same id is another one.
    elsewhere = Facts((replace(seen, account_id="acct_elsewhere"),))
    executed(proposal(operation, "mov_1"), operation, replace(known, facts=desk.payment.facts.merge(elsewhere)), None)


def test_a_word_of_an_attempt_cannot_give_a_known_movement_away() -> None:
    """The money that operators name as a confirm's is known to be another command's."""
    desk, books = begun(outcome=AttemptStatus.FAILED)
    confirm = lost(desk, C.CONFIRM)
    seen = Movement(desk.payment.account_id, K.CAPTURE, "cap_1", 100, "USD", S.SUCCEEDED, operation_id="op_other")
    known = replace(desk.payment, facts=desk.payment.facts.merge(Facts((seen,))))
    with pytest.raises(Contradicted, match="belongs to op_other"):
        executed(proposal(confirm, books.object_id, "cap_1"), confirm, known, None)
    executed(proposal(confirm, books.object_id, "cap_2"), confirm, known, None)


def test_a_create_is_not_held_for_never_executed_while_its_object_is_there() -> None:
    """An object is its own trace, whatever it shows; without one there is nothing against it."""
    desk = Desk()
    books = Books(desk.payment)
    desk.answered(desk.create, LOST)
    create = desk.operation(desk.create)
    assert not_executed(create, desk.payment, Absent(consistent=False)) is None
    books.made = True
    with pytest.raises(Contradicted, match="has payment"):
        not_executed(create, desk.payment, Found(books.snapshot()))
    with pytest.raises(Contradicted, match="has no payment"):
        executed(proposal(create, "sp_none"), create, desk.payment, Absent(consistent=True))


def test_what_the_provider_shows_beside_is_merged_when_nothing_is_against_it() -> None:
    """NOT_EXECUTED brings the object as it is now: a dispute that nobody has told of is not lost."""
    desk, books = captured()
    refund = lost(desk, C.REFUND, 40)
    books.dispute(100, S.OPEN)
    snapshot = not_executed(refund, desk.payment, Found(books.snapshot()))
    assert snapshot is not None
    assert any(m.kind is K.DISPUTE for m in snapshot.facts.movements)


def test_another_id_for_a_known_object_is_refused() -> None:
    """The payment has its object: a confirm can have happened there alone."""
    desk, books = begun(CaptureMethod.MANUAL, outcome=AttemptStatus.FAILED)
    confirm = lost(desk, C.CONFIRM)
    books.execute(confirm)
    with pytest.raises(Contradicted, match="not sp_other"):
        executed(proposal(confirm, "sp_other"), confirm, desk.payment, Found(books.snapshot()))
