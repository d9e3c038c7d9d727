"""Why nothing was done: the word that the `failure` of an outcome begins with, so that the account can tell."""

from enum import StrEnum

from gateway.domain.providers import NotExecuted

FAILURE_CHARACTERS_MAX = 200

LATE = "LATE"
"""The word that a `NotSent.failure` begins with when our own `send_before` had passed: the provider is not to blame."""


class Refusal(StrEnum):
    """Answers that a provider documents as not executed."""

    CREDENTIALS = "CREDENTIALS"
    PERMISSION = "PERMISSION"
    RATE_LIMITED = "RATE_LIMITED"


def not_executed(refusal: Refusal, seen: str, *, retry_after_s: float | None = None) -> NotExecuted:
    """`seen` is what the provider answered, bounded and without secrets."""
    return NotExecuted(f"{refusal}: {seen}"[:FAILURE_CHARACTERS_MAX], retry_after_s)


def refusal_of(outcome: NotExecuted) -> Refusal | None:
    """Which refusal it was; None for words that are not ours."""
    word = outcome.failure.partition(":")[0]
    return next((refusal for refusal in Refusal if refusal == word), None)


def retry_after_s(header: str | None) -> float | None:
    """A Retry-After of whole seconds, bounded to an hour; None for a date or anything else."""
    if header is None or not header.isascii() or not header.isdigit() or len(header) > 9:
        return None
    return min(float(header), 3600.0)
