"""How risky a provider holds an attempt to pay for: its own assessment, in one vocabulary. It moves nothing.

Billing may hold back goods, or look at an order; the gateway decides nothing by it. That a provider says nothing is no
assessment at all (None), and not a low one.
"""

from dataclasses import dataclass
from enum import StrEnum

SCORE_MAX = 100


class RiskLevel(StrEnum):
    """In rising rank. NOT_ASSESSED: the provider says that it did not look."""

    NOT_ASSESSED = "NOT_ASSESSED"
    NORMAL = "NORMAL"
    ELEVATED = "ELEVATED"
    HIGHEST = "HIGHEST"


_RANKS = {level: rank for rank, level in enumerate(RiskLevel)}


@dataclass(frozen=True, slots=True)
class RiskSignal:
    """The provider's own assessment of one attempt; `score` from 0 to SCORE_MAX where it tells one."""

    level: RiskLevel
    score: int | None = None

    @property
    def is_ordinary(self) -> bool:
        """Whether nobody need look."""
        return self.level in (RiskLevel.NORMAL, RiskLevel.NOT_ASSESSED)


def riskier(one: RiskSignal | None, other: RiskSignal | None) -> RiskSignal | None:
    """The graver of two views of one attempt: the same in whatever order and however often they are joined."""
    return max(one, other, key=_gravity)


def _gravity(signal: RiskSignal | None) -> tuple[int, int]:
    if signal is None:
        return (-1, -1)
    return (_RANKS[signal.level], -1 if signal.score is None else signal.score)
