"""What a comparison calls a break, and what it would merge: over every history, and by example where a person reads."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.app.comparing import differences, is_mergeable, missing_here, operations_of
from gateway.domain.commands import CommandKind
from gateway.domain.derivation import derive_sums
from gateway.domain.movements import Closure, Facts, Movement, MovementKind, MovementStatus, ProviderObject
from gateway.domain.payments import CaptureMethod, Payment
from gateway.domain.providers import Snapshot
from gateway.domain.reconciliation import BreakType
from tests.unit.app.books import Books
from tests.unit.app.desk import Desk, creation

B, K, S = BreakType, MovementKind, MovementStatus

STEPS = (
    lambda books: books.refund_by_dashboard(30),
    lambda books: books.dispute(20, S.OPEN),
    lambda books: books.dispute(10, S.INQUIRY),
    lambda books: books.move(K.DISPUTE, S.OPEN, S.LOST),
    lambda books: books.move(K.REFUND, S.SUCCEEDED, S.REVERSED),
    lambda books: books.move(K.CAPTURE, S.SUCCEEDED, S.REVERSED),
    lambda books: books.cancel(),
    lambda books: books.cancel(Closure.EXPIRED),
)
"""What happens on the provider's own side, of which nobody may have told us."""


def opened(*, manual: bool = False) -> tuple[Desk, Books]:
    """A payment of 100 with its object: captured, or held."""
    desk = Desk(creation(capture_method=CaptureMethod.MANUAL if manual else CaptureMethod.AUTOMATIC))
    books = Books(desk.payment)
    books.execute(desk.create)
    return desk, books


def knowing(desk: Desk, snapshot: Snapshot) -> Payment:
    """Our payment with the facts of that moment."""
    facts = snapshot.facts
    return replace(desk.payment, facts=facts, sums=derive_sums(facts), provider_payment_id=snapshot.provider_payment_id)


@given(manual=st.booleans(), steps=st.lists(st.sampled_from(STEPS), max_size=8), known=st.integers(0, 8))
def test_what_the_provider_has_told_since_is_always_mended_by_merging(
    manual: bool, steps: list[object], known: int
) -> None:
    """However much was missed, every difference is one that a merge removes, and after the merge there is none."""
    desk, books = opened(manual=manual)
    before = books.snapshot()
    for number, step in enumerate(steps):
        if number == known:
            before = books.snapshot()
        step(books)  # type: ignore[operator]  # a function of the books
    now, payment = books.snapshot(), knowing(desk, before)
    found = differences(payment, now, {(desk.create.account_id, desk.create.operation_id)})
    assert all(each.mends for each in found)
    assert bool(found) == is_mergeable(found) == (payment.facts.merge(now.facts) != payment.facts)
    merged = replace(payment, facts=payment.facts.merge(now.facts))
    assert differences(merged, now, {(desk.create.account_id, desk.create.operation_id)}) == ()


@given(manual=st.booleans(), steps=st.lists(st.sampled_from(STEPS), min_size=1, max_size=8))
def test_what_we_know_more_is_never_merged_away(manual: bool, steps: list[object]) -> None:
    """Books that went back behind what they had shown us: a break for a person, and nothing to merge."""
    desk, books = opened(manual=manual)
    before = books.snapshot()
    for step in steps:
        step(books)  # type: ignore[operator]  # a function of the books
    payment = knowing(desk, books.snapshot())
    found = differences(payment, before, {(desk.create.account_id, desk.create.operation_id)})
    assert bool(found) == (before.facts != payment.facts)
    assert not any(each.mends for each in found)
    assert not is_mergeable(found)
    assert payment.facts.merge(before.facts) == payment.facts


def test_equal_books_do_not_differ() -> None:
    """The object as we know it."""
    desk, books = opened()
    assert differences(knowing(desk, books.snapshot()), books.snapshot(), ()) == ()


def test_a_payment_without_an_object_takes_the_one_that_is_its_own() -> None:
    """A lost answer: the object, its attempt and its money are merged."""
    desk, books = opened()
    found = differences(desk.payment, books.snapshot(), {(desk.create.account_id, desk.create.operation_id)})
    assert {(each.type, each.mends) for each in found} == {(B.STATE, True), (B.MISSING_HERE, True)}
    assert is_mergeable(found)


def altered(snapshot: Snapshot, **changes: object) -> Snapshot:
    """The object with its one capture otherwise."""
    (movement,) = snapshot.facts.movements
    facts = replace(snapshot.facts, movements=(replace(movement, **changes),))  # type: ignore[arg-type]  # own words
    return replace(snapshot, facts=facts)


@pytest.mark.parametrize("amount_minor", [99, 101])
def test_our_own_capture_of_another_amount_is_never_merged(amount_minor: int) -> None:
    """Not even where the books have more: wrong books would become ours."""
    desk, books = opened()
    payment = knowing(desk, books.snapshot())
    found = differences(payment, altered(books.snapshot(), amount_minor=amount_minor), ())
    assert [(each.type, each.mends) for each in found] == [(B.AMOUNT, False)]
    assert not is_mergeable(found)


def test_a_poisoned_object_is_merged_in_nothing() -> None:
    """Where an amount is wrong, what else the object tells waits for the same person."""
    desk, books = opened()
    payment = knowing(desk, books.snapshot())
    books.refund_by_dashboard(30)
    wrong = replace(books.snapshot(), facts=_with_capture_of(books.snapshot().facts, 90))
    found = differences(payment, wrong, ())
    assert {(each.type, each.mends) for each in found} == {(B.AMOUNT, False), (B.MISSING_HERE, False)}
    assert not is_mergeable(found)


def test_a_poisoned_object_is_not_merged_for_a_lost_operation_either() -> None:
    """A lost refund is merged, but not together with a wrong amount."""
    desk, books = opened()
    payment = knowing(desk, books.snapshot())
    books.execute(replace(desk.create, operation_id="op_lost", kind=CommandKind.REFUND, amount_minor=40))
    wrong = replace(books.snapshot(), facts=_with_capture_of(books.snapshot().facts, 90))
    found = differences(payment, wrong, {(desk.create.account_id, desk.create.operation_id)})
    assert {(each.type, each.lost) for each in found} == {(B.AMOUNT, ()), (B.MISSING_HERE, ("op_lost",))}
    assert not is_mergeable(found)


def _with_capture_of(facts: Facts, amount_minor: int) -> Facts:
    return replace(
        facts,
        movements=tuple(replace(m, amount_minor=amount_minor) if m.kind is K.CAPTURE else m for m in facts.movements),
    )


def test_another_amount_currency_reference_or_object_says_so() -> None:
    """The object's own terms come first, and forbid any further comparison."""
    desk, books = opened()
    payment, snapshot = knowing(desk, books.snapshot()), books.snapshot()
    euros = Movement("paper_main", K.CAPTURE, "capture_1", 100, "EUR", S.SUCCEEDED)
    second = replace(
        snapshot,
        provider_payment_id="obj_2",
        facts=replace(snapshot.facts, objects=(ProviderObject("paper_main", "obj_2"),)),
    )
    for changed, kind in (
        (replace(snapshot, amount_minor=99), B.AMOUNT),
        (replace(snapshot, currency="EUR"), B.CURRENCY),
        (replace(snapshot, facts=Facts((euros,))), B.CURRENCY),
        (replace(snapshot, payment_id="pay_other"), B.DUPLICATE),
        (replace(snapshot, tenant_id="tenant_2"), B.DUPLICATE),
        (second, B.DUPLICATE),
        (replace(snapshot, unmapped=("payment.status=dancing",)), B.STATE),
    ):
        found = differences(payment, changed, ())
        assert [(each.type, each.mends) for each in found] == [(kind, False)], changed
        assert not is_mergeable(found)


def test_a_refund_of_an_operation_that_nobody_here_claimed_is_merged_and_told() -> None:
    """Money is merged, whoever moved it; that its command is lost is for a person to know."""
    desk, books = opened()
    payment = knowing(desk, books.snapshot())
    refund = replace(desk.create, operation_id="op_lost", kind=CommandKind.REFUND, amount_minor=40)
    books.execute(refund)
    (found,) = differences(payment, books.snapshot(), {(desk.create.account_id, desk.create.operation_id)})
    assert (found.type, found.mends, found.lost) == (B.MISSING_HERE, False, ("op_lost",))
    assert is_mergeable([found])


def test_an_object_of_no_payment_of_ours_is_told_with_all_that_is_known() -> None:
    """Its reference, its order and every operation that it names; whether its order is taken by it."""
    desk, books = opened()
    snapshot = replace(books.snapshot(), order_reference="order-1", operation_id="op_create")
    assert operations_of(snapshot) == tuple(sorted({"op_create", desk.create.operation_id}))
    lost = missing_here(snapshot)
    assert (lost.type, lost.order_reference, lost.holds_order) == (B.MISSING_HERE, "order-1", True)
    never = Facts(objects=(ProviderObject("paper_main", "obj", Closure.CANCELLED),))
    assert not missing_here(replace(snapshot, facts=never)).holds_order
