"""What a call can end in instead of a reply: one tree, told apart by whether anything may have happened.

    GatewayError
    ├── InvalidRequest      INVALID_ARGUMENT, OUT_OF_RANGE: never right as it is; see field_violations
    ├── NotPermitted        UNAUTHENTICATED, PERMISSION_DENIED
    ├── NotFound            NOT_FOUND
    ├── Conflict            ALREADY_EXISTS: the key or the order belongs to another request
    ├── Precondition        FAILED_PRECONDITION: the payment's state forbids it
    ├── Busy                ABORTED: somebody else is at it; the same call again after retry_after_s
    ├── Exhausted           RESOURCE_EXHAUSTED: a bound was reached
    ├── DeadlineExceeded    DEADLINE_EXCEEDED: too short to begin, or a read that took too long
    ├── Unavailable         UNAVAILABLE, CANCELLED: provably not sent, or a read that found nobody
    ├── OutcomeUnknown      a command without an answer, whatever the code: it may have taken effect
    └── Defect              everything else

The gateway's own errors carry a google.rpc.ErrorInfo of domain "obol"; what they say stands. Without one the channel or
something on the way spoke. Then a command's outcome is unknown, whatever the code, unless the code proves that no
handler ran. A decline is no error, and neither is an UNKNOWN that the gateway answers: both are replies.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_status import rpc_status

DOMAIN = "obol"
NO_ERROR_INFO = ""
"""The reason of an error that the gateway did not write."""


class Sent(StrEnum):
    """Whether a provider may have got the command. Over several attempts the highest holds."""

    NO = "NO"
    MAYBE = "MAYBE"
    YES = "YES"

    def at_least(self, other: "Sent") -> "Sent":
        """The higher of both."""
        ranks = list(Sent)
        return max(self, other, key=ranks.index)


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field at fault: its path in the request, and what is wrong with it."""

    field: str
    description: str


class GatewayError(Exception):
    """A call without a reply.

    `reason` is stable and for programs (empty where the gateway did not speak), `message` for people; `sent` says
    whether a provider may have acted; `safe_to_retry` whether the same request with the same key may come again, and
    `retry_after_s` how long to wait first; `details` is the ErrorInfo's metadata; `correlation_id` finds the logs.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = NO_ERROR_INFO,
        sent: Sent = Sent.NO,
        safe_to_retry: bool = False,
        retry_after_s: float | None = None,
        field_violations: tuple[FieldViolation, ...] = (),
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        details: Mapping[str, str] | None = None,
        correlation_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.sent = sent
        self.safe_to_retry = safe_to_retry
        self.retry_after_s = retry_after_s
        self.field_violations = field_violations
        self.code = code
        self.details = dict(details or {})
        self.correlation_id = correlation_id

    def __str__(self) -> str:
        return f"{self.reason or self.code.name}: {self.message}"


class InvalidRequest(GatewayError):
    """The request can never be right as it is."""


class NotPermitted(GatewayError):
    """The gateway does not know the caller, or the caller may not do this."""


class NotFound(GatewayError):
    """There is no such thing for this tenant."""


class Conflict(GatewayError):
    """The key or the order belongs to another request."""


class Precondition(GatewayError):
    """The state of the payment, or the window of the key, forbids it."""


class Busy(GatewayError):
    """Another command holds the payment or the key."""


class Exhausted(GatewayError):
    """A bound was reached."""


class DeadlineExceeded(GatewayError):
    """The gateway had too little time to begin, or a read took too long."""


class Unavailable(GatewayError):
    """Provably not sent to a provider, or nobody there to read from."""


class OutcomeUnknown(GatewayError):
    """A command without an answer. It may have taken effect: repeat it with the same key, never with a new one."""


class Defect(GatewayError):
    """A defect of the gateway's, or an answer that this kit does not know."""


CLASS_BY_CODE: Mapping[grpc.StatusCode, type[GatewayError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.UNAUTHENTICATED: NotPermitted,
    grpc.StatusCode.PERMISSION_DENIED: NotPermitted,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.FAILED_PRECONDITION: Precondition,
    grpc.StatusCode.ABORTED: Busy,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Exhausted,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.CANCELLED: Unavailable,
    grpc.StatusCode.INTERNAL: Defect,
    grpc.StatusCode.UNKNOWN: Defect,
    grpc.StatusCode.UNIMPLEMENTED: Defect,
    grpc.StatusCode.DATA_LOSS: Defect,
}
"""Every code but OK."""

NO_HANDLER_RAN = frozenset(
    {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED}
)
"""Codes that prove, also without an ErrorInfo, that a command was not begun."""

PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)
"""Codes that a read may meet once and not again."""

UNANSWERED = (
    "no answer came: the command may have taken effect. Repeat it with the same idempotency key to learn the outcome; "
    "a new key could do it twice"
)


def error_from(error: grpc.RpcError, *, command: bool, correlation_id: str = "") -> GatewayError:
    """The typed form of a sync or aio RpcError. `command`: whether it was to change something at a provider."""
    code, text = error.code(), error.details() or ""
    info, violations, retry_after_s = _read_details(error)
    if info is None:
        return _unspoken(code, text, command, retry_after_s, correlation_id)
    details = dict(info.metadata)
    sent = _sent(details.get("sent"), command)
    unanswered = command and sent is not Sent.NO and code in PASSING
    return (OutcomeUnknown if unanswered else CLASS_BY_CODE.get(code, Defect))(
        text,
        reason=info.reason,
        sent=sent,
        safe_to_retry=details.get("safe_to_retry", "").lower() == "true",
        retry_after_s=retry_after_s,
        field_violations=violations,
        code=code,
        details=details,
        correlation_id=correlation_id,
    )


def _unspoken(
    code: grpc.StatusCode, text: str, command: bool, retry_after_s: float | None, correlation_id: str
) -> GatewayError:
    """An error in which the gateway did not speak."""
    if command and code not in NO_HANDLER_RAN:
        return OutcomeUnknown(
            f"{UNANSWERED} ({code.name}: {text})",
            sent=Sent.MAYBE,
            safe_to_retry=True,
            retry_after_s=retry_after_s,
            code=code,
            correlation_id=correlation_id,
        )
    return CLASS_BY_CODE.get(code, Defect)(
        text,
        safe_to_retry=not command and code in PASSING,
        retry_after_s=retry_after_s,
        code=code,
        correlation_id=correlation_id,
    )


def _sent(value: str | None, command: bool) -> Sent:
    """What the ErrorInfo says; where it says nothing that is known, a command may have been sent."""
    if value in list(Sent):
        return Sent(value)
    return Sent.MAYBE if command else Sent.NO


def _read_details(
    error: grpc.RpcError,
) -> tuple[error_details_pb2.ErrorInfo | None, tuple[FieldViolation, ...], float | None]:
    """The gateway's ErrorInfo, the fields at fault, and the seconds to wait, as far as the status holds them."""
    info, fields, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    try:
        status = rpc_status.from_call(error)
        for packed in () if status is None else status.details:
            for detail in (info, fields, retry):
                packed.Unpack(detail)
    except (ValueError, DecodeError):
        # Details that contradict the status, or are no message, prove nothing.
        return None, (), None
    violations = tuple(FieldViolation(found.field, found.description) for found in fields.field_violations)
    delay_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9 if retry.HasField("retry_delay") else None
    return info if info.domain == DOMAIN else None, violations, None if delay_s is None else max(0.0, delay_s)
