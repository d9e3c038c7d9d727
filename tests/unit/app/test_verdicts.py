"""The classification table, whole: every outcome, on a first send and after one that may have arrived."""

from dataclasses import replace
from itertools import product

import pytest

from gateway.app.verdicts import SUPERSEDED, classify, mismatch, verdict_of_facts
from gateway.domain.commands import CommandKind, Operation
from gateway.domain.declines import Decline, DeclineReason
from gateway.domain.errors import Sent
from gateway.domain.movements import (
    Attempt,
    AttemptStatus,
    Closure,
    Facts,
    Movement,
    MovementKind,
    MovementStatus,
    ProviderObject,
)
from gateway.domain.payments import ConfirmationMethod
from gateway.domain.providers import Ambiguous, Answered, Declined, NotExecuted, NotSent, Outcome, Snapshot
from gateway.domain.states import LIVE_COMMAND_STATES, CommandState
from tests.unit.app.books import DECLINED, Books
from tests.unit.app.desk import Desk

S = CommandState
DESK = Desk()
OPERATION, TERMS = DESK.create, DESK.payment.terms
ACCOUNT = OPERATION.account_id


def shown(**changes: object) -> Snapshot:
    """The provider's object after the create."""
    books = Books(DESK.payment)
    books.execute(OPERATION)
    return replace(books.snapshot(), **changes)  # type: ignore[arg-type]  # a test's own words


UNMAPPED = shown(unmapped=("payment.status=dancing",))
OTHER_AMOUNT = shown(amount_minor=99)
EUROS = shown(facts=Facts((Movement(ACCOUNT, MovementKind.CAPTURE, "m", 100, "EUR", MovementStatus.SUCCEEDED),)))

OUTCOMES: dict[str, Outcome] = {
    "answered": Answered(shown(), "result_1"),
    "answered, unmapped": Answered(UNMAPPED),
    "answered, another amount": Answered(OTHER_AMOUNT),
    "answered, another currency": Answered(shown(currency="EUR")),
    "answered, another account": Answered(shown(account_id="another")),
    "answered, a movement in another currency": Answered(EUROS),
    "declined": Declined(DECLINED),
    "declined, with the object": Declined(DECLINED, shown()),
    "declined, unmapped": Declined(DECLINED, UNMAPPED),
    "declined, another amount": Declined(DECLINED, OTHER_AMOUNT),
    "declined under its key": Declined(DECLINED, of_key=True),
    "declined under its key, with the object": Declined(DECLINED, shown(), of_key=True),
    "declined under its key, another amount": Declined(DECLINED, OTHER_AMOUNT, of_key=True),
    "not sent": NotSent("no route"),
    "not executed": NotExecuted("429", retry_after_s=7.0),
    "ambiguous": Ambiguous("reset"),
    "ambiguous, of another object": Ambiguous("mismatch: payment id", contradicts=True),
    "ambiguous, under a key that is known": Ambiguous("422: the key was used before", key_known=True),
}

LIES = {name for name in OUTCOMES if "another" in name}
KEYED = {"declined under its key", "declined under its key, with the object"}
"""Answers that the provider keeps under the key: on a resend they are the first send's own."""

FIRST = {
    **dict.fromkeys(KEYED | {"declined", "declined, with the object"}, S.FAILED),
    **dict.fromkeys(("not sent", "not executed"), S.NOT_SENT),
}
"""What a first send concludes by itself; everything else is UNKNOWN until facts say more."""

SENT = {
    **dict.fromkeys(("not sent", "not executed"), Sent.NO),
    **dict.fromkeys(("ambiguous", "ambiguous, of another object"), Sent.MAYBE),
}
"""What is known of the sending; an answer of any kind is YES."""

HISTORIES = [(sent, resend) for sent, resend in product(Sent, (False, True)) if (sent, resend) != (Sent.NO, False)]


@pytest.mark.parametrize("name", OUTCOMES)
def test_the_first_send(name: str) -> None:
    """Only a definite decline fails, only what provably did nothing is NOT_SENT, and all else is UNKNOWN."""
    verdict = classify(OPERATION, TERMS, OUTCOMES[name], resend=False)
    assert verdict.state is FIRST.get(name, S.UNKNOWN)
    assert verdict.sent is SENT.get(name, Sent.YES)
    assert (verdict.decline is not None) == (verdict.state is S.FAILED)


@pytest.mark.parametrize(("sent", "resend"), HISTORIES)
@pytest.mark.parametrize("name", OUTCOMES)
def test_after_a_send_that_may_have_arrived(name: str, sent: Sent, resend: bool) -> None:
    """No refusal of a later send concludes anything of the first, but one that is kept under the key of both."""
    verdict = classify(replace(OPERATION, sent=sent), TERMS, OUTCOMES[name], resend=resend)
    assert verdict.state is (S.FAILED if name in KEYED else S.UNKNOWN)
    assert (verdict.decline is not None) == (name in KEYED)


@pytest.mark.parametrize(("name", "sent", "resend"), list(product(OUTCOMES, Sent, (False, True))))
def test_sent_never_falls(name: str, sent: Sent, resend: bool) -> None:
    """It is the maximum over attempts."""
    assert classify(replace(OPERATION, sent=sent), TERMS, OUTCOMES[name], resend=resend).sent.rank >= sent.rank


@pytest.mark.parametrize(("name", "resend"), list(product(OUTCOMES, (False, True))))
def test_a_lie_is_quarantined_and_teaches_nothing(name: str, resend: bool) -> None:
    """An answer of another amount, currency or account says nothing, a decline no more than a success."""
    verdict = classify(OPERATION, TERMS, OUTCOMES[name], resend=resend)
    assert verdict.quarantined == (name in LIES)
    if name in LIES:
        assert (verdict.snapshot, verdict.result_id, verdict.decline) == (None, None, None)
        assert verdict.failure.startswith("mismatch")


@pytest.mark.parametrize(("name", "resend"), list(product(["answered, unmapped", "declined, unmapped"], (False, True))))
def test_what_is_not_in_our_tables_is_unknown(name: str, resend: bool) -> None:
    """A snapshot with a value that no table has is never merged, and the value is named for operators."""
    verdict = classify(OPERATION, TERMS, OUTCOMES[name], resend=resend)
    assert (verdict.state, verdict.snapshot, verdict.decline) == (S.UNKNOWN, None, None)
    assert "payment.status=dancing" in verdict.failure


def test_a_good_answer_is_evidence_and_no_more() -> None:
    """It carries its snapshot and result; that the operation succeeded is for the facts to say."""
    verdict = classify(OPERATION, TERMS, OUTCOMES["answered"], resend=False)
    assert (verdict.snapshot, verdict.result_id) == (shown(), "result_1")
    assert classify(OPERATION, TERMS, OUTCOMES["declined, with the object"], resend=True).snapshot == shown()


def test_what_a_provider_says_of_waiting_is_kept() -> None:
    """A documented refusal that did nothing is told apart from a connection that was never made."""
    reached = classify(OPERATION, TERMS, OUTCOMES["not executed"], resend=False)
    assert (reached.reached, reached.retry_after_s) == (True, 7.0)
    assert not classify(OPERATION, TERMS, OUTCOMES["not sent"], resend=False).reached


def test_a_true_snapshot_has_no_mismatch() -> None:
    """Account, currency, amount and every movement's currency are the payment's own."""
    assert mismatch(OPERATION, TERMS, shown()) == ""
    lies = [outcome for name, outcome in OUTCOMES.items() if name in LIES and not isinstance(outcome, Ambiguous)]
    for outcome in lies:
        assert isinstance(outcome, Answered | Declined)
        assert outcome.snapshot is not None
        assert mismatch(OPERATION, TERMS, outcome.snapshot)


def test_an_object_with_another_payments_reference_is_a_mismatch() -> None:
    """One filed under a wrong id never pays for this payment; one without our reference may be ours."""
    assert mismatch(OPERATION, TERMS, replace(shown(), payment_id="pay_other"))
    assert mismatch(OPERATION, TERMS, replace(shown(), tenant_id="other"))
    assert mismatch(OPERATION, TERMS, replace(shown(), payment_id="", tenant_id="")) == ""


@pytest.mark.parametrize("kind", list(CommandKind))
def test_what_an_operation_moved_is_what_it_asked_for(kind: CommandKind) -> None:
    """A read that tells another amount of it is a lie, whoever looked; another's movement is not measured by it."""
    moves = {
        CommandKind.CAPTURE: MovementKind.CAPTURE,
        CommandKind.REFUND: MovementKind.REFUND,
        CommandKind.ADJUST: MovementKind.AUTHORIZATION,
    }
    moved = moves.get(kind, MovementKind.CAPTURE)
    operation = replace(OPERATION, operation_id="op_later", kind=kind, amount_minor=TERMS.amount_minor)

    def told(amount_minor: int, operation_id: str = "op_later") -> Snapshot:
        names = (ACCOUNT, moved, "m", amount_minor, TERMS.currency, MovementStatus.SUCCEEDED)
        return shown(facts=Facts((Movement(*names, operation_id=operation_id),)))

    lie = mismatch(DESK.payment, TERMS, told(TERMS.amount_minor + 1), (OPERATION, operation))
    assert bool(lie) == (kind is not CommandKind.CANCEL)
    assert not lie or lie.startswith("mismatch: ")
    assert mismatch(DESK.payment, TERMS, told(TERMS.amount_minor), (OPERATION, operation)) == ""
    assert mismatch(DESK.payment, TERMS, told(TERMS.amount_minor + 1, "op_other"), (OPERATION, operation)) == ""
    unmapped = replace(told(TERMS.amount_minor + 1), unmapped=("payment.status=dancing",))
    assert mismatch(DESK.payment, TERMS, unmapped, (OPERATION, operation)) == "", "that is told first"


# By facts


def operation_of(kind: CommandKind, state: CommandState = S.UNKNOWN) -> Operation:
    """An operation of a kind."""
    return replace(OPERATION, kind=kind, state=state)


def said(
    operation: Operation, facts: Facts, confirmation: ConfirmationMethod = ConfirmationMethod.AUTOMATIC
) -> tuple[CommandState, Decline | None] | None:
    """What the facts say of it."""
    return verdict_of_facts(operation, facts, confirmation)


def attempted(status: AttemptStatus, *, ordinal: int = 1, operation_id: str | None = None) -> Facts:
    """An attempt at an open object."""
    attempt = Attempt(ACCOUNT, "obj_1", ordinal, status, operation_id or OPERATION.operation_id)
    return Facts((), (attempt,), (ProviderObject(ACCOUNT, "obj_1"),))


def moved(kind: MovementKind, status: MovementStatus, operation_id: str | None = OPERATION.operation_id) -> Facts:
    """A movement."""
    return Facts((Movement(ACCOUNT, kind, "mov_1", 100, "USD", status, operation_id, reason="late"),))


@pytest.mark.parametrize("kind", CommandKind)
def test_silent_facts_conclude_nothing(kind: CommandKind) -> None:
    """Without a trace of the operation there is no verdict, and another's trace is none."""
    assert said(operation_of(kind), Facts()) is None
    others = attempted(AttemptStatus.SUCCEEDED, operation_id="op_other").merge(
        moved(MovementKind.CAPTURE, MovementStatus.SUCCEEDED, "op_other").merge(
            moved(MovementKind.REFUND, MovementStatus.SUCCEEDED, None)
        )
    )
    assert said(operation_of(kind), others) is None


@pytest.mark.parametrize(
    ("kind", "movement"),
    [(CommandKind.CAPTURE, MovementKind.CAPTURE), (CommandKind.REFUND, MovementKind.REFUND)],
)
def test_a_movement_speaks_for_the_operation_it_names(kind: CommandKind, movement: MovementKind) -> None:
    """Each status of the movement is a state of its operation; a failure brings its reason."""
    states = {
        MovementStatus.PENDING: S.PENDING,
        MovementStatus.FAILED: S.FAILED,
        MovementStatus.SUCCEEDED: S.SUCCEEDED,
        MovementStatus.REVERSED: S.REVERSED,
    }
    for status, state in states.items():
        verdict = said(operation_of(kind), moved(movement, status))
        assert verdict is not None
        assert verdict[0] is state
        reason = Decline(DeclineReason.REFUSED_BY_PROVIDER, "late") if state is S.FAILED else None
        assert verdict[1] == reason


@pytest.mark.parametrize("kind", [CommandKind.CREATE, CommandKind.CONFIRM])
def test_an_attempt_speaks_for_the_confirmation_it_names(kind: CommandKind) -> None:
    """Each status of the attempt is a state of its operation; a failure without a reason is UNMAPPED."""
    states = {
        AttemptStatus.REQUIRES_ACTION: (S.REQUIRES_ACTION, None),
        AttemptStatus.PENDING: (S.PENDING, None),
        AttemptStatus.FAILED: (S.FAILED, Decline(DeclineReason.UNMAPPED)),
        AttemptStatus.SUCCEEDED: (S.SUCCEEDED, None),
    }
    for status, verdict in states.items():
        assert said(operation_of(kind), attempted(status)) == verdict


def test_a_create_that_does_not_confirm_has_succeeded_when_its_object_is_there() -> None:
    """With manual confirmation the object is the effect, at its own account alone."""
    manual = ConfirmationMethod.MANUAL
    create = operation_of(CommandKind.CREATE)
    assert said(create, Facts(objects=(ProviderObject(ACCOUNT, "obj_1"),)), manual) == (S.SUCCEEDED, None)
    assert said(create, Facts(objects=(ProviderObject("another", "obj_1"),)), manual) is None


@pytest.mark.parametrize("status", [AttemptStatus.REQUIRES_ACTION, AttemptStatus.PENDING])
def test_an_attempt_that_another_replaced_has_failed(status: AttemptStatus) -> None:
    """So has one whose object was closed; but a success stays a success."""
    later = attempted(AttemptStatus.PENDING, ordinal=2, operation_id="op_other")
    closed = Facts(objects=(ProviderObject(ACCOUNT, "obj_1", Closure.EXPIRED),))
    confirm = operation_of(CommandKind.CONFIRM)
    for more in (later, closed):
        assert said(confirm, attempted(status).merge(more)) == (S.FAILED, SUPERSEDED)
        assert said(confirm, attempted(AttemptStatus.SUCCEEDED).merge(more)) == (S.SUCCEEDED, None)


def test_a_confirmation_whose_captures_were_all_taken_back_is_reversed() -> None:
    """REVERSED after SUCCEEDED, on the capture that names it."""
    facts = attempted(AttemptStatus.SUCCEEDED).merge(moved(MovementKind.CAPTURE, MovementStatus.REVERSED))
    confirm = operation_of(CommandKind.CONFIRM, S.SUCCEEDED)
    assert said(confirm, facts) == (S.REVERSED, None)
    stands = Movement(ACCOUNT, MovementKind.CAPTURE, "mov_2", 40, "USD", MovementStatus.SUCCEEDED, confirm.operation_id)
    assert said(confirm, facts.merge(Facts((stands,)))) == (S.SUCCEEDED, None)


@pytest.mark.parametrize("state", CommandState)
def test_a_closed_object_speaks_for_a_cancellation_under_way(state: CommandState) -> None:
    """It names no operation: a cancellation that has ended, or was never sent, learns nothing of it."""
    cancelled = Facts(objects=(ProviderObject(ACCOUNT, "obj_1", Closure.CANCELLED),))
    verdict = said(operation_of(CommandKind.CANCEL, state), cancelled)
    assert verdict == ((S.SUCCEEDED, None) if state in LIVE_COMMAND_STATES else None)
    expired = Facts(objects=(ProviderObject(ACCOUNT, "obj_1", Closure.EXPIRED),))
    assert said(operation_of(CommandKind.CANCEL, state), expired) is None


@pytest.mark.parametrize("state", CommandState)
def test_the_attempt_speaks_for_a_completion_under_way(state: CommandState) -> None:
    """It names the create: a completion that was declined is not the one that a later approval brought about."""
    complete = replace(operation_of(CommandKind.COMPLETE, state), provider_payment_id="obj_1")
    live = state in LIVE_COMMAND_STATES
    for status in (AttemptStatus.SUCCEEDED, AttemptStatus.PENDING):
        assert said(complete, attempted(status, operation_id="op_create")) == ((S.SUCCEEDED, None) if live else None)
    failed = said(complete, attempted(AttemptStatus.FAILED, operation_id="op_create"))
    assert failed == ((S.FAILED, Decline(DeclineReason.UNMAPPED)) if live else None)
    waits = attempted(AttemptStatus.REQUIRES_ACTION, operation_id="op_create")
    assert said(complete, waits) is None
    closed = waits.merge(Facts(objects=(ProviderObject(ACCOUNT, "obj_1", Closure.EXPIRED),)))
    assert said(complete, closed) == ((S.FAILED, SUPERSEDED) if live else None)


def test_another_objects_attempt_says_nothing_of_a_completion() -> None:
    """A failover's other object is not the one that is completed."""
    complete = replace(operation_of(CommandKind.COMPLETE, S.UNKNOWN), provider_payment_id="obj_2")
    assert said(complete, attempted(AttemptStatus.SUCCEEDED)) is None
