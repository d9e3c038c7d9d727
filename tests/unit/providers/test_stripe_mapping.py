"""Stripe's objects in our words: attempts, captures and refunds with their operations, and nothing taken for known."""

from collections.abc import Mapping
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.declines import DeclineReason
from gateway.domain.derivation import derive_payment_state, derive_sums
from gateway.domain.movements import AttemptStatus, Closure, Facts, MovementKind, MovementStatus
from gateway.domain.providers import Snapshot
from gateway.domain.states import PaymentState
from providers.fields import Fields
from providers.stripe.mapping import Pieces, StripeMapping
from providers.stripe.tables import DISPUTES
from tests.stripe_document import ABSENT, fixtures
from tests.unit.providers.stripe_objects import OURS, charge, dispute, failed_charge, intent, refund, snapshot

SECOND = {**OURS, "obol_operation": "op_2", "obol_attempt": "2"}


def state(of: Snapshot) -> PaymentState:
    return derive_payment_state(of.facts, ())


def moved(of: Snapshot, kind: MovementKind) -> list[tuple[str, int, MovementStatus, str | None]]:
    return [
        (each.provider_movement_id, each.amount_minor, each.status, each.operation_id)
        for each in of.facts.movements
        if each.kind is kind
    ]


def tried(of: Snapshot) -> list[tuple[int, AttemptStatus, str | None]]:
    return [(each.ordinal, each.status, each.operation_id) for each in of.facts.attempts]


def test_an_automatic_capture_is_its_charges() -> None:
    """Captured at once: one movement, of the operation that the charge names."""
    read = snapshot(intent(), charge())
    assert moved(read, MovementKind.CAPTURE) == [("ch_1", 1000, MovementStatus.SUCCEEDED, "op_1")]
    assert (state(read), tried(read)) == (PaymentState.CAPTURED, [(1, AttemptStatus.SUCCEEDED, "op_1")])


def test_each_charge_is_an_attempt_of_its_own_operation() -> None:
    """Declined, then paid by another confirm: two attempts, each with its operation and the first with its reason."""
    read = snapshot(intent(latest_charge="ch_2", metadata=SECOND), failed_charge(), charge(id="ch_2", metadata=SECOND))
    assert tried(read) == [(1, AttemptStatus.FAILED, "op_1"), (2, AttemptStatus.SUCCEEDED, "op_2")]
    assert read.facts.attempts[0].decline is not None
    assert read.facts.attempts[0].decline.reason is DeclineReason.INSUFFICIENT_FUNDS
    assert moved(read, MovementKind.CAPTURE) == [("ch_2", 1000, MovementStatus.SUCCEEDED, "op_2")]


def test_the_create_is_known_whatever_was_written_later() -> None:
    """By an entry of its own; where an earlier release made it, by what was written last."""
    assert snapshot(intent(metadata={**SECOND, "obol_create": "op_1"}), charge(metadata=SECOND)).operation_id == "op_1"
    assert snapshot(intent(), charge()).operation_id == "op_1"
    assert snapshot(intent(metadata={}), charge(metadata={})).operation_id == ""


def test_a_try_of_the_payers_own_is_no_operation_of_ours() -> None:
    """The payer tries again in the browser, under the same number: an attempt and a capture of nobody's command."""
    read = snapshot(intent(latest_charge="ch_2"), failed_charge(), charge(id="ch_2"))
    assert tried(read) == [(1, AttemptStatus.FAILED, "op_1"), (2, AttemptStatus.SUCCEEDED, None)]
    assert moved(read, MovementKind.CAPTURE) == [("ch_2", 1000, MovementStatus.SUCCEEDED, None)]


def test_a_payer_who_confirms_alone_is_no_operation_of_ours() -> None:
    """Created without a confirm: what the payer does in the browser has no operation."""
    bare = {name: text for name, text in OURS.items() if name != "obol_attempt"}
    read = snapshot(intent(metadata=bare), charge(metadata=bare))
    assert (tried(read), moved(read, MovementKind.CAPTURE)[0][3]) == ([(1, AttemptStatus.SUCCEEDED, None)], None)


def test_a_failure_without_a_charge_is_the_present_attempts() -> None:
    """3D Secure failed: no charge was made, and the PaymentIntent alone tells it."""
    error = {"type": "card_error", "code": "payment_intent_authentication_failure", "message": "failed"}
    read = snapshot(intent(status="requires_payment_method", latest_charge=None, last_payment_error=error))
    assert tried(read) == [(1, AttemptStatus.FAILED, "op_1")]
    assert read.decline is not None
    assert (read.decline.reason, state(read)) == (DeclineReason.AUTHENTICATION_FAILED, PaymentState.FAILED)


def test_a_failure_without_a_charge_keeps_its_number_when_another_follows() -> None:
    """The next confirm has a number of its own: the failed attempt is never mistaken for it."""
    error = {"type": "card_error", "code": "payment_intent_authentication_failure", "message": "failed"}
    first = snapshot(intent(status="requires_payment_method", latest_charge=None, last_payment_error=error))
    tagged = snapshot(intent(status="requires_payment_method", latest_charge=None, metadata=SECOND))
    after = snapshot(intent(metadata=SECOND), charge(metadata=SECOND))
    assert tried(tagged) == []
    merged = first.facts.merge(tagged.facts).merge(after.facts)
    assert [(each.ordinal, each.status, each.operation_id) for each in merged.attempts] == [
        (1, AttemptStatus.FAILED, "op_1"),
        (2, AttemptStatus.SUCCEEDED, "op_2"),
    ]


def test_a_second_attempt_without_a_charge_has_its_own_number() -> None:
    """Neither attempt has made a charge: the second is the second all the same."""
    sdk = {"type": "use_stripe_sdk", "use_stripe_sdk": {}}
    read = snapshot(intent(status="requires_action", latest_charge=None, metadata=SECOND, next_action=sdk))
    assert tried(read) == [(2, AttemptStatus.REQUIRES_ACTION, "op_2")]


def test_a_required_action_tells_the_way() -> None:
    """A redirect has an address; without one the browser's own library needs the secret, and only then is it told."""
    redirect = {"type": "redirect_to_url", "redirect_to_url": {"url": "https://bank.example/3ds", "return_url": "x"}}
    read = snapshot(intent(status="requires_action", latest_charge=None, next_action=redirect))
    assert (state(read), tried(read)) == (PaymentState.REQUIRES_ACTION, [(1, AttemptStatus.REQUIRES_ACTION, "op_1")])
    assert read.next_action is not None
    assert (read.next_action.redirect_url, read.next_action.client_secret) == ("https://bank.example/3ds", "")
    sdk = {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}
    read = snapshot(intent(status="requires_action", latest_charge=None, next_action=sdk))
    assert read.next_action is not None
    assert (read.next_action.redirect_url, read.next_action.client_secret) == ("", "pi_1_secret")


def test_a_voucher_that_waits_is_an_action_and_not_on_its_way() -> None:
    """Some methods make a pending charge while the payer has still to act: nothing moves yet."""
    voucher = {"type": "oxxo_display_details", "oxxo_display_details": {"hosted_voucher_url": "https://v.example"}}
    pending = charge(status="pending", captured=False, amount_captured=0)
    read = snapshot(intent(status="requires_action", next_action=voucher), pending)
    assert (state(read), moved(read, MovementKind.CAPTURE)) == (PaymentState.REQUIRES_ACTION, [])


def test_a_debit_is_on_its_way_and_turns_back() -> None:
    """Processing: a capture that pends; refused by the bank it has failed, and nothing is on its way any more."""
    bank: dict[str, Any] = {
        "payment_method_details": {"type": "us_bank_account"},
        "captured": False,
        "amount_captured": 0,
    }
    before = snapshot(intent(status="processing"), charge(status="pending", **bank))
    assert (state(before), moved(before, MovementKind.CAPTURE)[0][2]) == (
        PaymentState.PROCESSING,
        MovementStatus.PENDING,
    )
    error = {"type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds", "charge": "ch_1"}
    after = snapshot(intent(status="requires_payment_method", last_payment_error=error), failed_charge(**bank))
    merged = before.facts.merge(after.facts)
    assert derive_payment_state(merged, ()) is PaymentState.FAILED
    assert derive_sums(merged).capture_pending_minor == 0


MANUAL = {"capture_method": "manual"}
HELD = {"captured": False, "amount_captured": 0}


def test_a_hold_and_what_becomes_of_it() -> None:
    """Held, captured whole, captured in part, let go, expired: by PaymentIntent and charge together."""
    held = snapshot(intent(status="requires_capture", amount_received=0, **MANUAL), charge(**HELD))
    assert (state(held), moved(held, MovementKind.AUTHORIZATION)) == (
        PaymentState.AUTHORIZED,
        [("ch_1", 1000, MovementStatus.SUCCEEDED, "op_1")],
    )
    part = {**OURS, "obol_op_7": "capture 400"}
    release = refund(id="re_0", amount=600, balance_transaction=None, metadata={})
    taken = charge(amount_captured=400, refunds={"data": [release], "has_more": False})
    read = snapshot(intent(metadata=part, **MANUAL), taken)
    assert moved(read, MovementKind.CAPTURE) == [("ch_1/op_7", 400, MovementStatus.SUCCEEDED, "op_7")]
    assert moved(read, MovementKind.REFUND) == []
    assert state(read) is PaymentState.CAPTURED
    gone = snapshot(intent(status="canceled", cancellation_reason="abandoned", **MANUAL), charge(**HELD))
    assert (state(gone), gone.facts.objects[0].closure) == (PaymentState.CANCELLED, Closure.CANCELLED)
    old = snapshot(intent(status="canceled", cancellation_reason="automatic", **MANUAL), charge(**HELD))
    assert (state(old), old.facts.objects[0].closure) == (PaymentState.EXPIRED, Closure.EXPIRED)


@pytest.mark.parametrize("given", [9, 10, 11])
def test_a_release_is_no_refund_in_whichever_list_it_comes(given: int) -> None:
    """Past ten refunds they are listed by themselves: what was never taken is not given back there either."""
    release = refund(id="re_0", amount=600, balance_transaction=None, charge="ch_1", metadata={})
    own = [refund(id=f"re_{n}", amount=10, charge="ch_1", metadata={"obol_operation": f"op_{n}"}) for n in range(given)]
    every = [*own[1:], release]
    taken = charge(amount_captured=400, refunds={"data": every[:10], "has_more": len(every) > 10})
    listed = tuple(Fields(each, "refund") for each in every) if len(every) > 10 else ()
    of = Fields(intent(metadata={**OURS, "obol_op_7": "capture 400"}, **MANUAL), "intent")
    read = StripeMapping("acc-1", lambda kind, value: None).snapshot(Pieces(of, (Fields(taken, "charge"),), listed))
    assert derive_sums(read.facts).refunded_minor == 10 * (given - 1)
    assert len(moved(read, MovementKind.REFUND)) == given - 1


def test_a_refund_of_just_the_rest_that_waits_for_the_balance_is_one() -> None:
    """Asked for in the dashboard, of as much as was let go: it pends, and is no release."""
    waits = refund(id="re_0", amount=600, balance_transaction=None, metadata={}, status="pending")
    part = intent(amount=1200, metadata={**OURS, "obol_op_7": "capture 600"}, **MANUAL)
    taken = charge(amount=1200, amount_captured=600, refunds={"data": [waits], "has_more": False})
    assert moved(snapshot(part, taken), MovementKind.REFUND) == [("re_0", 600, MovementStatus.PENDING, None)]


def test_captures_in_parts_are_told_apart() -> None:
    """Each of ours has its entry; what is beyond them was taken in the dashboard."""
    entries = {**OURS, "obol_op_7": "capture 300", "obol_op_8": "capture 200", "note": "capture 400"}
    open_still = intent(status="requires_capture", metadata=entries, **MANUAL)
    read = snapshot(open_still, charge(captured=False, amount_captured=600))
    assert moved(read, MovementKind.CAPTURE) == [
        ("ch_1", 100, MovementStatus.SUCCEEDED, None),
        ("ch_1/op_7", 300, MovementStatus.SUCCEEDED, "op_7"),
        ("ch_1/op_8", 200, MovementStatus.SUCCEEDED, "op_8"),
    ]
    assert state(read) is PaymentState.PARTIALLY_CAPTURED


def test_captures_that_do_not_add_up_are_unmapped() -> None:
    """More in the entries than was taken: nobody may conclude from it."""
    told: list[Any] = []
    entries = {**OURS, "obol_op_7": "capture 900"}
    read = snapshot(intent(metadata=entries, **MANUAL), charge(amount_captured=400), told=told)
    assert read.unmapped
    assert told == [("capture.sum", "900 of 400")]


def test_refunds_have_their_operation_or_are_the_providers() -> None:
    """Ours by its metadata; one of the dashboard has none; each status is one of ours."""
    listed = {"data": [refund(), refund(id="re_2", metadata={}, amount=100)], "has_more": False}
    read = snapshot(intent(), charge(refunds=listed))
    assert moved(read, MovementKind.REFUND) == [
        ("re_1", 300, MovementStatus.SUCCEEDED, "op_9"),
        ("re_2", 100, MovementStatus.SUCCEEDED, None),
    ]


def test_a_refund_that_fails_after_all_has_failed() -> None:
    """Succeeded, then sent back by the bank: reversed, with the bank's reason, in whatever order it is heard."""
    views = [
        snapshot(intent(), charge(refunds={"data": [refund(**changed)], "has_more": False})).facts
        for changed in (
            {"status": "pending"},
            {"status": "succeeded"},
            {"status": "failed", "failure_reason": "lost_card", "failure_balance_transaction": "txn_2"},
        )
    ]
    for order in permutations(views):
        merged = Facts()
        for each in order:
            merged = merged.merge(each)
        (found,) = (each for each in merged.movements if each.kind is MovementKind.REFUND)
        assert (found.status, found.reason) == (MovementStatus.REVERSED, "lost_card")
        assert derive_payment_state(merged, ()) is PaymentState.CAPTURED


def test_a_refund_that_never_moved_has_failed() -> None:
    """Nothing was taken off the balance, so nothing came back."""
    read = snapshot(intent(), charge(refunds={"data": [refund(status="failed")], "has_more": False}))
    assert moved(read, MovementKind.REFUND) == [("re_1", 300, MovementStatus.FAILED, "op_9")]


@pytest.mark.parametrize(("status", "ours"), DISPUTES.items())
def test_a_dispute_is_a_movement(status: str, ours: MovementStatus) -> None:
    """Each status of a dispute, inquiries among them."""
    read = snapshot(intent(), charge(disputed=True), disputes=(dispute(status=status),))
    assert moved(read, MovementKind.DISPUTE) == [("dp_1", 1000, ours, None)]


@pytest.mark.parametrize(
    ("kind", "of", "charges", "disputes"),
    [
        ("payment_intent.status", intent(status="quantum"), [charge()], ()),
        ("charge.status", intent(), [charge(status="quantum")], ()),
        ("refund.status", intent(), [charge(refunds={"data": [refund(status="quantum")], "has_more": False})], ()),
        ("dispute.status", intent(), [charge()], (dispute(status="quantum"),)),
        ("refund.currency", intent(), [charge(refunds={"data": [refund(currency="eur")], "has_more": False})], ()),
        (
            "next_action.type",
            intent(status="requires_action", latest_charge=None, next_action={"type": "quantum"}),
            [],
            (),
        ),
    ],
)
def test_an_unknown_value_is_told_and_counted(
    kind: str, of: dict[str, Any], charges: list[dict[str, Any]], disputes: tuple[dict[str, Any], ...]
) -> None:
    """What no table has is never taken for something known."""
    told: list[Any] = []
    read = snapshot(of, *charges, disputes=disputes, told=told)
    assert [each.partition("=")[0] for each in read.unmapped] == [kind]
    assert [each for each, _ in told] == [kind]


def test_currencies_are_counted_as_iso_counts_them() -> None:
    """ISK and UGX in hundredths at Stripe, MGA without decimals; a part of a unit is no amount."""
    counted = (("isk", 500, 5), ("ugx", 500, 5), ("mga", 5, 500), ("jpy", 5, 5), ("kwd", 5120, 5120))
    for currency, theirs, ours in counted:
        told = charge(currency=currency, amount=theirs, amount_captured=theirs)
        read = snapshot(intent(currency=currency, amount=theirs), told)
        assert (read.amount_minor, moved(read, MovementKind.CAPTURE)[0][1]) == (ours, ours)
    with pytest.raises(ValueError, match="whole unit"):
        snapshot(intent(currency="isk", amount=550, latest_charge=None))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_order_of_views_ends_in_the_same_facts(data: st.DataObject) -> None:
    """A payment's life as it is read at each step: merged in any order, with repetitions, it is one set of facts."""
    life = [
        snapshot(intent(status="requires_action", latest_charge=None, next_action={"type": "use_stripe_sdk"})),
        snapshot(intent(status="requires_payment_method"), failed_charge()),
        snapshot(intent(latest_charge="ch_2", metadata=SECOND), failed_charge(), charge(id="ch_2", metadata=SECOND)),
        snapshot(
            intent(latest_charge="ch_2", metadata=SECOND),
            failed_charge(),
            charge(id="ch_2", metadata=SECOND, refunds={"data": [refund(status="pending")], "has_more": False}),
        ),
        snapshot(
            intent(latest_charge="ch_2", metadata=SECOND),
            failed_charge(),
            charge(id="ch_2", metadata=SECOND, refunds={"data": [refund()], "has_more": False}),
            disputes=(dispute(),),
        ),
    ]
    merged = Facts()
    for each in data.draw(st.permutations([*life, data.draw(st.sampled_from(life))])):
        merged = merged.merge(each.facts)
    expected = Facts()
    for each in life:
        expected = expected.merge(each.facts)
    assert merged == expected
    assert derive_payment_state(merged, ()) is PaymentState.PARTIALLY_REFUNDED


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**13) | st.text(max_size=5) | st.sampled_from(["usd", "succeeded"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(intent())), JSON, st.sampled_from(sorted(charge())), JSON)
def test_an_odd_object_is_unreadable_and_nothing_else(field: str, value: object, other: str, inner: object) -> None:
    """One field of each changed to anything: a snapshot, or a ValueError."""
    try:
        snapshot(intent(**{field: value}), charge(**{other: inner}))
    except ValueError:
        return


def test_stripes_own_samples_are_read_or_refused() -> None:
    """Each of the sample resources: the PaymentIntent is read, another object is refused, nothing else happens."""
    samples: Mapping[str, Mapping[str, Any]] = fixtures()
    if not samples:
        pytest.skip(ABSENT)
    told: list[Any] = []
    mapping = StripeMapping("acc-1", lambda kind, value: told.append((kind, value)))
    read = []
    for name, sample in samples.items():
        try:
            mapping.snapshot(Pieces(Fields(dict(sample), name)))
            read.append(name)
        except ValueError:
            continue
    assert (len(samples), read) == (176, ["payment_intent"])
    # Its last error has no code: the type is all there is, and no table has it.
    assert told == [("decline", "idempotency_error")]
    told.clear()
    pieces = Pieces(
        Fields({**samples["payment_intent"], "status": "succeeded"}, "intent"),
        [Fields({**samples["charge"], "amount_captured": 100, "captured": True}, "charge")],
        [Fields(dict(samples["refund"]), "refund")],
        [Fields(dict(samples["dispute"]), "dispute")],
    )
    whole = mapping.snapshot(pieces)
    assert {each.kind for each in whole.facts.movements} == {
        MovementKind.CAPTURE,
        MovementKind.REFUND,
        MovementKind.DISPUTE,
    }
    assert (whole.unmapped, told) == ((), [])
