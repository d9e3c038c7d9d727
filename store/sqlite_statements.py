# Statements are spelled from our own tables and constants; every value is a parameter.
# ruff: noqa: S608
"""The text of claim, settle and the inbox on SQLite: short statements with named parameters, run by the one writer.

Nothing else writes meanwhile, so a guard is the WHERE of the first UPDATE, and its row count the answer. Where a later
statement finds that the unit must not stand, the unit is rolled back to its savepoint.
"""

from sqlalchemy import LargeBinary, Table

from gateway.domain.states import FINAL_COMMAND_STATES
from gateway.domain.storage import COMMANDS_PER_PAYMENT_MAX
from store import operating_tables, tables
from store.hot import SETTLED_OPERATION_COLUMNS
from store.rows import DERIVED_COLUMNS
from store.sends import (
    STATE_TAKEN_UP,
    TAKEN_UP_STATES,
    begun_before_restore,
    held,
    lost,
    lost_at,
    lost_of,
    unlooked,
    unread,
    why_held,
)
from store.spelling import columns_of, named_assignments, named_insert, named_insert_where, replacing
from store.tables import LIVE_OPERATION, ORDER_GIVEN_UP_STATES, among

_GUARD = """
WHERE tenant_id = :tenant_id AND payment_id = :payment_id
  AND (:expected_version IS NULL OR version = :expected_version)
  AND (:exclusive IS NULL OR busy_command_id IS NULL)
  AND (:capture = 0 OR authorized_open_minor - captured_minor - capture_pending_minor
      - reserved_capture_minor >= :capture)
  AND (:refund = 0 OR captured_minor - refunded_minor - reserved_refund_minor - disputed_minor >= :refund)
"""
_MAY_SEND = f"AND NOT {held(':sending_account')} AND NOT {unread('payments')}"

_TOUCH_PAYMENT = """
UPDATE payments SET version = version + 1, updated_time_us = max(updated_time_us, :now_us),
  busy_command_id = coalesce(:exclusive, busy_command_id),
  reserved_capture_minor = reserved_capture_minor + :capture, reserved_refund_minor = reserved_refund_minor + :refund,
"""

_ORDER_OF_CREATE = "CASE WHEN :kind = 'CREATE' THEN payments.unique_order_reference END"

INSERT_PAYMENT = named_insert_where(
    tables.payments,
    f"NOT {held(':account_id')} AND NOT {lost(':tenant_id', ':operation_id', ':unique_order_reference')} "
    f"AND NOT {unlooked(':restores_known')}",
    "ON CONFLICT DO NOTHING",
)
"""No row: the payment's order, or its id, is taken; or a restore from backup forbids it."""

INSERT_COMMAND = named_insert(tables.commands, "ON CONFLICT DO NOTHING")
INSERT_OPERATION = named_insert(tables.operations)
INSERT_REFUND = named_insert(tables.refunds)
PUT_REFUND = named_insert(tables.refunds, replacing(tables.refunds))
INSERT_HISTORY = named_insert(tables.history)

TOUCH_PAYMENT = (
    f"{_TOUCH_PAYMENT} command_count = command_count + 1 {_GUARD} {_MAY_SEND} "
    f"AND command_count < {COMMANDS_PER_PAYMENT_MAX} AND NOT {lost(':tenant_id', ':operation_id', 'NULL')} "
    "RETURNING version"
)
TOUCH_PAYMENT_AGAIN = (
    f"{_TOUCH_PAYMENT} provider = coalesce(:provider, provider), account_id = coalesce(:account_id, account_id), "
    f"route = coalesce(:route, route) {_GUARD} {_MAY_SEND} AND NOT "
    # It keeps its id wherever it is tried: what a restore has forgotten of it may be at any account.
    f"{lost(':tenant_id', ':operation_id', _ORDER_OF_CREATE)} "
    f"AND NOT (:kind = 'CREATE' AND {lost_of(':tenant_id', ':payment_id')}) RETURNING version"
)
TOUCH_PAYMENT_MOVED = (
    # The object that the payment had is another account's now.
    f"{_TOUCH_PAYMENT} provider = :provider, account_id = :account_id, route = :route, provider_payment_id = NULL, "
    f"failover_due_us = NULL {_GUARD} {_MAY_SEND} AND NOT "
    f"{lost(':tenant_id', ':operation_id', 'payments.unique_order_reference')} "
    f"AND NOT {begun_before_restore(':tenant_id', ':payment_id', ':command_id')} RETURNING version"
)
TOUCH_PAYMENT_TAKEN_UP = (
    f"{_TOUCH_PAYMENT} provider = :provider, account_id = :account_id, route = :route, provider_payment_id = NULL, "
    f"failover_due_us = NULL {_GUARD} {_MAY_SEND} AND "
    f"{lost_at(':tenant_id', ':operation_id', ':account_id')} RETURNING version"
)
TAKE_COMMAND_UP = f"""
UPDATE commands SET state = {STATE_TAKEN_UP}
WHERE tenant_id = :tenant_id AND command_id = :command_id AND payment_id = :payment_id
  AND state IN ({", ".join(f"'{state}'" for state in TAKEN_UP_STATES)}) RETURNING 1
"""
FIND_SENDING = """
SELECT 1 FROM commands WHERE tenant_id = :tenant_id AND command_id = :command_id AND payment_id = :payment_id
  AND state = 'SENDING'
"""

REOPEN_COMMAND = """
UPDATE commands SET state = 'SENDING' WHERE tenant_id = :tenant_id AND command_id = :command_id AND rpc = :rpc
  AND idempotency_key = :idempotency_key AND request_hash = :request_hash AND payment_id = :payment_id
  AND state = 'NOT_SENT'
"""
_REOPENED = columns_of(tables.operations, {"tenant_id", "operation_id", "command_id", "payment_id", "epoch"})
REOPEN_OPERATION = (
    f"UPDATE operations SET {named_assignments(_REOPENED)}, epoch = epoch + 1 WHERE tenant_id = :tenant_id "
    "AND operation_id = :operation_id AND command_id = :command_id AND state = 'NOT_SENT' RETURNING epoch"
)

SETTLE_PAYMENT = (
    f"UPDATE payments SET {named_assignments(DERIVED_COLUMNS)}, unique_order_reference = "
    f"CASE WHEN {among(':state', ORDER_GIVEN_UP_STATES)} THEN NULL ELSE unique_order_reference END "
    "WHERE tenant_id = :tenant_id AND payment_id = :payment_id AND version = :expected_version"
)
_SETTLED_OPERATION = ("next_attempt_us", *(name for name in SETTLED_OPERATION_COLUMNS if name != "last_send_us"))
SETTLE_OPERATION = (
    # The last possible send never moves back: what absence means is counted from it.
    f"UPDATE operations SET {named_assignments(_SETTLED_OPERATION)}, lease_until_us = NULL, last_send_us = "
    "coalesce(max(last_send_us, :last_send_us), last_send_us, :last_send_us) WHERE "
    "tenant_id = :tenant_id AND operation_id = :operation_id AND payment_id = :payment_id AND epoch = :expected_epoch"
)
SETTLE_COMMAND = (
    "UPDATE commands SET state = :state, reply = CASE WHEN expired THEN NULL ELSE coalesce(reply, :reply) END, "
    f"final_time_us = coalesce(final_time_us, CASE WHEN {among(':state', FINAL_COMMAND_STATES)} THEN :now_us END) "
    "WHERE tenant_id = :tenant_id AND command_id = :command_id AND payment_id = :payment_id"
)
SETTLE_CALLBACK = (
    "UPDATE callbacks SET state = :state, note = :note, tenant_id = :tenant_id, payment_id = :payment_id, "
    "lease_until_us = NULL, next_attempt_us = :next_attempt_us "
    "WHERE callback_id = :callback_id AND epoch = :expected_epoch"
)
PUT_MOVEMENT = named_insert(tables.movements, replacing(tables.movements))
INSERT_OBSERVATION = named_insert(tables.observations)
NUMBER_OBSERVATION = (
    # The rowid of a new row is the largest so far plus one: with one writer and no deletes, without a gap.
    "INSERT INTO observation_log (tenant_id, observation_id, numbered_time_us) VALUES (?, ?, ?)"
)
INSERT_AUDIT = named_insert(tables.audit)
INSERT_APPROVAL = named_insert(operating_tables.approvals)
INSERT_CALLBACK = named_insert(tables.callbacks, "ON CONFLICT (provider, account_id, event_id) DO NOTHING")

FIND_KEY = "SELECT state FROM commands WHERE tenant_id = ? AND rpc = ? AND idempotency_key = ?"
WHY_HELD = why_held(
    *(":account_id", ":tenant_id", ":payment_id", ":operation_id", ":order", ":tried_again", ":restores_known")
)
FIND_ORDER = "SELECT payment_id FROM payments WHERE tenant_id = ? AND unique_order_reference = ?"
FIND_COMMAND = (
    f"SELECT {', '.join(columns_of(tables.commands))} FROM commands "
    "WHERE tenant_id = ? AND rpc = ? AND idempotency_key = ?"
)


def json_object(table: Table, alias: str) -> str:
    """A row of `table` as JSON; bytes become hex behind `\\x`, as PostgreSQL writes them."""
    members = (
        f"'{column.name}', "
        + (
            rf"iif({alias}.{column.name} IS NULL, NULL, '\x' || hex({alias}.{column.name}))"
            if isinstance(column.type, LargeBinary)
            else f"{alias}.{column.name}"
        )
        for column in table.columns
    )
    return f"json_object({', '.join(members)})"


def _aggregate(*relations: Table) -> str:
    """A payment and its rows in `relations` as one document: a single SELECT sees one moment."""
    members = ", ".join(
        f"'{table.name}', (SELECT json_group_array({json_object(table, 'r')}) FROM {table.name} r "
        "WHERE r.tenant_id = p.tenant_id AND r.payment_id = p.payment_id)"
        for table in relations
    )
    return (
        f"SELECT json_object('payment', {json_object(tables.payments, 'p')}, {members}) FROM payments p "
        "WHERE p.tenant_id = ? AND p.payment_id = ?"
    )


GET_PAYMENT = _aggregate(tables.movements)
LOAD = _aggregate(tables.movements, tables.commands, tables.operations, tables.refunds)

FIND_DUE = (
    f"SELECT tenant_id, operation_id FROM operations WHERE {LIVE_OPERATION} AND next_attempt_us <= :now_us "
    "AND (lease_until_us IS NULL OR lease_until_us < :now_us) "
    "AND account_id NOT IN (SELECT value FROM json_each(:except_accounts)) ORDER BY next_attempt_us LIMIT :limit"
)
TAKE_DUE = (
    "UPDATE operations SET epoch = epoch + 1, recoveries = recoveries + 1, lease_until_us = :lease_until_us, "
    "next_attempt_us = :lease_until_us WHERE tenant_id = :tenant_id AND operation_id = :operation_id "
    f"RETURNING {', '.join(columns_of(tables.operations))}"
)
