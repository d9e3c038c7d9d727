"""Verify compares what a provider did with what is said of it: also where it was done, and taken back."""

from collections.abc import Sequence

import pytest

from gateway.app.invariants import check_effects
from gateway.domain.commands import CommandKind, Operation
from gateway.domain.dossier import Dossier, Effect
from gateway.domain.movements import MovementKind, MovementStatus
from gateway.domain.states import CommandState
from tests.unit.app.beginnings import captured
from tests.unit.app.books import Books
from tests.unit.app.desk import Desk

C, K, S = CommandKind, MovementKind, MovementStatus
LATER_US = 2**60


def refunded(*path: MovementStatus) -> tuple[Desk, Books, Operation]:
    """A refund of 60 on 100 that took this path after it was pending, each step seen."""
    desk, books = captured()
    refund = desk.send(C.REFUND, 60)
    desk.answered(refund, books.execute(refund))
    before = S.PENDING
    for status in path:
        assert books.move(K.REFUND, before, status)
        before = status
        desk.called_back(books.snapshot())
    return desk, books, refund


def effects_of(desk: Desk, refund: Operation, *, taken_back: bool) -> dict[str, list[Effect]]:
    """The provider's log: the capture, and the refund, with or without a reversal after it."""
    create, account = desk.create, refund.account_id
    return {
        create.operation_id: [Effect(1, "capture", "c", "o", 100, "USD", account, create.operation_id, LATER_US)],
        refund.operation_id: [
            Effect(2, "refund", "r", "o", 60, "USD", account, refund.operation_id, LATER_US, taken_back)
        ],
    }


def told(desk: Desk, effects: dict[str, list[Effect]]) -> Sequence[str]:
    """What is broken, once nothing is under way any more."""
    aggregate = desk.aggregate
    dossier = Dossier(aggregate.payment, aggregate.commands, aggregate.operations, (), (), ())
    return [f"{each.invariant} {each.message}" for each in check_effects(dossier, effects, healed=True)]


@pytest.mark.parametrize(
    ("path", "state"),
    [
        ((S.SUCCEEDED, S.FAILED), CommandState.REVERSED),
        ((S.SUCCEEDED, S.REVERSED), CommandState.REVERSED),
        ((S.FAILED,), CommandState.FAILED),
        ((S.REVERSED,), CommandState.FAILED),
    ],
)
def test_a_refund_that_the_bank_sent_back_breaks_nothing(path: tuple[MovementStatus, ...], state: CommandState) -> None:
    """Seen to succeed or not, called failed or reversed: the log has it, and has that it was taken back."""
    desk, _, refund = refunded(*path)
    assert desk.operation(refund).state is state
    assert told(desk, effects_of(desk, refund, taken_back=True)) == []


def test_a_failure_whose_money_stayed_moved_is_told() -> None:
    """Nothing in the log takes the refund back: it is no failure, and the sums differ."""
    desk, _, refund = refunded(S.FAILED)
    assert told(desk, effects_of(desk, refund, taken_back=False)) == [
        "I3 is FAILED, and effect r exists",
        "I12 our refunds sum to 0 here and to 60 at the provider",
    ]


def test_a_reversal_that_nobody_here_heard_of_is_told() -> None:
    """The books here still say that 60 were given back, and the bank has sent them back."""
    desk, _, refund = refunded(S.SUCCEEDED)
    assert told(desk, effects_of(desk, refund, taken_back=False)) == []
    assert told(desk, effects_of(desk, refund, taken_back=True)) == [
        "I12 our refunds sum to 60 here and to 0 at the provider"
    ]
