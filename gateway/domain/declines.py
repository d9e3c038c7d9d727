"""Why a provider refused: one published vocabulary for all providers, with the provider's own words beside it."""

from dataclasses import dataclass
from enum import StrEnum


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
