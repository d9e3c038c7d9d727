"""The one error tree: every error that a caller can meet, each with a reason that a program can act on.

    ObolError
    ├── InvalidRequest      a field is at fault                 INVALID_ARGUMENT
    ├── NotFound            not there, or another tenant's      NOT_FOUND
    ├── Conflict            a key or an order already taken     ALREADY_EXISTS
    ├── Precondition        the payment's state forbids it      FAILED_PRECONDITION
    ├── Busy                somebody else is at it: retry       ABORTED
    ├── DeadlineTooShort    not begun, nothing was sent         DEADLINE_EXCEEDED
    ├── Exhausted           a bound of ours was reached         RESOURCE_EXHAUSTED
    ├── Unavailable         provably not sent, or no database   UNAVAILABLE
    └── Internal            a defect of ours                    INTERNAL

A decline is no error, and neither is UNKNOWN: both are replies. `gateway.rpc.errors` maps this tree at one edge.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Sent(StrEnum):
    """Whether a provider got the command. A maximum over attempts: it never falls."""

    NO = "NO"
    MAYBE = "MAYBE"
    YES = "YES"

    @property
    def rank(self) -> int:
        return _SENT_RANKS[self]

    def at_least(self, other: "Sent") -> "Sent":
        """The larger of both."""
        return self if self.rank >= other.rank else other


_SENT_RANKS = {sent: rank for rank, sent in enumerate(Sent)}


class Reason(StrEnum):
    """Stable, machine-readable reasons; each belongs to the class of errors that raises it."""

    FIELD_INVALID = "FIELD_INVALID"
    CONTEXT_INVALID = "CONTEXT_INVALID"
    IDEMPOTENCY_KEY_INVALID = "IDEMPOTENCY_KEY_INVALID"
    CURSOR_INVALID = "CURSOR_INVALID"
    PAGE_TOKEN_INVALID = "PAGE_TOKEN_INVALID"  # noqa: S105  a reason, not a credential
    PAYMENT_NOT_FOUND = "PAYMENT_NOT_FOUND"
    REFUND_NOT_FOUND = "REFUND_NOT_FOUND"
    OBSERVATION_NOT_FOUND = "OBSERVATION_NOT_FOUND"
    CONSUMER_NOT_FOUND = "CONSUMER_NOT_FOUND"
    ACCOUNT_NOT_FOUND = "ACCOUNT_NOT_FOUND"
    CALLBACK_NOT_FOUND = "CALLBACK_NOT_FOUND"
    COMMAND_NOT_FOUND = "COMMAND_NOT_FOUND"
    PROPOSAL_NOT_FOUND = "PROPOSAL_NOT_FOUND"
    RECONCILIATION_NOT_FOUND = "RECONCILIATION_NOT_FOUND"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    ORDER_REFERENCE_TAKEN = "ORDER_REFERENCE_TAKEN"
    IDEMPOTENCY_KEY_EXPIRED = "IDEMPOTENCY_KEY_EXPIRED"
    LOST_IN_RESTORE = "LOST_IN_RESTORE"
    PAYMENT_FULL = "PAYMENT_FULL"
    PAYMENT_REFERENCE_AMBIGUOUS = "PAYMENT_REFERENCE_AMBIGUOUS"
    PAYMENT_NOT_CAPTURABLE = "PAYMENT_NOT_CAPTURABLE"
    PAYMENT_NOT_CONFIRMABLE = "PAYMENT_NOT_CONFIRMABLE"
    PAYMENT_NOT_CANCELLABLE = "PAYMENT_NOT_CANCELLABLE"
    PAYMENT_NOT_REFUNDABLE = "PAYMENT_NOT_REFUNDABLE"
    PAYMENT_NOT_ADJUSTABLE = "PAYMENT_NOT_ADJUSTABLE"
    AMOUNT_BELOW_AUTHORIZED = "AMOUNT_BELOW_AUTHORIZED"
    AMOUNT_EXCEEDS_CAPTURABLE = "AMOUNT_EXCEEDS_CAPTURABLE"
    AMOUNT_EXCEEDS_REFUNDABLE = "AMOUNT_EXCEEDS_REFUNDABLE"
    CAPABILITY_MISSING = "CAPABILITY_MISSING"
    NO_ACCOUNT_FITS = "NO_ACCOUNT_FITS"
    OBSERVATION_DECIDED_OTHERWISE = "OBSERVATION_DECIDED_OTHERWISE"
    COMMAND_NOT_UNKNOWN = "COMMAND_NOT_UNKNOWN"
    PROPOSAL_STALE = "PROPOSAL_STALE"
    PROPOSAL_DIFFERS = "PROPOSAL_DIFFERS"
    APPROVAL_NEEDS_ANOTHER = "APPROVAL_NEEDS_ANOTHER"
    SEND_MAY_BE_IN_FLIGHT = "SEND_MAY_BE_IN_FLIGHT"
    EVIDENCE_CONTRADICTS = "EVIDENCE_CONTRADICTS"
    PAYMENT_BUSY = "PAYMENT_BUSY"
    COMMAND_BUSY = "COMMAND_BUSY"
    CALLBACK_BUSY = "CALLBACK_BUSY"
    COMMAND_IN_PROGRESS = "COMMAND_IN_PROGRESS"
    CONTENTION = "CONTENTION"
    DEADLINE_TOO_SHORT = "DEADLINE_TOO_SHORT"
    PROVIDER_BUSY = "PROVIDER_BUSY"
    OVERLOADED = "OVERLOADED"
    PROVIDER_UNAVAILABLE = "PROVIDER_UNAVAILABLE"
    PROVIDER_NOT_EXECUTED = "PROVIDER_NOT_EXECUTED"
    RESTORE_PENDING = "RESTORE_PENDING"
    PROVIDER_DRAINING = "PROVIDER_DRAINING"
    PROVIDER_IN_MAINTENANCE = "PROVIDER_IN_MAINTENANCE"
    DATABASE_UNAVAILABLE = "DATABASE_UNAVAILABLE"
    DRAINING = "DRAINING"
    INTERNAL = "INTERNAL"


class ObolError(Exception):
    """An error with a reason, what to do about it, and whether a provider may have acted.

    `field` is the request field at fault (proto path), `retry_after_s` how long waiting helps, `details` goes into the
    ErrorInfo metadata as it stands (no secrets).
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        field: str = "",
        sent: Sent = Sent.NO,
        safe_to_retry: bool = False,
        retry_after_s: float | None = None,
        details: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.field = field
        self.sent = sent
        self.safe_to_retry = safe_to_retry
        self.retry_after_s = retry_after_s
        self.details = dict(details)


class InvalidRequest(ObolError):
    """The request can never be right as it is."""


class NotFound(ObolError):
    """There is no such thing for this tenant."""


class Conflict(ObolError):
    """The key or the order belongs to another request."""


class Precondition(ObolError):
    """The state of the payment, or the window of the key, forbids it."""


class Busy(ObolError):
    """Another command holds the payment or the key: the same call may come again after `retry_after_s`."""


class DeadlineTooShort(ObolError):
    """The caller's deadline leaves no time for a provider's answer; nothing was begun."""


class Exhausted(ObolError):
    """A bound of ours was reached; nothing was begun."""


class Unavailable(ObolError):
    """Provably not sent to a provider, or the database cannot be reached."""


class Internal(ObolError):
    """A defect of ours; the logs hold it under the correlation id."""
