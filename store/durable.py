"""The store as the port asks for it: the hot path of an engine, and units for everything else."""

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from sqlalchemy import Connection, text

from gateway.domain.commands import Caller, Command, Operation
from gateway.domain.eras import LogEnd, Turn
from gateway.domain.modes import AccountMode
from gateway.domain.observations import Observation
from gateway.domain.operating import KeptCallback
from gateway.domain.payments import Payment, Refund
from gateway.domain.storage import (
    Aggregate,
    AuditRecord,
    Callback,
    CallbackChange,
    Claim,
    Claimed,
    Consumer,
    Decision,
    DecisionOutcome,
    Due,
    HistoryEntry,
    PaymentFilter,
    Settlement,
    SettleOutcome,
    TakenCallback,
    Unresolved,
)
from store import account_modes, browsing, consumers, observing, recovery
from store.database import Database
from store.durable_oversight import DurableOversight
from store.feed import Feed
from store.hot import Hot
from store.operating import DurableOperating
from store.sealing import Sealing


class DurableStore(DurableOversight, DurableOperating):
    """Everything durable; implements `gateway.domain.storage.Store`. Safe for concurrent tasks of one event loop."""

    def __init__(
        self,
        database: Database,
        hot: Hot,
        feed: Feed,
        sealing: Sealing,
        *,
        number: Callable[[], Awaitable[int]],
        refresh: Callable[[], Awaitable[None]],
    ) -> None:
        """`number` runs the engine's sequencer once, `refresh` brings its planner's statistics up to date."""
        super().__init__(database)
        self._hot = hot
        self._feed = feed
        self._sealing = sealing
        self._number = number
        self._refresh = refresh

    @property
    def keeps_secrets(self) -> bool:
        return self._sealing.keeps_secrets

    async def claim(self, claim: Claim) -> Claimed:
        return await self._hot.claim(claim)

    async def settle(self, settlement: Settlement) -> SettleOutcome:
        return await self._hot.settle(self._sealing.settlement(settlement))

    async def find_command(self, tenant_id: str, rpc: str, idempotency_key: str) -> Command | None:
        command = await self._hot.find_command(tenant_id, rpc, idempotency_key)
        return command and self._sealing.command(command)

    async def load(self, tenant_id: str, payment_id: str) -> Aggregate | None:
        aggregate = await self._hot.load(tenant_id, payment_id)
        return aggregate and self._sealing.aggregate(aggregate)

    async def get_payment(self, tenant_id: str, payment_id: str) -> Payment | None:
        payment = await self._hot.get_payment(tenant_id, payment_id)
        return payment and self._sealing.payment(payment)

    async def find_payments(
        self, tenant_id: str, *, order_reference: str = "", account_id: str = "", provider_payment_id: str = ""
    ) -> Sequence[str]:
        return await self._database.read(
            lambda connection: browsing.find_payments(
                connection,
                tenant_id,
                order_reference=order_reference,
                account_id=account_id,
                provider_payment_id=provider_payment_id,
            )
        )

    async def list_payments(
        self, tenant_id: str, payment_filter: PaymentFilter, *, before_payment_id: str, limit: int
    ) -> Sequence[Payment]:
        listed = await self._database.read(
            lambda connection: browsing.list_payments(
                connection, tenant_id, payment_filter, before_payment_id=before_payment_id, limit=limit
            )
        )
        return [self._sealing.payment(payment) for payment in listed]

    async def get_refund(self, tenant_id: str, refund_id: str) -> Refund | None:
        return await self._database.read(lambda connection: browsing.get_refund(connection, tenant_id, refund_id))

    async def list_refunds(
        self, tenant_id: str, payment_id: str, *, before_refund_id: str, limit: int
    ) -> Sequence[Refund]:
        return await self._database.read(
            lambda connection: browsing.list_refunds(
                connection, tenant_id, payment_id, before_refund_id=before_refund_id, limit=limit
            )
        )

    async def history(
        self, tenant_id: str, payment_id: str, *, after_version: int, limit: int
    ) -> Sequence[HistoryEntry]:
        return await self._database.read(
            lambda connection: browsing.list_history(
                connection, tenant_id, payment_id, after_version=after_version, limit=limit
            )
        )

    async def take_due(self, *, limit: int, lease_s: float, except_accounts: Sequence[str] = ()) -> Due:
        return await self._hot.take_due(limit=limit, lease_s=lease_s, except_accounts=except_accounts)

    async def start_resend(self, operation: Operation, *, lease_s: float, send_window_s: float) -> Operation | None:
        return await self._database.write(
            lambda connection: recovery.start_resend(
                connection, self._database.now(), operation, lease_s=lease_s, send_window_s=send_window_s
            )
        )

    async def reschedule(self, operation: Operation, *, next_attempt_s: float, failure: str) -> bool:
        return await self._database.write(
            lambda connection: recovery.reschedule(
                connection, self._database.now(), operation, next_attempt_s=next_attempt_s, failure=failure
            )
        )

    async def append_evidence(self, operation: Operation, evidence: str, audit: AuditRecord) -> None:
        await self._database.write(
            lambda connection: recovery.append_evidence(connection, self._database.now(), operation, evidence, audit)
        )

    async def take_abandoned(self, *, limit: int, retry_s: float) -> Sequence[tuple[str, str]]:
        return await self._database.write(
            lambda connection: recovery.take_abandoned(connection, self._database.now(), limit=limit, retry_s=retry_s)
        )

    async def take_failovers(self, *, limit: int, retry_s: float) -> Sequence[tuple[str, str]]:
        return await self._database.write(
            lambda connection: recovery.take_failovers(connection, self._database.now(), limit=limit, retry_s=retry_s)
        )

    async def set_account_mode(self, mode: AccountMode, audit: AuditRecord) -> AccountMode:
        return await self._database.write(
            lambda connection: account_modes.set_mode(connection, self._database.now(), mode, audit)
        )

    async def account_modes(self) -> Sequence[AccountMode]:
        return await self._database.read(account_modes.list_modes)

    async def receive_callback(self, callback: Callback, audit: AuditRecord) -> bool:
        return await self._hot.receive_callback(self._sealing.callback(callback), audit)

    async def take_callbacks(
        self, *, limit: int, lease_s: float, except_accounts: Sequence[str] = ()
    ) -> Sequence[TakenCallback]:
        taken = await self._hot.take_callbacks(limit=limit, lease_s=lease_s, except_accounts=except_accounts)
        return [self._sealing.taken(each) for each in taken]

    async def find_callback(self, callback_id: str) -> KeptCallback | None:
        kept = await super().find_callback(callback_id)
        return kept and replace(kept, callback=self._sealing.callback_if_it_opens(kept.callback))

    async def replay_callback(self, callback_id: str, audit: AuditRecord, *, lease_s: float) -> TakenCallback | None:
        taken = await super().replay_callback(callback_id, audit, lease_s=lease_s)
        return taken and self._sealing.taken(taken)

    async def change_callback(self, change: CallbackChange, audit: Sequence[AuditRecord] = ()) -> bool:
        return await self._hot.change_callback(change, audit)

    async def number_observations(self) -> int:
        return await self._number()

    async def log_end(self) -> LogEnd:
        end = await self._database.read(observing.log_end)
        self._feed.heard_of(end)
        return end

    async def turns(self) -> Sequence[Turn]:
        return await self._database.read(observing.turns)

    async def read_observations(
        self, tenant_id: str, *, after_sequence: int, limit: int, payment_id: str = ""
    ) -> Sequence[Observation]:
        return await self._database.read(
            lambda connection: observing.read_observations(
                connection, tenant_id, after_sequence=after_sequence, limit=limit, payment_id=payment_id
            )
        )

    async def get_observation(self, tenant_id: str, observation_id: str) -> Observation | None:
        return await self._database.read(
            lambda connection: observing.get_observation(connection, tenant_id, observation_id)
        )

    async def wait_for_observations(self, after_sequence: int, *, timeout_s: float) -> None:
        await self._feed.wait(after_sequence, timeout_s)

    async def decide(
        self, caller: Caller, consumer: str, decisions: Sequence[Decision], audit: AuditRecord
    ) -> Sequence[DecisionOutcome]:
        return await self._database.write(
            lambda connection: consumers.decide(connection, self._database.now(), caller, consumer, decisions, audit)
        )

    async def ensure_consumer(self, tenant_id: str, consumer: str) -> None:
        await self._database.write(
            lambda connection: consumers.ensure_consumer(connection, self._database.now(), tenant_id, consumer)
        )

    async def get_consumer(self, tenant_id: str, consumer: str) -> Consumer | None:
        return await self._database.read(
            lambda connection: consumers.get_consumer(connection, self._database.now(), tenant_id, consumer)
        )

    async def append_audit(self, records: Sequence[AuditRecord]) -> None:
        await self._database.write(lambda connection: recovery.append_audit(connection, self._database.now(), records))

    async def expire_keys(self, *, older_than_s: float, limit: int) -> int:
        return await self._database.write(
            lambda connection: recovery.expire_keys(
                connection, self._database.now(), older_than_s=older_than_s, limit=limit
            )
        )

    async def refresh_statistics(self) -> None:
        await self._refresh()

    async def unresolved(self, *, alarmed_after_s: float = math.inf) -> Unresolved:
        return await self._database.read(
            lambda connection: recovery.unresolved(connection, self._database.now(), alarmed_after_s=alarmed_after_s)
        )

    async def undecided(self, *, older_than_s: float) -> int:
        return await self._database.read(
            lambda connection: consumers.count_undecided(connection, self._database.now(), older_than_s)
        )

    async def ping(self) -> None:
        """Answer, or raise Unavailable."""
        await self._database.read(_ping)

    async def close(self) -> None:
        await self._feed.close()
        await self._database.close()


def _ping(connection: Connection) -> None:
    connection.execute(text("SELECT 1"))
