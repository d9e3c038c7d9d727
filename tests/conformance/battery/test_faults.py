"""Every fault that the driver can cause: never a decline, never a success that is not, and then the truth by lookup."""

import asyncio

import pytest

from gateway.domain.movements import MovementKind
from gateway.domain.payments import CaptureMethod
from gateway.domain.providers import Absent, Ambiguous, Answered, Found, NotExecuted, NotSent
from providers.http import WireLimits
from providers.secret import Secret
from tests.conformance.driver import Fault
from tests.conformance.rig import AMOUNT_MINOR, TIMEOUT_S, Rig, answered, movements

SHORT_S = 1.0
HANGING = frozenset({"timeout_before", "timeout_after", "stall", "slow_drip"})
"""Faults that end by our timeout alone."""
PART_MINOR = 1_000


def patience_s(fault: Fault) -> float:
    """The time for a call that fails so: short only where it is waited out."""
    return SHORT_S if fault.name in HANGING else TIMEOUT_S


async def settled(rig: Rig) -> None:
    """The faults are over, and what was held has gone on."""
    await rig.driver.heal()
    await asyncio.sleep(0.1)


async def test_a_fault_of_create_is_unknown_until_looked_up(rig: Rig, fault: Fault) -> None:
    """The outcome is what the fault means; the lookup finds the payment exactly where it was booked."""
    reference, prepared = rig.prepare_create()
    await rig.driver.fail_next(fault.name, "create")
    outcome = await rig.execute(prepared, timeout_s=patience_s(fault))
    assert type(outcome).__name__ in fault.outcomes, outcome
    if isinstance(outcome, Answered):
        assert outcome.snapshot.unmapped
    await settled(rig)
    found = await rig.adapter.lookup(reference.payment_id, timeout_s=TIMEOUT_S)
    effects = await rig.effects_of(reference)
    if fault.booked and not rig.finds:
        # Only the same request, under its key, brings the object back: with the one effect that it had.
        assert found == Absent(consistent=False)
        found = Found(answered(await rig.execute(prepared)).snapshot)
        assert await rig.effects_of(reference) == effects
    if fault.booked:
        assert isinstance(found, Found), found
        assert [each.amount_minor for each in effects] == [AMOUNT_MINOR]
        (capture,) = movements(found.snapshot, MovementKind.CAPTURE)
        assert (capture.amount_minor, capture.operation_id) == (AMOUNT_MINOR, reference.operation_id)
    else:
        assert (found, effects) == (Absent(consistent=rig.adapter.capabilities.absence_is_consistent), [])


async def test_a_resend_after_a_fault_has_one_effect(rig: Rig, fault: Fault) -> None:
    """The same prepared request again, after any fault: one effect in all, and never a decline."""
    reference, prepared = rig.prepare_create()
    await rig.driver.fail_next(fault.name, "create")
    await rig.execute(prepared, timeout_s=patience_s(fault))
    await settled(rig)
    again = await rig.execute(prepared)
    assert isinstance(again, Answered | Ambiguous), again
    assert len(await rig.effects_of(reference)) == 1


async def test_a_fault_of_capture_is_unknown_until_looked_up(rig: Rig, fault: Fault) -> None:
    """Captured or not is what the payment shows afterwards, by our operation."""
    payment = await rig.authorized()
    reference = rig.reference(payment.payment_id)
    prepared = rig.captures.prepare_capture(reference, payment, amount_minor=PART_MINOR, final=True)
    await rig.driver.fail_next(fault.name, "capture")
    outcome = await rig.execute(prepared, timeout_s=patience_s(fault))
    assert type(outcome).__name__ in fault.outcomes, outcome
    await settled(rig)
    captures = movements(await rig.fetched(payment), MovementKind.CAPTURE)
    assert [each.operation_id for each in captures] == ([reference.operation_id] if fault.booked else [])
    assert len(await rig.effects_of(reference)) == len(captures)


async def test_a_fault_of_refund_is_unknown_until_looked_up(rig: Rig, fault: Fault) -> None:
    """Refunded or not is what the payment shows afterwards, by our operation."""
    payment = await rig.captured()
    reference = rig.reference(payment.payment_id)
    prepared = rig.refunds.prepare_refund(reference, payment, amount_minor=PART_MINOR, reason="")
    await rig.driver.fail_next(fault.name, "refund")
    outcome = await rig.execute(prepared, timeout_s=patience_s(fault))
    assert type(outcome).__name__ in fault.outcomes, outcome
    await settled(rig)
    refunds = movements(await rig.fetched(payment), MovementKind.REFUND)
    assert [each.operation_id for each in refunds] == ([reference.operation_id] if fault.booked else [])
    assert len(await rig.effects_of(reference)) == len(refunds)


async def test_a_fault_of_a_lookup_finds_nothing_wrong(rig: Rig, fault: Fault) -> None:
    """A lookup that fails is Unreadable, or names what it could not map; it is never an absence."""
    _, snapshot = await rig.created()
    await rig.driver.fail_next(fault.name, "lookup")
    found = await rig.adapter.fetch(snapshot.provider_payment_id, timeout_s=patience_s(fault))
    assert not isinstance(found, Absent)
    if isinstance(found, Found) and fault.name != "wrong_amount":
        assert found.snapshot.unmapped or found.snapshot == snapshot


async def test_nothing_is_sent_after_send_before(rig: Rig) -> None:
    """The last moment has passed: NotSent, nothing arrives, and the same request may be sent later."""
    reference, prepared = rig.prepare_create()
    past = asyncio.get_running_loop().time()
    assert isinstance(await rig.adapter.execute(prepared, send_before=past, timeout_s=TIMEOUT_S), NotSent)
    assert isinstance(await rig.adapter.lookup(reference.payment_id, timeout_s=TIMEOUT_S), Absent)
    answered(await rig.execute(prepared))
    assert len(await rig.effects_of(reference)) == 1


async def test_no_time_at_all_is_not_sent(rig: Rig) -> None:
    """A timeout that has run out before the call: NotSent."""
    _, prepared = rig.prepare_create()
    assert isinstance(await rig.execute(prepared, timeout_s=0.0), NotSent)
    assert await rig.driver.effects() == []


async def test_a_timeout_is_kept(rig: Rig) -> None:
    """A silent provider costs the timeout, and not its own 30 s."""
    _, prepared = rig.prepare_create()
    await rig.driver.fail_next("timeout_after", "create")
    begun = asyncio.get_running_loop().time()
    assert isinstance(await rig.execute(prepared, timeout_s=SHORT_S), Ambiguous)
    assert SHORT_S * 0.9 <= asyncio.get_running_loop().time() - begun < 20.0


async def test_a_refused_credential_is_not_executed(rig: Rig) -> None:
    """The provider's 401 is neither a decline nor unknown, and nothing happened."""
    stranger = rig.driver.adapter(api_key=Secret("of-somebody-else"))
    reference, prepared = rig.prepare_create()
    try:
        send_before = asyncio.get_running_loop().time() + TIMEOUT_S
        outcome = await stranger.execute(prepared, send_before=send_before, timeout_s=TIMEOUT_S)
        assert isinstance(outcome, NotExecuted)
    finally:
        await stranger.close()
    assert await rig.effects_of(reference) == []


async def test_an_answer_past_the_bound_is_ambiguous(rig: Rig) -> None:
    """A good answer that is too large is not read, and what happened is unknown."""
    narrow = rig.driver.adapter(wire=WireLimits(body_bytes_max=64))
    reference, prepared = rig.prepare_create(capture_method=CaptureMethod.MANUAL)
    try:
        send_before = asyncio.get_running_loop().time() + TIMEOUT_S
        outcome = await narrow.execute(prepared, send_before=send_before, timeout_s=TIMEOUT_S)
        assert isinstance(outcome, Ambiguous)
    finally:
        await narrow.close()
    assert len(await rig.effects_of(reference)) == 1


async def test_a_closed_adapter_sends_nothing(rig: Rig) -> None:
    """After close a request is NotSent."""
    _, prepared = rig.prepare_create()
    await rig.adapter.close()
    assert isinstance(await rig.execute(prepared), NotSent)
    assert await rig.driver.effects() == []


async def test_a_cancelled_call_is_cancelled(rig: Rig) -> None:
    """Cancelling is the one thing that a call raises; the adapter goes on working."""
    _, prepared = rig.prepare_create()
    await rig.driver.fail_next("timeout_after", "create")
    task = asyncio.create_task(rig.execute(prepared))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settled(rig)
    await rig.created()
