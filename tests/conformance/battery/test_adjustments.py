"""Adjusting an authorization: the new total is held, once, and a decline leaves what was held as it was."""

from gateway.domain.movements import Closure, MovementKind, MovementStatus
from gateway.domain.payments import Payment
from gateway.domain.providers import Ambiguous, Found
from gateway.domain.states import PaymentState
from tests.conformance.rig import AMOUNT_MINOR, TIMEOUT_S, Rig, answered, declined, movements, offered

TOTAL_MINOR = 13_110


async def read(rig: Rig, payment: Payment) -> Found:
    """The payment's object as the provider shows it now."""
    found = await rig.adapter.fetch(payment.provider_payment_id or "", timeout_s=TIMEOUT_S)
    assert isinstance(found, Found), found
    return found


async def test_an_adjustment_holds_the_new_total(rig: Rig) -> None:
    """One authorization in the former one's place, under our operation; the sums count it once."""
    payment = await rig.authorized()
    (first,) = movements(payment, MovementKind.AUTHORIZATION)
    reference, outcome = await rig.adjust(payment, TOTAL_MINOR)
    after = rig.payment(answered(outcome).snapshot)
    assert (after.state, after.sums.authorized_minor) == (PaymentState.AUTHORIZED, TOTAL_MINOR)
    assert after.capturable_minor == TOTAL_MINOR
    (made,) = [each for each in movements(after, MovementKind.AUTHORIZATION) if each.parent_id]
    assert (made.operation_id, made.amount_minor) == (reference.operation_id, TOTAL_MINOR)
    assert (made.status, made.parent_id) == (MovementStatus.SUCCEEDED, first.provider_movement_id)
    assert answered(outcome).result_id == made.provider_movement_id
    assert [(e.kind, e.amount_minor) for e in await rig.effects_of(reference)] == [("authorization", TOTAL_MINOR)]


async def test_the_object_shows_the_same_sums_later(rig: Rig) -> None:
    """Read again, before what the answer told or after it, the facts come to the same; the object is of its payment."""
    payment = await rig.authorized()
    _, outcome = await rig.adjust(payment, TOTAL_MINOR)
    shown = (await read(rig, payment)).snapshot
    assert (shown.amount_minor, shown.unmapped) == (AMOUNT_MINOR, ())
    told = answered(outcome).snapshot.facts
    for facts in (shown.facts, shown.facts.merge(told), payment.facts.merge(told).merge(shown.facts)):
        assert [each.amount_minor for each in facts.standing() if each.kind is MovementKind.AUTHORIZATION] == [
            TOTAL_MINOR
        ]


async def test_an_adjustment_again_is_the_same_one(rig: Rig) -> None:
    """The same prepared request sent twice raises once; where the first answer was lost, this is how it is learned."""
    payment = await rig.authorized()
    reference = rig.reference(payment.payment_id)
    prepared = rig.adjusts.prepare_adjust(reference, payment, total_minor=TOTAL_MINOR)
    first = answered(await rig.execute(prepared))
    again = answered(await rig.execute(prepared))
    assert again.result_id == first.result_id
    assert len(await rig.effects_of(reference)) == 1


async def test_a_lost_answer_is_no_decline(rig: Rig) -> None:
    """Booked, and nothing came back: unknown; sent again under its key it is the one that was booked."""
    payment = await rig.authorized()
    reference = rig.reference(payment.payment_id)
    prepared = rig.adjusts.prepare_adjust(reference, payment, total_minor=TOTAL_MINOR)
    await rig.driver.fail_next("lost_after", "adjust")
    assert isinstance(await rig.execute(prepared), Ambiguous)
    await rig.driver.heal()
    snapshot = answered(await rig.execute(prepared)).snapshot
    assert any(each.operation_id == reference.operation_id for each in movements(snapshot, MovementKind.AUTHORIZATION))
    assert len(await rig.effects_of(reference)) == 1


async def test_a_declined_adjustment_harms_nothing(rig: Rig) -> None:
    """A definite no; what was held before is held still, and can be captured."""
    method = offered(rig.driver.methods.not_raised, "is authorized and declines to be raised")
    payment = await rig.authorized(payment_method=method)
    reference, outcome = await rig.adjust(payment, TOTAL_MINOR)
    declined(outcome)
    after = await rig.fetched(payment)
    assert (after.state, after.capturable_minor) == (PaymentState.AUTHORIZED, AMOUNT_MINOR)
    assert await rig.effects_of(reference) == []
    _, outcome = await rig.capture(after, AMOUNT_MINOR)
    assert rig.payment(answered(outcome).snapshot).state is PaymentState.CAPTURED


async def test_what_was_raised_is_captured(rig: Rig) -> None:
    """The whole new total can be taken, and no more."""
    payment = await rig.authorized()
    _, outcome = await rig.adjust(payment, TOTAL_MINOR)
    raised = rig.payment(answered(outcome).snapshot)
    too_much, refused = await rig.capture(raised, TOTAL_MINOR + 1)
    declined(refused)
    assert await rig.effects_of(too_much) == []
    _, outcome = await rig.capture(raised, TOTAL_MINOR)
    after = rig.payment(answered(outcome).snapshot)
    assert (after.state, after.sums.captured_minor) == (PaymentState.CAPTURED, TOTAL_MINOR)


async def test_what_was_raised_is_captured_in_part(rig: Rig) -> None:
    """A final capture of less than the new total lets the rest of it go."""
    payment = await rig.authorized()
    _, outcome = await rig.adjust(payment, TOTAL_MINOR)
    _, outcome = await rig.capture(rig.payment(answered(outcome).snapshot), AMOUNT_MINOR, final=True)
    after = await rig.fetched(rig.payment(answered(outcome).snapshot))
    assert (after.state, after.capturable_minor) == (PaymentState.CAPTURED, 0)
    assert (after.sums.captured_minor, after.sums.refunded_minor) == (AMOUNT_MINOR, 0)


async def test_what_was_raised_is_cancelled(rig: Rig) -> None:
    """The new hold is let go, whole."""
    payment = await rig.authorized()
    _, outcome = await rig.adjust(payment, TOTAL_MINOR)
    raised = rig.payment(answered(outcome).snapshot)
    reference = rig.reference(payment.payment_id)
    outcome = answered(await rig.execute(rig.cancels.prepare_cancel(reference, raised, reason="")))
    after = await rig.fetched(rig.payment(outcome.snapshot))
    assert (after.state, after.capturable_minor) == (PaymentState.CANCELLED, 0)
    assert outcome.snapshot.facts.objects[0].closure is Closure.CANCELLED


async def test_an_adjustment_after_a_capture_is_declined(rig: Rig) -> None:
    """Once money was taken nothing is raised any more: a definite no, and no effect."""
    payment = await rig.authorized()
    _, outcome = await rig.capture(payment, AMOUNT_MINOR)
    answered(outcome)
    reference, refused = await rig.adjust(payment, TOTAL_MINOR)
    declined(refused)
    assert await rig.effects_of(reference) == []
