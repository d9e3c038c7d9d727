"""`obol.v1.BillingObservation`: translates, and nothing else. The order is the contract's."""

from collections.abc import AsyncGenerator

from gateway.app.clock import Clock
from gateway.app.observing import Beat, Observing, Told
from gateway.domain.observations import Observation
from gateway.domain.storage import Consumer
from gateway.rpc.context import Call
from gateway.rpc.translate import (
    COMMAND_KINDS,
    COMMAND_STATES,
    DISPUTE_STATES,
    OBSERVATION_KINDS,
    OBSERVATION_SOURCES,
    PAYMENT_STATES,
    decline_to_proto,
    money_to_proto,
    provider_reference_to_proto,
    risk_to_proto,
    time_to_proto,
)
from obol.v1 import billing_observation_pb2 as pb
from obol.v1 import money_pb2, observation_pb2, payment_pb2


class BillingObservation:
    """Observations in order, and Billing's word on them, over the use cases."""

    def __init__(self, observing: Observing, clock: Clock) -> None:
        self._observing = observing
        self._clock = clock

    async def WatchObservations(
        self, request: pb.WatchObservationsRequest, call: Call
    ) -> AsyncGenerator[pb.WatchObservationsResponse, None]:
        async for each in self._observing.watch(call.caller, request.consumer, request.cursor):
            if isinstance(each, Beat):
                beat = pb.Heartbeat(cursor=each.cursor, time=time_to_proto(self._clock.now_us()))
                yield pb.WatchObservationsResponse(heartbeat=beat)
            else:
                yield pb.WatchObservationsResponse(observation=_told(each))

    async def ListObservations(self, request: pb.ListObservationsRequest, call: Call) -> pb.ListObservationsResponse:
        observations, cursor = await self._observing.list(
            call.caller, request.cursor, request.page_size, request.payment_id
        )
        return pb.ListObservationsResponse(observations=map(_told, observations), next_cursor=cursor)

    async def GetObservation(self, request: pb.GetObservationRequest, call: Call) -> pb.GetObservationResponse:
        told = await self._observing.get(call.caller, request.observation_id)
        return pb.GetObservationResponse(observation=_told(told))

    async def AcceptObservations(
        self, request: pb.AcceptObservationsRequest, call: Call
    ) -> pb.AcceptObservationsResponse:
        count = await self._observing.accept(call.caller, request.consumer, list(request.observation_ids))
        return pb.AcceptObservationsResponse(accepted_count=count)

    async def RejectObservations(
        self, request: pb.RejectObservationsRequest, call: Call
    ) -> pb.RejectObservationsResponse:
        rejections = [(each.observation_id, each.reason) for each in request.rejections]
        count = await self._observing.reject(call.caller, request.consumer, rejections)
        return pb.RejectObservationsResponse(rejected_count=count)

    async def GetConsumer(self, request: pb.GetConsumerRequest, call: Call) -> pb.GetConsumerResponse:
        consumer, cursor = await self._observing.consumer(call.caller, request.consumer)
        return _consumer(consumer, cursor, self._clock.now_us())


def _told(told: Told) -> observation_pb2.Observation:
    return observation_to_proto(told.observation, told.cursor)


def observation_to_proto(seen: Observation, cursor: str = "") -> observation_pb2.Observation:
    """An observation with its place in the log, if any; the payment's sums carry neither capturable nor refundable."""
    currency = seen.currency
    return observation_pb2.Observation(
        observation_id=seen.observation_id,
        cursor=cursor,
        kind=OBSERVATION_KINDS[seen.kind],
        source=OBSERVATION_SOURCES[seen.source],
        causation_id=seen.causation_id,
        correlation_id=seen.correlation_id,
        organization_id=seen.organization_id,
        payment_id=seen.payment_id,
        payment_version=seen.version,
        payment_state=PAYMENT_STATES[seen.payment_state],
        dispute_state=DISPUTE_STATES[seen.dispute_state],
        command=_command(seen),
        refund_id=seen.refund_id or "",
        subject_amount=_subject_amount(seen),
        amount=money_to_proto(seen.amount_minor, currency),
        money=payment_pb2.MoneyFacts(
            authorized=money_to_proto(seen.authorized_minor, currency),
            captured=money_to_proto(seen.captured_minor, currency),
            refunded=money_to_proto(seen.refunded_minor, currency),
            disputed=money_to_proto(seen.disputed_minor, currency),
            fees=money_to_proto(seen.fee_minor, currency),
        ),
        provider_reference=provider_reference_to_proto(seen.provider, seen.account_id, seen.provider_payment_id),
        order_reference=seen.order_reference,
        decline=None if seen.decline is None else decline_to_proto(seen.decline),
        detail=seen.detail,
        provider_time=None if seen.provider_time_us is None else time_to_proto(seen.provider_time_us),
        observe_time=time_to_proto(seen.observed_time_us),
        risk=None if seen.risk is None else risk_to_proto(seen.risk),
    )


def _subject_amount(seen: Observation) -> money_pb2.Money | None:
    return None if seen.subject_amount_minor is None else money_to_proto(seen.subject_amount_minor, seen.currency)


def _command(seen: Observation) -> payment_pb2.CommandSummary | None:
    if seen.command_id is None or seen.command_kind is None or seen.command_state is None:
        return None
    return payment_pb2.CommandSummary(
        command_id=seen.command_id,
        kind=COMMAND_KINDS[seen.command_kind],
        state=COMMAND_STATES[seen.command_state],
        decline=None if seen.decline is None else decline_to_proto(seen.decline),
    )


def _consumer(consumer: Consumer, cursor: str, now_us: int) -> pb.GetConsumerResponse:
    oldest_us = now_us - round(consumer.oldest_undecided_age_s * 1_000_000)
    return pb.GetConsumerResponse(
        consumer=consumer.name,
        accepted_count=consumer.accepted,
        rejected_count=consumer.rejected,
        undecided_count=consumer.undecided,
        oldest_undecided_time=time_to_proto(oldest_us) if consumer.undecided else None,
        decided_cursor=cursor,
    )
