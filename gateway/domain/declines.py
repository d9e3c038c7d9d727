"""Why a provider refused: one published vocabulary for all providers, with the provider's own words beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class DeclineReason(StrEnum):
    """A normalized reason. UNMAPPED means that our table does not know the provider's code: it is counted."""

    INSUFFICIENT_FUNDS = "INSUFFICIENT_FUNDS"
    DECLINED = "DECLINED"
    EXPIRED_METHOD = "EXPIRED_METHOD"
    INVALID_METHOD = "INVALID_METHOD"
    LOST_OR_STOLEN = "LOST_OR_STOLEN"
    SUSPECTED_FRAUD = "SUSPECTED_FRAUD"
    AUTHENTICATION_FAILED = "AUTHENTICATION_FAILED"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    NOT_SUPPORTED = "NOT_SUPPORTED"
    REFUSED_BY_PROVIDER = "REFUSED_BY_PROVIDER"
    NEVER_EXECUTED = "NEVER_EXECUTED"
    SUPERSEDED = "SUPERSEDED"
    UNMAPPED = "UNMAPPED"


class RetryAdvice(StrEnum):
    """What the payer's side may sensibly do next."""

    NONE = "NONE"
    RETRY_LATER = "RETRY_LATER"
    TRY_ANOTHER_METHOD = "TRY_ANOTHER_METHOD"
    DO_NOT_RETRY = "DO_NOT_RETRY"


@dataclass(frozen=True, slots=True)
class Decline:
    """A definite no. `provider_code` and `provider_message` are the provider's own words, bounded by the adapter."""

    reason: DeclineReason
    provider_code: str = ""
    provider_message: str = ""
    advice: RetryAdvice = RetryAdvice.NONE


class Softness(StrEnum):
    """Whether another provider may see it otherwise. SOFT: it may. HARD: the payer, the law or the books say no."""

    SOFT = "SOFT"
    HARD = "HARD"


SOFTNESS: Mapping[DeclineReason, Softness] = MappingProxyType(
    {
        # The bank's mood, or the provider's: another acquirer, or another day, gets another answer.
        DeclineReason.DECLINED: Softness.SOFT,
        DeclineReason.REFUSED_BY_PROVIDER: Softness.SOFT,
        DeclineReason.NOT_SUPPORTED: Softness.SOFT,
        DeclineReason.LIMIT_EXCEEDED: Softness.SOFT,
        # The payer's own: the same everywhere, and asking again elsewhere costs trust with the card networks.
        DeclineReason.INSUFFICIENT_FUNDS: Softness.HARD,
        DeclineReason.EXPIRED_METHOD: Softness.HARD,
        DeclineReason.INVALID_METHOD: Softness.HARD,
        DeclineReason.LOST_OR_STOLEN: Softness.HARD,
        DeclineReason.SUSPECTED_FRAUD: Softness.HARD,
        DeclineReason.AUTHENTICATION_FAILED: Softness.HARD,
        # Ours, not a provider's word on the payer: nothing says that a second try is wished for.
        DeclineReason.NEVER_EXECUTED: Softness.HARD,
        DeclineReason.SUPERSEDED: Softness.HARD,
        # What the table does not know is nothing to build a second charge on.
        DeclineReason.UNMAPPED: Softness.HARD,
    }
)
"""Total over the vocabulary: a reason cannot come to be without its place here (docs/declines.md shows it)."""


def is_soft(decline: Decline | None) -> bool:
    """Whether a failover may follow, where a rule asks for it."""
    return decline is not None and SOFTNESS[decline.reason] is Softness.SOFT
