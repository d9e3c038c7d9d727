"""What operators look at and do, as values, and the port to the store for it.

Lists take an empty tenant for all tenants: operators work across them. Times are unix microseconds by the database's
clock, ages and leases seconds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.domain.commands import Command, Operation
from gateway.domain.movements import MovementKind
from gateway.domain.observations import Observation
from gateway.domain.resolutions import Approval, Proposal
from gateway.domain.states import CommandState, PaymentState
from gateway.domain.transactions import AuditRecord, Callback, CallbackState, TakenCallback

OPERATOR_ACTION = "OPERATOR."
"""How the audited actions of operators begin."""


@dataclass(frozen=True, slots=True)
class KeptCallback:
    """A callback as it stands in the inbox. `callback.body` is empty in lists."""

    callback: Callback
    state: CallbackState
    note: str
    epoch: int
    tries: int
    tenant_id: str
    payment_id: str


@dataclass(frozen=True, slots=True)
class CallbackFilter:
    """What ListCallbacks asks for; empty fields do not restrict."""

    state: CallbackState | None = None
    account_id: str = ""
    payment_id: str = ""


@dataclass(frozen=True, slots=True)
class UnresolvedFilter:
    """What ListUnresolved asks for: each state with the least age in seconds that counts."""

    operations: Mapping[CommandState, float]
    payments: Mapping[PaymentState, float]
    tenant_id: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the order of age: what is at it or before it is not given again."""

    since_us: int = 0
    item_id: str = ""


@dataclass(frozen=True, slots=True)
class UnresolvedOperation:
    """A live operation since its claim, the latest proposal for its command, and the payment's version."""

    operation: Operation
    since_us: int
    version: int
    proposal: Proposal | None = None

    @property
    def item_id(self) -> str:
        return self.operation.operation_id


@dataclass(frozen=True, slots=True)
class StuckPayment:
    """A payment that stands in a state since it was made."""

    payment_id: str
    tenant_id: str
    state: PaymentState
    amount_minor: int
    currency: str
    provider: str
    account_id: str
    order_reference: str
    since_us: int

    @property
    def item_id(self) -> str:
        return self.payment_id


UnresolvedItem = UnresolvedOperation | StuckPayment


@dataclass(frozen=True, slots=True)
class UnresolvedPage:
    """Items in the order of their age, oldest first, and the database's time of the look.

    `last` is where to go on, None at the end: one that came to its end during the look leaves a short page.
    """

    items: tuple[UnresolvedItem, ...]
    now_us: int
    last: Place | None = None


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What ListAuditRecords asks for. `tenant_id` restricts also where it is empty, unless `operators_only`."""

    tenant_id: str = ""
    payment_id: str = ""
    actor: str = ""
    action: str = ""
    recorded_from_us: int | None = None
    recorded_before_us: int | None = None
    operators_only: bool = False


@dataclass(frozen=True, slots=True)
class KeptAuditRecord:
    """An audit record with its time."""

    record: AuditRecord
    recorded_time_us: int


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Records, newest first. `position` is where to go on, empty at the end: few records do not mean the end."""

    records: tuple[KeptAuditRecord, ...]
    position: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a settle that lost its fence had to say."""

    evidence_id: str
    operation_id: str
    epoch: int
    words: str
    recorded_time_us: int


@dataclass(frozen=True, slots=True)
class Decided:
    """A consumer's word on an observation, with its time."""

    consumer: str
    observation_id: str
    accepted: bool
    reason: str
    actor: str
    decided_time_us: int


@dataclass(frozen=True, slots=True)
class PaymentFile:
    """What is kept of a payment beside its rows and history; each the oldest first, at most as many as asked for."""

    callbacks: tuple[KeptCallback, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    audit: tuple[KeptAuditRecord, ...] = ()
    observations: tuple[Observation, ...] = ()
    decisions: tuple[Decided, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    approvals: tuple[Approval, ...] = ()


class OperatingStore(Protocol):
    """The part of the store that operators need."""

    async def find_callback(self, callback_id: str) -> KeptCallback | None:
        """With its body."""
        ...

    async def list_callbacks(
        self, wanted: CallbackFilter, *, before_callback_id: str, limit: int
    ) -> Sequence[KeptCallback]:
        """Newest first; `before_callback_id` (empty: from the start) is exclusive."""
        ...

    async def replay_callback(self, callback_id: str, audit: AuditRecord, *, lease_s: float) -> TakenCallback | None:
        """Put a callback back to RECEIVED under a higher epoch and a lease of ours, with its audit.

        None, and nothing written, where it is APPLIED or somebody holds it.
        """
        ...

    async def list_unresolved(self, wanted: UnresolvedFilter, *, after: Place, limit: int) -> UnresolvedPage:
        """Oldest first."""
        ...

    async def get_command(self, tenant_id: str, command_id: str) -> Command | None: ...

    async def take_operation(self, operation: Operation, *, lease_s: float) -> tuple[Operation | None, int]:
        """Take one live operation as recovery would, where its lease has ended: (as it is held now, database's time).

        Raises its epoch and counts no recovery. None where somebody holds it, or it has ended.
        """
        ...

    async def movement_holder(
        self, tenant_id: str, account_id: str, kind: MovementKind, provider_movement_id: str
    ) -> str:
        """The tenant's payment that this movement is of, empty where it is of none."""
        ...

    async def propose(self, proposal: Proposal, audit: AuditRecord) -> Proposal:
        """Keep a proposal with its audit; as kept, with its time."""
        ...

    async def latest_proposal(self, tenant_id: str, command_id: str) -> tuple[Proposal | None, int]:
        """The newest proposal for the command, and the database's time."""
        ...

    async def get_proposal(self, tenant_id: str, proposal_id: str) -> tuple[Proposal, Approval | None] | None:
        """A proposal, and its approval where it has one."""
        ...

    async def raise_alarms(
        self, record: Callable[[Operation], AuditRecord], *, older_than_s: float, limit: int
    ) -> Sequence[Operation]:
        """SENDING and UNKNOWN operations past that age of which nobody was told, oldest first; from now on they were.

        Each is told of once, whatever the number of processes, and gets its audit record.
        """
        ...

    async def payment_file(self, tenant_id: str, payment_id: str, *, limit: int) -> PaymentFile:
        """At most `limit` of each."""
        ...

    async def list_audit(self, wanted: AuditFilter, *, position: str, limit: int) -> AuditPage:
        """Looks at a bounded number of records for each page."""
        ...
