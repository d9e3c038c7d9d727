"""Proto to domain: the values of requests. What a domain value cannot hold is InvalidRequest, and names its field."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.domain.errors import InvalidRequest, Reason
from gateway.domain.payments import CaptureMethod, ConfirmationMethod
from gateway.domain.states import CommandState, PaymentState
from gateway.rpc.translate import CAPTURE_METHODS, COMMAND_STATES, CONFIRMATION_METHODS, PAYMENT_STATES
from obol.v1 import money_pb2, payment_pb2

TIMESTAMP_S_MIN = -62_135_596_800
"""0001-01-01T00:00:00Z, the first second that a Timestamp may name."""

TIMESTAMP_S_MAX = 253_402_300_799
"""9999-12-31T23:59:59Z, the last one."""

Member = TypeVar("Member")


def _read(table: Mapping[Member, int]) -> dict[int, Member]:
    return {value: member for member, value in table.items()}


CAPTURE_METHODS_READ: Mapping[int, CaptureMethod] = MappingProxyType(
    {**_read(CAPTURE_METHODS), payment_pb2.CAPTURE_METHOD_UNSPECIFIED: CaptureMethod.AUTOMATIC}
)
CONFIRMATION_METHODS_READ: Mapping[int, ConfirmationMethod] = MappingProxyType(
    {**_read(CONFIRMATION_METHODS), payment_pb2.CONFIRMATION_METHOD_UNSPECIFIED: ConfirmationMethod.AUTOMATIC}
)
PAYMENT_STATES_READ: Mapping[int, PaymentState] = MappingProxyType(_read(PAYMENT_STATES))
COMMAND_STATES_READ: Mapping[int, CommandState] = MappingProxyType(_read(COMMAND_STATES))


def member_of(table: Mapping[int, Member], value: int, field: str) -> Member:
    """The member for an enum's value; a value that this gateway does not know is no default."""
    member = table.get(value)
    if member is None:
        raise invalid(field, f"{value} is not a value that this gateway knows")
    return member


def required_money(message: money_pb2.Money, *, given: bool) -> tuple[int, str]:
    """Minor units and currency of a field that must be set."""
    if not given:
        raise invalid("amount", "is required")
    return message.amount_minor, message.currency_code


def time_us_of(message: Timestamp, field: str) -> int:
    """A Timestamp as unix microseconds; what is finer is cut off."""
    if not (TIMESTAMP_S_MIN <= message.seconds <= TIMESTAMP_S_MAX and 0 <= message.nanos < 1_000_000_000):
        raise invalid(field, "is not a valid Timestamp")
    return message.seconds * 1_000_000 + message.nanos // 1_000


def whole_seconds_of(message: Duration, field: str) -> int:
    """A Duration in whole seconds. A fraction is refused: the caller would get another duration than it asked for."""
    if message.nanos:
        raise invalid(field, "must be whole seconds")
    return message.seconds


def invalid(field: str, message: str) -> InvalidRequest:
    """The error for a field that is at fault."""
    return InvalidRequest(Reason.FIELD_INVALID, f"{field}: {message}", field=field)
