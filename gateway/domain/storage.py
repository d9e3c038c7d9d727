"""The port to the store: the few transactions that the engine is made of, as values going in and coming out.

The two that matter are `claim` (before a provider is called) and `settle` (after). Each is one short transaction, and
every write in it selects from its guard: a repeated key leaves nothing, a stale epoch or version changes nothing.
Times are unix microseconds by the database's clock; durations are seconds. Every method raises
`Unavailable(DATABASE_UNAVAILABLE)` where the database cannot answer, with `sent` NO; the engine says where it knows
better. Whether a lost COMMIT took effect is not known then: the caller asks again under the same key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from gateway.domain.commands import Caller, Command, CommandKind, Operation
from gateway.domain.movements import Movement
from gateway.domain.observations import Observation, Source
from gateway.domain.payments import Payment, Refund
from gateway.domain.states import CommandState, PaymentState

COMMANDS_PER_PAYMENT_MAX = 500


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
    """What became of a claim. Everything but CLAIMED has changed nothing."""

    CLAIMED = "CLAIMED"
    KEY_TAKEN = "KEY_TAKEN"
    ORDER_TAKEN = "ORDER_TAKEN"
    REFUSED = "REFUSED"


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
      a higher epoch and the new exact request. Combines with either form (a create's payment exists by then).
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
    The unique claim of an order is given up when the payment is CANCELLED or EXPIRED.
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


class SettleOutcome(StrEnum):
    """What became of a settle. Everything but APPLIED has changed nothing."""

    APPLIED = "APPLIED"
    STALE = "STALE"


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A payment with all that a settle may touch, read at one moment."""

    payment: Payment
    commands: tuple[Command, ...]
    operations: tuple[Operation, ...]
    refunds: tuple[Refund, ...]


@dataclass(frozen=True, slots=True)
class Due:
    """Operations that this process now holds under a lease (epoch raised), and the database's time of the take."""

    operations: tuple[Operation, ...]
    now_us: int


@dataclass(frozen=True, slots=True)
class PaymentFilter:
    """What ListPayments asks for; empty fields do not restrict. Times are unix microseconds, from inclusive."""

    order_reference: str = ""
    customer_reference: str = ""
    account_id: str = ""
    states: tuple[PaymentState, ...] = ()
    created_from_us: int | None = None
    created_before_us: int | None = None


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One version of a payment: which edges were taken, why, and when."""

    payment_id: str
    version: int
    source: str
    causation_id: str
    transitions: tuple[Transition, ...]
    recorded_time_us: int


@dataclass(frozen=True, slots=True)
class Decision:
    """A consumer's word on an observation; `reason` is for a rejection."""

    observation_id: str
    accepted: bool
    reason: str = ""


class DecisionOutcome(StrEnum):
    """What became of a decision. REPEATED is the same word again; CONFLICT the other one, which does not count."""

    RECORDED = "RECORDED"
    REPEATED = "REPEATED"
    CONFLICT = "CONFLICT"
    MISSING = "MISSING"


@dataclass(frozen=True, slots=True)
class Consumer:
    """Where a named consumer stands. `decided_through` is the last sequence before its first undecided observation.

    `undecided` is counted up to a bound. Ages are in seconds, 0 where nothing is undecided.
    """

    tenant_id: str
    name: str
    accepted: int
    rejected: int
    undecided: int
    decided_through: int
    oldest_undecided_age_s: float


@dataclass(frozen=True, slots=True)
class Unresolved:
    """What recovery still has before it, for metrics: live operations by state, and the age of the oldest UNKNOWN."""

    live_by_state: Mapping[CommandState, int]
    oldest_unknown_age_s: float
    callbacks_live: int


class Store(Protocol):
    """Everything durable. One instance for a process; safe for concurrent tasks."""

    async def claim(self, claim: Claim) -> Claimed: ...

    async def settle(self, settlement: Settlement) -> SettleOutcome: ...

    async def find_command(self, tenant_id: str, rpc: str, idempotency_key: str) -> Command | None: ...

    async def load(self, tenant_id: str, payment_id: str) -> Aggregate | None: ...

    async def get_payment(self, tenant_id: str, payment_id: str) -> Payment | None:
        """The payment with its facts; cheaper than `load`."""
        ...

    async def find_payments(
        self,
        tenant_id: str,
        *,
        order_reference: str = "",
        account_id: str = "",
        provider_payment_id: str = "",
    ) -> Sequence[str]:
        """Payment ids by order reference or by provider reference, newest first, at most 2."""
        ...

    async def list_payments(
        self, tenant_id: str, payment_filter: PaymentFilter, *, before_payment_id: str, limit: int
    ) -> Sequence[Payment]:
        """Newest first; `before_payment_id` (empty: from the start) is exclusive."""
        ...

    async def get_refund(self, tenant_id: str, refund_id: str) -> Refund | None: ...

    async def list_refunds(
        self, tenant_id: str, payment_id: str, *, before_refund_id: str, limit: int
    ) -> Sequence[Refund]:
        """Newest first; of one payment, or of the whole tenant where `payment_id` is empty."""
        ...

    async def history(
        self, tenant_id: str, payment_id: str, *, after_version: int, limit: int
    ) -> Sequence[HistoryEntry]: ...

    async def take_due(self, *, limit: int, lease_s: float) -> Due:
        """Take live operations whose next attempt is due and whose lease has ended, oldest next attempt first.

        Raises each one's epoch, counts the recovery and sets the lease; skips what another process is taking.
        """
        ...

    async def start_resend(self, operation: Operation, *, lease_s: float, send_window_s: float) -> Operation | None:
        """Before a resend: move `last_send_us` and the lease on, where epoch and lease still stand (else None)."""
        ...

    async def reschedule(self, operation: Operation, *, next_attempt_s: float, failure: str) -> bool:
        """Give a taken operation back unchanged, where the epoch still stands."""
        ...

    async def append_evidence(self, operation: Operation, evidence: str, audit: AuditRecord) -> None:
        """Keep what a settle that lost its fence had to say, and make the operation due now where it is live."""
        ...

    async def take_abandoned(self, *, limit: int, retry_s: float) -> Sequence[tuple[str, str]]:
        """(tenant, payment) whose action was not finished by its expiry; each comes again after `retry_s` at most."""
        ...

    async def receive_callback(self, callback: Callback, audit: AuditRecord) -> bool:
        """Commit to the inbox; False where the event is there already."""
        ...

    async def take_callbacks(self, *, limit: int, lease_s: float) -> Sequence[TakenCallback]: ...

    async def change_callback(self, change: CallbackChange) -> bool: ...

    async def number_observations(self) -> int:
        """Run the sequencer once; how many were numbered (0 where the writer numbers directly)."""
        ...

    async def last_sequence(self) -> int: ...

    async def read_observations(
        self, tenant_id: str, *, after_sequence: int, limit: int, payment_id: str = ""
    ) -> Sequence[Observation]:
        """In sequence order."""
        ...

    async def get_observation(self, tenant_id: str, observation_id: str) -> Observation | None: ...

    async def wait_for_observations(self, after_sequence: int, *, timeout_s: float) -> None:
        """Return when something after `after_sequence` may be there (any tenant), or after `timeout_s`."""
        ...

    async def decide(
        self, caller: Caller, consumer: str, decisions: Sequence[Decision], audit: AuditRecord
    ) -> Sequence[DecisionOutcome]:
        """All in one transaction; creates the consumer at its first word."""
        ...

    async def ensure_consumer(self, tenant_id: str, consumer: str) -> None: ...

    async def get_consumer(self, tenant_id: str, consumer: str) -> Consumer | None: ...

    async def append_audit(self, records: Sequence[AuditRecord]) -> None: ...

    async def expire_keys(self, *, older_than_s: float, limit: int) -> int:
        """Turn final commands past the window into tombstones (reply and request gone, key kept)."""
        ...

    async def unresolved(self) -> Unresolved: ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


def kind_reserves(kind: CommandKind) -> bool:
    """Whether an operation of `kind` reserves its amount on the payment."""
    return kind in (CommandKind.CAPTURE, CommandKind.REFUND)
