"""Payments that a provider carried out and a restore lost: what is known of them, and what two operators say of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from gateway.domain.commands import Caller
from gateway.domain.transactions import AuditRecord

PROPOSAL_AGE_S_MAX = 7 * 24 * 3600
"""A proposal that nobody approved for so long is stale: what was seen then may not hold any more."""


class LostOutcome(StrEnum):
    """What became of a lost payment by hand."""

    STANDS = "STANDS"
    """Its money was taken and stays taken: it is booked elsewhere, and its order is paid."""
    UNDONE = "UNDONE"
    """Nothing of it stands at the provider any more: its order may be paid by a new command."""


@dataclass(frozen=True, slots=True)
class LostProposal:
    """One operator's word on a lost payment, for another to approve.

    `shown` is how the provider's object stood then, in words. `proposed_time_us` is the database's.
    """

    proposal_id: str
    tenant_id: str
    payment_id: str
    order_reference: str
    outcome: LostOutcome
    reason: str
    shown: str
    actor: str
    correlation_id: str
    proposed_time_us: int = 0


@dataclass(frozen=True, slots=True)
class LostSettlement:
    """A second operator's yes. `settled_time_us` is the database's."""

    proposal: LostProposal
    actor: str
    correlation_id: str
    reason: str
    settled_time_us: int = 0


@dataclass(frozen=True, slots=True)
class LostPayment:
    """A payment of which a provider showed operations that this database has no command for.

    `objects` are (account, the provider's id) of what the provider showed. `order_reference` is empty where it holds no
    order, or no longer. `settlement` is the last word of two operators, if it was said of all that is here; `proposal`
    the newest one that was not approved.
    """

    tenant_id: str
    payment_id: str
    objects: tuple[tuple[str, str], ...]
    order_reference: str
    operation_ids: tuple[str, ...]
    reconciliation_ids: tuple[str, ...]
    found_time_us: int
    proposal: LostProposal | None = None
    settlement: LostSettlement | None = None


class LostStore(Protocol):
    """Where lost payments are kept. Errors and clocks are `Store`'s."""

    async def list_lost(
        self, tenant_id: str, *, after: tuple[str, str], limit: int, with_settled: bool
    ) -> Sequence[LostPayment]:
        """By (tenant, payment), after that one; of all tenants where `tenant_id` is empty."""
        ...

    async def get_lost(self, tenant_id: str, payment_id: str) -> LostPayment | None: ...

    async def lost_by(self, tenant_id: str, operation_id: str, order_reference: str) -> LostPayment | None:
        """The lost payment that stands in a command's way: by its operation, else by its unique order."""
        ...

    async def lost_steps(self, tenant_id: str, operation_ids: Sequence[str]) -> Mapping[str, tuple[str, str]]:
        """Those of the operations that were lost, each with the account that shows it, and the object's id there."""
        ...

    async def propose_lost(self, proposal: LostProposal, audit: AuditRecord) -> LostProposal:
        """Keep a proposal with its audit; as kept, with its time."""
        ...

    async def settle_lost(
        self, proposal: LostProposal, caller: Caller, reason: str, audit: AuditRecord
    ) -> LostSettlement | None:
        """Keep the approval, and free the order where the payment is UNDONE.

        None, and nothing is kept, where a later proposal came, it is too old, or more was found lost since. One that
        was approved before comes back as it was.
        """
        ...
