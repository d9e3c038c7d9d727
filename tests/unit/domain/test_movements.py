"""Facts merge as a set: in whatever order and however often they were seen, the same is known in the end."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.derivation import derive_sums
from gateway.domain.movements import (
    NEVER_HELD,
    RANKS,
    Attempt,
    AttemptStatus,
    Closure,
    FactError,
    Facts,
    Movement,
    MovementKind,
    MovementStatus,
    Origin,
    ProviderObject,
)
from tests.unit.domain.growth import (
    ACCOUNT,
    STATUSES,
    attempts,
    histories,
    holds,
    known_after,
    movements,
    objects,
    snapshots,
)


def capture(status: MovementStatus, amount_minor: int = 100) -> Movement:
    """A view of one capture."""
    return Movement(ACCOUNT, MovementKind.CAPTURE, "mov_1", amount_minor, "USD", status)


def refund(status: MovementStatus) -> Movement:
    """A view of one refund."""
    return Movement(ACCOUNT, MovementKind.REFUND, "ref_1", 60, "USD", status)


@given(data=st.data(), history=histories())
def test_every_order_and_repetition_ends_in_the_same_facts(data: st.DataObject, history: list[Facts]) -> None:
    """A history, shuffled and with events delivered again, tells what it told."""
    again = data.draw(st.lists(st.sampled_from(history), max_size=4), label="delivered again")
    shuffled = data.draw(st.permutations([*history, *again]), label="order")
    assert known_after(shuffled) == known_after(history)


@given(a=snapshots(), b=snapshots(), c=snapshots())
def test_merging_is_a_join(a: Facts, b: Facts, c: Facts) -> None:
    """Commutative, associative, idempotent, and nothing is the neutral element."""
    assert a.merge(b) == b.merge(a)
    assert a.merge(b).merge(c) == a.merge(b.merge(c))
    assert a.merge(a) == a.merge(Facts()) == Facts().merge(a) == a
    assert a.merge(b).merge(b) == a.merge(b)


@given(views=st.lists(movements(), min_size=2, max_size=4))
def test_views_of_one_movement_merge_whole(views: list[Movement]) -> None:
    """No field depends on which view came first, not even where rank and amount are equal."""
    one = [m for m in views if m.key == views[0].key]
    forward, backward = one[0], one[-1]
    for view in one:
        forward = forward.merge(view)
    for view in reversed(one):
        backward = backward.merge(view)
    assert forward == backward
    assert all(RANKS[forward.kind, forward.status] >= RANKS[m.kind, m.status] for m in one)


def test_a_time_at_the_epoch_and_no_time_do_not_tie() -> None:
    """A provider's time of 0 and a missing one merge to the same, whichever was seen first."""
    timeless = capture(MovementStatus.SUCCEEDED)
    timed = Movement(ACCOUNT, MovementKind.CAPTURE, "mov_1", 100, "USD", MovementStatus.SUCCEEDED, provider_time_us=0)
    assert timeless.merge(timed) == timed.merge(timeless) == timed


@given(history=histories())
def test_facts_hold_a_key_once_and_in_order(history: list[Facts]) -> None:
    """What is known of a key is one value, and equal facts are equal values."""
    known = known_after(history)
    for keys in (
        [m.key for m in known.movements],
        [a.key for a in known.attempts],
        [o.key for o in known.objects],
    ):
        assert list(keys) == sorted(set(keys))


@given(history=histories())
def test_nothing_seen_is_lost(history: list[Facts]) -> None:
    """Every key that was seen is known, at the highest rank that it was seen at, and our operation id stays."""
    known = {m.key: m for m in known_after(history).movements}
    for seen in (m for facts in history for m in facts.movements):
        kept = known[seen.key]
        assert RANKS[kept.kind, kept.status] >= RANKS[seen.kind, seen.status]
        assert kept.operation_id is not None or seen.operation_id is None
    assert {a.key for facts in history for a in facts.attempts} == {a.key for a in known_after(history).attempts}


@given(a=attempts(), b=attempts(), c=objects(), d=objects())
def test_attempts_and_objects_only_rise(a: Attempt, b: Attempt, c: ProviderObject, d: ProviderObject) -> None:
    """An attempt that succeeded stays so, and an object that closed does not open again."""
    attempt_order, closure_order = list(AttemptStatus), list(Closure)
    merged = Facts(attempts=(a,), objects=(c,)).merge(Facts(attempts=(b,), objects=(d,)))
    known = {x.key: x.status for x in merged.attempts}
    assert all(attempt_order.index(known[x.key]) >= attempt_order.index(x.status) for x in (a, b))
    closed = {x.key: x.closure for x in merged.objects}
    assert all(closure_order.index(closed[x.key]) >= closure_order.index(x.closure) for x in (c, d))


def test_ranks_are_total_for_each_kind() -> None:
    """Two statuses of a kind never tie, and a status that is not of the kind is no fact."""
    for kind in MovementKind:
        ranks = [RANKS[kind, status] for status in STATUSES[kind]]
        assert sorted(ranks) == list(range(len(ranks)))
        assert len(ranks) >= 4
        for status in MovementStatus:
            if status in STATUSES[kind]:
                assert Movement(ACCOUNT, kind, "mov", 1, "USD", status).status is status
            else:
                with pytest.raises(FactError):
                    Movement(ACCOUNT, kind, "mov", 1, "USD", status)
    assert Counter(kind for kind, _ in RANKS) == {kind: len(STATUSES[kind]) for kind in MovementKind}


@pytest.mark.parametrize(
    ("kind", "rising"),
    [
        (MovementKind.AUTHORIZATION, "PENDING FAILED SUCCEEDED EXPIRED RELEASED"),
        (MovementKind.CAPTURE, "PENDING FAILED SUCCEEDED REVERSED"),
        (MovementKind.FEE, "PENDING FAILED SUCCEEDED REVERSED"),
        (MovementKind.REFUND, "PENDING SUCCEEDED FAILED REVERSED"),
        (MovementKind.DISPUTE, "INQUIRY INQUIRY_CLOSED OPEN LOST WON"),
    ],
)
def test_each_kind_rises_in_its_published_order(kind: MovementKind, rising: str) -> None:
    """The order of a kind's statuses is a promise: changing it rewrites what is known."""
    assert sorted(STATUSES[kind], key=lambda status: RANKS[kind, status]) == rising.split()


def test_a_late_failure_event_does_not_undo_a_capture() -> None:
    """A failure that is delivered after the success it preceded changes nothing (woocommerce-gateway-stripe #902)."""
    paid = capture(MovementStatus.SUCCEEDED)
    assert paid.merge(capture(MovementStatus.FAILED)) == paid
    assert capture(MovementStatus.FAILED).merge(paid) == paid


def test_a_reversal_outranks_the_success_it_undoes() -> None:
    """A capture that was taken back stays taken back, whenever its success is heard of."""
    back = capture(MovementStatus.REVERSED)
    assert back.merge(capture(MovementStatus.SUCCEEDED)) == back == capture(MovementStatus.SUCCEEDED).merge(back)


def test_a_refund_that_the_bank_sent_back_is_not_held_for_given() -> None:
    """A refund can fail after it had succeeded, and never succeeds after that: the failure stands."""
    failed = refund(MovementStatus.FAILED)
    assert refund(MovementStatus.SUCCEEDED).merge(failed) == failed == failed.merge(refund(MovementStatus.SUCCEEDED))


def test_a_cumulative_total_only_grows() -> None:
    """Of two totals of one movement the larger is the later one, whatever their order."""
    small, large = capture(MovementStatus.SUCCEEDED, 40), capture(MovementStatus.SUCCEEDED, 100)
    assert small.merge(large) == large == large.merge(small)


def test_a_movement_in_two_currencies_is_refused() -> None:
    """One key in two currencies cannot be one movement, and is never summed."""
    euros = Movement(ACCOUNT, MovementKind.CAPTURE, "mov_1", 100, "EUR", MovementStatus.SUCCEEDED)
    with pytest.raises(FactError):
        Facts((capture(MovementStatus.SUCCEEDED),)).merge(Facts((euros,)))


def test_a_movement_below_zero_is_refused() -> None:
    """What flows back is a movement of its own kind, never a negative amount."""
    with pytest.raises(FactError):
        capture(MovementStatus.SUCCEEDED, -1)


def hold(name: str, parent: str | None, status: MovementStatus = MovementStatus.SUCCEEDED) -> Movement:
    """A hold of 100, in the place of `parent`."""
    return Movement(ACCOUNT, MovementKind.AUTHORIZATION, name, 100, "USD", status, parent_id=parent)


def test_a_hold_is_never_its_own_parent() -> None:
    """A view that says so says nothing, and does not hide what another view tells."""
    own, told = hold("b", "b"), hold("b", "a")
    assert own.parent_id is None
    assert own.merge(told).parent_id == told.merge(own).parent_id == "a"
    assert derive_sums(Facts((own,))).authorized_open_minor == 100
    assert refund(MovementStatus.SUCCEEDED).parent_id is None
    same = Movement(ACCOUNT, MovementKind.REFUND, "x", 1, "USD", MovementStatus.SUCCEEDED, parent_id="x")
    assert same.parent_id == "x"


def test_holds_that_stand_in_each_others_place_all_stand() -> None:
    """Two that name each other, and three; one that truly follows them, and what it follows, are told apart."""
    released = MovementStatus.RELEASED
    pair = Facts((hold("a", "b", released), hold("b", "a")))
    assert pair.standing() == pair.movements
    assert derive_sums(pair).authorized_open_minor == 100
    ring = Facts((hold("a", "c"), hold("b", "a"), hold("c", "b")))
    assert ring.standing() == ring.movements
    later = Facts((*ring.movements, hold("d", "c"), hold("e", "d")))
    assert [m.provider_movement_id for m in later.standing()] == ["a", "b", "e"]
    # A ring that one which was never given closes is none.
    open_ring = Facts((hold("a", "b", MovementStatus.PENDING), hold("b", "a")))
    assert [m.provider_movement_id for m in open_ring.standing()] == ["b"]


@given(data=st.data(), views=st.lists(holds(), min_size=1, max_size=6))
def test_whatever_parents_are_told_what_is_held_stays_in_sight(data: st.DataObject, views: list[Movement]) -> None:
    """Where a hold was given one that was given stands, where none was let go money is held; and in every order."""
    known = known_after(Facts((view,)) for view in views)
    shuffled = data.draw(st.permutations(views), label="order")
    assert known_after(Facts((view,)) for view in shuffled).standing() == known.standing()
    given_ = [m for m in known.movements if m.status not in NEVER_HELD]
    standing = [m for m in known.standing() if m.status not in NEVER_HELD]
    assert bool(standing) is bool(given_)
    if given_ and all(m.status is MovementStatus.SUCCEEDED for m in given_):
        assert derive_sums(known).authorized_open_minor > 0


def test_only_our_operation_id_makes_a_movement_ours() -> None:
    """A movement without it was caused on the provider's side."""
    ours = Movement(ACCOUNT, MovementKind.REFUND, "r", 1, "USD", MovementStatus.PENDING, operation_id="op_1")
    assert ours.origin is Origin.OBOL
    assert refund(MovementStatus.PENDING).origin is Origin.PROVIDER


@given(facts=snapshots())
def test_totals_are_sums_of_movements(facts: Facts) -> None:
    """Every amount is the integer sum of the movements that stand at its statuses."""
    for kind in MovementKind:
        whole = sum(facts.total_minor(kind, status) for status in STATUSES[kind])
        assert (
            whole
            == facts.total_minor(kind, *STATUSES[kind])
            == sum(m.amount_minor for m in facts.movements if m.kind is kind)
        )
        assert type(whole) is int
