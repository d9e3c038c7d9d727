"""Capturing, cancelling, refunding: amounts add up, refusals are definite, and each effect has its operation."""

from gateway.domain.errors import Precondition
from gateway.domain.movements import Closure, MovementKind, MovementStatus, Origin
from gateway.domain.providers import Answered
from gateway.domain.states import PaymentState
from tests.conformance.rig import AMOUNT_MINOR, Rig, answered, declined, movements, offered

PART_MINOR = 2_345


async def test_a_capture_of_the_whole(rig: Rig) -> None:
    """The hold becomes money, once; the answer names what was made."""
    payment = await rig.authorized()
    reference, outcome = await rig.capture(payment, AMOUNT_MINOR)
    after = rig.payment(answered(outcome).snapshot)
    assert (after.state, after.sums.captured_minor) == (PaymentState.CAPTURED, AMOUNT_MINOR)
    (capture,) = movements(after, MovementKind.CAPTURE)
    assert answered(outcome).result_id == capture.provider_movement_id
    assert capture.operation_id == reference.operation_id
    assert [(each.kind, each.amount_minor) for each in await rig.effects_of(reference)] == [("capture", AMOUNT_MINOR)]


async def test_a_final_capture_of_a_part_lets_the_rest_go(rig: Rig) -> None:
    """Final: the rest of the hold is closed, and the payment is captured."""
    if not rig.adapter.capabilities.partial_capture:
        return
    _, outcome = await rig.capture(await rig.authorized(), PART_MINOR, final=True)
    after = rig.payment(answered(outcome).snapshot)
    assert (after.state, after.sums.captured_minor, after.capturable_minor) == (PaymentState.CAPTURED, PART_MINOR, 0)


async def test_captures_in_parts(rig: Rig) -> None:
    """Not final: the rest stays held, and a second capture takes it."""
    if not rig.adapter.capabilities.multiple_capture:
        return
    payment = await rig.authorized()
    first, outcome = await rig.capture(payment, PART_MINOR, final=False)
    between = rig.payment(answered(outcome).snapshot)
    assert (between.state, between.capturable_minor) == (PaymentState.PARTIALLY_CAPTURED, AMOUNT_MINOR - PART_MINOR)
    second, outcome = await rig.capture(between, AMOUNT_MINOR - PART_MINOR)
    after = rig.payment(answered(outcome).snapshot)
    assert (after.state, after.sums.captured_minor) == (PaymentState.CAPTURED, AMOUNT_MINOR)
    by_operation = {each.operation_id: each.amount_minor for each in movements(after, MovementKind.CAPTURE)}
    assert by_operation == {first.operation_id: PART_MINOR, second.operation_id: AMOUNT_MINOR - PART_MINOR}


async def test_refunds_find_a_capture_with_enough_left(rig: Rig) -> None:
    """After two captures: refunds of either amount, in the order that could go wrong, give all of it back."""
    if not rig.adapter.capabilities.multiple_capture:
        return
    _, outcome = await rig.capture(await rig.authorized(), PART_MINOR, final=False)
    _, outcome = await rig.capture(rig.payment(answered(outcome).snapshot), AMOUNT_MINOR - PART_MINOR)
    after = rig.payment(answered(outcome).snapshot)
    for amount_minor in (1_000, AMOUNT_MINOR - PART_MINOR, PART_MINOR - 1_000):
        reference, outcome = await rig.refund(after, amount_minor)
        after = await rig.fetched(rig.payment(answered(outcome).snapshot))
        assert [(e.kind, e.amount_minor) for e in await rig.effects_of(reference)] == [("refund", amount_minor)]
    assert (after.state, after.sums.refunded_minor) == (PaymentState.REFUNDED, AMOUNT_MINOR)


async def test_a_capture_of_too_much_is_declined(rig: Rig) -> None:
    """More than is held: a definite no, and no effect."""
    payment = await rig.authorized()
    reference, outcome = await rig.capture(payment, AMOUNT_MINOR + 1)
    declined(outcome)
    assert await rig.effects_of(reference) == []


async def test_a_cancel_lets_the_hold_go(rig: Rig) -> None:
    """The object is closed, the hold released, and nothing can be captured any more."""
    payment = await rig.authorized()
    reference = rig.reference(payment.payment_id)
    cancels = rig.cancels
    outcome = answered(await rig.execute(cancels.prepare_cancel(reference, payment, reason="abandoned")))
    after = rig.payment(outcome.snapshot)
    assert (after.state, after.capturable_minor) == (PaymentState.CANCELLED, 0)
    assert outcome.snapshot.facts.objects[0].closure is Closure.CANCELLED
    later, refused = await rig.capture(payment, AMOUNT_MINOR)
    declined(refused)
    assert await rig.effects_of(later) == []


async def test_a_cancelled_payment_is_not_confirmed(rig: Rig) -> None:
    """After a cancel a confirm is a definite no."""
    payment = await rig.authorized()
    cancels, confirms = rig.cancels, rig.confirms
    answered(await rig.execute(cancels.prepare_cancel(rig.reference(payment.payment_id), payment, reason="")))
    reference = rig.reference(payment.payment_id)
    prepared = confirms.prepare_confirm(reference, payment, payment_method=rig.driver.methods.approves, return_url="")
    declined(await rig.execute(prepared))
    assert await rig.effects_of(reference) == []


async def test_a_captured_payment_is_not_cancelled(rig: Rig) -> None:
    """Money that was taken is refunded, not cancelled: a definite no."""
    payment = await rig.captured()
    cancels, before = rig.cancels, await rig.driver.effects()
    try:
        prepared = cancels.prepare_cancel(rig.reference(payment.payment_id), payment, reason="")
    except Precondition:
        return  # as definite, and before anything was sent
    declined(await rig.execute(prepared))
    assert await rig.driver.effects() == before


async def test_a_refund_of_the_whole(rig: Rig) -> None:
    """All is given back, once; the answer names the refund."""
    reference, outcome = await rig.refund(await rig.captured(), AMOUNT_MINOR)
    after = rig.payment(answered(outcome).snapshot)
    assert after.state is PaymentState.REFUNDED
    (refund,) = movements(after, MovementKind.REFUND)
    assert answered(outcome).result_id == refund.provider_movement_id
    assert [(each.kind, each.amount_minor) for each in await rig.effects_of(reference)] == [("refund", AMOUNT_MINOR)]


async def test_two_refunds_of_one_amount_are_told_apart(rig: Rig) -> None:
    """Equal amounts, two operations: each has its own refund."""
    payment = await rig.captured()
    first, one = await rig.refund(payment, PART_MINOR)
    second, two = await rig.refund(payment, PART_MINOR)
    assert answered(one).result_id != answered(two).result_id
    after = rig.payment(answered(two).snapshot)
    assert after.state is PaymentState.PARTIALLY_REFUNDED
    own = {each.operation_id for each in movements(after, MovementKind.REFUND)}
    assert own == {first.operation_id, second.operation_id}


async def test_a_refund_of_too_much_is_declined(rig: Rig) -> None:
    """Two $60 refunds on $100: the second is a definite no, and no effect."""
    payment = await rig.captured()
    _, outcome = await rig.refund(payment, AMOUNT_MINOR * 6 // 10)
    answered(outcome)
    reference, outcome = await rig.refund(payment, AMOUNT_MINOR * 6 // 10)
    declined(outcome)
    assert await rig.effects_of(reference) == []


async def test_a_refund_again_is_the_same_refund(rig: Rig) -> None:
    """The same prepared refund sent twice gives money back once."""
    payment = await rig.captured()
    reference, outcome = await rig.refund(payment, PART_MINOR)
    prepared = rig.refunds.prepare_refund(reference, payment, amount_minor=PART_MINOR, reason="requested")
    assert await rig.execute(prepared) == outcome
    assert len(await rig.effects_of(reference)) == 1


async def test_a_pending_refund_is_pending(rig: Rig) -> None:
    """A refund under way is answered, is no effect yet, and counts as given back."""
    method = offered(rig.driver.methods.refunds_pend, "refunds slowly")
    payment = await rig.captured(payment_method=method)
    reference, outcome = await rig.refund(payment, PART_MINOR)
    assert isinstance(outcome, Answered)
    (refund,) = movements(outcome.snapshot, MovementKind.REFUND)
    assert refund.status is MovementStatus.PENDING
    assert rig.payment(outcome.snapshot).sums.refund_pending_minor == PART_MINOR
    assert await rig.effects_of(reference) == []


async def test_a_refund_of_the_providers_side_is_the_providers(rig: Rig) -> None:
    """A refund in the dashboard is seen, with no operation of ours."""
    payment = await rig.captured()
    found = await rig.adapter.fetch(payment.provider_payment_id or "", timeout_s=5.0)
    await rig.driver.refund_in_dashboard(found.snapshot, PART_MINOR)  # type: ignore[union-attr]  # fetched just before
    (refund,) = movements(await rig.fetched(payment), MovementKind.REFUND)
    assert (refund.origin, refund.amount_minor) == (Origin.PROVIDER, PART_MINOR)
