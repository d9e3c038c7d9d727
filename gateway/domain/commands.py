"""Commands and operations: what a caller asked for, once, and the provider writes that carry it out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from gateway.domain.declines import Decline
from gateway.domain.errors import Sent
from gateway.domain.states import CommandState


class CommandKind(StrEnum):
    """What a command does; also what an operation of it does at the provider."""

    CREATE = "CREATE"
    CONFIRM = "CONFIRM"
    CAPTURE = "CAPTURE"
    CANCEL = "CANCEL"
    REFUND = "REFUND"
    COMPLETE = "COMPLETE"
    ADJUST = "ADJUST"


ENTRY_KINDS = frozenset({CommandKind.CREATE, CommandKind.CONFIRM, CommandKind.COMPLETE})
"""Commands whose UNKNOWN is the payment's; the later ones show their own."""

EXCLUSIVE_KINDS = frozenset(
    {CommandKind.CONFIRM, CommandKind.CAPTURE, CommandKind.CANCEL, CommandKind.COMPLETE, CommandKind.ADJUST}
)
"""At most one of these is under way for a payment; refunds run side by side."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking, from the request's metadata; travels with everything the request causes."""

    tenant_id: str
    organization_id: str
    actor: str
    correlation_id: str


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """The exact request that a provider will get: kept before it is sent, and resent only as it stands.

    `body` is the wire body, `headers` the ones that matter (never a credential), `idempotency_key` a function of
    (command, step, account). `key_window_s` is how long the provider keeps the key.
    """

    method: str
    path: str
    body: str
    idempotency_key: str
    api_version: str
    key_window_s: int
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Command:
    """One row of what a caller asked for. `reply` is the stored final reply, None while it is not final."""

    command_id: str
    kind: CommandKind
    rpc: str
    idempotency_key: str
    request_hash: bytes
    caller: Caller
    payment_id: str
    state: CommandState
    created_time_us: int
    refund_id: str | None = None
    reply: bytes | None = None
    expired: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One provider write of a command.

    `epoch` is the fence: every holder of the lease has its own, and a settle with an older one changes nothing.
    `claimed_time_us`, `lease_until_us` and `next_attempt_us` are by the database's clock. `last_send_us` is the latest
    time by which any attempt can have been sent (its lease's end), None before the first claim. `amount_minor` is the
    amount of a create, capture or refund, or an adjustment's new total, `reserved_minor` what of it is still reserved
    on the payment.
    """

    operation_id: str
    command_id: str
    payment_id: str
    tenant_id: str
    step: int
    kind: CommandKind
    provider: str
    account_id: str
    amount_minor: int
    currency: str
    prepared: PreparedRequest
    state: CommandState
    sent: Sent
    epoch: int
    claimed_time_us: int
    lease_until_us: int | None
    next_attempt_us: int | None
    last_send_us: int | None = None
    recoveries: int = 0
    reserved_minor: int = 0
    refund_id: str | None = None
    provider_payment_id: str | None = None
    provider_result_id: str | None = None
    final_capture: bool = True
    decline: Decline | None = None
    failure: str = ""
