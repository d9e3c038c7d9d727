"""Increments read from a PaymentIntent: ours count where they lead to its amount, and nothing else is evidence."""

from dataclasses import replace

import pytest

from gateway.domain.movements import MovementKind, MovementStatus
from gateway.domain.payments import CaptureMethod
from providers.stripe import requests
from providers.stripe.form import decode
from tests.unit.providers.stripe_objects import OURS, REFERENCE, charge, intent, payment, snapshot, terms

HELD_CHARGE = {"amount_captured": 0, "captured": False}


def held(amount: int, entries: dict[str, str], **changed: object) -> dict[str, object]:
    """A PaymentIntent that is held for `amount`, with these entries of ours."""
    told = {"amount": amount, "amount_capturable": amount, "amount_received": 0, "status": "requires_capture"}
    return intent(**{**told, "capture_method": "manual", "metadata": {**OURS, **entries}, **changed})


@pytest.mark.parametrize("charged", [1000, 1500])
def test_our_increments_stand_one_in_the_place_of_the_other(charged: int) -> None:
    """Whether or not the charge's own amount follows: one authorization stands, each has its operation and total."""
    entries = {"obol_op_3": "adjust 1200 1500", "obol_op_2": "adjust 1000 1200"}
    seen = snapshot(held(1500, entries), charge(amount=charged, **HELD_CHARGE))
    assert (seen.amount_minor, seen.unmapped) == (1000, ())
    found = {m.provider_movement_id: m for m in seen.facts.movements if m.kind is MovementKind.AUTHORIZATION}
    told = {name: (m.amount_minor, m.operation_id, m.parent_id, m.status) for name, m in found.items()}
    released = MovementStatus.RELEASED
    assert told == {
        "ch_1": (1000, "op_1", None, released),
        "ch_1/op_2": (1200, "op_2", "ch_1", released),
        "ch_1/op_3": (1500, "op_3", "ch_1/op_2", MovementStatus.SUCCEEDED),
    }
    assert payment(seen.facts).capturable_minor == 1500


@pytest.mark.parametrize(
    ("amount", "entries"),
    [
        (1000, {"obol_op_2": "adjust 1000 1500"}),  # our entry, and the amount stands
        (1600, {"obol_op_2": "adjust 1000 1500"}),  # raised further by somebody else
        (1500, {"obol_op_2": "adjust 1000 1200", "obol_op_3": "adjust 1300 1500"}),  # and in between
        (1500, {"obol_op_2": "adjust 1500 1500"}),
    ],
)
def test_entries_that_do_not_lead_to_the_amount_are_no_evidence(amount: int, entries: dict[str, str]) -> None:
    """Told as unmapped, so that the outcome stays UNKNOWN until a person has looked."""
    told: list[object] = []
    seen = snapshot(held(amount, entries), charge(amount=amount, **HELD_CHARGE), told=told)
    assert seen.unmapped
    assert told


def test_an_amount_without_an_entry_is_somebody_elses() -> None:
    """It is shown as the object's own: no more the amount that the payment is for."""
    seen = snapshot(held(1500, {"obol_op_2": "adjust a b", "adjust": "adjust 1000 1500"}), charge(**HELD_CHARGE))
    assert seen.amount_minor == 1500
    assert all(m.parent_id is None for m in seen.facts.movements)


def test_the_rest_of_what_was_raised_is_a_release_and_no_refund() -> None:
    """A final capture of a part shows as a refund of the rest, whatever the charge says that it was of."""
    rest = {"id": "re_1", "object": "refund", "amount": 400, "balance_transaction": None, "created": 1, "metadata": {}}
    refunds = {"data": [{**rest, "currency": "usd", "reason": None, "status": "succeeded"}], "has_more": False}
    entries = {"obol_op_2": "adjust 1000 1500", "obol_op_3": "capture 1100"}
    of = held(1500, entries, status="succeeded", amount_received=1100, amount_capturable=0)
    for charged in (1000, 1500):
        seen = snapshot(of, charge(amount=charged, amount_captured=1100, refunds=refunds))
        after = payment(seen.facts, terms=terms(capture_method=CaptureMethod.MANUAL))
        assert (after.sums.refunded_minor, after.capturable_minor, after.sums.authorized_minor) == (0, 0, 1500)


def test_an_increment_says_from_where_to_where() -> None:
    """The total that is held now and the new one, in Stripe's units, under our operation's name."""
    seen = snapshot(held(1000, {}), charge(**HELD_CHARGE))
    prepared = requests.adjust(replace(REFERENCE, operation_id="op_2"), payment(seen.facts), 1500)
    assert prepared.path == "/v1/payment_intents/pi_1/increment_authorization"
    body = decode(prepared.body)
    assert (body["amount"], body["metadata[obol_op_2]"]) == ("1500", "adjust 1000 1500")


def test_increments_are_asked_for_at_the_create_alone_where_the_account_has_them() -> None:
    """Of a held payment; one that is captured at once cannot be raised."""
    for manual, wanted in ((True, True), (False, False)):
        capture_method = CaptureMethod.MANUAL if manual else CaptureMethod.AUTOMATIC
        asked = terms(capture_method=capture_method)
        body = requests.create(REFERENCE, asked, multicapture=False, incremental=True, connected=frozenset()).body
        assert ("payment_method_options[card][request_incremental_authorization]" in decode(body)) is wanted
