"""Orders as facts: each status by its table, each movement by whose it is, each amount to the last unit."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.domain.commands import Caller
from gateway.domain.derivation import derive_sums
from gateway.domain.errors import InvalidRequest, Precondition
from gateway.domain.money import CURRENCY_EXPONENTS, amount_minor_max
from gateway.domain.movements import AttemptStatus, Closure, MovementKind, MovementStatus, Origin
from gateway.domain.payments import CaptureMethod
from gateway.domain.providers import OperationReference, Snapshot
from gateway.domain.states import DisputeState, PaymentState
from providers.fields import Fields, UnreadableAnswer
from providers.paypal import requests
from providers.paypal.amounts import WITHOUT_DECIMALS, minor_of, money_of, value_of
from providers.paypal.capabilities import CURRENCIES
from providers.paypal.disputes import OUTCOMES, STAGES, DisputeReading
from providers.paypal.mapping import AUTHORIZATIONS, CAPTURES, ORDERS, REFUNDS
from providers.paypal.references import REFERENCE_CHARACTERS_MAX, custom_id, reference_id, told_by
from providers.paypal.times import parsed_us
from tests.unit.providers.paypal_objects import (
    CAPTURE,
    HOLD,
    ORDER,
    REFERENCE,
    REFUND,
    Unmapped,
    dollars,
    mapping,
    order,
    part,
    payment,
    terms,
)


def read(told: dict[str, Any], unmapped: Unmapped | None = None) -> Snapshot:
    """The snapshot of an order."""
    return mapping(unmapped).snapshot(told)


def test_an_order_that_waits_for_its_payer_requires_an_action() -> None:
    """With the link; approved, it is due for completion and requires an action still."""
    waits = read(order("PAYER_ACTION_REQUIRED"))
    assert payment(waits).state is PaymentState.REQUIRES_ACTION
    assert waits.next_action is not None
    assert not waits.completion_due
    approved = read(order("APPROVED"))
    assert payment(approved).state is PaymentState.REQUIRES_ACTION
    assert approved.completion_due
    assert read(order("COMPLETED", captures=[part(CAPTURE, "COMPLETED")])).completion_due is False


@pytest.mark.parametrize("status", sorted(ORDERS))
def test_each_orders_status_is_what_the_table_says(status: str) -> None:
    """Open, or closed."""
    told = order(status, captures=[part(CAPTURE, "COMPLETED")]) if status == "COMPLETED" else order(status)
    assert read(told).facts.objects[0].closure is ORDERS[status]


@pytest.mark.parametrize(
    ("name", "kind", "table"),
    [
        ("authorizations", MovementKind.AUTHORIZATION, AUTHORIZATIONS),
        ("captures", MovementKind.CAPTURE, CAPTURES),
        ("refunds", MovementKind.REFUND, REFUNDS),
    ],
)
def test_each_movements_status_is_what_the_table_says(name: str, kind: MovementKind, table: Any) -> None:
    """By kind; one that no table has is named, counted, and is no movement."""
    for status, meant in table.items():
        parts: dict[str, Any] = {"captures": [part(CAPTURE, "COMPLETED")], name: [part("X", status)]}
        told = order("COMPLETED", "CAPTURE", **parts)
        (movement,) = [m for m in read(told).facts.movements if m.kind is kind and m.provider_movement_id == "X"]
        assert movement.status is meant
    unmapped = Unmapped()
    dancing: dict[str, Any] = {"captures": [part(CAPTURE, "COMPLETED")], name: [part("X", "DANCING")]}
    snapshot = read(order("COMPLETED", "CAPTURE", **dancing), unmapped)
    assert snapshot.unmapped == (f"{kind.lower()}.status=DANCING",)
    assert unmapped == [(f"{kind.lower()}.status", "DANCING")]


def test_an_unknown_order_status_is_unmapped() -> None:
    """Named and counted, and neither open money nor a failure."""
    snapshot = read(order("DANCING"))
    assert snapshot.unmapped == ("order.status=DANCING",)
    assert snapshot.facts.attempts == ()


def test_whose_a_movement_is() -> None:
    """The order's capture is the create's, a later one its own, and what only inherits an id is PayPal's side's."""
    at_once = read(order(captures=[part(CAPTURE, "COMPLETED")]))
    assert at_once.facts.movements[0].operation_id == "op_1"
    held = order(
        intent="AUTHORIZE",
        authorizations=[part(HOLD, "PARTIALLY_CAPTURED")],
        captures=[part(CAPTURE, "COMPLETED", "6.00", invoice_id="op_2"), part("DASHBOARD1", "COMPLETED", "1.00")],
        refunds=[
            part(REFUND, "COMPLETED", "1.00", invoice_id="op_3"),
            part("DASHBOARD2", "COMPLETED", "1.00", invoice_id="op_2"),
            part("DASHBOARD3", "COMPLETED", "1.00"),
            part("DASHBOARD4", "COMPLETED", "1.00", invoice_id="somebody's"),
        ],
    )
    by_id = {m.provider_movement_id: m.operation_id for m in read(held).facts.movements}
    assert by_id == {
        HOLD: "op_1",
        CAPTURE: "op_2",
        REFUND: "op_3",
        **{f"DASHBOARD{number}": None for number in (1, 2, 3, 4)},
    }
    assert all(m.origin is Origin.PROVIDER for m in read(held).facts.movements if m.operation_id is None)


def test_an_order_of_somebody_elses_is_none_of_ours() -> None:
    """Without our ids nothing is attributed, whatever its invoice says."""
    told = order(captures=[part(CAPTURE, "COMPLETED")])
    told["purchase_units"][0] |= {"custom_id": "basket-7", "reference_id": "default"}
    snapshot = read(told)
    assert (snapshot.payment_id, snapshot.tenant_id) == ("", "")
    assert snapshot.facts.movements[0].operation_id is None


def test_a_final_capture_of_a_part_lets_the_rest_go() -> None:
    """Whatever PayPal calls the authorization then."""
    for status in ("CAPTURED", "PARTIALLY_CAPTURED"):
        taken = part(CAPTURE, "COMPLETED", "6.00", invoice_id="op_2", final_capture=True)
        told = order(intent="AUTHORIZE", authorizations=[part(HOLD, status)], captures=[taken])
        after = payment(read(told), capture_method=CaptureMethod.MANUAL)
        assert (after.state, after.capturable_minor) == (PaymentState.CAPTURED, 0)


def test_a_hold_that_another_replaced_is_released() -> None:
    """Re-authorized in PayPal's own pages: one hold stands."""
    told = order(intent="AUTHORIZE", authorizations=[part(HOLD, "CREATED"), part("NEWER", "CREATED")])
    after = payment(read(told), capture_method=CaptureMethod.MANUAL)
    assert (after.state, after.capturable_minor) == (PaymentState.AUTHORIZED, 1_000)


def test_a_voided_hold_closes_the_order() -> None:
    """CANCELLED, and the attempt had succeeded."""
    snapshot = read(order(intent="AUTHORIZE", authorizations=[part(HOLD, "VOIDED")]))
    assert snapshot.facts.objects[0].closure is Closure.CANCELLED
    assert snapshot.facts.attempts[0].status is AttemptStatus.SUCCEEDED
    assert payment(snapshot).state is PaymentState.CANCELLED


def test_a_fee_is_a_movement_in_the_payments_currency_alone() -> None:
    """PayPal's fee in another currency is not of this payment's sums."""
    for fee, minor in ((dollars("0.59"), 59), ({"currency_code": "EUR", "value": "0.50"}, 0)):
        capture = part(CAPTURE, "COMPLETED", seller_receivable_breakdown={"paypal_fee": fee})
        assert payment(read(order(captures=[capture]))).sums.fee_minor == minor


@pytest.mark.parametrize(
    "broken",
    [
        {"id": None},
        {"purchase_units": []},
        {"purchase_units": [{}, {}]},
        {"intent": None},
        {"purchase_units": [{"custom_id": "x"}]},
        {"status": "COMPLETED"},
        {"links": [{"rel": "payer-action", "href": "javascript:alert(1)"}]},
    ],
)
def test_what_is_no_order_is_unreadable(broken: dict[str, Any]) -> None:
    """ValueError, never a guess: a short representation says nothing of its money."""
    with pytest.raises(UnreadableAnswer):
        read({**order("PAYER_ACTION_REQUIRED"), **broken})


def disputed(**told: Any) -> DisputeReading:
    """A dispute of the capture."""
    base = {
        "dispute_id": "PP-D-1",
        "status": "UNDER_REVIEW",
        "dispute_life_cycle_stage": "CHARGEBACK",
        "dispute_amount": dollars("10.00"),
        "disputed_transactions": [{"seller_transaction_id": CAPTURE}],
    }
    return DisputeReading(Fields({**base, **told}, "dispute"))


def test_a_disputes_stage_and_outcome_are_what_the_tables_say() -> None:
    """Each stage while it lasts, each outcome when it has ended; an inquiry that ends well held no money."""
    told = order(captures=[part(CAPTURE, "COMPLETED")])
    for stage, meant in STAGES.items():
        snapshot = mapping().snapshot(told, disputed(dispute_life_cycle_stage=stage))
        assert [m.status for m in snapshot.facts.movements if m.kind is MovementKind.DISPUTE] == [meant]
    for outcome, meant in OUTCOMES.items():
        ended = disputed(status="RESOLVED", dispute_outcome={"outcome_code": outcome})
        snapshot = mapping().snapshot(told, ended)
        assert [m.status for m in snapshot.facts.movements if m.kind is MovementKind.DISPUTE] == [meant]
    inquiry = disputed(
        status="RESOLVED", dispute_life_cycle_stage="INQUIRY", dispute_outcome={"outcome_code": "CANCELED_BY_BUYER"}
    )
    after = payment(mapping().snapshot(told, inquiry))
    assert after.dispute_state is DisputeState.NONE
    assert any(m.status is MovementStatus.INQUIRY_CLOSED for m in after.facts.movements)


@pytest.mark.parametrize(
    ("outcome", "back", "counts"),
    [
        ("RESOLVED_BUYER_FAVOUR", money_of(300, "USD"), 300),
        ("ACCEPTED", money_of(300, "USD"), 300),
        ("RESOLVED_BUYER_FAVOUR", money_of(300, "EUR"), 1_000),
        ("RESOLVED_BUYER_FAVOUR", None, 1_000),
        # PayPal's own money, as the seller keeps the capture.
        ("RESOLVED_WITH_PAYOUT", money_of(300, "USD"), 0),
    ],
)
def test_a_dispute_lost_in_part_counts_what_the_buyer_got(outcome: str, back: Any, counts: int) -> None:
    """Whole while it is open; then what was given back, whichever of the two is seen first."""
    told = order(captures=[part(CAPTURE, "COMPLETED")])
    amount = {"dispute_amount": money_of(1_000, "USD")}
    ended = {"outcome_code": outcome} | ({"amount_refunded": back} if back else {})
    before = mapping().snapshot(told, disputed(**amount)).facts
    after = mapping().snapshot(told, disputed(**amount, status="RESOLVED", dispute_outcome=ended)).facts
    assert derive_sums(before).disputed_minor == 1_000
    assert derive_sums(before.merge(after)).disputed_minor == derive_sums(after.merge(before)).disputed_minor == counts


@pytest.mark.parametrize(
    "told",
    [
        {"status": "DANCING"},
        {"dispute_life_cycle_stage": "DANCING"},
        {"status": "RESOLVED", "dispute_outcome": {"outcome_code": "NONE"}},
        {"status": "RESOLVED"},
    ],
)
def test_a_dispute_that_no_table_has_is_unmapped(told: dict[str, Any]) -> None:
    """Named and counted; a person looks."""
    assert mapping().snapshot(order(captures=[part(CAPTURE, "COMPLETED")]), disputed(**told)).unmapped


@given(st.data(), st.sampled_from(sorted(CURRENCIES)))
def test_an_amount_goes_there_and_comes_back(data: st.DataObject, currency: str) -> None:
    """To the last minor unit, in every currency of PayPal's, up to the largest that there is."""
    step = 10 ** CURRENCY_EXPONENTS[currency] if currency in WITHOUT_DECIMALS else 1
    minor = step * data.draw(st.integers(1, amount_minor_max(currency) // step))
    assert minor_of(Fields(money_of(minor, currency), "amount")) == minor


def test_amounts_are_spelled_as_paypal_takes_them() -> None:
    """No decimals for HUF, JPY and TWD; what has some there is refused before anything is sent."""
    assert value_of(12_345, "USD") == "123.45"
    assert value_of(5, "EUR") == "0.05"
    assert value_of(12_345, "JPY") == "12345"
    assert value_of(1_234_500, "HUF") == "12345"
    assert value_of(1_234_500, "TWD") == "12345"
    for currency in ("HUF", "TWD"):
        with pytest.raises(InvalidRequest):
            value_of(12_345, currency)


@pytest.mark.parametrize("value", ["", "-1.00", "1,00", "1.001", "1e3", "NaN", "٣", " 1", "9" * 13, "1."])
def test_what_is_no_amount_is_unreadable(value: str) -> None:
    """Nothing is rounded and nothing guessed."""
    with pytest.raises(UnreadableAnswer):
        minor_of(Fields({"currency_code": "USD", "value": value}, "amount"))


VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128)


@given(VISIBLE, VISIBLE, st.text(max_size=128), st.text(max_size=255))
def test_a_tenant_of_any_kind_travels_whole(tenant: str, organization: str, correlation: str, order_ref: str) -> None:
    """Whatever else fits or does not: PayPal's 256 characters hold every tenant that there can be."""
    reference = OperationReference("op_1", "cmd_1", "pay_1", Caller(tenant, organization, "a", correlation), "k")
    told = reference_id(reference, order_ref)
    assert len(told) <= REFERENCE_CHARACTERS_MAX
    unit = Fields({"reference_id": told, "custom_id": custom_id(reference)}, "unit")
    assert told_by(unit).tenant_id == tenant
    assert told_by(unit).order_reference in (order_ref, ""), "whole or not at all"


@given(
    st.text("abcdefgh.-", min_size=1, max_size=53),
    VISIBLE,
    st.text(max_size=128),
    st.text("0123456789-_.~", max_size=200) | st.text(max_size=35),
)
@example("t" * 53, "o" * 128, "c" * 128, "9" * 200)
def test_an_order_goes_before_all_but_the_tenant(tenant: str, organization: str, correlation: str, order: str) -> None:
    """What a lost payment holds its order by is not left out for an organization or a correlation."""
    reference = OperationReference("op_1", "cmd_1", "pay_1", Caller(tenant, organization, "a", correlation), "k")
    unit = Fields({"reference_id": reference_id(reference, order), "custom_id": custom_id(reference)}, "unit")
    assert (told_by(unit).tenant_id, told_by(unit).order_reference) == (tenant, order)


@pytest.mark.parametrize(
    ("told", "tenant", "order"),
    [("t:o:c:order-7", "t", "order-7"), ("=dA:::=b3JkZXI", "t", "order"), ("t:o:c:", "t", ""), ("t", "t", "")],
)
def test_a_reference_from_before_is_read(told: str, tenant: str, order: str) -> None:
    """Orders live for years: what an earlier release wrote is read as it was meant."""
    reference = OperationReference("op_1", "cmd_1", "pay_1", Caller("t", "o", "a", "c"), "k")
    read = told_by(Fields({"reference_id": told, "custom_id": custom_id(reference)}, "unit"))
    assert (read.tenant_id, read.order_reference) == (tenant, order)


def test_our_ids_fit_and_are_read_back() -> None:
    """UUIDs spelled out: 109 characters of 127, legible in PayPal's own pages."""
    operation_id, command_id, payment_id = (f"{prefix}_{'0' * 32}" for prefix in ("op", "cmd", "pay"))
    told = custom_id(OperationReference(operation_id, command_id, payment_id, Caller("t", "o", "a", "c"), "k"))
    assert len(told) == 109
    read_back = told_by(Fields({"custom_id": told, "reference_id": "t:o:c:"}, "unit"))
    assert (read_back.payment_id, read_back.operation_id, read_back.tenant_id) == (payment_id, operation_id, "t")


@pytest.mark.parametrize(
    ("method", "source"),
    [
        ("", "experience_context"),
        ("paypal", "experience_context"),
        ("8kk8451t", '"paypal":{"vault_id":"8kk8451t"}'),
        ("card:8kk8451t", '"card":{"vault_id":"8kk8451t"}'),
        ("agreement:B-1", '"token":{"id":"B-1","type":"BILLING_AGREEMENT"}'),
    ],
)
def test_a_payment_method_is_a_source(method: str, source: str) -> None:
    """A payer who approves, a vaulted wallet, a vaulted card, an agreement."""
    assert source in requests.create(REFERENCE, terms(payment_method=method)).body


@pytest.mark.parametrize("method", ["visa:1", "card:", "card:a b", "paypal:\u00fc", "x" * 256])
def test_a_method_that_is_none_is_refused_before_anything_is_sent(method: str) -> None:
    """FIELD_INVALID."""
    with pytest.raises(InvalidRequest):
        requests.create(REFERENCE, terms(payment_method=method))


def test_what_paypal_cannot_do_is_refused_before_anything_is_sent() -> None:
    """An order that nobody paid cannot be cancelled, and a refund is of one capture."""
    waits = payment(read(order("PAYER_ACTION_REQUIRED")))
    with pytest.raises(Precondition):
        requests.cancel(REFERENCE, waits, "")
    two = payment(
        read(
            order(
                intent="AUTHORIZE",
                authorizations=[part(HOLD, "CAPTURED")],
                captures=[part("A", "COMPLETED", "6.00", invoice_id="op_2"), part("B", "COMPLETED", "4.00")],
            )
        )
    )
    with pytest.raises(Precondition) as refused:
        requests.refund(REFERENCE, two, 700, "")
    assert refused.value.details["available_minor"] == "600"
    assert requests.refund(REFERENCE, two, 400, "").path.endswith("/B/refund")
    assert requests.refund(REFERENCE, two, 500, "").path.endswith("/A/refund")


def test_the_windows_of_keys_are_each_requests_own() -> None:
    """Six hours for orders, forty-five days for payments."""
    held = payment(read(order(intent="AUTHORIZE", authorizations=[part(HOLD, "CREATED")])))
    assert requests.create(REFERENCE, terms()).key_window_s == 6 * 3600
    assert requests.complete(REFERENCE, held).key_window_s == 6 * 3600
    assert requests.capture(REFERENCE, held, 100, True).key_window_s == 45 * 24 * 3600
    assert ORDER in requests.complete(REFERENCE, held).path


def test_times_are_read_with_and_without_fractions() -> None:
    """To the microsecond, in any zone."""
    assert parsed_us("2026-03-01T10:00:00Z") == 1_772_359_200_000_000
    assert parsed_us("2026-03-01T11:00:00.123456789+01:00") == 1_772_359_200_123_456
    for odd in ("", "2026-03-01", "2026-13-01T00:00:00Z", "2026-03-01T10:00:00", "٢٠٢٦-03-01T10:00:00Z"):
        with pytest.raises(ValueError, match=r"\w"):
            parsed_us(odd)
