"""The one error table: what a caller is told of an error, and as which gRPC status.

Every error carries one ErrorInfo (domain "obol"), a BadRequest where a field is at fault, a RetryInfo where waiting
helps. What is not in our error tree is INTERNAL, and its text stays in the logs.
"""

from types import MappingProxyType

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from gateway.domain.errors import (
    Busy,
    Conflict,
    DeadlineTooShort,
    Exhausted,
    Internal,
    InvalidRequest,
    NotFound,
    ObolError,
    Precondition,
    Reason,
    Sent,
    Unavailable,
)

DOMAIN = "obol"

TEXT_BYTES_MAX = 600
"""A message or a detail is cut here: it travels up to three times in trailing metadata, of which clients take 8 KiB."""

DETAILS_MAX = 8

STATUS_CODES = MappingProxyType(
    {
        InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
        NotFound: grpc.StatusCode.NOT_FOUND,
        Conflict: grpc.StatusCode.ALREADY_EXISTS,
        Precondition: grpc.StatusCode.FAILED_PRECONDITION,
        Busy: grpc.StatusCode.ABORTED,
        DeadlineTooShort: grpc.StatusCode.DEADLINE_EXCEEDED,
        Exhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
        Unavailable: grpc.StatusCode.UNAVAILABLE,
        Internal: grpc.StatusCode.INTERNAL,
    }
)
"""Class of error to status: every class of the tree, and no other."""


def status_code(error: ObolError) -> grpc.StatusCode:
    """The status of `error`; a class that the table does not know is a defect of ours, so INTERNAL."""
    return STATUS_CODES.get(type(error), grpc.StatusCode.INTERNAL)


def unexpected(correlation_id: str, *, sends: bool) -> Internal:
    """What a caller is told of an exception that nobody foresaw: where to look, and nothing of what it said.

    `sends`: the call can reach a provider, so nobody knows here whether it did.
    """
    return Internal(
        Reason.INTERNAL,
        f"an internal error; the gateway's logs hold it under the correlation id {correlation_id}",
        sent=Sent.MAYBE if sends else Sent.NO,
        safe_to_retry=not sends,
    )


def rich_status(error: ObolError) -> grpc.Status:
    """`error` as a status with its details, to abort a call with."""
    message = _cut(error.message)
    details: list[Message] = [_error_info(error)]
    if error.field:
        violation = BadRequest.FieldViolation(field=_cut(error.field), description=message)
        details.append(BadRequest(field_violations=[violation]))
    if error.retry_after_s is not None:
        details.append(RetryInfo(retry_delay=_duration(error.retry_after_s)))
    status = Status(code=status_code(error).value[0], message=message, details=[_packed(each) for each in details])
    rich: grpc.Status = rpc_status.to_status(status)
    return rich


def _error_info(error: ObolError) -> ErrorInfo:
    metadata = {key: _cut(value) for key, value in list(error.details.items())[:DETAILS_MAX]}
    # Written last: no detail may stand in for these two.
    metadata["sent"] = error.sent.value
    metadata["safe_to_retry"] = "true" if error.safe_to_retry else "false"
    return ErrorInfo(reason=error.reason.value, domain=DOMAIN, metadata=metadata)


def _packed(message: Message) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed


def _duration(seconds: float) -> Duration:
    milliseconds = max(0, round(seconds * 1_000))
    return Duration(seconds=milliseconds // 1_000, nanos=milliseconds % 1_000 * 1_000_000)


def _cut(text: str) -> str:
    # A lone surrogate cannot travel in UTF-8; a character that the cut would split is dropped.
    raw = text.encode("utf-8", "replace")
    return raw.decode() if len(raw) <= TEXT_BYTES_MAX else raw[:TEXT_BYTES_MAX].decode("utf-8", "ignore")
