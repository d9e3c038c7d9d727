"""ListLostPayments and SettleLostPayment of `obol.v1.Operations`: translate, and nothing else."""

from collections.abc import Mapping
from types import MappingProxyType

from gateway.app.losses import Losses, Word
from gateway.domain.lost import LostOutcome, LostPayment, LostProposal
from gateway.rpc.context import Call
from gateway.rpc.reading import member_of
from gateway.rpc.translate import time_to_proto
from obol.v1 import operations_pb2 as pb

OUTCOMES: Mapping[LostOutcome, pb.LostOutcome.ValueType] = MappingProxyType(
    {LostOutcome.STANDS: pb.LOST_OUTCOME_STANDS, LostOutcome.UNDONE: pb.LOST_OUTCOME_UNDONE}
)
OUTCOMES_READ: Mapping[int, LostOutcome] = MappingProxyType({value: each for each, value in OUTCOMES.items()})


class LostRpcs:
    """The two methods, over the use cases."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses

    async def ListLostPayments(self, request: pb.ListLostPaymentsRequest, call: Call) -> pb.ListLostPaymentsResponse:
        found, token = await self._losses.list(
            request.tenant_id, request.page_size, request.page_token, with_settled=request.with_settled
        )
        return pb.ListLostPaymentsResponse(payments=map(lost_to_proto, found), next_page_token=token)

    async def SettleLostPayment(self, request: pb.SettleLostPaymentRequest, call: Call) -> pb.SettleLostPaymentResponse:
        word = Word(
            tenant_id=request.tenant_id,
            payment_id=request.payment_id,
            outcome=member_of(OUTCOMES_READ, request.outcome, "outcome"),
            reason=request.reason,
            approve_proposal_id=request.approve_proposal_id,
        )
        return pb.SettleLostPaymentResponse(payment=lost_to_proto(await self._losses.settle(call.caller, word)))


def lost_to_proto(lost: LostPayment) -> pb.LostPayment:
    """A lost payment, with what operators say of it."""
    message = pb.LostPayment(
        tenant_id=lost.tenant_id,
        payment_id=lost.payment_id,
        objects=[
            pb.LostObject(account_id=account, provider_payment_id=reference) for account, reference in lost.objects
        ],
        order_reference=lost.order_reference,
        operation_ids=lost.operation_ids,
        reconciliation_ids=lost.reconciliation_ids,
        found_time=time_to_proto(lost.found_time_us),
    )
    if lost.proposal is not None:
        message.proposal.CopyFrom(_proposal(lost.proposal))
    if lost.settlement is not None:
        said = lost.settlement
        message.settlement.CopyFrom(
            pb.LostSettlement(
                proposal=_proposal(said.proposal),
                actor=said.actor,
                reason=said.reason,
                settle_time=time_to_proto(said.settled_time_us),
            )
        )
    return message


def _proposal(proposal: LostProposal) -> pb.LostProposal:
    return pb.LostProposal(
        proposal_id=proposal.proposal_id,
        outcome=OUTCOMES[proposal.outcome],
        reason=proposal.reason,
        shown=proposal.shown,
        actor=proposal.actor,
        propose_time=time_to_proto(proposal.proposed_time_us),
    )
