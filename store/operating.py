"""The part of the store that operators need; `DurableStore` has it from here.

Implements `gateway.domain.operating.OperatingStore` over units, a few statements each.
"""

from collections.abc import Callable, Sequence

from gateway.domain.commands import Command, Operation
from gateway.domain.movements import MovementKind
from gateway.domain.operating import (
    AuditFilter,
    AuditPage,
    CallbackFilter,
    KeptCallback,
    PaymentFile,
    Place,
    UnresolvedFilter,
    UnresolvedPage,
)
from gateway.domain.resolutions import Approval, Proposal
from gateway.domain.storage import AuditRecord, TakenCallback
from store import auditing, explaining, inbox, resolving, unresolved
from store.database import Database


class DurableOperating:
    """What operators look at and do."""

    _database: Database

    async def find_callback(self, callback_id: str) -> KeptCallback | None:
        return await self._database.read(lambda connection: inbox.find_callback(connection, callback_id))

    async def list_callbacks(
        self, wanted: CallbackFilter, *, before_callback_id: str, limit: int
    ) -> Sequence[KeptCallback]:
        return await self._database.read(
            lambda connection: inbox.list_callbacks(
                connection, wanted, before_callback_id=before_callback_id, limit=limit
            )
        )

    async def replay_callback(self, callback_id: str, audit: AuditRecord, *, lease_s: float) -> TakenCallback | None:
        return await self._database.write(
            lambda connection: inbox.replay_callback(
                connection, self._database.now(), callback_id, audit, lease_s=lease_s
            )
        )

    async def list_unresolved(self, wanted: UnresolvedFilter, *, after: Place, limit: int) -> UnresolvedPage:
        return await self._database.read(
            lambda connection: unresolved.list_unresolved(
                connection, self._database.now(), wanted, after=after, limit=limit
            )
        )

    async def get_command(self, tenant_id: str, command_id: str) -> Command | None:
        return await self._database.read(lambda connection: resolving.get_command(connection, tenant_id, command_id))

    async def take_operation(self, operation: Operation, *, lease_s: float) -> tuple[Operation | None, int]:
        return await self._database.write(
            lambda connection: resolving.take_operation(connection, self._database.now(), operation, lease_s=lease_s)
        )

    async def movement_holder(
        self, tenant_id: str, account_id: str, kind: MovementKind, provider_movement_id: str
    ) -> str:
        return await self._database.read(
            lambda connection: resolving.movement_holder(connection, tenant_id, account_id, kind, provider_movement_id)
        )

    async def propose(self, proposal: Proposal, audit: AuditRecord) -> Proposal:
        return await self._database.write(
            lambda connection: resolving.propose(connection, self._database.now(), proposal, audit)
        )

    async def latest_proposal(self, tenant_id: str, command_id: str) -> tuple[Proposal | None, int]:
        return await self._database.read(
            lambda connection: resolving.latest_proposal(connection, self._database.now(), tenant_id, command_id)
        )

    async def get_proposal(self, tenant_id: str, proposal_id: str) -> tuple[Proposal, Approval | None] | None:
        return await self._database.read(lambda connection: resolving.get_proposal(connection, tenant_id, proposal_id))

    async def raise_alarms(
        self, record: Callable[[Operation], AuditRecord], *, older_than_s: float, limit: int
    ) -> Sequence[Operation]:
        return await self._database.write(
            lambda connection: unresolved.raise_alarms(
                connection, self._database.now(), record, older_than_s=older_than_s, limit=limit
            )
        )

    async def payment_file(self, tenant_id: str, payment_id: str, *, limit: int) -> PaymentFile:
        return await self._database.read(
            lambda connection: explaining.payment_file(connection, tenant_id, payment_id, limit=limit)
        )

    async def list_audit(self, wanted: AuditFilter, *, position: str, limit: int) -> AuditPage:
        return await self._database.read(
            lambda connection: auditing.list_audit(connection, wanted, position=position, limit=limit)
        )
