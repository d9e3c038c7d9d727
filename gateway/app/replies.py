"""What a command answers, and the port that turns it into the bytes that are stored and sent."""

from dataclasses import dataclass
from typing import Protocol

from gateway.domain.commands import CommandKind
from gateway.domain.declines import Decline
from gateway.domain.payments import Payment, Refund
from gateway.domain.states import CommandState


@dataclass(frozen=True, slots=True)
class CommandView:
    """A command as it stands, with the payment (and the refund of a RefundPayment) as of the same moment."""

    rpc: str
    command_id: str
    kind: CommandKind
    state: CommandState
    decline: Decline | None
    payment: Payment
    refund: Refund | None = None


class ReplyCodec(Protocol):
    """Encodes a view as the response message of its RPC. Deterministic: equal views give equal bytes."""

    def encode(self, view: CommandView) -> bytes: ...


@dataclass(frozen=True, slots=True)
class CommandReply:
    """The response message's bytes; `replayed` when the key had been used before."""

    body: bytes
    replayed: bool
