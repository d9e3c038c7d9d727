"""The hot path on PostgreSQL: one statement, one round trip and one commit each, past SQLAlchemy."""

import json
from collections.abc import Mapping
from typing import Any

import asyncpg

from gateway.domain.commands import Command
from gateway.domain.errors import Internal
from gateway.domain.payments import Payment
from gateway.domain.storage import (
    Aggregate,
    AuditRecord,
    Callback,
    Claim,
    Claimed,
    ClaimOutcome,
    Due,
    Settlement,
    SettleOutcome,
)
from store import postgresql_statements as statements
from store.hot import (
    aggregate_from,
    claim_rows,
    due_from,
    exclusive_command,
    microseconds,
    reserving,
    settled_parts,
    why_not,
)
from store.postgresql_database import PostgresqlDatabase
from store.records import audit_row, callback_row
from store.rows import command_from, payment_from

ORDER_TRIES_MAX = 3

_ENCODER = json.JSONEncoder(separators=(",", ":"), default=bytes.hex)


class PostgresqlHot:
    """Claims and settles, and the reads between them."""

    def __init__(self, database: PostgresqlDatabase) -> None:
        self._database = database

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
            return Claimed(await self._why_not(claim))
        return Claimed(ClaimOutcome.REFUSED)

    async def settle(self, settlement: Settlement) -> SettleOutcome:
        parts = settled_parts(settlement)
        statement = statements.settle(frozenset(parts.keys() & set(statements.SETTLED)))
        payment = settlement.payment
        rows = await self._database.fetch(
            statement,
            (
                _document(parts),
                payment.tenant_id,
                payment.payment_id,
                settlement.expected_version,
                [change.operation.operation_id for change in settlement.operations],
            ),
        )
        return SettleOutcome.APPLIED if rows else SettleOutcome.STALE

    async def receive_callback(self, callback: Callback, audit: AuditRecord) -> bool:
        row = callback_row(callback)
        body = row.pop("body")
        document = _document({"callback": row, "audit": audit_row(audit)})
        return bool(await self._database.fetch(statements.RECEIVE_CALLBACK, (document, body)))

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

    async def take_due(self, *, limit: int, lease_s: float) -> Due:
        rows = await self._database.fetch(statements.TAKE_DUE, (limit, microseconds(lease_s)))
        operations = [json.loads(row["operation"]) for row in rows if row["operation"] is not None]
        return due_from(operations, rows[0]["now_us"])

    async def _send_claim(self, claim: Claim) -> list[asyncpg.Record]:
        refund = claim.refund is not None
        document = _document(claim_rows(claim))
        times = (microseconds(claim.lease_s), microseconds(claim.send_window_s))
        if claim.payment is not None and not (claim.reopen or claim.next_step):
            return await self._database.fetch(statements.claim_new_payment(refund=refund), (document, *times))
        command = claim.command
        guard = (
            command.caller.tenant_id,
            command.payment_id,
            claim.expected_version,
            exclusive_command(command),
            *reserving(claim.operation),
        )
        if claim.next_step:
            statement = statements.claim_next_step()
        elif claim.reopen:
            statement = statements.claim_again(refund=refund, routed=claim.payment is not None)
        else:
            statement = statements.claim_existing_payment(refund=refund)
        return await self._database.fetch(statement, (document, *times, *guard))

    async def _why_not(self, claim: Claim) -> ClaimOutcome:
        """A claim found its guard or its key against it: a new statement sees which, the key first."""
        command = claim.command
        rows = await self._database.fetch(
            statements.FIND_KEY, (command.caller.tenant_id, command.rpc, command.idempotency_key)
        )
        return why_not(claim, rows[0]["state"] if rows else None)

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


def _document(parts: Mapping[str, Any]) -> str:
    return _ENCODER.encode(parts)


def _order_is_taken(defect: Internal) -> bool:
    cause = defect.__cause__
    return isinstance(cause, asyncpg.UniqueViolationError) and cause.constraint_name == "uq_payments_order"
