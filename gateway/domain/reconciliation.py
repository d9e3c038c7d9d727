"""Reconciliation, missed events and restores from backup: their values, and the port to where they are kept.

All three belong to a provider account and not to a tenant, as the inbox does: a provider's list knows no tenants. Times
are unix microseconds by the database's clock, except windows, which compare the provider's creation times.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from gateway.domain.commands import Caller
from gateway.domain.payments import Payment
from gateway.domain.transactions import AuditRecord

WINDOW_S_MAX = 31 * 24 * 3600
"""The longest window that an operator may ask for; after a restore it is as long as the backup is old."""


class BreakType(StrEnum):
    """How a provider's books and ours differ."""

    MISSING_HERE = "MISSING_HERE"
    MISSING_THERE = "MISSING_THERE"
    AMOUNT = "AMOUNT"
    CURRENCY = "CURRENCY"
    STATE = "STATE"
    DUPLICATE = "DUPLICATE"
    STUCK = "STUCK"


class JobState(StrEnum):
    """Where a reconciliation stands. DONE and FAILED are final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"


class Phase(StrEnum):
    """Which side is being walked: the provider's list first, then ours of the window."""

    THEIRS = "THEIRS"
    OURS = "OURS"


@dataclass(frozen=True, slots=True)
class CurrencySums:
    """What the compared payments of one currency sum to on both sides, in minor units (I12)."""

    our_captured_minor: int = 0
    their_captured_minor: int = 0
    our_refunded_minor: int = 0
    their_refunded_minor: int = 0

    def plus(self, other: "CurrencySums") -> "CurrencySums":
        """Both together."""
        return CurrencySums(
            self.our_captured_minor + other.our_captured_minor,
            self.their_captured_minor + other.their_captured_minor,
            self.our_refunded_minor + other.our_refunded_minor,
            self.their_refunded_minor + other.their_refunded_minor,
        )


Sums = Mapping[str, CurrencySums]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A reconciliation as it is asked for. `window_end_us` None: until the moment at which it starts.

    `caller` with an empty tenant is the gateway itself; the key is unique for the caller's tenant.
    """

    reconciliation_id: str
    caller: Caller
    idempotency_key: str
    account_id: str
    window_start_us: int
    window_end_us: int | None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """One job. `generation` is the database's when it started; counts are of what was committed so far.

    `position` is where the walk of its `phase` goes on, opaque to all but the reconciler. `postponed` counts how often
    that place could not be read. `provider_count` are records with our reference, `foreign_count` those without.
    """

    reconciliation_id: str
    caller: Caller
    idempotency_key: str
    account_id: str
    window_start_us: int
    window_end_us: int | None
    dry_run: bool
    state: JobState
    phase: Phase
    position: str
    epoch: int
    postponed: int
    generation: int
    created_time_us: int
    begun_time_us: int | None
    ended_time_us: int | None
    provider_count: int
    foreign_count: int
    payment_count: int
    sums: Sums
    failure: str = ""
    break_count: int = 0
    mended_count: int = 0


@dataclass(frozen=True, slots=True)
class ReconciliationFilter:
    """What ListReconciliations asks for; empty fields do not restrict. Times are of the asking, from inclusive.

    `with_breaks_left`: only with a break that was not mended.
    """

    account_id: str = ""
    states: frozenset[JobState] = frozenset()
    created_from_us: int | None = None
    created_before_us: int | None = None
    with_breaks_left: bool = False


@dataclass(frozen=True, slots=True)
class Break:
    """One difference; unique in its reconciliation by (type, payment, provider's object, mends).

    `mends`: merging the provider's evidence removes it; `mended`: that was done. `operation_ids` are ours by the
    provider's word, of effects that this database has no command for. `holds_order`: a payment that was lost took money
    for its order, or still may.
    """

    type: BreakType
    tenant_id: str
    payment_id: str
    provider_payment_id: str
    ours: str
    theirs: str
    order_reference: str = ""
    operation_ids: tuple[str, ...] = ()
    mends: bool = False
    mended: bool = False
    number: int = 0
    holds_order: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One page of a job, as it is committed: what was counted, and where the walk goes on."""

    phase: Phase
    position: str
    provider_count: int = 0
    foreign_count: int = 0
    payment_count: int = 0
    sums: Sums = field(default_factory=dict)
    seen: tuple[tuple[str, str, str], ...] = ()
    """(the provider's object, tenant, payment) of each record; both empty of one without our reference."""
    clean: tuple[tuple[str, str], ...] = ()
    """(tenant, payment) of those that show no difference that a merge would remove, any more."""


@dataclass(frozen=True, slots=True)
class OurRecord:
    """A payment of ours in a window. `seen_as` is the (tenant, payment) that the provider's list said its object is of.

    `is_stuck`: an operation of it has been under way, or unknown, for longer than is normal.
    """

    tenant_id: str
    payment_id: str
    provider_payment_id: str | None
    seen_as: tuple[str, str] | None
    is_stuck: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """What the last finished reconciliation of an account left: for metrics. The age is in seconds."""

    account_id: str
    unmended: int
    age_s: float


@dataclass(frozen=True, slots=True)
class EventCursor:
    """How far an account's event list was read, held under a lease. Empty `after_event_id`: from the oldest kept.

    Events that were created before `first_time_us` are none of ours: the account had a life before this gateway.
    """

    account_id: str
    after_event_id: str
    last_event_time_us: int
    first_time_us: int
    epoch: int
    now_us: int


@dataclass(frozen=True, slots=True)
class Restore:
    """A restore from backup that an operator has declared: the database's `generation` from then on.

    What was committed after `backup_time_us` may be lost; whatever ran on the lost database was over at
    `stopped_time_us`. `pending` are the accounts, of those asked about, at which nothing is sent yet.
    """

    generation: int
    backup_time_us: int
    stopped_time_us: int
    raised_time_us: int
    actor: str
    reason: str
    pending: tuple[str, ...] = ()


class Oversight(Protocol):
    """Where reconciliations, event cursors and restores are kept. Errors and clocks are `Store`'s."""

    async def want_reconciliation(self, wanted: Wanted, audit: AuditRecord) -> tuple[Reconciliation, bool]:
        """Queue it, and True; or what is there under its key already, and False."""
        ...

    async def get_reconciliation(self, reconciliation_id: str) -> Reconciliation | None: ...

    async def list_reconciliations(
        self, wanted: ReconciliationFilter, *, before_reconciliation_id: str, limit: int
    ) -> Sequence[Reconciliation]:
        """Newest first, behind one of them, or from the newest for an empty id."""
        ...

    async def list_breaks(self, reconciliation_id: str, *, after_number: int, limit: int) -> Sequence[Break]:
        """In the order in which they were found."""
        ...

    async def take_reconciliation(self, *, lease_s: float) -> Reconciliation | None:
        """A job that is due, under a lease with a raised epoch: first those under way, then the oldest queued one.

        An account has one under way at a time. One that starts gets its generation, its start, and a window's end.
        """
        ...

    async def note_breaks(self, job: Reconciliation, breaks: Sequence[Break]) -> bool:
        """Keep breaks that are not there yet, and the lost operations in them; False where the lease was lost."""
        ...

    async def take_step(self, job: Reconciliation, step: Step, *, lease_s: float) -> Reconciliation | None:
        """Commit a page; the job afterwards, or None where the lease was lost."""
        ...

    async def pause_reconciliation(self, job: Reconciliation, *, next_attempt_s: float, postponed: bool) -> bool:
        """Give a job back. `postponed`: because something could not be read, which is counted."""
        ...

    async def end_reconciliation(self, job: Reconciliation, *, failure: str, quiet_s: float) -> bool:
        """DONE, or FAILED with a failure. What a finished one proves of a restore is granted in the same transaction.

        Granted where it began after the raise and `quiet_s` after the stop, looked at all that the backup can have
        lost, and was no dry run.
        """
        ...

    async def restore_quiet_in_s(self, account_id: str, *, quiet_s: float) -> float:
        """Seconds until the last send of a lost database is certainly over at this account; 0 where none is pending."""
        ...

    async def list_window(
        self, job: Reconciliation, *, after: tuple[str, str], limit: int, stuck_s: float
    ) -> Sequence[OurRecord]:
        """Our payments of the job's account and window, of all tenants, by (tenant, payment)."""
        ...

    async def seen_before(self, job: Reconciliation, provider_payment_ids: Sequence[str]) -> Collection[str]:
        """Those of the provider's objects that an earlier page of the job has shown."""
        ...

    async def get_payments(self, keys: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Payment]:
        """Payments with their facts, by (tenant, payment); those that are there."""
        ...

    async def has_contradiction(self, tenant_id: str, payment_id: str, detail: str) -> bool:
        """Whether a CONTRADICTION in these words was ever observed of the payment."""
        ...

    async def standings(self) -> Sequence[Standing]: ...

    async def take_event_cursor(
        self, account_ids: Collection[str], *, lease_s: float, first_s: float, poll_s: float
    ) -> EventCursor | None:
        """A cursor of one of the accounts that is due, under a lease.

        An account that has none gets one that is due after `poll_s`, and skips what is older than `first_s` by then.
        """
        ...

    async def unknown_events(self, provider: str, account_id: str, event_ids: Sequence[str]) -> Sequence[str]:
        """Those of `event_ids` that the inbox does not have."""
        ...

    async def move_event_cursor(
        self, cursor: EventCursor, *, after_event_id: str, last_event_time_us: int, next_attempt_s: float
    ) -> bool:
        """Go on from there, and end the lease; False where it was lost."""
        ...

    async def raise_generation(
        self, *, backup_time_us: int, stopped_time_us: int | None, actor: str, reason: str
    ) -> Restore:
        """Declare a restore. From its commit on no claim and no resend starts that has not seen it."""
        ...

    async def release_account(self, account_id: str, *, actor: str, reason: str) -> int:
        """Let an account send again without a reconciliation, on a person's word; how many restores that ended."""
        ...

    async def restores(self, account_ids: Sequence[str]) -> Sequence[Restore]:
        """Every declared restore, oldest first, with the accounts that still wait."""
        ...

    async def generation(self) -> int:
        """The database's generation; 0 where it was never restored."""
        ...

    async def declared_since(self, time_us: int) -> bool:
        """Whether a restore was declared after that time, or may have been: two machines' clocks are not the same.

        What was claimed before a restore is never sent again, nor on to another account, but where a caller asks for
        it. `start_resend` and the claim of a next step ask the same in their own statements.
        """
        ...

    async def restore_pending(self, account_id: str) -> bool:
        """Whether nothing may be sent at the account, nor concluded from absence."""
        ...

    async def has_lost(self, tenant_id: str, payment_id: str) -> bool:
        """Whether a provider's books show an operation of the payment that a restore has lost."""
        ...

    async def mark_read(self, tenant_id: str, payment_id: str, *, generation: int) -> None:
        """The provider was asked for this payment since the restore that began `generation`."""
        ...
