"""Stripe's words and ours: declines, risk, and tables that know every word of the SDK."""

from typing import Any, get_args

import pytest
import stripe

from gateway.domain.declines import DeclineReason, RetryAdvice
from gateway.domain.risk import RiskLevel, RiskSignal
from providers.fields import Fields
from providers.stripe.mapping import StripeMapping
from providers.stripe.tables import CHARGE_STATUSES, CLOSURES, DISPUTES, EXPIRIES, NEXT_ACTIONS, REFUNDS
from tests.unit.providers.stripe_objects import charge, failed_charge, intent, snapshot


@pytest.mark.parametrize(
    ("code", "reason", "advice"),
    [
        ("insufficient_funds", DeclineReason.INSUFFICIENT_FUNDS, RetryAdvice.RETRY_LATER),
        ("stolen_card", DeclineReason.LOST_OR_STOLEN, RetryAdvice.DO_NOT_RETRY),
        ("expired_card", DeclineReason.EXPIRED_METHOD, RetryAdvice.TRY_ANOTHER_METHOD),
    ],
)
def test_a_decline_reads_alike_from_error_and_charge(code: str, reason: DeclineReason, advice: RetryAdvice) -> None:
    """The error of an answer and the charge that is read later tell the same."""
    mapping = StripeMapping("acc-1", lambda kind, value: None)
    own = code == "expired_card"
    error = {"type": "card_error", "code": code if own else "card_declined", "decline_code": code, "message": "no"}
    failed = failed_charge(code, failure_code=error["code"], failure_message="no")
    told = mapping.decline(Fields(error, "error"))
    assert (told.reason, told.advice) == (reason, advice)
    assert mapping.decline_of_charge(Fields(failed, "charge")) == told


def test_what_radar_blocks_is_suspected_fraud() -> None:
    """Blocked before the bank was asked."""
    blocked = failed_charge(outcome={"type": "blocked", "reason": "highest_risk_level"})
    mapping = StripeMapping("acc-1", lambda kind, value: None)
    assert mapping.decline_of_charge(Fields(blocked, "charge")).reason is DeclineReason.SUSPECTED_FRAUD


def test_radars_assessment_stands_with_its_attempt() -> None:
    """Levels are ours, the score is Radar's; a word or a score that no table has is counted and concludes nothing."""
    told: list[Any] = []
    ordinary = charge(outcome={"type": "authorized", "risk_level": "normal", "risk_score": 12})
    risky = charge(outcome={"type": "authorized", "risk_level": "elevated", "risk_score": 70})
    odd = charge(outcome={"type": "authorized", "risk_level": "quantum"})
    blocked = failed_charge(outcome={"type": "blocked", "risk_level": "highest", "risk_score": 95})

    def risks(*charges: dict[str, Any]) -> list[RiskSignal | None]:
        return [each.risk for each in snapshot(intent(), *charges, told=told).facts.attempts]

    assert risks(ordinary) == [RiskSignal(RiskLevel.NORMAL, 12)]
    assert risks(charge(outcome=None)) == [None]
    assert risks(blocked, risky) == [RiskSignal(RiskLevel.HIGHEST, 95), RiskSignal(RiskLevel.ELEVATED, 70)]
    assert told == []
    assert risks(charge(outcome={"type": "authorized", "risk_level": "normal", "risk_score": 2**40})) == [
        RiskSignal(RiskLevel.NORMAL)
    ]
    assert set(told) == {("risk_score", str(2**40))}
    told.clear()
    assert [each.reason for each in snapshot(intent(), ordinary).facts.movements] == [""]
    assert [each.reason for each in snapshot(intent(), risky).facts.movements] == ["risk elevated"]
    read = snapshot(intent(), odd, told=told)
    assert [each.risk for each in read.facts.attempts] == [None]
    assert (read.unmapped, set(told)) == ((), {("risk_level", "quantum")})


def test_a_networks_advice_goes_before_ours() -> None:
    """Where the card network says what to do next, that is told."""
    mapping = StripeMapping("acc-1", lambda kind, value: None)
    error = {"code": "card_declined", "decline_code": "generic_decline", "advice_code": "do_not_try_again"}
    assert mapping.decline(Fields(error, "error")).advice is RetryAdvice.DO_NOT_RETRY


def words(annotation: Any) -> set[str]:
    """The literal texts that an annotation of the SDK names."""
    inner = get_args(annotation)
    return {annotation} if isinstance(annotation, str) else set[str]().union(*(words(each) for each in inner))


def test_the_tables_know_every_word_of_the_sdk() -> None:
    """A status, reason or action that a new SDK names fails here until somebody has decided what it is."""
    assert set(CLOSURES) == words(stripe.PaymentIntent.__annotations__["status"])
    assert set(DISPUTES) == words(stripe.Dispute.__annotations__["status"])
    assert words(stripe.Charge.__annotations__["status"]) == CHARGE_STATUSES
    assert set(NEXT_ACTIONS) == set(stripe.PaymentIntent.NextAction.__annotations__) - {"type"}
    assert words(stripe.PaymentIntent.__annotations__["cancellation_reason"]) > EXPIRIES
    # The SDK has no type for it; its documentation names these.
    assert set(REFUNDS) == {"pending", "requires_action", "succeeded", "failed", "canceled"}
