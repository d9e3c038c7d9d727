"""The hot path on PostgreSQL: one statement, one round trip and one commit each, past SQLAlchemy."""

import json
from collections.abc import Sequence
from typing import Any

import asyncpg

from gateway.domain.commands import Command
from gateway.domain.errors import Internal
from gateway.domain.payments import Payment
from gateway.domain.storage import (
    Aggregate,
    AuditRecord,
    Callback,
    CallbackChange,
    Claim,
    Claimed,
    ClaimOutcome,
    Due,
    Settlement,
    SettleOutcome,
    TakenCallback,
)
from store import postgresql_claims as claims
from store import postgresql_inbox as inbox
from store import postgresql_statements as statements
from store.hot import (
    aggregate_from,
    changed_callback_row,
    claim_rows,
    due_from,
    exclusive_command,
    held_by,
    microseconds,
    reserving,
    settled_parts,
    why_not,
)
from store.inbox import taken_callbacks_from
from store.postgresql_database import PostgresqlDatabase
from store.postgresql_parts import ROWS_APART_MAX
from store.records import audit_row, callback_row
from store.rows import command_from, payment_from

ORDER_TRIES_MAX = 3


class PostgresqlHot:
    """Claims and settles, and the reads between them."""

    def __init__(self, database: PostgresqlDatabase) -> None:
        self._database = database
        self._is_careful = False
        """Whether claims ask for all that a restore forbids: once there was a caution. Costs time, decides nothing."""

    async def claim(self, claim: Claim) -> Claimed:
        for _ in range(ORDER_TRIES_MAX):
            try:
                rows = await self._send_claim(claim)
            except Internal as defect:
                if not _order_is_taken(defect):
                    raise
                # The statement was undone as a whole. A holder that has given up meanwhile leaves the order free again.
                holder = await self._order_holder(claim)
                if holder:
                    return Claimed(ClaimOutcome.ORDER_TAKEN, holder_payment_id=holder)
                continue
            if rows:
                return _claimed(claim, rows[0])
            was_careful = self._is_careful
            outcome = await self._why_not(claim)
            if outcome is not ClaimOutcome.REFUSED or was_careful or not self._is_careful:
                return Claimed(outcome)
            # Refused for a caution that has nothing to do with it, perhaps: the careful statement knows.
        return Claimed(ClaimOutcome.REFUSED)

    async def settle(self, settlement: Settlement) -> SettleOutcome:
        parts = settled_parts(settlement)
        payment = settlement.payment
        given: list[Any] = [payment.tenant_id, payment.payment_id, settlement.expected_version]
        given.append([change.operation.operation_id for change in settlement.operations])
        given += statements.DERIVED.values(parts["payment"])
        given += statements.SETTLED_HISTORY.values(parts["history"][0])
        shape = []
        for name, part in statements.SETTLED.items():
            rows = parts.get(name, ())
            shape.append(min(len(rows), ROWS_APART_MAX + 1))
            if rows:
                given += part.arguments(rows)
        rows = await self._database.fetch(statements.settle(tuple(shape)), given)
        return SettleOutcome.APPLIED if rows else SettleOutcome.STALE

    async def receive_callback(self, callback: Callback, audit: AuditRecord) -> bool:
        given = (*inbox.CALLBACK.values(callback_row(callback)), *inbox.AUDIT.values(audit_row(audit)))
        return bool(await self._database.fetch(inbox.RECEIVE_CALLBACK, given))

    async def take_callbacks(
        self, *, limit: int, lease_s: float, except_accounts: Sequence[str]
    ) -> Sequence[TakenCallback]:
        given = (limit, microseconds(lease_s), list(except_accounts))
        return taken_callbacks_from(await self._database.fetch(inbox.TAKE_CALLBACKS, given))

    async def change_callback(self, change: CallbackChange, audit: Sequence[AuditRecord]) -> bool:
        given = list(inbox.CHANGE.values(changed_callback_row(change)))
        if audit:
            given += inbox.AUDIT.arguments([audit_row(record) for record in audit])
        statement = inbox.change_callback(min(len(audit), ROWS_APART_MAX + 1))
        return bool(await self._database.fetch(statement, given))

    async def find_command(self, tenant_id: str, rpc: str, idempotency_key: str) -> Command | None:
        rows = await self._database.fetch(statements.FIND_COMMAND, (tenant_id, rpc, idempotency_key))
        return command_from(rows[0]) if rows else None

    async def get_payment(self, tenant_id: str, payment_id: str) -> Payment | None:
        rows = await self._database.fetch(statements.GET_PAYMENT, (tenant_id, payment_id))
        if not rows:
            return None
        found = json.loads(rows[0]["found"])
        return payment_from(found["payment"], found["movements"])

    async def load(self, tenant_id: str, payment_id: str) -> Aggregate | None:
        rows = await self._database.fetch(statements.LOAD, (tenant_id, payment_id))
        return aggregate_from(json.loads(rows[0]["found"])) if rows else None

    async def take_due(self, *, limit: int, lease_s: float, except_accounts: Sequence[str]) -> Due:
        rows = await self._database.fetch(statements.TAKE_DUE, (limit, microseconds(lease_s), list(except_accounts)))
        operations = [json.loads(row["operation"]) for row in rows if row["operation"] is not None]
        return due_from(operations, rows[0]["now_us"])

    async def _send_claim(self, claim: Claim) -> list[asyncpg.Record]:
        rows, careful = claim_rows(claim), self._is_careful
        refund, payment = rows.get("refund"), rows.get("payment")
        given: list[Any] = [microseconds(claim.lease_s), microseconds(claim.send_window_s)]
        if payment is not None and not (claim.reopen or claim.next_step):
            given += (claim.restores_known,) if careful else ()
            given += claims.FIRST_OPERATION.values(rows["operation"])
            given += claims.COMMAND.values(rows["command"])
            given += claims.PAYMENT.values(payment)
            statement = claims.claim_new_payment(refund=refund is not None, careful=careful)
        else:
            command = claim.command
            given += (command.caller.tenant_id, command.payment_id, claim.expected_version)
            given += (exclusive_command(command), *reserving(claim.operation))
            if claim.reopen:
                given += claims.AGAIN.values(rows["operation"])
                given += claims.ATTEMPT.values(rows["command"])
                statement = claims.claim_again(refund=refund is not None, routed=payment is not None, careful=careful)
            elif claim.next_step:
                given += claims.OPERATION.values(rows["operation"])
                statement = claims.claim_next_step(careful=careful, took_effect=claim.took_effect)
            else:
                given += claims.OPERATION.values(rows["operation"])
                given += claims.FURTHER.values(rows["command"])
                statement = claims.claim_existing_payment(refund=refund is not None, careful=careful)
        given += claims.HISTORY.values(rows["history"])
        if refund is not None:
            given += claims.REFUND.values(refund)
        if (claim.reopen or claim.next_step) and payment is not None:
            given += claims.ROUTE.values(payment)
        return await self._database.fetch(statement, given)

    async def _why_not(self, claim: Claim) -> ClaimOutcome:
        """A claim found its guard or its key against it: a new statement sees which, the key first."""
        command = claim.command
        rows = await self._database.fetch(
            statements.FIND_KEY, (command.caller.tenant_id, command.rpc, command.idempotency_key)
        )
        outcome = why_not(claim, rows[0]["state"] if rows else None)
        return outcome if outcome is not ClaimOutcome.REFUSED else await self._why_held(claim)

    async def _why_held(self, claim: Claim) -> ClaimOutcome:
        """REFUSED, or what a restore has to do with it."""
        operation = claim.operation
        whom = (operation.account_id, operation.tenant_id, operation.payment_id, *held_by(claim))
        for held, is_there in await self._database.fetch(statements.WHY_HELD, whom):
            self._is_careful = self._is_careful or is_there
            if held is not None:
                return ClaimOutcome(held)
        return ClaimOutcome.REFUSED

    async def _order_holder(self, claim: Claim) -> str:
        assert claim.payment is not None
        rows = await self._database.fetch(
            statements.FIND_ORDER, (claim.payment.tenant_id, claim.payment.terms.order_reference)
        )
        return rows[0]["payment_id"] if rows else ""


def _claimed(claim: Claim, row: asyncpg.Record) -> Claimed:
    now_us = row["now_us"]
    return Claimed(
        ClaimOutcome.CLAIMED,
        version=row["version"],
        epoch=row["epoch"],
        claimed_time_us=now_us,
        lease_until_us=now_us + microseconds(claim.lease_s),
        last_send_us=now_us + microseconds(claim.send_window_s),
    )


def _order_is_taken(defect: Internal) -> bool:
    cause = defect.__cause__
    return isinstance(cause, asyncpg.UniqueViolationError) and cause.constraint_name == "uq_payments_order"
