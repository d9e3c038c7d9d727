"""What can be adjusted, by how much, and where; and what two operators' word makes of an adjustment."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.app.adjusting import plan_adjust
from gateway.app.engine import Plan
from gateway.app.identity import Identity
from gateway.app.requests import AdjustAuthorization
from gateway.app.vouching import Contradicted, executed
from gateway.domain.adjustments import AdjustmentTerms
from gateway.domain.commands import CommandKind
from gateway.domain.derivation import derive_sums
from gateway.domain.errors import InvalidRequest, ObolError, Reason
from gateway.domain.movements import Facts, Movement, MovementKind, MovementStatus
from gateway.domain.observations import ObservationKind
from tests.unit.app.beginnings import authorized, captured
from tests.unit.app.desk import CAPABILITIES, Desk, PaperAccount, PaperAdapter, wish_of
from tests.unit.app.test_vouching import lost, proposal

C, K, S = CommandKind, MovementKind, MovementStatus
IDENTITY = Identity("cmd_a", "op_a", "", "")
BOTH = AdjustmentTerms(raises_amount=True, extends_validity=True)
RAISES = AdjustmentTerms(raises_amount=True, extends_validity=False)
EXTENDS = AdjustmentTerms(raises_amount=False, extends_validity=True)


def planned(desk: Desk, total: int | None, adjustment: AdjustmentTerms | None = BOTH, **able: Any) -> Plan:
    """The plan of an adjustment to `total`, at an account that offers `adjustment`."""
    account = PaperAccount(PaperAdapter(replace(CAPABILITIES, adjustment=adjustment, **able)))
    request = AdjustAuthorization("k", desk.payment.payment_id, total, "" if total is None else "USD")
    return plan_adjust(wish_of(C.ADJUST, request), request, desk.aggregate, account, IDENTITY)


def refusal(desk: Desk, total: int | None, adjustment: AdjustmentTerms | None = BOTH, **able: Any) -> Reason:
    """Why there is no such plan."""
    with pytest.raises(ObolError) as refused:
        planned(desk, total, adjustment, **able)
    return refused.value.reason


def test_a_plan_names_the_total_and_keeps_others_off() -> None:
    """The amount is the new total, nothing is reserved, and the claim depends on the payment as it was read."""
    desk, _ = authorized()
    plan = planned(desk, 150)
    assert (plan.operation.amount_minor, plan.operation.reserved_minor) == (150, 0)
    assert plan.expected_version == desk.payment.version
    assert planned(desk, None).operation.amount_minor == 100


def test_what_is_not_offered_is_missing() -> None:
    """No adjusting at all; raising where only validity is renewed; renewing where only the amount is raised."""
    desk, _ = authorized()
    assert refusal(desk, 150, adjustment=None) is Reason.CAPABILITY_MISSING
    assert refusal(desk, 150, EXTENDS) is Reason.CAPABILITY_MISSING
    for total in (None, 100):
        assert refusal(desk, total, RAISES) is Reason.CAPABILITY_MISSING
    assert planned(desk, 101, RAISES).operation.amount_minor == 101
    assert planned(desk, 100, EXTENDS).operation.amount_minor == 100


def test_nothing_is_lowered_and_bounds_are_kept() -> None:
    """Less than is held; more than the account takes."""
    desk, _ = authorized()
    assert refusal(desk, 99) is Reason.AMOUNT_BELOW_AUTHORIZED
    with pytest.raises(InvalidRequest):
        planned(desk, 1_001, amount_minor_max=1_000)


@pytest.mark.parametrize("status", [S.PENDING, S.SUCCEEDED])
def test_nothing_is_adjusted_once_a_capture_is_under_way(status: MovementStatus) -> None:
    """Also while it pends: what is left of the hold is not known."""
    desk, books = authorized()
    taken = Movement(desk.payment.account_id, K.CAPTURE, "cap_1", 40, "USD", status)
    shown = books.snapshot()
    desk.read(replace(shown, facts=shown.facts.merge(Facts((taken,)))))
    assert refusal(desk, 150) is Reason.PAYMENT_NOT_ADJUSTABLE


def test_a_payment_without_a_hold_is_not_adjustable() -> None:
    """Captured at once; or nothing was answered yet."""
    assert refusal(captured()[0], 150) is Reason.PAYMENT_NOT_ADJUSTABLE
    assert refusal(Desk(), 150) is Reason.PAYMENT_NOT_ADJUSTABLE


def test_operators_word_puts_the_new_hold_in_the_former_ones_place() -> None:
    """Where the provider cannot be read any more, what two operators name counts once."""
    desk, _ = authorized()
    operation = lost(desk, C.ADJUST, 150)
    told = executed(proposal(operation, "auth_2"), operation, desk.payment, None)
    (held,) = desk.payment.facts.merge(told.facts).standing()
    assert (held.provider_movement_id, held.amount_minor, held.operation_id) == ("auth_2", 150, operation.operation_id)


def test_operators_word_leaves_a_known_hold_in_the_place_that_it_has() -> None:
    """The order had shown the new hold before it could be read no more: in the first one's place, not in its own."""
    desk, books = authorized()
    (first,) = (m for m in books.movements if m.kind is K.AUTHORIZATION)
    operation = lost(desk, C.ADJUST, 150)
    newer = replace(first, provider_movement_id="zz_2", amount_minor=150, operation_id=None)
    for parent_id in (first.provider_movement_id, None):
        shown = Facts(
            (replace(first, status=S.RELEASED if parent_id else S.SUCCEEDED), replace(newer, parent_id=parent_id))
        )
        known = replace(desk.payment, facts=desk.payment.facts.merge(shown))
        told = executed(proposal(operation, "zz_2"), operation, known, None)
        merged = known.facts.merge(told.facts)
        (held,) = merged.standing()
        assert (held.provider_movement_id, held.parent_id) == ("zz_2", first.provider_movement_id)
        assert (held.amount_minor, held.operation_id) == (150, operation.operation_id)
        assert derive_sums(merged).authorized_open_minor == 150


def test_the_first_hold_is_no_adjustment_of_itself() -> None:
    """Operators name what the create holds: it is the create's, and where that is not known it replaced nothing."""
    desk, books = authorized()
    (first,) = (m for m in books.movements if m.kind is K.AUTHORIZATION)
    for total in (150, 100):
        operation = lost(desk, C.ADJUST, total)
        with pytest.raises(Contradicted, match="belongs to"):
            executed(proposal(operation, first.provider_movement_id), operation, desk.payment, None)
        nobodys = replace(desk.payment, facts=Facts((replace(first, operation_id=None),)))
        with pytest.raises(Contradicted):
            executed(proposal(operation, first.provider_movement_id), operation, nobodys, None)
        desk, _ = authorized()


def test_operators_cannot_vouch_for_an_adjustment_of_nothing() -> None:
    """The hold was let go meanwhile: there is none in whose place another could stand."""
    desk, books = authorized()
    operation = lost(desk, C.ADJUST, 150)
    books.cancel()
    desk.read(books.snapshot())
    with pytest.raises(Contradicted):
        executed(proposal(operation, "auth_2"), operation, desk.payment, None)


def test_taking_what_was_raised_contradicts_nothing() -> None:
    """More than the payment was for at first, and no more than is authorized: nobody has to look."""
    desk, books = authorized()
    for kind in (C.ADJUST, C.CAPTURE):
        operation = desk.send(kind, 150)
        desk.answered(operation, books.execute(operation))
    assert desk.payment.sums.captured_minor == 150
    assert desk.said(ObservationKind.CONTRADICTION) == []
