"""States as data: which exist, and which edge between two of them is legal.

Nothing sets a payment's or a dispute's state: `gateway.domain.derivation` derives them from facts. The edges here say
what a history may show, and one test walks them all.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any


class PaymentState(StrEnum):
    """The payment axis."""

    CREATED = "CREATED"
    REQUIRES_ACTION = "REQUIRES_ACTION"
    PROCESSING = "PROCESSING"
    AUTHORIZED = "AUTHORIZED"
    PARTIALLY_CAPTURED = "PARTIALLY_CAPTURED"
    CAPTURED = "CAPTURED"
    PARTIALLY_REFUNDED = "PARTIALLY_REFUNDED"
    REFUNDED = "REFUNDED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"


class CommandState(StrEnum):
    """The axis of a command, and of each operation in it."""

    SENDING = "SENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    PENDING = "PENDING"
    REQUIRES_ACTION = "REQUIRES_ACTION"
    UNKNOWN = "UNKNOWN"
    NOT_SENT = "NOT_SENT"
    REVERSED = "REVERSED"


class DisputeState(StrEnum):
    """The dispute axis."""

    NONE = "NONE"
    INQUIRY = "INQUIRY"
    OPEN = "OPEN"
    WON = "WON"
    LOST = "LOST"


FINAL_COMMAND_STATES = frozenset({CommandState.SUCCEEDED, CommandState.FAILED, CommandState.REVERSED})
"""A command in one of these has its stored reply. NOT_SENT is no answer: the same key may try again."""

LIVE_COMMAND_STATES = frozenset(
    {CommandState.SENDING, CommandState.PENDING, CommandState.REQUIRES_ACTION, CommandState.UNKNOWN}
)
"""An operation in one of these has a lease or a next attempt (I15)."""

RESERVING_STATES = frozenset({CommandState.SENDING, CommandState.UNKNOWN})
"""A capture or refund in one of these holds its reservation: no movement stands for it yet."""

_C = CommandState

COMMAND_EDGES = MappingProxyType(
    {
        _C.SENDING: frozenset({_C.SUCCEEDED, _C.FAILED, _C.PENDING, _C.REQUIRES_ACTION, _C.UNKNOWN, _C.NOT_SENT}),
        _C.UNKNOWN: frozenset({_C.SUCCEEDED, _C.FAILED, _C.PENDING, _C.REQUIRES_ACTION}),
        _C.PENDING: frozenset({_C.SUCCEEDED, _C.FAILED, _C.REQUIRES_ACTION}),
        _C.REQUIRES_ACTION: frozenset({_C.SUCCEEDED, _C.FAILED, _C.PENDING}),
        _C.FAILED: frozenset({_C.SUCCEEDED}),
        _C.SUCCEEDED: frozenset({_C.REVERSED}),
        # Evidence of any kind outranks our proof that nothing was sent, and is announced as a contradiction: what the
        # provider has begun, or refused, must not be claimed again under the same key.
        _C.NOT_SENT: frozenset({_C.SENDING, _C.SUCCEEDED, _C.FAILED, _C.PENDING, _C.REQUIRES_ACTION}),
        _C.REVERSED: frozenset[CommandState](),
    }
)
"""From where a command or an operation may go where. UNKNOWN ends on the provider's evidence only."""

_P = PaymentState
_MONEY = frozenset({_P.PARTIALLY_CAPTURED, _P.CAPTURED, _P.PARTIALLY_REFUNDED, _P.REFUNDED})
_CLOSED = frozenset({_P.CANCELLED, _P.EXPIRED})
_OPEN = frozenset({_P.REQUIRES_ACTION, _P.PROCESSING, _P.AUTHORIZED, _P.FAILED, _P.UNKNOWN})

PAYMENT_EDGES = MappingProxyType(
    {
        _P.CREATED: _OPEN | _CLOSED | _MONEY,
        # A failover's next object, still unconfirmed, begins the payment anew.
        _P.REQUIRES_ACTION: _OPEN | _CLOSED | _MONEY | {_P.CREATED},
        _P.PROCESSING: _OPEN | _CLOSED | _MONEY | {_P.CREATED},
        _P.AUTHORIZED: _OPEN | _CLOSED | _MONEY,
        # A create held for never executed can turn out to have made an object that nobody has confirmed yet.
        _P.FAILED: _OPEN | _CLOSED | _MONEY | {_P.CREATED},
        # An unknown confirm that proves never to have arrived leaves the payment as it was before it.
        _P.UNKNOWN: _OPEN | _CLOSED | _MONEY | {_P.CREATED},
        # An object can close while a confirm of it is unanswered (UNKNOWN outranks that), and another can be open.
        # Money after a final answer is a contradiction, observed as such, and never refused.
        _P.CANCELLED: _OPEN | _CLOSED | _MONEY | {_P.CREATED},
        _P.EXPIRED: _OPEN | _CLOSED | _MONEY | {_P.CREATED},
        # A reversed capture can take all of a payment's money away again; a reversed refund gives it back.
        _P.PARTIALLY_CAPTURED: _MONEY | _OPEN | _CLOSED,
        _P.CAPTURED: _MONEY | _OPEN | _CLOSED,
        _P.PARTIALLY_REFUNDED: _MONEY | _OPEN | _CLOSED,
        _P.REFUNDED: _MONEY | _OPEN | _CLOSED,
    }
)
"""From where a payment's derived state may go where. What held or moved money never returns to CREATED."""

_D = DisputeState

DISPUTE_EDGES = MappingProxyType(
    {
        _D.NONE: frozenset({_D.INQUIRY, _D.OPEN, _D.WON, _D.LOST}),
        _D.INQUIRY: frozenset({_D.NONE, _D.OPEN, _D.WON, _D.LOST}),
        # Of two disputes, one ends and the other is still an inquiry.
        _D.OPEN: frozenset({_D.INQUIRY, _D.WON, _D.LOST}),
        _D.WON: frozenset({_D.INQUIRY, _D.OPEN, _D.LOST}),
        _D.LOST: frozenset({_D.INQUIRY, _D.OPEN, _D.WON}),
    }
)
"""From where a payment's dispute axis may go where; a second dispute may open after the first has ended."""


class IllegalTransition(ValueError):
    """An edge that is not in the table: a defect of ours, never a provider's answer."""


_EDGES: Mapping[type[StrEnum], Mapping[Any, frozenset[Any]]] = MappingProxyType(
    {CommandState: COMMAND_EDGES, PaymentState: PAYMENT_EDGES, DisputeState: DISPUTE_EDGES}
)


def check_edge(before: StrEnum, after: StrEnum) -> None:
    """Raise IllegalTransition unless `before` may become `after`; staying is always legal."""
    if type(before) is not type(after) or (before != after and after not in _EDGES[type(before)][before]):
        raise IllegalTransition(f"{type(before).__name__}: {before} may not become {after}")
