"""A payment's route as a document, and back; and when a failover under way is looked after next."""

import json

from gateway.domain.observations import Source
from gateway.domain.payments import Payment
from gateway.domain.routes import AttemptOutcome, FailoverOn, Route, RouteAttempt

FAILOVER_PAUSE_US = 60_000_000
"""How long a failover is left to the call that began it, or to whoever took it up last."""

_ENCODER = json.JSONEncoder(separators=(",", ":"))


def failover_due_us(payment: Payment, source: Source | None) -> int | None:
    """When somebody is to look after the payment's failover; None where there is none. `source` told its last news.

    A call goes on with what its own reply told it. News of any other source, recovery's or a callback's, comes where
    nobody waits: then it is due at once. By the gateway's clock: it decides who looks when, and never whether something
    may be sent.
    """
    if payment.route is None or not payment.route.failing_over:
        return None
    return payment.updated_time_us + (FAILOVER_PAUSE_US if source in (None, Source.API_REPLY) else 0)


def route_document(route: Route | None) -> str | None:
    """A route as a document, None where there is none."""
    if route is None:
        return None
    return _ENCODER.encode(
        {
            "rule": route.rule,
            "why": route.why,
            "candidates": route.candidates,
            "failover_on": sorted(route.failover_on),
            "attempts_max": route.attempts_max,
            "attempts": [[a.account_id, a.outcome, a.detail, a.time_us] for a in route.attempts],
            "left": route.left,
            "failing_over": route.failing_over,
        }
    )


def route_from(value: str | None) -> Route | None:
    """A route from its document."""
    if value is None:
        return None
    known = json.loads(value)
    return Route(
        rule=known["rule"],
        why=tuple(known["why"]),
        candidates=tuple(known["candidates"]),
        failover_on=frozenset(map(FailoverOn, known["failover_on"])),
        attempts_max=known["attempts_max"],
        attempts=tuple(
            RouteAttempt(account_id, AttemptOutcome(outcome), detail, time_us)
            for account_id, outcome, detail, time_us in known["attempts"]
        ),
        left=tuple(known["left"]),
        failing_over=known["failing_over"],
    )
