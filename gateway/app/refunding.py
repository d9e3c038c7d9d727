"""Refunds after a lesson: ours follow their operation, and those made at the provider are adopted."""

from dataclasses import replace

from gateway.app.clock import new_id
from gateway.app.verdicts import reached
from gateway.domain.commands import Operation
from gateway.domain.movements import Movement, MovementKind, MovementStatus, Origin
from gateway.domain.payments import Payment, Refund
from gateway.domain.states import CommandState
from gateway.domain.storage import Aggregate


def refunds_after(aggregate: Aggregate, payment: Payment, operations: list[Operation], now_us: int) -> list[Refund]:
    """Refunds that are new or changed: ours follow their operation, foreign ones are adopted."""
    changed = []
    by_id = {refund.refund_id: refund for refund in aggregate.refunds}
    for operation in operations:
        refund = by_id.get(operation.refund_id or "")
        if refund is None:
            continue
        after = replace(
            refund,
            state=operation.state,
            provider_refund_id=operation.provider_result_id or refund.provider_refund_id,
            decline=operation.decline,
        )
        if after != refund:
            changed.append(replace(after, updated_time_us=now_us))
    ours = {operation.operation_id for operation in operations}
    foreign = [m for m in payment.facts.movements if m.kind is MovementKind.REFUND and m.operation_id not in ours]
    by_provider_id = {refund.provider_refund_id: refund for refund in aggregate.refunds if refund.provider_refund_id}
    for movement in foreign:
        known = by_provider_id.get(movement.provider_movement_id)
        # One of ours follows its operation alone, also where the provider's object has lost our reference.
        if known is None or known.origin is Origin.PROVIDER:
            changed.extend(_adopted(known, movement, payment, now_us))
    return changed


_REFUND_STATES = {
    MovementStatus.PENDING: CommandState.PENDING,
    MovementStatus.FAILED: CommandState.FAILED,
    MovementStatus.SUCCEEDED: CommandState.SUCCEEDED,
    MovementStatus.REVERSED: CommandState.REVERSED,
}


def _adopted(known: Refund | None, movement: Movement, payment: Payment, now_us: int) -> list[Refund]:
    state = _REFUND_STATES[movement.status]
    if known is None:
        refund = Refund(
            refund_id=new_id("ref"),
            tenant_id=payment.tenant_id,
            payment_id=payment.payment_id,
            origin=Origin.PROVIDER,
            amount_minor=movement.amount_minor,
            currency=movement.currency,
            state=state,
            reason=movement.reason,
            created_time_us=now_us,
            updated_time_us=now_us,
            provider_refund_id=movement.provider_movement_id,
        )
        return [refund]
    after = replace(known, state=reached(known.state, state), amount_minor=movement.amount_minor)
    return [replace(after, updated_time_us=now_us)] if after != known else []
