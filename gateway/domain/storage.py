"""The port to the store: the few transactions that the engine is made of, as values going in and coming out.

The two that matter are `claim` (before a provider is called) and `settle` (after). Each is one short transaction, and
every write in it selects from its guard: a repeated key leaves nothing, a stale epoch or version changes nothing.
Times are unix microseconds by the database's clock; durations are seconds. Every method raises
`Unavailable(DATABASE_UNAVAILABLE)` where the database cannot answer, with `sent` NO; the engine says where it knows
better. Whether a lost COMMIT took effect is not known then: the caller asks again under the same key.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from gateway.domain.commands import Caller, Command, Operation
from gateway.domain.eras import LogEnd, Turn
from gateway.domain.lost import LostStore
from gateway.domain.modes import AccountMode
from gateway.domain.observations import Observation
from gateway.domain.operating import OperatingStore
from gateway.domain.payments import Payment, Refund
from gateway.domain.reconciliation import Oversight
from gateway.domain.states import CommandState, PaymentState
from gateway.domain.transactions import (
    AuditRecord,
    Callback,
    CallbackChange,
    CallbackState,
    Claim,
    Claimed,
    ClaimOutcome,
    CommandChange,
    Entity,
    OperationChange,
    Settlement,
    SettleOutcome,
    TakenCallback,
    Transition,
)

COMMANDS_PER_PAYMENT_MAX = 500


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
    """What recovery still has before it, for metrics: live operations by state, and the age of the oldest UNKNOWN.

    `alarmed` counts the SENDING and UNKNOWN ones that are older than was asked for.
    """

    live_by_state: Mapping[CommandState, int]
    oldest_unknown_age_s: float
    callbacks_live: int
    alarmed: int = 0


class Store(OperatingStore, Oversight, LostStore, Protocol):
    """Everything durable. One instance for a process; safe for concurrent tasks."""

    @property
    def keeps_secrets(self) -> bool:
        """Whether it can store a client secret: sealed, or not at all."""
        ...

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

    async def take_due(self, *, limit: int, lease_s: float, except_accounts: Sequence[str] = ()) -> Due:
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

    async def take_failovers(self, *, limit: int, retry_s: float) -> Sequence[tuple[str, str]]:
        """(tenant, payment) whose failover nobody has brought to its end; each comes again after `retry_s` at most."""
        ...

    async def set_account_mode(self, mode: AccountMode, audit: AuditRecord) -> AccountMode:
        """Put an account into a mode, with its audit record; the mode as it stands, with the database's time."""
        ...

    async def account_modes(self) -> Sequence[AccountMode]:
        """Every mode that was ever set, by account."""
        ...

    async def receive_callback(self, callback: Callback, audit: AuditRecord) -> bool:
        """Commit to the inbox; False where the event is there already."""
        ...

    async def take_callbacks(
        self, *, limit: int, lease_s: float, except_accounts: Sequence[str] = ()
    ) -> Sequence[TakenCallback]: ...

    async def change_callback(self, change: CallbackChange, audit: Sequence[AuditRecord] = ()) -> bool:
        """Write what became of a callback, and `audit` with it; False, and nothing, where its epoch does not stand."""
        ...

    async def number_observations(self) -> int:
        """Run the sequencer once; how many were numbered (0 where the writer numbers directly)."""
        ...

    async def log_end(self) -> LogEnd:
        """The log's last number and its era, read in one statement."""
        ...

    async def turns(self) -> Sequence[Turn]:
        """Every restore, as the log knows it, oldest first."""
        ...

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

    async def refresh_statistics(self) -> None:
        """Let the database plan for the tables as they have grown; cheap to call every few seconds."""
        ...

    async def unresolved(self, *, alarmed_after_s: float = math.inf) -> Unresolved: ...

    async def undecided(self, *, older_than_s: float) -> int:
        """Observations that a named consumer, of any tenant, has left without a word for so long; at least so many."""
        ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


__all__ = [
    "COMMANDS_PER_PAYMENT_MAX",
    "Aggregate",
    "AuditRecord",
    "Callback",
    "CallbackChange",
    "CallbackState",
    "Claim",
    "ClaimOutcome",
    "Claimed",
    "CommandChange",
    "Consumer",
    "Decision",
    "DecisionOutcome",
    "Due",
    "Entity",
    "HistoryEntry",
    "OperationChange",
    "PaymentFilter",
    "SettleOutcome",
    "Settlement",
    "Store",
    "TakenCallback",
    "Transition",
    "Unresolved",
]
