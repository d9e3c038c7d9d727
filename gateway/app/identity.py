"""The ids of a command and of what it makes: functions of its key, so that a repeated command is the same one."""

import hashlib
from dataclasses import dataclass

from gateway.app.clock import new_id
from gateway.domain.commands import Caller, CommandKind


@dataclass(frozen=True, slots=True)
class Identity:
    """The ids of a command: those of its key, or those of a NOT_SENT one that is tried again.

    `caller` is who asked first, for one that is tried again: the provider's key is the same, and so must be what is
    sent under it, whoever repeats the call in whatever context.
    """

    command_id: str
    operation_id: str
    payment_id: str
    refund_id: str
    reopen: bool = False
    step: int = 1
    caller: Caller | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """Who asks for what under which key."""

    caller: Caller
    rpc: str
    kind: CommandKind
    idempotency_key: str
    request_hash: bytes
    now_us: int


LOST_STEPS_MAX = 16
"""How far a create is looked for that a restore lost: further than rules let any go on."""


def identity_of(wish: Wish, payment_id: str = "") -> Identity:
    """The ids of the command under this key; a new payment's too where none is given.

    Command and operations are functions of (tenant, RPC, key): a command that this database has lost is the same one
    when it is repeated, to the provider as well, whose key and whose metadata are made of these. Payments and refunds
    are listed by their ids, which begin with the time.
    """
    command_id = _derived("cmd", _told(wish))
    return Identity(command_id, operation_id_of(wish, 1), payment_id or new_id("pay"), new_id("ref"))


def operation_id_of(wish: Wish, step: int) -> str:
    """The id of an operation of the command under this key; only a create that leaves an account has a second one."""
    return _derived("op", f"{_told(wish)}\x00{step}")


def _told(wish: Wish) -> str:
    return "\x00".join((wish.caller.tenant_id, wish.rpc, wish.idempotency_key))


def _derived(prefix: str, told: str) -> str:
    """An id of 128 bits that the same words always get."""
    return f"{prefix}_{hashlib.sha256(f'{prefix}{told}'.encode()).hexdigest()[:32]}"
