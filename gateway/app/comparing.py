"""How a provider's object differs from our payment: a pure function, and what each difference asks for.

Facts merge, so a difference is one of three: the provider knows more (merging its evidence mends that), we know more (a
person must look), or both name one thing differently (a person must look, and nothing is merged: a wrong amount in the
books would otherwise become ours).
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from gateway.domain.derivation import derive_sums
from gateway.domain.movements import (
    RANKS,
    Attempt,
    AttemptStatus,
    Closure,
    FactError,
    Facts,
    Movement,
    MovementStatus,
    Origin,
    ProviderObject,
)
from gateway.domain.payments import Payment
from gateway.domain.providers import Snapshot
from gateway.domain.reconciliation import Break, BreakType, CurrencySums, Sums

WORDS_CHARACTERS_MAX = 300

_ATTEMPT_RANKS = {status: rank for rank, status in enumerate(AttemptStatus)}
_CLOSURE_RANKS = {closure: rank for rank, closure in enumerate(Closure)}
_POISON = frozenset({BreakType.AMOUNT, BreakType.CURRENCY, BreakType.DUPLICATE})
"""With one of these nothing of the provider's object is merged."""


Known = tuple[str, str]
"""An account, and an operation of ours there."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference in words. `mends`: merging the provider's evidence removes it.

    `lost` are operations of ours that the evidence names at its account and this database does not know there.
    """

    type: BreakType
    ours: str
    theirs: str
    mends: bool
    lost: tuple[str, ...] = ()


def differences(
    payment: Payment, snapshot: Snapshot, known_operations: Collection[Known], others: Facts | None = None
) -> tuple[Difference, ...]:
    """Every difference between `payment` and the object that `snapshot` shows, at most one of a type and remedy.

    `others` are the facts of the payment's other objects, where it has any. `known_operations` are the payment's own.

    An operation is known where it is: one that was reopened at another account keeps its id.
    """
    found = list(_at_odds(payment, snapshot))
    if not found:
        theirs = snapshot.facts if others is None else snapshot.facts.merge(others)
        found = list(_objects(payment, snapshot, known_operations))
        # Of an object that is another one's, only that is of interest.
        if not any(each.type is BreakType.DUPLICATE for each in found):
            found += [*_movements(payment.facts, theirs, known_operations), *_attempts(payment.facts, theirs)]
    if any(each.type in _POISON for each in found):
        found = [Difference(each.type, each.ours, each.theirs, False, each.lost) for each in found]
    return _joined(found)


def is_mergeable(found: Sequence[Difference]) -> bool:
    """Whether the provider's evidence may be merged, and would change something."""
    poisoned = any(each.type in _POISON or each.theirs.startswith(UNREADABLE) for each in found)
    return not poisoned and any(each.mends or each.lost for each in found)


UNREADABLE = "unreadable: "


def unreadable(payment: Payment, failure: str) -> Difference:
    """The provider's object could not be read, again and again."""
    return Difference(BreakType.STATE, standing(payment), f"{UNREADABLE}{failure}"[:WORDS_CHARACTERS_MAX], False)


def missing_there(payment: Payment) -> Difference:
    """The provider has no such object."""
    return Difference(BreakType.MISSING_THERE, standing(payment), "no such object", False)


def stuck(payment: Payment, theirs: str) -> Difference:
    """A command that neither ends nor is shown by the provider."""
    return Difference(BreakType.STUCK, standing(payment), theirs, False)


def standing(payment: Payment) -> str:
    """How a payment of ours stands, in words that stay the same as long as it does."""
    terms, sums = payment.terms, payment.sums
    return (
        f"{payment.state} of {terms.amount_minor} {terms.currency}, captured {sums.captured_minor}, "
        f"refunded {sums.refunded_minor}"
    )


def shown(snapshot: Snapshot) -> str:
    """How the provider's object stands, in words."""
    sums = derive_sums(snapshot.facts)
    return (
        f"{snapshot.amount_minor} {snapshot.currency}, captured {sums.captured_minor}, refunded {sums.refunded_minor}"
    )


def operations_of(snapshot: Snapshot) -> tuple[str, ...]:
    """Every operation of ours that the object names."""
    facts = snapshot.facts
    moved, tried = (m.operation_id for m in facts.movements), (a.operation_id for a in facts.attempts)
    return tuple(sorted({each for each in (snapshot.operation_id, *moved, *tried) if each}))


def missing_here(snapshot: Snapshot) -> Break:
    """An object with our reference of which we have no payment, with all that is known of it."""
    return Break(
        type=BreakType.MISSING_HERE,
        tenant_id=snapshot.tenant_id,
        payment_id=snapshot.payment_id,
        provider_payment_id=snapshot.provider_payment_id,
        ours="no such payment",
        theirs=shown(snapshot),
        order_reference=snapshot.order_reference,
        operation_ids=operations_of(snapshot),
        holds_order=_may_hold_money(snapshot.facts),
    )


def break_of(payment: Payment, provider_payment_id: str, difference: Difference, shows: Facts | None) -> Break:
    """A difference as it is kept; `shows` are the facts of the object, where it was read.

    An object beside the payment's own, by an operation that was lost, holds the order for itself: the payment may give
    it up by what its own account shows.
    """
    apart = difference.type is BreakType.DUPLICATE and bool(difference.lost)
    holds_order = apart and shows is not None and _may_hold_money(shows)
    return Break(
        type=difference.type,
        tenant_id=payment.tenant_id,
        payment_id=payment.payment_id,
        provider_payment_id=provider_payment_id,
        ours=difference.ours,
        theirs=difference.theirs,
        order_reference=payment.terms.order_reference,
        operation_ids=difference.lost,
        mends=difference.mends,
        holds_order=holds_order,
    )


def has_lapsed(payment: Payment) -> bool:
    """Whether its object was dropped there unpaid, as we know: that a look shows nothing any more is no news."""
    key = (payment.account_id, payment.provider_payment_id)
    own = {each.closure for each in payment.facts.objects if each.key == key}
    return own == {Closure.EXPIRED} and not payment.facts.movements


def our_sums(payment: Payment) -> Sums:
    """What a payment of ours adds to the sums of its currency."""
    sums = payment.sums
    return {
        payment.terms.currency: CurrencySums(
            our_captured_minor=sums.captured_minor, our_refunded_minor=sums.refunded_minor
        )
    }


def their_sums(snapshot: Snapshot) -> Sums:
    """What a provider's object adds."""
    sums = derive_sums(snapshot.facts)
    return {
        snapshot.currency: CurrencySums(
            their_captured_minor=sums.captured_minor, their_refunded_minor=sums.refunded_minor
        )
    }


def summed(*each: Sums) -> Sums:
    """All of them, currency by currency."""
    total: dict[str, CurrencySums] = {}
    for sums in each:
        for currency, amounts in sums.items():
            total[currency] = total.get(currency, CurrencySums()).plus(amounts)
    return total


def _at_odds(payment: Payment, snapshot: Snapshot) -> Iterator[Difference]:
    """What forbids any further comparison."""
    ours, theirs, currency = standing(payment), shown(snapshot), payment.terms.currency
    reference = (snapshot.tenant_id, snapshot.payment_id)
    if snapshot.payment_id and reference != (payment.tenant_id, payment.payment_id):
        yield Difference(BreakType.DUPLICATE, ours, f"its object carries the reference {snapshot.payment_id}", False)
    elif snapshot.currency != currency or any(m.currency != currency for m in snapshot.facts.movements):
        yield Difference(BreakType.CURRENCY, ours, theirs, False)
    elif snapshot.amount_minor != payment.terms.amount_minor:
        yield Difference(BreakType.AMOUNT, ours, theirs, False)
    elif snapshot.unmapped:
        yield Difference(BreakType.STATE, ours, f"{UNREADABLE}{', '.join(snapshot.unmapped)}", False)
    else:
        try:
            payment.facts.merge(snapshot.facts)
        except FactError as error:
            yield Difference(BreakType.CURRENCY, ours, str(error), False)


def _objects(payment: Payment, snapshot: Snapshot, known_operations: Collection[Known]) -> Iterator[Difference]:
    known = {view.key: view for view in payment.facts.objects}
    for view in snapshot.facts.objects:
        mine = known.get(view.key)
        may_be_ours = payment.account_id == view.account_id and (
            payment.provider_payment_id in (None, view.provider_payment_id)
        )
        if mine is not None:
            yield from _closures(mine, view)
        elif known or not may_be_ours:
            theirs = f"{view.provider_payment_id} carries its reference as well"
            lost = tuple(
                each for each in operations_of(snapshot) if (snapshot.account_id, each) not in known_operations
            )
            yield Difference(BreakType.DUPLICATE, f"object {payment.provider_payment_id}", theirs, False, lost)
        else:
            yield Difference(BreakType.STATE, standing(payment), f"object {view.provider_payment_id}", True)


def _closures(mine: ProviderObject, view: ProviderObject) -> Iterator[Difference]:
    if mine.closure is not view.closure:
        further = _CLOSURE_RANKS[view.closure] > _CLOSURE_RANKS[mine.closure]
        yield Difference(BreakType.STATE, f"object {mine.closure}", f"object {view.closure}", further)


def _movements(ours: Facts, theirs: Facts, known_operations: Collection[Known]) -> Iterator[Difference]:
    mine = {movement.key: movement for movement in ours.movements}
    shown_there = {movement.key: movement for movement in theirs.movements}
    for key in sorted(mine.keys() | shown_there.keys()):
        here, there = mine.get(key), shown_there.get(key)
        if here is None and there is not None:
            lost = there.operation_id is not None and (there.account_id, there.operation_id) not in known_operations
            lost_ids = (there.operation_id,) if lost and there.operation_id else ()
            yield Difference(BreakType.MISSING_HERE, f"no {_named(there)}", _told(there), not lost, lost_ids)
        elif there is None and here is not None:
            yield Difference(BreakType.MISSING_THERE, _told(here), f"no {_named(here)}", False)
        elif here is not None and there is not None:
            yield from _movement(here, there)


def _movement(here: Movement, there: Movement) -> Iterator[Difference]:
    if here.amount_minor != there.amount_minor:
        # A provider that only tells totals lets what it caused itself grow; what we asked for has one amount.
        grew = there.amount_minor > here.amount_minor and here.origin is Origin.PROVIDER
        kind = BreakType.STATE if grew else BreakType.AMOUNT
        yield Difference(kind, _told(here), _told(there), grew)
    elif here.status is not there.status:
        further = RANKS[there.kind, there.status] > RANKS[here.kind, here.status]
        yield Difference(BreakType.STATE, _told(here), _told(there), further)


def _attempts(ours: Facts, theirs: Facts) -> Iterator[Difference]:
    mine = {attempt.key: attempt for attempt in ours.attempts}
    shown_there = {attempt.key: attempt for attempt in theirs.attempts}
    for key in sorted(mine.keys() | shown_there.keys()):
        here, there = mine.get(key), shown_there.get(key)
        if here is None or there is None or here.status is not there.status:
            further = here is None or (there is not None and _ATTEMPT_RANKS[there.status] > _ATTEMPT_RANKS[here.status])
            yield Difference(BreakType.STATE, _tried(here), _tried(there), further)


def _joined(found: Sequence[Difference]) -> tuple[Difference, ...]:
    """One for each type and remedy, its words together."""
    joined: dict[tuple[BreakType, bool], list[Difference]] = {}
    for each in found:
        joined.setdefault((each.type, each.mends), []).append(each)
    return tuple(
        Difference(
            kind,
            "; ".join(dict.fromkeys(each.ours for each in alike))[:WORDS_CHARACTERS_MAX],
            "; ".join(dict.fromkeys(each.theirs for each in alike))[:WORDS_CHARACTERS_MAX],
            mends,
            tuple(dict.fromkeys(lost for each in alike for lost in each.lost)),
        )
        for (kind, mends), alike in joined.items()
    )


def _may_hold_money(facts: Facts) -> bool:
    """Whether an object took money, or still can."""
    taken = any(movement.status is not MovementStatus.FAILED for movement in facts.movements)
    return taken or any(view.closure is Closure.OPEN for view in facts.objects)


def still_stands(facts: Facts) -> bool:
    """Whether an object holds money that was not given back for certain, or can still take some."""
    sums = derive_sums(facts)
    taken_minor = sums.captured_minor + sums.capture_pending_minor
    kept = taken_minor > sums.refunded_minor - sums.refund_pending_minor
    # An object that was paid once stays open at some providers, and takes nothing more.
    payable = sums.captured_minor == 0 and any(view.closure is Closure.OPEN for view in facts.objects)
    return kept or payable or sums.authorized_open_minor > taken_minor


def _named(movement: Movement) -> str:
    return f"{movement.kind.lower()} {movement.provider_movement_id}"


def _told(movement: Movement) -> str:
    return f"{_named(movement)} of {movement.amount_minor} {movement.currency} {movement.status}"


def _tried(attempt: Attempt | None) -> str:
    return "no such attempt" if attempt is None else f"attempt {attempt.ordinal} {attempt.status}"


def _key(payment: Payment) -> tuple[str, str]:
    return (payment.tenant_id, payment.payment_id)
