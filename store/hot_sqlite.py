"""The hot path on SQLite: prebuilt statements on the writer thread, and reads in one hop each."""

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.domain.commands import Command
from gateway.domain.errors import Internal, Reason
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
from store import inbox, tables
from store import sqlite_statements as statements
from store.hot import (
    aggregate_from,
    claim_rows,
    due_from,
    exclusive_command,
    held_by,
    microseconds,
    reserving,
    settled_parts,
    why_not,
)
from store.records import audit_row, callback_row
from store.routes import route_document
from store.rows import command_from, payment_from
from store.spelling import columns_of
from store.sqlite_database import SqliteDatabase
from store.sqlite_writer import UndoneError
from store.values import Row

_COMMAND_COLUMNS = tuple(columns_of(tables.commands))
_OPERATION_COLUMNS = tuple(columns_of(tables.operations))


class SqliteHot:
    """Claims and settles, and the reads between them."""

    def __init__(self, database: SqliteDatabase, *, announce: Callable[[int], None]) -> None:
        """`announce` hears the last number of each settle that committed."""
        self._database = database
        self._announce = announce
        self._clock_us = database.clock_us

    async def claim(self, claim: Claim) -> Claimed:
        rows = claim_rows(claim)
        return await self._database.write_hot(lambda driver: self._claim(driver, claim, rows))

    async def settle(self, settlement: Settlement) -> SettleOutcome:
        parts = settled_parts(settlement)
        outcome, last = await self._database.write_hot(lambda driver: self._settle(driver, settlement, parts))
        self._announce(last)
        return outcome

    async def receive_callback(self, callback: Callback, audit: AuditRecord) -> bool:
        row, record = callback_row(callback), audit_row(audit)

        def receive(driver: sqlite3.Connection) -> bool:
            now_us = self._clock_us()
            if not _changed(driver, statements.INSERT_CALLBACK, row | {"next_attempt_us": now_us}):
                return False
            driver.execute(statements.INSERT_AUDIT, record | {"recorded_time_us": now_us})
            return True

        return await self._database.write_hot(receive)

    async def take_callbacks(
        self, *, limit: int, lease_s: float, except_accounts: Sequence[str]
    ) -> Sequence[TakenCallback]:
        database = self._database
        return await database.write(
            lambda connection: inbox.take_callbacks(
                connection, database.now(), limit=limit, lease_s=lease_s, except_accounts=except_accounts
            )
        )

    async def change_callback(self, change: CallbackChange, audit: Sequence[AuditRecord]) -> bool:
        database = self._database
        return await database.write(lambda connection: inbox.change_callback(connection, database.now(), change, audit))

    async def find_command(self, tenant_id: str, rpc: str, idempotency_key: str) -> Command | None:
        rows = await self._database.fetch(statements.FIND_COMMAND, (tenant_id, rpc, idempotency_key))
        return command_from(dict(zip(_COMMAND_COLUMNS, rows[0], strict=True))) if rows else None

    async def get_payment(self, tenant_id: str, payment_id: str) -> Payment | None:
        rows = await self._database.fetch(statements.GET_PAYMENT, (tenant_id, payment_id))
        if not rows:
            return None
        found = json.loads(rows[0][0])
        return payment_from(found["payment"], found["movements"])

    async def load(self, tenant_id: str, payment_id: str) -> Aggregate | None:
        rows = await self._database.fetch(statements.LOAD, (tenant_id, payment_id))
        return aggregate_from(json.loads(rows[0][0])) if rows else None

    async def take_due(self, *, limit: int, lease_s: float, except_accounts: Sequence[str]) -> Due:
        full = json.dumps(list(except_accounts))

        def take(driver: sqlite3.Connection) -> Due:
            now_us = self._clock_us()
            times = {"now_us": now_us, "lease_until_us": now_us + microseconds(lease_s), "limit": limit}
            found = driver.execute(statements.FIND_DUE, times | {"except_accounts": full}).fetchall()
            taken: list[Row] = []
            for tenant_id, operation_id in found:
                key = times | {"tenant_id": tenant_id, "operation_id": operation_id}
                values = driver.execute(statements.TAKE_DUE, key).fetchone()
                taken.append(dict(zip(_OPERATION_COLUMNS, values, strict=True)))
            return due_from(taken, now_us)

        return await self._database.write_hot(take)

    def _claim(self, driver: sqlite3.Connection, claim: Claim, rows: dict[str, Row]) -> Claimed:
        now_us = self._clock_us()
        claimed = Claimed(
            ClaimOutcome.CLAIMED,
            version=1,
            epoch=1,
            claimed_time_us=now_us,
            lease_until_us=now_us + microseconds(claim.lease_s),
            last_send_us=now_us + microseconds(claim.send_window_s),
        )
        lease = {
            "claimed_time_us": now_us,
            "lease_until_us": claimed.lease_until_us,
            "next_attempt_us": claimed.lease_until_us,
            "last_send_us": claimed.last_send_us,
        }
        operation = rows["operation"] | lease | {"epoch": 1}
        if claim.payment is not None and not (claim.reopen or claim.next_step):
            row = rows["payment"] | {"version": 1, "operation_id": claim.operation.operation_id}
            row["restores_known"] = claim.restores_known
            if not _changed(driver, statements.INSERT_PAYMENT, row):
                return self._not_inserted(driver, claim)
        else:
            version = self._touch(driver, claim, now_us)
            if version is None:
                return Claimed(self._why_not(driver, claim))
            claimed = replace(claimed, version=version)
        if claim.reopen:
            claimed = replace(claimed, epoch=self._reopen(driver, claim, rows, operation))
        elif claim.next_step:
            goes_on = statements.TAKE_COMMAND_UP if claim.took_effect else statements.FIND_SENDING
            if _value(driver.execute(goes_on, rows["command"])) is None:
                raise UndoneError(Claimed(ClaimOutcome.REFUSED))
            driver.execute(statements.INSERT_OPERATION, operation)
        else:
            if not _changed(driver, statements.INSERT_COMMAND, rows["command"]):
                raise UndoneError(Claimed(ClaimOutcome.KEY_TAKEN))
            driver.execute(statements.INSERT_OPERATION, operation)
        if "refund" in rows:
            driver.execute(statements.PUT_REFUND if claim.reopen else statements.INSERT_REFUND, rows["refund"])
        history = rows["history"] | {"version": claimed.version, "recorded_time_us": now_us}
        driver.execute(statements.INSERT_HISTORY, history)
        return claimed

    def _not_inserted(self, driver: sqlite3.Connection, claim: Claim) -> Claimed:
        """A new payment met a taken key, or a taken order; nothing is written yet. The key comes first."""
        if self._key_state(driver, claim) is not None:
            return Claimed(ClaimOutcome.KEY_TAKEN)
        held = self._why_held(driver, claim)
        if held is not ClaimOutcome.REFUSED:
            return Claimed(held)
        assert claim.payment is not None
        order = (claim.payment.tenant_id, claim.payment.terms.order_reference)
        holder = driver.execute(statements.FIND_ORDER, order).fetchone()
        if holder is None:
            raise Internal(Reason.INTERNAL, f"payment {claim.payment.payment_id} is there already")
        return Claimed(ClaimOutcome.ORDER_TAKEN, holder_payment_id=holder[0])

    def _touch(self, driver: sqlite3.Connection, claim: Claim, now_us: int) -> int | None:
        """Guard, reserve and mark the payment; its new version, None where the guard does not hold."""
        capture, refund = reserving(claim.operation)
        values = {
            "tenant_id": claim.command.caller.tenant_id,
            "payment_id": claim.command.payment_id,
            "expected_version": claim.expected_version,
            "exclusive": exclusive_command(claim.command),
            "capture": capture,
            "refund": refund,
            "sending_account": claim.operation.account_id,
            "operation_id": claim.operation.operation_id,
            "command_id": claim.command.command_id,
            "kind": claim.operation.kind.value,
            "now_us": now_us,
        }
        if not (claim.reopen or claim.next_step):
            return _value(driver.execute(statements.TOUCH_PAYMENT, values))
        moved = claim.payment
        values["provider"] = None if moved is None else moved.provider
        values["account_id"] = None if moved is None else moved.account_id
        values["route"] = None if moved is None else route_document(moved.route)
        moving = statements.TOUCH_PAYMENT_TAKEN_UP if claim.took_effect else statements.TOUCH_PAYMENT_MOVED
        touch = moving if claim.next_step else statements.TOUCH_PAYMENT_AGAIN
        return _value(driver.execute(touch, values))

    def _reopen(self, driver: sqlite3.Connection, claim: Claim, rows: dict[str, Row], operation: Row) -> int:
        """Bring command and operation back to SENDING; the new epoch. Undoes the claim where they are not NOT_SENT."""
        if _changed(driver, statements.REOPEN_COMMAND, rows["command"]):
            epoch = _value(driver.execute(statements.REOPEN_OPERATION, operation))
            if epoch is not None:
                return epoch
        raise UndoneError(Claimed(self._why_not(driver, claim)))

    def _why_not(self, driver: sqlite3.Connection, claim: Claim) -> ClaimOutcome:
        outcome = why_not(claim, self._key_state(driver, claim))
        return outcome if outcome is not ClaimOutcome.REFUSED else self._why_held(driver, claim)

    def _why_held(self, driver: sqlite3.Connection, claim: Claim) -> ClaimOutcome:
        """REFUSED, or what a restore has to do with it."""
        operation = claim.operation
        whom = {name: getattr(operation, name) for name in ("account_id", "tenant_id", "payment_id")}
        whom |= zip(("operation_id", "order", "tried_again", "restores_known"), held_by(claim), strict=True)
        found, _ = driver.execute(statements.WHY_HELD, whom).fetchone()
        return ClaimOutcome(found) if found else ClaimOutcome.REFUSED

    def _key_state(self, driver: sqlite3.Connection, claim: Claim) -> str | None:
        command = claim.command
        key = (command.caller.tenant_id, command.rpc, command.idempotency_key)
        row = driver.execute(statements.FIND_KEY, key).fetchone()
        return None if row is None else str(row[0])

    def _settle(
        self, driver: sqlite3.Connection, settlement: Settlement, parts: Mapping[str, Any]
    ) -> tuple[SettleOutcome, int]:
        """The outcome, and the last number given to an observation (0: none)."""
        now_us = self._clock_us()
        payment = settlement.payment
        last = 0
        key = {"tenant_id": payment.tenant_id, "payment_id": payment.payment_id, "now_us": now_us}
        guard = key | {"expected_version": settlement.expected_version}
        if not _changed(driver, statements.SETTLE_PAYMENT, parts["payment"] | guard):
            return SettleOutcome.STALE, 0
        for row in parts.get("operations", ()):
            timed = row | key | {"next_attempt_us": _after(now_us, row["next_attempt_in_us"])}
            if not _changed(driver, statements.SETTLE_OPERATION, timed):
                raise UndoneError((SettleOutcome.STALE, 0))
        for row in parts.get("callback", ()):
            timed = row | {"next_attempt_us": _after(now_us, row["next_attempt_in_us"])}
            if not _changed(driver, statements.SETTLE_CALLBACK, timed):
                raise UndoneError((SettleOutcome.STALE, 0))
        for row in parts.get("commands", ()):
            driver.execute(statements.SETTLE_COMMAND, row | key)
        for row in parts.get("movements", ()):
            driver.execute(statements.PUT_MOVEMENT, row)
        for row in parts.get("refunds", ()):
            driver.execute(statements.PUT_REFUND, row)
        for row in parts["history"]:
            driver.execute(statements.INSERT_HISTORY, row | {"recorded_time_us": now_us})
        for row in parts.get("observations", ()):
            driver.execute(statements.INSERT_OBSERVATION, row)
            numbered = (row["tenant_id"], row["observation_id"], now_us)
            last = driver.execute(statements.NUMBER_OBSERVATION, numbered).lastrowid or 0
        for row in parts.get("audit", ()):
            driver.execute(statements.INSERT_AUDIT, row | {"recorded_time_us": now_us})
        for row in parts.get("approval", ()):
            driver.execute(statements.INSERT_APPROVAL, row | {"approved_time_us": now_us})
        return SettleOutcome.APPLIED, last


def _changed(driver: sqlite3.Connection, statement: str, row: Mapping[str, Any]) -> bool:
    return driver.execute(statement, row).rowcount == 1


def _value(cursor: sqlite3.Cursor) -> int | None:
    """The one value of the one row, and the statement run to its end."""
    rows = cursor.fetchall()
    return int(rows[0][0]) if rows else None


def _after(now_us: int, in_us: int | None) -> int | None:
    return None if in_us is None else now_us + in_us
