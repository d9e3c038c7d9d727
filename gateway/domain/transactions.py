"""The values of the store's transactions: what a claim, a settle and a callback carry in, and what comes of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from gateway.domain.commands import Caller, Command, Operation
from gateway.domain.movements import Movement
from gateway.domain.observations import Observation, Source
from gateway.domain.payments import Payment, Refund
from gateway.domain.resolutions import Approval
from gateway.domain.states import CommandState


class Entity(StrEnum):
    """What a transition of the history is about."""

    PAYMENT = "PAYMENT"
    DISPUTE = "DISPUTE"
    COMMAND = "COMMAND"
    OPERATION = "OPERATION"
    REFUND = "REFUND"


@dataclass(frozen=True, slots=True)
class Transition:
    """One edge that was taken; `before` is empty for what has just come to be."""

    entity: Entity
    entity_id: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One interaction: who did what with which provider, and how it ended. Holds no secret and no card data."""

    audit_id: str
    caller: Caller
    action: str
    result: str
    failure: str = ""
    provider: str = ""
    account_id: str = ""
    payment_id: str = ""
    command_id: str = ""
    detail: str = ""


class ClaimOutcome(StrEnum):
    """What became of a claim. Everything but CLAIMED has changed nothing.

    The last three are of a database that was restored: its account waits for a reconciliation, the operation took
    effect in the part that was lost, or the provider has not been asked for the payment since (of a new payment: nobody
    has asked what was lost of it).
    """

    CLAIMED = "CLAIMED"
    KEY_TAKEN = "KEY_TAKEN"
    ORDER_TAKEN = "ORDER_TAKEN"
    REFUSED = "REFUSED"
    RESTORE_PENDING = "RESTORE_PENDING"
    LOST_IN_RESTORE = "LOST_IN_RESTORE"
    UNREAD_SINCE_RESTORE = "UNREAD_SINCE_RESTORE"


@dataclass(frozen=True, slots=True)
class Claim:
    """The transaction before the call: command, operation in SENDING with its exact request, lease, reservation.

    `operation.epoch`, its times and `payment.version` are the store's to set and come back in `Claimed`. Exactly one of
    the forms holds:

    - `payment` given: a new payment (create), inserted with version 1;
    - else the existing `command.payment_id`, guarded: exclusive commands need `busy_command_id` to be empty, and the
      payment's version to be `expected_version`; `operation.reserved_minor` of a capture or refund must fit into what
      is capturable or refundable at that moment (a conditional update), whatever `expected_version` (None: any).
    - `reopen`: the command and operation exist in NOT_SENT, under the same key and request; they return to SENDING with
      a higher epoch and the new exact request. Combines with either form (a create's payment exists by then): with
      `payment` given it moves to that one's account.
    - `next_step`: the command is SENDING, and the operation is a further one of it, at the account of `payment`, to
      which the payment moves; its object at the former account is no longer the payment's. With `took_effect` the
      provider has carried it out already, as a lost operation of this account shows: without one the claim is refused,
      and nothing is sent after it. The command may be UNKNOWN then, or NOT_SENT, which it is no more: it is SENDING.

    `restores_known`, of a new payment: up to which generation somebody has asked whether a step of this very create is
    lost. It is held back (UNREAD_SINCE_RESTORE) where a later restore was declared; None: nobody need have asked.
    """

    command: Command
    operation: Operation
    transitions: tuple[Transition, ...]
    lease_s: float
    send_window_s: float
    payment: Payment | None = None
    expected_version: int | None = None
    refund: Refund | None = None
    reopen: bool = False
    next_step: bool = False
    took_effect: bool = False
    restores_known: int | None = None


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim came to. For CLAIMED: the payment's new version, the operation's epoch and times.

    ORDER_TAKEN names the payment that holds the order reference. REFUSED: the guard did not hold; load and see why.
    """

    outcome: ClaimOutcome
    version: int = 0
    epoch: int = 0
    claimed_time_us: int = 0
    lease_until_us: int = 0
    last_send_us: int = 0
    holder_payment_id: str = ""


@dataclass(frozen=True, slots=True)
class OperationChange:
    """An operation's row after the settle, written where its epoch is still `expected_epoch`.

    `next_attempt_s` is from the database's now (None: no further attempt); the lease ends with every settle.
    `epoch` of the row becomes `operation.epoch`.
    """

    operation: Operation
    expected_epoch: int
    next_attempt_s: float | None


@dataclass(frozen=True, slots=True)
class CommandChange:
    """A command's new state, and its final reply where it has one (written once, never over another)."""

    command_id: str
    state: CommandState
    reply: bytes | None


class CallbackState(StrEnum):
    """Where a received callback stands. RECEIVED and WAITING are live; the rest is kept and can be replayed."""

    RECEIVED = "RECEIVED"
    WAITING = "WAITING"
    APPLIED = "APPLIED"
    IGNORED = "IGNORED"
    QUARANTINED = "QUARANTINED"


@dataclass(frozen=True, slots=True)
class Callback:
    """A verified callback as it goes into the inbox; unique by (provider, account, event id).

    `headers` are the few that verification used. `body` is exactly what was received.
    """

    callback_id: str
    provider: str
    account_id: str
    event_id: str
    event_type: str
    body: bytes
    headers: Mapping[str, str]
    correlation_id: str
    received_time_us: int


@dataclass(frozen=True, slots=True)
class TakenCallback:
    """A callback that this process holds under a lease; `tries` counts the takes, this one included."""

    callback: Callback
    epoch: int
    tries: int
    state: CallbackState


@dataclass(frozen=True, slots=True)
class CallbackChange:
    """What became of a taken callback, guarded by its epoch. `next_attempt_s` for WAITING, from the database's now."""

    callback_id: str
    expected_epoch: int
    state: CallbackState
    note: str = ""
    next_attempt_s: float | None = None
    tenant_id: str = ""
    payment_id: str = ""


@dataclass(frozen=True, slots=True)
class Settlement:
    """The transaction after the call, the recovery or the callback: everything that it taught, or nothing.

    Guards: the payment's version is `expected_version`, every operation's epoch its `expected_epoch`, and the
    callback's epoch its own. `payment` is the row afterwards (version `expected_version + 1`); its terms do not change.
    `movements` are the merged facts that are new or changed. `refunds` are written whole, inserted where new.
    The unique claim of an order is given up when the payment is CANCELLED or EXPIRED. `approval` is the second
    operator's, where this settlement carries out a proposal.
    """

    payment: Payment
    expected_version: int
    source: Source
    causation_id: str
    transitions: tuple[Transition, ...]
    operations: tuple[OperationChange, ...] = ()
    commands: tuple[CommandChange, ...] = ()
    movements: tuple[Movement, ...] = ()
    refunds: tuple[Refund, ...] = ()
    observations: tuple[Observation, ...] = ()
    audit: tuple[AuditRecord, ...] = ()
    callback: CallbackChange | None = None
    approval: Approval | None = None


class SettleOutcome(StrEnum):
    """What became of a settle. Everything but APPLIED has changed nothing."""

    APPLIED = "APPLIED"
    STALE = "STALE"
