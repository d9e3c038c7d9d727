"""Domain to proto: why a payment is at its account."""

from collections.abc import Mapping
from types import MappingProxyType

from gateway.domain.routes import AttemptOutcome, Route
from gateway.rpc.translate import time_to_proto
from obol.v1 import payment_pb2

ROUTE_OUTCOMES: Mapping[AttemptOutcome, payment_pb2.RouteOutcome.ValueType] = MappingProxyType(
    {
        AttemptOutcome.CHOSEN: payment_pb2.ROUTE_OUTCOME_CHOSEN,
        AttemptOutcome.REFUSED: payment_pb2.ROUTE_OUTCOME_REFUSED,
        AttemptOutcome.NOT_SENT: payment_pb2.ROUTE_OUTCOME_NOT_SENT,
        AttemptOutcome.DECLINED: payment_pb2.ROUTE_OUTCOME_DECLINED,
    }
)
"""Total in both directions, but for `_UNSPECIFIED`."""


def route_to_proto(route: Route) -> payment_pb2.PaymentRoute:
    """A route as a timeline shows it."""
    return payment_pb2.PaymentRoute(
        rule=route.rule,
        reasons=route.why,
        candidates=route.candidates,
        attempts=[
            payment_pb2.RouteAttempt(
                account_id=each.account_id,
                outcome=ROUTE_OUTCOMES[each.outcome],
                detail=each.detail,
                time=time_to_proto(each.time_us),
            )
            for each in route.attempts
        ],
        failing_over=route.failing_over,
    )
