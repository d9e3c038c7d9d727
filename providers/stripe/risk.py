"""Radar's outcome of a charge, in our words."""

from collections.abc import Callable

from gateway.domain.risk import SCORE_MAX, RiskSignal
from providers.fields import Fields
from providers.stripe.tables import RISKS


def risk_of(charge: Fields, tell: Callable[[str, str], object]) -> RiskSignal | None:
    """What Radar made of a charge; None where it says nothing, or a word that no table has, which `tell` hears of."""
    outcome = charge.optional("outcome")
    level = outcome.optional_text("risk_level") if outcome is not None else ""
    if outcome is None or not level:
        return None
    if level not in RISKS:
        tell("risk_level", level)
        return None
    score = outcome.whole("risk_score") if outcome.raw.get("risk_score") is not None else None
    if score is not None and score > SCORE_MAX:
        tell("risk_score", str(score))
        score = None
    return RiskSignal(RISKS[level], score)
