"""State is derived: one state for every combination of facts, by the published precedence, and money by sums."""

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.derivation import derive_dispute_state, derive_payment_state, derive_sums
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
from gateway.domain.states import CommandState, DisputeState, PaymentState
from tests.unit.domain.growth import ACCOUNT, histories, known_after

P, C, S, K = PaymentState, CommandState, MovementStatus, MovementKind
OBJECT = "obj_1"


def moved(kind: MovementKind, status: MovementStatus, amount_minor: int = 100, name: str = "1") -> Facts:
    """One movement at an open object."""
    movement = Movement(ACCOUNT, kind, f"{kind}_{name}", amount_minor, "USD", status)
    return Facts((movement,), (), (ProviderObject(ACCOUNT, OBJECT),))


def tried(status: AttemptStatus, ordinal: int = 1) -> Facts:
    """One attempt at an open object."""
    return Facts((), (Attempt(ACCOUNT, OBJECT, ordinal, status),), (ProviderObject(ACCOUNT, OBJECT),))


def closed(closure: Closure) -> Facts:
    """The object, closed."""
    return Facts(objects=(ProviderObject(ACCOUNT, OBJECT, closure),))


def state_of(*history: Facts, entry: tuple[CommandState, ...] = (C.SUCCEEDED,)) -> PaymentState:
    """The payment axis after a history."""
    return derive_payment_state(known_after(history), entry)


WITNESSES: list[tuple[PaymentState, Facts, tuple[CommandState, ...]]] = [
    (P.CAPTURED, moved(K.CAPTURE, S.SUCCEEDED), ()),
    (P.UNKNOWN, Facts(), (C.UNKNOWN,)),
    (P.CANCELLED, closed(Closure.CANCELLED), ()),
    (P.EXPIRED, closed(Closure.EXPIRED), ()),
    (P.AUTHORIZED, moved(K.AUTHORIZATION, S.SUCCEEDED), ()),
    (P.PROCESSING, moved(K.CAPTURE, S.PENDING, name="2"), ()),
    (P.REQUIRES_ACTION, tried(AttemptStatus.REQUIRES_ACTION, ordinal=2), ()),
    (P.FAILED, tried(AttemptStatus.FAILED), ()),
    (P.CREATED, closed(Closure.OPEN), ()),
]
"""The least facts of each state, in the published precedence."""


@given(history=histories(), entry=st.lists(st.sampled_from(CommandState), max_size=4))
def test_every_combination_of_facts_has_exactly_one_state(history: list[Facts], entry: list[CommandState]) -> None:
    """Derivation is total: it answers one known state for whatever is known, and never raises."""
    facts = known_after(history)
    assert derive_payment_state(facts, entry) in PaymentState
    assert derive_dispute_state(facts) in DisputeState
    assert derive_payment_state(facts, entry) is derive_payment_state(facts, sorted(entry))


@given(history=histories(), data=st.data())
def test_state_depends_on_facts_and_not_on_their_order(history: list[Facts], data: st.DataObject) -> None:
    """Every permutation of what was seen derives the same state, dispute and sums."""
    one, other = known_after(history), known_after(data.draw(st.permutations(history)))
    assert state_of(one) is state_of(other)
    assert derive_dispute_state(one) is derive_dispute_state(other)
    assert derive_sums(one) == derive_sums(other)


@given(history=histories())
def test_sums_are_whole_and_never_negative(history: list[Facts]) -> None:
    """Every sum is an integer of minor units from 0, and a part is no more than its whole."""
    sums = derive_sums(known_after(history))
    for name in sums.__slots__:
        assert type(getattr(sums, name)) is int
        assert getattr(sums, name) >= 0
    assert sums.refund_pending_minor <= sums.refunded_minor
    assert sums.authorized_open_minor <= sums.authorized_minor


@pytest.mark.parametrize(("state", "facts", "entry"), WITNESSES, ids=lambda value: str(value)[:20])
def test_each_state_has_its_facts(state: PaymentState, facts: Facts, entry: tuple[CommandState, ...]) -> None:
    """The least facts of a state derive it."""
    assert derive_payment_state(facts, entry) is state


def test_precedence_is_as_published() -> None:
    """Where the facts of two states are there at once, the earlier in the published precedence wins."""
    for (first, facts, entry), (later, more, others) in combinations(WITNESSES, 2):
        derived = derive_payment_state(facts.merge(more), (*entry, *others))
        assert derived is first, f"{first} and {later} gave {derived}"


@pytest.mark.parametrize(
    ("refunded", "state"), [(0, P.CAPTURED), (40, P.PARTIALLY_REFUNDED), (100, P.REFUNDED), (140, P.REFUNDED)]
)
def test_refunds_tell_the_state_before_captures_do(refunded: int, state: PaymentState) -> None:
    """REFUNDED before PARTIALLY_REFUNDED before CAPTURED, over everything else that is known."""
    captured = moved(K.CAPTURE, S.SUCCEEDED)
    given_back = moved(K.REFUND, S.SUCCEEDED, refunded) if refunded else Facts()
    assert state_of(captured, given_back, closed(Closure.CANCELLED), entry=(C.UNKNOWN,)) is state


def test_a_pending_refund_is_not_refunded_and_not_refundable_again() -> None:
    """It counts against what can be refunded, and not for the state."""
    facts = known_after([moved(K.CAPTURE, S.SUCCEEDED), moved(K.REFUND, S.PENDING, 100)])
    assert derive_payment_state(facts, ()) is P.CAPTURED
    assert derive_sums(facts).refunded_minor == derive_sums(facts).refund_pending_minor == 100


@pytest.mark.parametrize("status", [S.FAILED, S.REVERSED])
def test_a_refund_that_came_back_is_not_refunded(status: MovementStatus) -> None:
    """A reversed or failed refund leaves the payment captured, and the money refundable."""
    history = [moved(K.CAPTURE, S.SUCCEEDED), moved(K.REFUND, S.SUCCEEDED, 60), moved(K.REFUND, status, 60)]
    assert state_of(*history) is P.CAPTURED
    assert derive_sums(known_after(history)).refunded_minor == 0


def test_a_part_captured_of_an_open_hold_is_partly_captured_until_the_rest_closes() -> None:
    """CAPTURED means that the remainder is closed."""
    part = [moved(K.AUTHORIZATION, S.SUCCEEDED), moved(K.CAPTURE, S.SUCCEEDED, 40)]
    assert state_of(*part) is P.PARTIALLY_CAPTURED
    assert state_of(*part, moved(K.AUTHORIZATION, S.RELEASED)) is P.CAPTURED
    assert state_of(*part, moved(K.AUTHORIZATION, S.EXPIRED)) is P.CAPTURED
    assert state_of(*part, moved(K.CAPTURE, S.SUCCEEDED, 60, name="2")) is P.CAPTURED


def test_a_reversed_capture_does_not_refill_its_hold() -> None:
    """Of 60 and 40 captured, 40 taken back: nothing is held any more, and nothing capturable."""
    facts = known_after(
        [
            moved(K.AUTHORIZATION, S.SUCCEEDED),
            moved(K.CAPTURE, S.SUCCEEDED, 60),
            moved(K.CAPTURE, S.REVERSED, 40, name="2"),
        ]
    )
    assert derive_payment_state(facts, ()) is P.CAPTURED
    assert derive_sums(facts).authorized_open_minor == derive_sums(facts).captured_minor == 60


def test_a_reversed_capture_of_a_closed_hold_takes_nothing_from_the_next() -> None:
    """After a capture was taken back and its hold closed, another method's hold can be captured whole."""
    facts = known_after(
        [
            moved(K.AUTHORIZATION, S.RELEASED),
            moved(K.CAPTURE, S.REVERSED),
            moved(K.AUTHORIZATION, S.SUCCEEDED, name="2"),
        ]
    )
    assert derive_payment_state(facts, ()) is P.AUTHORIZED
    assert derive_sums(facts).authorized_open_minor == 100


def test_a_late_failure_does_not_downgrade_a_paid_payment() -> None:
    """Failure events after the capture, of movement and attempt, leave it paid (woocommerce-gateway-stripe #902)."""
    paid = [moved(K.CAPTURE, S.SUCCEEDED), tried(AttemptStatus.SUCCEEDED)]
    late = [moved(K.CAPTURE, S.FAILED), tried(AttemptStatus.FAILED), tried(AttemptStatus.FAILED, ordinal=2)]
    assert state_of(*paid, *late, entry=(C.SUCCEEDED, C.FAILED)) is P.CAPTURED


def test_an_unknown_create_stays_unknown_while_the_provider_is_silent() -> None:
    """Nothing but evidence ends it: neither a closed object nor a failed confirm beside it (Hyperswitch #2380)."""
    assert state_of(entry=(C.UNKNOWN,)) is P.UNKNOWN
    assert state_of(tried(AttemptStatus.FAILED), entry=(C.UNKNOWN, C.FAILED)) is P.UNKNOWN
    assert state_of(closed(Closure.CANCELLED), entry=(C.SUCCEEDED, C.UNKNOWN)) is P.UNKNOWN


def test_money_after_a_cancellation_is_seen() -> None:
    """A capture at a cancelled object derives CAPTURED, never a refusal."""
    assert state_of(closed(Closure.CANCELLED), moved(K.CAPTURE, S.SUCCEEDED)) is P.CAPTURED


def test_money_after_a_failure_is_seen() -> None:
    """SUCCEEDED after FAILED by evidence: the payment is paid."""
    assert state_of(tried(AttemptStatus.FAILED), tried(AttemptStatus.SUCCEEDED)) is P.PROCESSING
    assert state_of(moved(K.CAPTURE, S.FAILED), moved(K.CAPTURE, S.SUCCEEDED)) is P.CAPTURED


def test_a_capture_that_was_taken_back_is_a_failure() -> None:
    """REVERSED after SUCCEEDED: nothing is captured any more, and another method may be tried."""
    assert state_of(moved(K.CAPTURE, S.SUCCEEDED), moved(K.CAPTURE, S.REVERSED)) is P.FAILED


@given(history=histories(), status=st.sampled_from([AttemptStatus.REQUIRES_ACTION, AttemptStatus.PENDING]))
def test_a_later_try_outranks_money_that_came_and_went(history: list[Facts], status: AttemptStatus) -> None:
    """With no money held, moved or on its way, the last try at an open object tells the state, whatever was before."""
    facts = known_after(history)
    gone = tuple(
        replace(m, status=S.REVERSED if m.kind is K.CAPTURE else S.EXPIRED)
        for m in facts.movements
        if m.kind in (K.CAPTURE, K.AUTHORIZATION)
    )
    again = Attempt(ACCOUNT, OBJECT, 4, status, operation_id="op_3")
    after = Facts(gone).merge(Facts((), (*facts.attempts, again), (ProviderObject(ACCOUNT, OBJECT),)))
    expected = P.REQUIRES_ACTION if status is AttemptStatus.REQUIRES_ACTION else P.PROCESSING
    assert state_of(after) is expected


def test_money_that_the_last_try_lost_is_not_a_later_try() -> None:
    """A stale view of the try whose capture was taken back does not hide that: FAILED."""
    capture = Movement(ACCOUNT, K.CAPTURE, "c", 100, "USD", S.REVERSED, operation_id="op_1")
    stale = Attempt(ACCOUNT, OBJECT, 1, AttemptStatus.PENDING, operation_id="op_1")
    assert state_of(Facts((capture,), (stale,), (ProviderObject(ACCOUNT, OBJECT),))) is P.FAILED


def test_a_provider_that_says_yes_without_money_is_at_work() -> None:
    """A succeeded attempt with no movement is PROCESSING, not paid and not failed."""
    assert state_of(tried(AttemptStatus.SUCCEEDED)) is P.PROCESSING


def test_a_declined_create_without_an_object_has_failed() -> None:
    """A create that the provider refused outright is FAILED; one that provably was not sent is still CREATED."""
    assert state_of(entry=(C.FAILED,)) is P.FAILED
    assert state_of(entry=(C.NOT_SENT,)) is P.CREATED
    assert state_of(entry=()) is P.CREATED


def test_the_attempt_at_the_open_object_speaks() -> None:
    """After a failover the closed object's attempts are history."""
    other = ProviderObject("acct_2", "obj_2")
    waiting = Facts((), (Attempt("acct_2", "obj_2", 1, AttemptStatus.REQUIRES_ACTION),), (other,))
    assert state_of(tried(AttemptStatus.FAILED, ordinal=3), closed(Closure.CANCELLED), waiting) is P.REQUIRES_ACTION


@pytest.mark.parametrize(
    ("statuses", "state", "disputed"),
    [
        ((), DisputeState.NONE, 0),
        ((S.INQUIRY,), DisputeState.INQUIRY, 0),
        ((S.INQUIRY_CLOSED,), DisputeState.NONE, 0),
        ((S.OPEN,), DisputeState.OPEN, 100),
        ((S.WON,), DisputeState.WON, 0),
        ((S.LOST,), DisputeState.LOST, 100),
        ((S.WON, S.LOST), DisputeState.LOST, 100),
        ((S.LOST, S.INQUIRY), DisputeState.INQUIRY, 100),
        ((S.INQUIRY, S.OPEN), DisputeState.OPEN, 100),
        ((S.LOST, S.OPEN), DisputeState.OPEN, 200),
    ],
)
def test_the_dispute_that_hurts_most_is_told(
    statuses: tuple[MovementStatus, ...], state: DisputeState, disputed: int
) -> None:
    """Open before inquiry before lost before won; open and lost money is disputed."""
    facts = known_after(moved(K.DISPUTE, status, name=str(n)) for n, status in enumerate(statuses))
    assert derive_dispute_state(facts) is state
    assert derive_sums(facts).disputed_minor == disputed


def test_a_dispute_is_an_axis_of_its_own() -> None:
    """A payment can be partly refunded and disputed at once."""
    history = [moved(K.CAPTURE, S.SUCCEEDED), moved(K.REFUND, S.SUCCEEDED, 40), moved(K.DISPUTE, S.OPEN, 60)]
    assert state_of(*history) is P.PARTIALLY_REFUNDED
    assert derive_dispute_state(known_after(history)) is DisputeState.OPEN
