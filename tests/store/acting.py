"""Bring a payment somewhere through the store, as an engine would."""

from dataclasses import replace

from gateway.domain.commands import Caller
from gateway.domain.lost import LostOutcome, LostPayment, LostProposal, LostSettlement
from gateway.domain.movements import MovementKind
from gateway.domain.payments import Payment
from gateway.domain.reconciliation import Break, BreakType, Wanted
from gateway.domain.states import CommandState, PaymentState
from gateway.domain.storage import (
    Claim,
    Claimed,
    ClaimOutcome,
    CommandChange,
    OperationChange,
    SettleOutcome,
    Store,
)
from tests.store import making


async def claimed(store: Store, **terms: object) -> tuple[Claim, Claimed]:
    """A create that is claimed and not settled."""
    claim = making.create_claim(making.payment(terms=making.terms(**terms)))
    got = await store.claim(claim)
    assert got.outcome is ClaimOutcome.CLAIMED
    return claim, got


async def unknown(store: Store, *, next_attempt_s: float | None = 0.0) -> Claim:
    """A create whose outcome is unknown, due for recovery after `next_attempt_s`."""
    claim, got = await claimed(store)
    assert claim.payment is not None
    lost = replace(making.held(claim, got), state=CommandState.UNKNOWN)
    settlement = making.settlement_of(
        claim,
        got,
        payment=replace(claim.payment, version=2),
        operations=(OperationChange(lost, got.epoch, next_attempt_s),),
        commands=(CommandChange(claim.command.command_id, CommandState.UNKNOWN, None),),
        movements=(),
        observations=(),
    )
    assert await store.settle(settlement) is SettleOutcome.APPLIED
    return claim


async def captured(store: Store, **changes: object) -> Payment:
    """A payment of $100 that is captured."""
    claim = making.create_claim(making.payment(terms=making.terms(**changes)))
    got = await store.claim(claim)
    settlement = making.settlement_of(claim, got)
    assert await store.settle(settlement) is SettleOutcome.APPLIED
    return settlement.payment


async def authorized(store: Store) -> Payment:
    """A payment of $100 that is authorized and not captured."""
    claim = making.create_claim()
    got = await store.claim(claim)
    assert claim.payment is not None
    facts = making.money(claim.payment, MovementKind.AUTHORIZATION)
    after = making.settled(claim.payment, facts, version=2)
    settlement = making.settlement_of(claim, got, payment=after, movements=facts.movements)
    assert await store.settle(settlement) is SettleOutcome.APPLIED
    return after


async def not_sent(store: Store, claim: Claim) -> Payment:
    """Claim, and settle as provably not sent."""
    got = await store.claim(claim)
    payment = claim.payment or await store.get_payment(making.TENANT, claim.command.payment_id)
    assert got.outcome is ClaimOutcome.CLAIMED
    assert payment is not None
    after = replace(payment, version=got.version + 1, busy_command_id=None, reserved_refund_minor=0)
    gone = replace(making.held(claim, got), state=CommandState.NOT_SENT, reserved_minor=0)
    settlement = making.settlement_of(
        replace(claim, payment=payment),
        got,
        payment=after,
        operations=(OperationChange(gone, got.epoch, None),),
        commands=(CommandChange(claim.command.command_id, CommandState.NOT_SENT, None),),
        movements=(),
        refunds=() if claim.refund is None else (replace(claim.refund, state=CommandState.NOT_SENT),),
        observations=(),
    )
    assert await store.settle(settlement) is SettleOutcome.APPLIED
    return after


async def resolved(store: Store, **approval: object) -> Claim:
    """A create of unknown outcome that two operators ended."""
    claim = await unknown(store)
    held, _ = await store.take_operation(claim.operation, lease_s=60)
    assert held is not None
    assert claim.payment is not None
    proposal = await store.propose(making.proposal(held), making.audit())
    after = replace(held, state=CommandState.FAILED)
    settlement = making.settlement_of(
        claim,
        Claimed(ClaimOutcome.CLAIMED, version=2, epoch=held.epoch),
        payment=replace(claim.payment, version=3, state=PaymentState.FAILED),
        operations=(OperationChange(after, held.epoch, None),),
        commands=(CommandChange(claim.command.command_id, CommandState.FAILED, b"reply"),),
        movements=(),
        observations=(),
        approval=making.approval(proposal, **approval),
    )
    assert await store.settle(settlement) is SettleOutcome.APPLIED
    return claim


async def lost(store: Store, payment_id: str = "pay_lost", *, order: str = "", key: str = "loss") -> LostPayment:
    """A payment whose only operation a reconciliation found at the provider, and nobody here knows."""
    operator = Caller("", "", "operator", "corr")
    window = (making.CREATED_US - 1, making.CREATED_US + 1)
    await store.want_reconciliation(Wanted(making.fresh("rec"), operator, key, making.ACCOUNT, *window), making.audit())
    job = await store.take_reconciliation(lease_s=60.0)
    assert job is not None
    found = Break(
        *(BreakType.MISSING_HERE, making.TENANT, payment_id, "obj", "", ""),
        order_reference=order,
        operation_ids=(f"op_{payment_id}_{key}",),
        holds_order=bool(order),
    )
    assert await store.note_breaks(job, [found])
    assert await store.end_reconciliation(job, failure="", quiet_s=0.0)
    made = await store.get_lost(making.TENANT, payment_id)
    assert made is not None
    return made


async def said_by(store: Store, payment: LostPayment, outcome: LostOutcome, actor: str = "ann") -> LostProposal:
    """What one operator says of a lost payment."""
    proposal = LostProposal(
        proposal_id=making.fresh("prp"),
        tenant_id=payment.tenant_id,
        payment_id=payment.payment_id,
        order_reference=payment.order_reference,
        outcome=outcome,
        reason="seen",
        shown="shown",
        actor=actor,
        correlation_id="corr",
    )
    return await store.propose_lost(proposal, making.audit())


async def said_of(
    store: Store, payment: LostPayment, outcome: LostOutcome, *, actor: str = "ann", approver: str = "bob"
) -> LostSettlement | None:
    """What two operators say of it."""
    kept = await said_by(store, payment, outcome, actor)
    return await store.settle_lost(kept, Caller("", "", approver, "corr"), "seen as well", making.audit())
