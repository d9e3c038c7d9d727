"""The reckoning finds what it is for: books that agree pass, and each planted disagreement is named."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.demo.figures import (
    Books,
    CallbackRow,
    CommandRow,
    DecisionRow,
    Effect,
    MovementRow,
    ObservationRow,
    OperationRow,
    PaymentRow,
)
from gateway.demo.reckoning import Reckoning, reckon

CONSUMER = "ledger"

PAYMENT = PaymentRow(
    "pay_1", "acme", "acct_main", "spay_1", 5_000, "EUR", "AUTOMATIC", "PARTIALLY_REFUNDED", 0, 5_000, 1_000, 0, 5_000
)
COMMANDS = (CommandRow("cmd_1", "pay_1", "CREATE", "SUCCEEDED"), CommandRow("cmd_2", "pay_1", "REFUND", "SUCCEEDED"))
OPERATIONS = (
    OperationRow("op_1", "pay_1", "acct_main", "CREATE", "SUCCEEDED", 5_000, "EUR"),
    OperationRow("op_2", "pay_1", "acct_main", "REFUND", "SUCCEEDED", 1_000, "EUR"),
)
MOVEMENTS = (
    MovementRow("pay_1", "acct_main", "CAPTURE", "scap_1", 5_000, "EUR", "SUCCEEDED", "op_1"),
    MovementRow("pay_1", "acct_main", "REFUND", "sref_1", 1_000, "EUR", "SUCCEEDED", "op_2"),
    MovementRow("pay_1", "acct_main", "DISPUTE", "sdis_1", 5_000, "EUR", "OPEN", None),
    MovementRow("pay_1", "acct_main", "FEE", "sfee_1", 145, "EUR", "SUCCEEDED", None),
)
OBSERVATIONS = (
    ObservationRow("obs_1", "pay_1", "COMMAND_CONCLUDED", "cmd_1", 1),
    ObservationRow("obs_2", "pay_1", "COMMAND_CONCLUDED", "cmd_2", 2),
    ObservationRow("obs_3", "pay_1", "DISPUTE_CHANGED", None, 3),
)
DECISIONS = tuple(DecisionRow(each.observation_id, CONSUMER, True) for each in OBSERVATIONS)
BOOKS = Books((PAYMENT,), COMMANDS, OPERATIONS, MOVEMENTS, OBSERVATIONS, DECISIONS, (CallbackRow("cbk_1", "APPLIED"),))
CHARGE = Effect(1, "CAPTURE", "scap_1", "spay_1", 5_000, "EUR", "acct_main", "op_1", "acme", "request")
REFUND = Effect(2, "REFUND", "sref_1", "spay_1", 1_000, "EUR", "acct_main", "op_2", "acme", "request")
DISPUTE = Effect(3, "DISPUTE", "sdis_1", "spay_1", 5_000, "EUR", "acct_main", None, None, "provider")
EFFECTS = (CHARGE, REFUND, DISPUTE)
SEEN = tuple(each.observation_id for each in OBSERVATIONS)


def reckoned(books: Books = BOOKS, effects: tuple[Effect, ...] = EFFECTS, seen: tuple[str, ...] = SEEN) -> Reckoning:
    """What the comparison says."""
    return reckon(books, effects, consumer=CONSUMER, seen=seen, seen_otherwise=())


def without(rows: tuple[Any, ...], index: int, **changes: Any) -> tuple[Any, ...]:
    """The rows with one changed, or left out."""
    return (*rows[:index], *((replace(rows[index], **changes),) if changes else ()), *rows[index + 1 :])


def test_books_that_agree_pass() -> None:
    """A charge, a refund of ours and a dispute of the provider's: no line, and the figures are the counts."""
    reckoning = reckoned()
    assert reckoning.violations == ()
    assert reckoning.agrees
    assert str(reckoning) == "payments=1 effects=3 observations=3 accepted=3 unknown=0 violations=0"


@pytest.mark.parametrize(
    ("books", "effects", "seen", "said"),
    [
        (BOOKS, (*EFFECTS, replace(CHARGE, number=4, movement_id="scap_2")), SEEN, "op_1 has 2 effects"),
        (BOOKS, without(EFFECTS, 0, operation_id="op_9"), SEEN, "op_9, which the database does not have"),
        (BOOKS, without(EFFECTS, 0, amount_minor=5_001), SEEN, "effect 1 (capture scap_1) is 50.01 EUR"),
        (BOOKS, without(EFFECTS, 0, currency="USD"), SEEN, "effect 1 (capture scap_1) is 50.00 USD"),
        (BOOKS, without(EFFECTS, 0, operation_id="op_2"), SEEN, "cannot come from operation op_2 (REFUND)"),
        (BOOKS, without(EFFECTS, 0, tenant_id="other"), SEEN, "another account or tenant"),
        (BOOKS, without(EFFECTS, 0, account_id="acct_other"), SEEN, "another account or tenant"),
        (BOOKS, without(EFFECTS, 1), SEEN, "op_2 (REFUND) is SUCCEEDED, but the provider did nothing"),
        (BOOKS, without(EFFECTS, 1), SEEN, "REFUND sref_1 is not on the provider's books"),
        (BOOKS, without(EFFECTS, 1), SEEN, "REFUND sums to 10.00 EUR in the database, to 0 minor units"),
        (BOOKS, without(EFFECTS, 0, provider_payment_id="spay_9"), SEEN, "spay_9 is no payment of the database"),
        (
            BOOKS,
            (*EFFECTS, replace(DISPUTE, number=4, kind="REVERSAL")),
            SEEN,
            "DISPUTE sums to 50.00 EUR in the database, to 0 minor units",
        ),
        (
            replace(BOOKS, operations=without(OPERATIONS, 0, state="FAILED")),
            EFFECTS,
            SEEN,
            "happened, but operation op_1 (CREATE) is FAILED",
        ),
        (replace(BOOKS, movements=without(MOVEMENTS, 0)), EFFECTS, SEEN, "(capture scap_1) was not recorded"),
        (replace(BOOKS, movements=without(MOVEMENTS, 2)), EFFECTS, SEEN, "(dispute sdis_1) was not adopted"),
        (
            replace(BOOKS, movements=without(MOVEMENTS, 2, operation_id="op_1")),
            EFFECTS,
            SEEN,
            "50.00 EUR of None, but the database has 50.00 EUR of op_1",
        ),
        (
            replace(BOOKS, payments=(replace(PAYMENT, captured_minor=4_999),)),
            EFFECTS,
            SEEN,
            "CAPTURE sums to 49.99 EUR in the database, to 5000 minor units",
        ),
        (
            replace(BOOKS, observations=(*OBSERVATIONS, replace(OBSERVATIONS[0], observation_id="obs_4", sequence=4))),
            EFFECTS,
            SEEN,
            "cmd_1 (CREATE SUCCEEDED) is concluded by 2 observations, not by 1",
        ),
        (replace(BOOKS, observations=without(OBSERVATIONS, 0)), EFFECTS, SEEN, "by 0 observations, not by 1"),
        (
            replace(BOOKS, observations=without(OBSERVATIONS, 2, sequence=None)),
            EFFECTS,
            SEEN,
            "obs_3 has no place in the order",
        ),
        (BOOKS, EFFECTS, SEEN[:-1], "obs_3 never came to ledger"),
        (BOOKS, EFFECTS, (*SEEN, "obs_9"), "obs_9 came to ledger, but the database does not have it"),
        (replace(BOOKS, decisions=without(DECISIONS, 2)), EFFECTS, SEEN, "obs_3 is not accepted"),
        (replace(BOOKS, decisions=without(DECISIONS, 2, accepted=False)), EFFECTS, SEEN, "obs_3 is not accepted"),
        (replace(BOOKS, decisions=without(DECISIONS, 2, consumer="other")), EFFECTS, SEEN, "obs_3 is not accepted"),
    ],
)
def test_a_planted_disagreement_is_named(
    books: Books, effects: tuple[Effect, ...], seen: tuple[str, ...], said: str
) -> None:
    """One thing is otherwise on one side: a line says what, and the books do not agree."""
    reckoning = reckoned(books, effects, seen)
    assert any(said in violation for violation in reckoning.violations), reckoning.violations
    assert not reckoning.agrees


def test_a_refund_that_was_taken_back_may_be_a_failure() -> None:
    """The bank sent it back before the gateway saw it: the effect stands in the log, and so does its reversal."""
    books = replace(
        BOOKS,
        payments=(replace(PAYMENT, refunded_minor=0),),
        operations=without(OPERATIONS, 1, state="FAILED"),
        commands=without(COMMANDS, 1, state="FAILED"),
        movements=without(MOVEMENTS, 1, status="REVERSED"),
    )
    back = replace(REFUND, number=4, kind="REVERSAL", operation_id=None, tenant_id=None, origin="provider")
    assert reckoned(books, (*EFFECTS, back)).violations == ()


@pytest.mark.parametrize(
    "books",
    [
        replace(BOOKS, commands=without(COMMANDS, 1, state="UNKNOWN")),
        replace(BOOKS, commands=without(COMMANDS, 1, state="SENDING")),
        replace(BOOKS, payments=(replace(PAYMENT, state="UNKNOWN"),)),
    ],
)
def test_what_is_not_known_is_counted_and_no_agreement(books: Books) -> None:
    """A payment with an open doubt counts once, and a demo that ends with one has failed."""
    reckoning = reckoned(books)
    assert reckoning.unknown == 1
    assert not reckoning.agrees


def test_what_a_scene_noticed_is_counted() -> None:
    """A reply that was not the same again is a violation, also where the books agree."""
    reckoning = reckon(BOOKS, EFFECTS, consumer=CONSUMER, seen=SEEN, seen_otherwise=("another reply",))
    assert str(reckoning).endswith("violations=1")
    assert not reckoning.agrees
