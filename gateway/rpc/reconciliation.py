"""RunReconciliation, GetReconciliation and ListReconciliations of `obol.v1.Operations`: translate, and nothing else."""

from collections.abc import Mapping
from types import MappingProxyType

from gateway.app.reconciliations import Reconciliations, RunReconciliation
from gateway.domain.reconciliation import Break, BreakType, JobState, Reconciliation, ReconciliationFilter
from gateway.rpc.context import Call
from gateway.rpc.reading import invalid, member_of, time_us_of
from gateway.rpc.translate import time_to_proto
from obol.v1 import operations_pb2 as pb

BREAK_TYPES: Mapping[BreakType, pb.BreakType.ValueType] = MappingProxyType(
    {
        BreakType.MISSING_HERE: pb.BREAK_TYPE_MISSING_HERE,
        BreakType.MISSING_THERE: pb.BREAK_TYPE_MISSING_THERE,
        BreakType.AMOUNT: pb.BREAK_TYPE_AMOUNT,
        BreakType.CURRENCY: pb.BREAK_TYPE_CURRENCY,
        BreakType.STATE: pb.BREAK_TYPE_STATE,
        BreakType.DUPLICATE: pb.BREAK_TYPE_DUPLICATE,
        BreakType.STUCK: pb.BREAK_TYPE_STUCK,
    }
)

JOB_STATES: Mapping[JobState, pb.ReconciliationState.ValueType] = MappingProxyType(
    {
        JobState.QUEUED: pb.RECONCILIATION_STATE_QUEUED,
        JobState.RUNNING: pb.RECONCILIATION_STATE_RUNNING,
        JobState.DONE: pb.RECONCILIATION_STATE_DONE,
        JobState.FAILED: pb.RECONCILIATION_STATE_FAILED,
    }
)
JOB_STATES_READ: Mapping[int, JobState] = MappingProxyType({value: each for each, value in JOB_STATES.items()})


class ReconciliationRpcs:
    """The three methods, over the use cases."""

    def __init__(self, reconciliations: Reconciliations) -> None:
        self._reconciliations = reconciliations

    async def RunReconciliation(self, request: pb.RunReconciliationRequest, call: Call) -> pb.RunReconciliationResponse:
        for field in ("window_start_time", "window_end_time"):
            if not request.HasField(field):
                raise invalid(field, "is required")
        asked = RunReconciliation(
            idempotency_key=request.idempotency_key,
            account_id=request.account_id,
            window_start_us=time_us_of(request.window_start_time, "window_start_time"),
            window_end_us=time_us_of(request.window_end_time, "window_end_time"),
            dry_run=request.dry_run,
        )
        job = await self._reconciliations.run(call.caller, asked)
        return pb.RunReconciliationResponse(reconciliation=reconciliation_to_proto(job))

    async def GetReconciliation(self, request: pb.GetReconciliationRequest, call: Call) -> pb.GetReconciliationResponse:
        job, breaks, token = await self._reconciliations.get(
            request.reconciliation_id, request.page_size, request.page_token
        )
        return pb.GetReconciliationResponse(
            reconciliation=reconciliation_to_proto(job), breaks=map(break_to_proto, breaks), next_page_token=token
        )

    async def ListReconciliations(
        self, request: pb.ListReconciliationsRequest, call: Call
    ) -> pb.ListReconciliationsResponse:
        since, until = request.HasField("create_time_from"), request.HasField("create_time_before")
        wanted = ReconciliationFilter(
            account_id=request.account_id,
            states=frozenset(member_of(JOB_STATES_READ, each, "states") for each in request.states),
            created_from_us=time_us_of(request.create_time_from, "create_time_from") if since else None,
            created_before_us=time_us_of(request.create_time_before, "create_time_before") if until else None,
            with_breaks_left=request.with_breaks_left,
        )
        found, token = await self._reconciliations.list(wanted, request.page_size, request.page_token)
        return pb.ListReconciliationsResponse(
            reconciliations=map(reconciliation_to_proto, found), next_page_token=token
        )


def reconciliation_to_proto(job: Reconciliation) -> pb.Reconciliation:
    """A job in figures."""
    message = pb.Reconciliation(
        reconciliation_id=job.reconciliation_id,
        account_id=job.account_id,
        window_start_time=time_to_proto(job.window_start_us),
        provider_count=job.provider_count,
        payment_count=job.payment_count,
        break_count=job.break_count,
        mended_count=job.mended_count,
        state=JOB_STATES[job.state],
        failure=job.failure,
        dry_run=job.dry_run,
        foreign_count=job.foreign_count,
        sums=[
            pb.CurrencySums(
                currency_code=currency,
                our_captured_minor=sums.our_captured_minor,
                provider_captured_minor=sums.their_captured_minor,
                our_refunded_minor=sums.our_refunded_minor,
                provider_refunded_minor=sums.their_refunded_minor,
            )
            for currency, sums in sorted(job.sums.items())
        ],
        generation=job.generation,
        create_time=time_to_proto(job.created_time_us),
        actor=job.caller.actor,
    )
    if job.window_end_us is not None:
        message.window_end_time.CopyFrom(time_to_proto(job.window_end_us))
    if job.begun_time_us is not None:
        message.run_time.CopyFrom(time_to_proto(job.begun_time_us))
    if job.ended_time_us is not None:
        message.end_time.CopyFrom(time_to_proto(job.ended_time_us))
    return message


def break_to_proto(found: Break) -> pb.ReconciliationBreak:
    """One difference."""
    return pb.ReconciliationBreak(
        type=BREAK_TYPES[found.type],
        payment_id=found.payment_id,
        provider_payment_id=found.provider_payment_id,
        ours=found.ours,
        theirs=found.theirs,
        mended=found.mended,
        tenant=found.tenant_id,
        order_reference=found.order_reference,
        lost_operation_ids=found.operation_ids,
        number=found.number,
    )
