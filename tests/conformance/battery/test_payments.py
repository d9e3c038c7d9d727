"""Creating and confirming: one effect for each request, and each answer told apart from the others."""

import asyncio
from dataclasses import replace

from gateway.domain.declines import DeclineReason
from gateway.domain.movements import AttemptStatus, MovementKind, MovementStatus
from gateway.domain.payments import CaptureMethod, ConfirmationMethod
from gateway.domain.providers import Ambiguous, Answered, Completes, NotExecuted
from gateway.domain.risk import RiskLevel
from gateway.domain.states import PaymentState
from tests.conformance.rig import AMOUNT_MINOR, TIMEOUT_S, Rig, answered, declined, movements, offered


async def test_an_automatic_payment_is_captured_once(rig: Rig) -> None:
    """One capture of the whole amount, with our operation on it."""
    reference, snapshot = await rig.created()
    assert rig.payment(snapshot).state is PaymentState.CAPTURED
    (capture,) = movements(snapshot, MovementKind.CAPTURE)
    assert (capture.amount_minor, capture.operation_id) == (AMOUNT_MINOR, reference.operation_id)
    assert (snapshot.payment_id, snapshot.tenant_id) == (reference.payment_id, "tenant-a")
    assert [(each.kind, each.amount_minor) for each in await rig.driver.effects()] == [("capture", AMOUNT_MINOR)]


async def test_a_manual_payment_is_authorized(rig: Rig) -> None:
    """The money is held and not taken."""
    reference, snapshot = await rig.created(capture_method=CaptureMethod.MANUAL)
    assert rig.payment(snapshot).state is PaymentState.AUTHORIZED
    (held,) = movements(snapshot, MovementKind.AUTHORIZATION)
    assert (held.amount_minor, held.operation_id) == (AMOUNT_MINOR, reference.operation_id)
    assert movements(snapshot, MovementKind.CAPTURE) == []


async def test_a_payment_that_is_not_confirmed_moves_no_money(rig: Rig) -> None:
    """Created only: no attempt, no effect; the confirm that follows makes both."""
    confirms = rig.confirms
    _, snapshot = await rig.created(confirmation_method=ConfirmationMethod.MANUAL)
    assert rig.payment(snapshot).state is PaymentState.CREATED
    assert await rig.driver.effects() == []
    reference = rig.reference(snapshot.payment_id)
    prepared = confirms.prepare_confirm(
        reference, rig.payment(snapshot), payment_method=rig.driver.methods.approves, return_url=""
    )
    confirmed = answered(await rig.execute(prepared)).snapshot
    assert rig.payment(confirmed).state is PaymentState.CAPTURED
    assert [each.operation_id for each in confirmed.facts.attempts] == [reference.operation_id]
    assert len(await rig.effects_of(reference)) == 1


async def test_a_required_action_is_no_success_and_no_failure(rig: Rig) -> None:
    """The payer has to act: the way is told, no money moves until the payer has approved."""
    method = offered(rig.driver.methods.requires_action, "requires an action")
    reference, snapshot = await rig.created(payment_method=method)
    assert rig.payment(snapshot).state is PaymentState.REQUIRES_ACTION
    assert snapshot.next_action is not None
    assert await rig.driver.effects() == []
    await rig.driver.payer_answers(snapshot, approves=True)
    await rig.completed(rig.payment(snapshot))
    after = await rig.fetched(rig.payment(snapshot))
    assert (after.state, after.next_action) == (PaymentState.CAPTURED, None)
    assert len(await rig.effects_of(reference)) == 1


async def test_what_the_payer_approved_is_completed_once(rig: Rig) -> None:
    """Where the provider leaves the last step to us: sent again under its key it is the same one, with one effect."""
    completes, method = rig.completes, offered(rig.driver.methods.requires_action, "requires an action")
    reference, snapshot = await rig.created(payment_method=method)
    await rig.driver.payer_answers(snapshot, approves=True)
    payment = rig.payment(snapshot)
    prepared = completes.prepare_complete(rig.reference(payment.payment_id), payment)
    first, again = [answered(await rig.execute(prepared)).snapshot for _ in range(2)]
    assert first.facts == again.facts
    assert rig.payment(first).state is PaymentState.CAPTURED
    assert len(await rig.effects_of(reference)) == len(await rig.driver.effects()) == 1


async def test_what_the_payer_did_not_approve_is_not_completed(rig: Rig) -> None:
    """Asked too early the provider refuses, and the payer can still approve."""
    completes, method = rig.completes, offered(rig.driver.methods.requires_action, "requires an action")
    _, snapshot = await rig.created(payment_method=method)
    payment = rig.payment(snapshot)
    outcome = await rig.execute(completes.prepare_complete(rig.reference(payment.payment_id), payment))
    assert not isinstance(outcome, Answered)
    assert await rig.driver.effects() == []
    assert (await rig.fetched(payment)).state is PaymentState.REQUIRES_ACTION


async def test_a_payer_who_refuses_fails_the_attempt(rig: Rig) -> None:
    """Refused by the payer: FAILED with a reason, and the object stays open."""
    method = offered(rig.driver.methods.requires_action, "requires an action")
    reference, snapshot = await rig.created(payment_method=method)
    await rig.driver.payer_answers(snapshot, approves=False)
    after = await rig.fetched(rig.payment(snapshot))
    if isinstance(rig.adapter, Completes):
        # What is completed by us stays open to the payer, who may come back.
        assert (after.state, after.next_action) == (PaymentState.REQUIRES_ACTION, snapshot.next_action)
        assert await rig.driver.effects() == []
        return
    assert after.state is PaymentState.FAILED
    (attempt,) = after.facts.attempts
    assert attempt.decline is not None
    assert (attempt.decline.reason, attempt.operation_id) == (
        DeclineReason.AUTHENTICATION_FAILED,
        reference.operation_id,
    )


async def test_a_payment_under_way_is_processing(rig: Rig) -> None:
    """Pending is not success."""
    method = offered(rig.driver.methods.processes, "processes")
    _, snapshot = await rig.created(payment_method=method)
    assert rig.payment(snapshot).state is PaymentState.PROCESSING
    (capture,) = movements(snapshot, MovementKind.CAPTURE)
    assert capture.status is MovementStatus.PENDING
    assert await rig.driver.effects() == []


async def test_a_decline_is_definite(rig: Rig) -> None:
    """Declined with a mapped reason and the provider's own code, and no effect."""
    _, prepared = rig.prepare_create(payment_method=rig.driver.methods.declines)
    refused = declined(await rig.execute(prepared))
    assert refused.decline.reason is not DeclineReason.UNMAPPED
    assert refused.decline.provider_code
    assert await rig.driver.effects() == []


async def test_a_decline_leaves_the_object_open(rig: Rig) -> None:
    """The decline comes with the object; another method then succeeds on it."""
    confirms = rig.confirms
    first, prepared = rig.prepare_create(payment_method=rig.driver.methods.declines)
    refused = declined(await rig.execute(prepared))
    assert refused.snapshot is not None
    assert rig.payment(refused.snapshot).state is PaymentState.FAILED
    assert await rig.driver.effects() == []
    second = rig.reference(first.payment_id)
    prepared = confirms.prepare_confirm(
        second, rig.payment(refused.snapshot), payment_method=rig.driver.methods.approves, return_url=""
    )
    confirmed = answered(await rig.execute(prepared)).snapshot
    assert rig.payment(confirmed).state is PaymentState.CAPTURED
    told = [(each.ordinal, each.status, each.operation_id) for each in confirmed.facts.attempts]
    assert told == [
        (1, AttemptStatus.FAILED, first.operation_id),
        (2, AttemptStatus.SUCCEEDED, second.operation_id),
    ]


async def test_an_unknown_decline_is_a_decline_and_counted(rig: Rig) -> None:
    """A code that our table has not is told as UNMAPPED."""
    method = offered(rig.driver.methods.declines_unmapped, "declines with an unknown code")
    _, prepared = rig.prepare_create(payment_method=method)
    refused = declined(await rig.execute(prepared))
    assert refused.decline.reason is DeclineReason.UNMAPPED
    assert ("decline", refused.decline.provider_code) in rig.driver.unmapped


async def test_what_the_provider_makes_of_an_attempt_is_told(rig: Rig) -> None:
    """Its level stands with the attempt, of one that is paid and of one that it blocks; it concludes nothing itself."""
    _, snapshot = await rig.created(payment_method=rig.risk(rig.driver.methods.risky))
    payment = rig.payment(snapshot)
    assert (payment.state, snapshot.unmapped) == (PaymentState.CAPTURED, ())
    assert payment.risk is not None
    assert payment.risk.level is RiskLevel.ELEVATED
    assert (await rig.fetched(payment)).risk == payment.risk
    _, prepared = rig.prepare_create(payment_method=rig.risk(rig.driver.methods.too_risky))
    blocked = declined(await rig.execute(prepared))
    assert blocked.decline.reason is DeclineReason.SUSPECTED_FRAUD
    assert blocked.snapshot is not None
    shown = await rig.fetched(rig.payment(blocked.snapshot))
    assert shown.risk is not None
    assert shown.risk.level is RiskLevel.HIGHEST


async def test_a_request_that_can_never_be_right_is_declined(rig: Rig) -> None:
    """The provider's books say no to the request itself: a decline with its words, and no object."""
    _, prepared = rig.prepare_create(payment_method="no_such_method")
    refused = declined(await rig.execute(prepared))
    assert refused.decline.reason in (DeclineReason.REFUSED_BY_PROVIDER, DeclineReason.INVALID_METHOD)
    assert refused.snapshot is None


async def test_the_same_request_again_is_the_same_payment(rig: Rig) -> None:
    """Sent twice: one object, one effect, one answer."""
    reference, prepared = rig.prepare_create()
    first, second = answered(await rig.execute(prepared)), answered(await rig.execute(prepared))
    assert first == second
    assert len(await rig.effects_of(reference)) == 1


async def test_the_same_request_at_once_has_one_effect(rig: Rig) -> None:
    """Sent ten times at a time: one effect, and nobody is told a decline."""
    reference, prepared = rig.prepare_create()
    outcomes = await asyncio.gather(*(rig.execute(prepared) for _ in range(10)))
    assert all(isinstance(each, Answered | Ambiguous | NotExecuted) for each in outcomes)
    assert any(isinstance(each, Answered) for each in outcomes)
    assert len(await rig.effects_of(reference)) == 1


async def test_a_key_that_was_used_otherwise_is_no_decline(rig: Rig) -> None:
    """The key belongs to another request: what became of this one is unknown, and nothing more happened."""
    reference, prepared = rig.prepare_create()
    answered(await rig.execute(prepared))
    other = rig.takes.prepare_create(reference, rig.terms(amount_minor=AMOUNT_MINOR + 1))
    assert isinstance(await rig.execute(other), Ambiguous)
    assert len(await rig.effects_of(reference)) == 1


async def test_an_amount_stays_in_its_currencys_units(rig: Rig) -> None:
    """JPY has no decimals and KWD three: the number of minor units goes there and comes back as it is."""
    # Some providers take three decimals in steps of ten.
    for currency, amount_minor in (("JPY", AMOUNT_MINOR), ("KWD", AMOUNT_MINOR // 10 * 10)):
        if currency not in rig.adapter.capabilities.currencies:
            continue
        reference, snapshot = await rig.created(currency=currency, amount_minor=amount_minor)
        assert (snapshot.amount_minor, snapshot.currency) == (amount_minor, currency)
        (effect,) = await rig.effects_of(reference)
        assert (effect.amount_minor, effect.currency) == (amount_minor, currency)


def test_prepare_is_deterministic_and_carries_our_references(rig: Rig) -> None:
    """The same arguments give the same bytes, and every reference of ours is in them."""
    reference, prepared = rig.prepare_create()
    again = rig.takes.prepare_create(reference, rig.terms())
    assert prepared == again
    caller = reference.caller
    for told in (
        reference.operation_id,
        reference.command_id,
        reference.payment_id,
        caller.tenant_id,
        caller.organization_id,
        caller.correlation_id,
        "order-1",
    ):
        assert told in prepared.body
    assert (prepared.idempotency_key, prepared.key_window_s) == (
        reference.idempotency_key,
        rig.adapter.capabilities.key_window_s,
    )


async def test_a_callers_metadata_cannot_pass_for_ours(rig: Rig) -> None:
    """Names of ours in the caller's metadata change nothing, however they are written; odd sizes are made to fit."""
    spoofed = {"obol_payment": "pay_stolen", "OBOL_TENANT": "tenant-b", "n" * 300: "v", "long": "v" * 5000}
    spoofed.update({f"many-{number}": "v" for number in range(200)})
    reference, prepared = rig.prepare_create(metadata=spoofed)
    assert "pay_stolen" not in prepared.body
    assert "tenant-b" not in prepared.body
    snapshot = answered(await rig.execute(prepared)).snapshot
    assert (snapshot.payment_id, snapshot.tenant_id) == (reference.payment_id, "tenant-a")


def test_no_secret_is_in_what_is_kept(rig: Rig) -> None:
    """Neither a prepared request nor the adapter shows a credential."""
    _, prepared = rig.prepare_create()
    for planted in rig.driver.planted:
        assert planted not in repr(prepared)
        assert planted not in repr(rig.adapter) + repr(vars(rig.adapter))


async def test_a_kept_request_is_sent_by_another_process(rig: Rig) -> None:
    """What was prepared by one adapter is sent by another one as it stands, with the same result."""
    reference, prepared = rig.prepare_create()
    first = answered(await rig.execute(prepared))
    other = rig.driver.adapter()
    try:
        kept = replace(prepared, headers=dict(prepared.headers))
        send_before = asyncio.get_running_loop().time() + TIMEOUT_S
        assert await other.execute(kept, send_before=send_before, timeout_s=TIMEOUT_S) == first
    finally:
        await other.close()
    assert len(await rig.effects_of(reference)) == 1
