"""`obol.v1.Operations`: translates, and nothing else. The order is the contract's.

Operators work across tenants: the tenant is the request's, and the call's metadata names the operator alone.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from gateway.app.explaining import Entry, Explaining
from gateway.app.inbox import Inbox, Replayed
from gateway.app.losses import Losses
from gateway.app.modes import Modes
from gateway.app.oversight import Oversight, Seen
from gateway.app.proposing import Resolved, Wish
from gateway.app.reconciliations import Reconciliations
from gateway.app.resolving import Resolving
from gateway.app.settling import decline_of
from gateway.domain.movements import Movement
from gateway.domain.operating import (
    AuditFilter,
    CallbackFilter,
    KeptAuditRecord,
    KeptCallback,
    StuckPayment,
    UnresolvedOperation,
)
from gateway.domain.payments import LatestCommand
from gateway.domain.resolutions import Proposal, Resolution
from gateway.domain.storage import CallbackState
from gateway.domain.transactions import Transition
from gateway.rpc.billing_observation import observation_to_proto
from gateway.rpc.context import Call
from gateway.rpc.lost import LostRpcs
from gateway.rpc.providers import ProviderRpcs
from gateway.rpc.reading import COMMAND_STATES_READ, PAYMENT_STATES_READ, member_of, time_us_of
from gateway.rpc.reconciliation import ReconciliationRpcs
from gateway.rpc.routes import route_to_proto
from gateway.rpc.translate import (
    COMMAND_KINDS,
    COMMAND_STATES,
    PAYMENT_STATES,
    command_to_proto,
    money_to_proto,
    payment_to_proto,
    time_to_proto,
)
from obol.v1 import operations_pb2 as pb
from obol.v1 import payment_pb2

CALLBACK_STATES: Mapping[CallbackState, pb.CallbackState.ValueType] = MappingProxyType(
    {
        CallbackState.RECEIVED: pb.CALLBACK_STATE_RECEIVED,
        CallbackState.WAITING: pb.CALLBACK_STATE_WAITING,
        CallbackState.APPLIED: pb.CALLBACK_STATE_APPLIED,
        CallbackState.IGNORED: pb.CALLBACK_STATE_IGNORED,
        CallbackState.QUARANTINED: pb.CALLBACK_STATE_QUARANTINED,
    }
)
RESOLUTIONS: Mapping[Resolution, pb.Resolution.ValueType] = MappingProxyType(
    {
        Resolution.EXECUTED: pb.RESOLUTION_EXECUTED,
        Resolution.NOT_EXECUTED: pb.RESOLUTION_NOT_EXECUTED,
    }
)
CALLBACK_STATES_READ: Mapping[int, CallbackState] = MappingProxyType(
    {value: member for member, value in CALLBACK_STATES.items()}
)
RESOLUTIONS_READ: Mapping[int, Resolution] = MappingProxyType({value: each for each, value in RESOLUTIONS.items()})


class Operations(ProviderRpcs, ReconciliationRpcs, LostRpcs):
    """What operators look at and do, over the use cases."""

    def __init__(
        self,
        oversight: Oversight,
        inbox: Inbox,
        resolving: Resolving,
        explaining: Explaining,
        reconciliations: Reconciliations,
        modes: Modes,
        losses: Losses,
    ) -> None:
        ProviderRpcs.__init__(self, oversight, modes)
        ReconciliationRpcs.__init__(self, reconciliations)
        LostRpcs.__init__(self, losses)
        self._inbox = inbox
        self._resolving = resolving
        self._explaining = explaining

    async def ListCallbacks(self, request: pb.ListCallbacksRequest, call: Call) -> pb.ListCallbacksResponse:
        wanted = CallbackFilter(
            state=member_of(CALLBACK_STATES_READ, request.state, "state") if request.state else None,
            account_id=request.account_id,
            payment_id=request.payment_id,
        )
        kept, token = await self._inbox.list(wanted, request.page_size, request.page_token)
        return pb.ListCallbacksResponse(callbacks=map(_callback, kept), next_page_token=token)

    async def ReplayCallback(self, request: pb.ReplayCallbackRequest, call: Call) -> pb.ReplayCallbackResponse:
        replayed = await self._inbox.replay(call.caller, request.callback_id, dry_run=request.dry_run)
        return _replayed(replayed, dry_run=request.dry_run)

    async def ListUnresolved(self, request: pb.ListUnresolvedRequest, call: Call) -> pb.ListUnresolvedResponse:
        seen, token = await self._oversight.unresolved(
            {member_of(COMMAND_STATES_READ, state, "states") for state in request.states},
            {member_of(PAYMENT_STATES_READ, state, "payment_states") for state in request.payment_states},
            age_s_min=request.age_seconds_min,
            tenant_id=request.tenant_id,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListUnresolvedResponse(items=map(_item, seen), next_page_token=token)

    async def ResolveCommand(self, request: pb.ResolveCommandRequest, call: Call) -> pb.ResolveCommandResponse:
        wish = Wish(
            tenant_id=request.tenant_id,
            command_id=request.command_id,
            resolution=member_of(RESOLUTIONS_READ, request.resolution, "resolution"),
            reason=request.reason,
            provider_result_id=request.provider_result_id,
            provider_movement_id=request.provider_movement_id,
            approve_proposal_id=request.approve_proposal_id,
        )
        return _resolved(await self._resolving.resolve(call.caller, wish))

    async def ExplainPayment(self, request: pb.ExplainPaymentRequest, call: Call) -> pb.ExplainPaymentResponse:
        explained = await self._explaining.explain(request.tenant_id, request.payment_id)
        payment = payment_to_proto(explained.payment)
        # What the payer may need is nothing that an operator may see.
        payment.ClearField("next_action")
        route = explained.route
        return pb.ExplainPaymentResponse(
            payment=payment,
            timeline=map(_entry, explained.timeline),
            truncated=explained.truncated,
            route=None if route is None else route_to_proto(route),
        )

    async def ListAuditRecords(self, request: pb.ListAuditRecordsRequest, call: Call) -> pb.ListAuditRecordsResponse:
        since, until = request.HasField("start_time"), request.HasField("end_time")
        wanted = AuditFilter(
            tenant_id=request.tenant_id,
            payment_id=request.payment_id,
            actor=request.actor,
            action=request.action,
            recorded_from_us=time_us_of(request.start_time, "start_time") if since else None,
            recorded_before_us=time_us_of(request.end_time, "end_time") if until else None,
            operators_only=request.operators_only,
        )
        records, token = await self._oversight.audit(wanted, request.page_size, request.page_token)
        return pb.ListAuditRecordsResponse(records=map(_record, records), next_page_token=token)


def _callback(kept: KeptCallback) -> pb.ReceivedCallback:
    callback = kept.callback
    return pb.ReceivedCallback(
        callback_id=callback.callback_id,
        provider=callback.provider,
        account_id=callback.account_id,
        event_id=callback.event_id,
        event_type=callback.event_type,
        state=CALLBACK_STATES[kept.state],
        note=kept.note,
        tries=kept.tries,
        payment_id=kept.payment_id,
        receive_time=time_to_proto(callback.received_time_us),
        tenant_id=kept.tenant_id,
    )


def _replayed(replayed: Replayed, *, dry_run: bool) -> pb.ReplayCallbackResponse:
    response = pb.ReplayCallbackResponse(callback=_callback(replayed.callback), replayed=replayed.replayed)
    settlement = replayed.settlement
    if settlement is not None:
        response.transitions.extend(map(_transition, settlement.transitions))
        response.movements.extend(_movements(settlement.movements, replayed.movements_before))
        response.observations.extend(map(observation_to_proto, settlement.observations))
    # Not numbered yet, so that they carry no cursor.
    for observation in response.observations if dry_run else ():
        observation.ClearField("observation_id")
    return response


def _movements(after: Sequence[Movement], before: Sequence[Movement]) -> list[pb.MovementChange]:
    known = {movement.key: movement.status for movement in before}
    return [
        pb.MovementChange(
            kind=movement.kind,
            provider_movement_id=movement.provider_movement_id,
            amount=money_to_proto(movement.amount_minor, movement.currency),
            status_before=known.get(movement.key, ""),
            status_after=movement.status,
        )
        for movement in after
    ]


def _transition(edge: Transition) -> payment_pb2.Transition:
    return payment_pb2.Transition(
        entity=edge.entity.value, entity_id=edge.entity_id, state_before=edge.before, state_after=edge.after
    )


def _item(seen: Seen) -> pb.UnresolvedItem:
    item = seen.item
    message = pb.UnresolvedItem(since_time=time_to_proto(item.since_us), age_seconds=int(seen.age_s))
    if isinstance(item, StuckPayment):
        message.tenant_id = item.tenant_id
        message.payment.CopyFrom(_stuck(item))
    else:
        message.tenant_id = item.operation.tenant_id
        message.operation.CopyFrom(_operation(item, seen))
    return message


def _stuck(payment: StuckPayment) -> pb.StuckPayment:
    return pb.StuckPayment(
        payment_id=payment.payment_id,
        state=PAYMENT_STATES[payment.state],
        amount=money_to_proto(payment.amount_minor, payment.currency),
        provider=payment.provider,
        account_id=payment.account_id,
        order_reference=payment.order_reference,
    )


def _operation(item: UnresolvedOperation, seen: Seen) -> pb.UnresolvedOperation:
    operation = item.operation
    next_us = operation.next_attempt_us
    return pb.UnresolvedOperation(
        operation_id=operation.operation_id,
        command_id=operation.command_id,
        payment_id=operation.payment_id,
        kind=COMMAND_KINDS[operation.kind],
        state=COMMAND_STATES[operation.state],
        amount=money_to_proto(operation.amount_minor, operation.currency),
        provider=operation.provider,
        account_id=operation.account_id,
        failure=operation.failure,
        recoveries=operation.recoveries,
        sent=operation.sent,
        next_attempt_time=None if next_us is None else time_to_proto(next_us),
        alarmed=seen.alarmed,
        proposal=None if item.proposal is None else _proposal(item.proposal, stale=seen.stale),
    )


def _proposal(proposal: Proposal, *, stale: bool) -> pb.Proposal:
    return pb.Proposal(
        proposal_id=proposal.proposal_id,
        resolution=RESOLUTIONS[proposal.resolution],
        reason=proposal.reason,
        provider_result_id=proposal.provider_result_id,
        provider_movement_id=proposal.provider_movement_id,
        actor=proposal.actor,
        propose_time=time_to_proto(proposal.proposed_time_us),
        stale=stale,
    )


def _resolved(resolved: Resolved) -> pb.ResolveCommandResponse:
    command, aggregate = resolved.command, resolved.aggregate
    decline = decline_of(command, aggregate.operations)
    payment = payment_to_proto(aggregate.payment)
    payment.ClearField("next_action")
    return pb.ResolveCommandResponse(
        proposal=_proposal(resolved.proposal, stale=resolved.resolved),
        resolved=resolved.resolved,
        command=command_to_proto(LatestCommand(command.command_id, command.kind, command.state, decline)),
        payment=payment,
    )


def _entry(entry: Entry) -> pb.Explanation:
    return pb.Explanation(
        time=time_to_proto(entry.time_us), kind=entry.kind, summary=entry.summary, details=entry.details
    )


def _record(kept: KeptAuditRecord) -> pb.AuditRecord:
    record = kept.record
    return pb.AuditRecord(
        audit_id=record.audit_id,
        tenant_id=record.caller.tenant_id,
        organization_id=record.caller.organization_id,
        actor=record.caller.actor,
        correlation_id=record.caller.correlation_id,
        action=record.action,
        result=record.result,
        failure=record.failure,
        provider=record.provider,
        account_id=record.account_id,
        payment_id=record.payment_id,
        command_id=record.command_id,
        detail=record.detail,
        record_time=time_to_proto(kept.recorded_time_us),
    )
