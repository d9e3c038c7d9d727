"""The store's part of `gateway.domain.reconciliation.Oversight`: each method is one unit."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection

from gateway.domain.commands import Caller
from gateway.domain.lost import LostPayment, LostProposal, LostSettlement
from gateway.domain.payments import Payment
from gateway.domain.reconciliation import (
    Break,
    EventCursor,
    OurRecord,
    Reconciliation,
    ReconciliationFilter,
    Restore,
    Standing,
    Step,
    Wanted,
)
from gateway.domain.storage import AuditRecord
from store import breaks, event_cursors, lost, reconciling, restoring, windows
from store.database import Database


class DurableOversight:
    """Implements the port over units of work; `DurableStore` is one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def want_reconciliation(self, wanted: Wanted, audit: AuditRecord) -> tuple[Reconciliation, bool]:
        return await self._database.write(
            lambda connection: reconciling.want(connection, self._database.now(), wanted, audit)
        )

    async def get_reconciliation(self, reconciliation_id: str) -> Reconciliation | None:
        return await self._database.read(lambda connection: reconciling.get(connection, reconciliation_id))

    async def list_reconciliations(
        self, wanted: ReconciliationFilter, *, before_reconciliation_id: str, limit: int
    ) -> Sequence[Reconciliation]:
        return await self._database.read(
            lambda connection: reconciling.list_jobs(
                connection, wanted, before_reconciliation_id=before_reconciliation_id, limit=limit
            )
        )

    async def list_breaks(self, reconciliation_id: str, *, after_number: int, limit: int) -> Sequence[Break]:
        return await self._database.read(
            lambda connection: breaks.list_breaks(connection, reconciliation_id, after_number=after_number, limit=limit)
        )

    async def take_reconciliation(self, *, lease_s: float) -> Reconciliation | None:
        return await self._database.write(
            lambda connection: reconciling.take(connection, self._database.now(), restoring.current, lease_s=lease_s)
        )

    async def note_breaks(self, job: Reconciliation, breaks: Sequence[Break]) -> bool:
        return await self._database.write(
            lambda connection: reconciling.note_breaks(connection, self._database.now(), job, breaks)
        )

    async def take_step(self, job: Reconciliation, step: Step, *, lease_s: float) -> Reconciliation | None:
        return await self._database.write(
            lambda connection: reconciling.take_step(connection, self._database.now(), job, step, lease_s=lease_s)
        )

    async def pause_reconciliation(self, job: Reconciliation, *, next_attempt_s: float, postponed: bool) -> bool:
        return await self._database.write(
            lambda connection: reconciling.pause(
                connection, self._database.now(), job, next_attempt_s=next_attempt_s, postponed=postponed
            )
        )

    async def end_reconciliation(self, job: Reconciliation, *, failure: str, quiet_s: float) -> bool:
        def unit(connection: Connection) -> bool:
            now = self._database.now()
            ended = reconciling.end(connection, now, job, failure=failure)
            if ended and not failure:
                restoring.grant(connection, now, job, quiet_s=quiet_s)
            return ended

        return await self._database.write(unit)

    async def restore_quiet_in_s(self, account_id: str, *, quiet_s: float) -> float:
        return await self._database.read(
            lambda connection: restoring.quiet_in_s(connection, self._database.now(), account_id, quiet_s=quiet_s)
        )

    async def list_window(
        self, job: Reconciliation, *, after: tuple[str, str], limit: int, stuck_s: float
    ) -> Sequence[OurRecord]:
        return await self._database.read(
            lambda connection: windows.list_window(
                connection, self._database.now(), job, after=after, limit=limit, stuck_s=stuck_s
            )
        )

    async def seen_before(self, job: Reconciliation, provider_payment_ids: Sequence[str]) -> Collection[str]:
        return await self._database.read(lambda connection: windows.seen_before(connection, job, provider_payment_ids))

    async def get_payments(self, keys: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Payment]:
        return await self._database.read(lambda connection: windows.get_payments(connection, keys))

    async def has_contradiction(self, tenant_id: str, payment_id: str, detail: str) -> bool:
        return await self._database.read(
            lambda connection: windows.has_contradiction(connection, tenant_id, payment_id, detail)
        )

    async def standings(self) -> Sequence[Standing]:
        return await self._database.read(lambda connection: reconciling.standings(connection, self._database.now()))

    async def take_event_cursor(
        self, account_ids: Collection[str], *, lease_s: float, first_s: float, poll_s: float
    ) -> EventCursor | None:
        return await self._database.write(
            lambda connection: event_cursors.take(
                connection, self._database.now(), account_ids, lease_s=lease_s, first_s=first_s, poll_s=poll_s
            )
        )

    async def unknown_events(self, provider: str, account_id: str, event_ids: Sequence[str]) -> Sequence[str]:
        return await self._database.read(
            lambda connection: event_cursors.unknown(connection, provider, account_id, event_ids)
        )

    async def move_event_cursor(
        self, cursor: EventCursor, *, after_event_id: str, last_event_time_us: int, next_attempt_s: float
    ) -> bool:
        return await self._database.write(
            lambda connection: event_cursors.move(
                connection,
                self._database.now(),
                cursor,
                after_event_id=after_event_id,
                last_event_time_us=last_event_time_us,
                next_attempt_s=next_attempt_s,
            )
        )

    async def raise_generation(
        self, *, backup_time_us: int, stopped_time_us: int | None, actor: str, reason: str
    ) -> Restore:
        return await self._database.write(
            lambda connection: restoring.raise_generation(
                connection,
                self._database.now(),
                backup_time_us=backup_time_us,
                stopped_time_us=stopped_time_us,
                actor=actor,
                reason=reason,
            )
        )

    async def release_account(self, account_id: str, *, actor: str, reason: str) -> int:
        return await self._database.write(
            lambda connection: restoring.release_account(
                connection, self._database.now(), account_id, actor=actor, reason=reason
            )
        )

    async def restores(self, account_ids: Sequence[str]) -> Sequence[Restore]:
        return await self._database.read(lambda connection: restoring.list_restores(connection, account_ids))

    async def generation(self) -> int:
        return await self._database.read(restoring.generation)

    async def declared_since(self, time_us: int) -> bool:
        return await self._database.read(lambda connection: restoring.declared_since(connection, time_us))

    async def restore_pending(self, account_id: str) -> bool:
        return await self._database.read(lambda connection: restoring.is_pending(connection, account_id))

    async def has_lost(self, tenant_id: str, payment_id: str) -> bool:
        return await self._database.read(lambda connection: lost.has_lost(connection, tenant_id, payment_id))

    async def mark_read(self, tenant_id: str, payment_id: str, *, generation: int) -> None:
        await self._database.write(
            lambda connection: restoring.mark_read(connection, tenant_id, payment_id, generation=generation)
        )

    async def list_lost(
        self, tenant_id: str, *, after: tuple[str, str], limit: int, with_settled: bool
    ) -> Sequence[LostPayment]:
        return await self._database.read(
            lambda connection: lost.list_lost(
                connection, tenant_id, after=after, limit=limit, with_settled=with_settled
            )
        )

    async def get_lost(self, tenant_id: str, payment_id: str) -> LostPayment | None:
        return await self._database.read(lambda connection: lost.get_lost(connection, tenant_id, payment_id))

    async def lost_by(self, tenant_id: str, operation_id: str, order_reference: str) -> LostPayment | None:
        return await self._database.read(
            lambda connection: lost.lost_by(connection, tenant_id, operation_id, order_reference)
        )

    async def lost_steps(self, tenant_id: str, operation_ids: Sequence[str]) -> Mapping[str, tuple[str, str]]:
        return await self._database.read(lambda connection: lost.lost_steps(connection, tenant_id, operation_ids))

    async def propose_lost(self, proposal: LostProposal, audit: AuditRecord) -> LostProposal:
        return await self._database.write(
            lambda connection: lost.propose_lost(connection, self._database.now(), proposal, audit)
        )

    async def settle_lost(
        self, proposal: LostProposal, caller: Caller, reason: str, audit: AuditRecord
    ) -> LostSettlement | None:
        return await self._database.write(
            lambda connection: lost.settle_lost(connection, self._database.now(), proposal, caller, reason, audit)
        )
