# Statements are spelled from our own tables and constants; every value is a parameter.
# ruff: noqa: S608
"""The text of claims on PostgreSQL: a new payment, a further command, one that is tried again, a further step of one.

Built as `store.postgresql_statements` says: one statement each, whose guard is its first CTE.
"""

from functools import lru_cache

from gateway.domain.storage import COMMANDS_PER_PAYMENT_MAX
from store import tables
from store.postgresql_database import NOW_US
from store.postgresql_parts import KEYS, SHAPES_MAX, Part
from store.rows import SUMS
from store.sends import (
    CAUTION,
    STATE_TAKEN_UP,
    TAKEN_UP_STATES,
    begun_before_restore,
    held,
    lost,
    lost_at,
    lost_of,
    unlooked,
    unread,
)
from store.spelling import Slots, assigned, columns_of, insert_from, replacing, statement

# The first parameters of every claim: $1 lease and $2 send window in microseconds. For an existing payment also $3
# tenant, $4 payment, $5 expected version or NULL, $6 the exclusive command or NULL, and the amounts to reserve: $7 of a
# capture, $8 of a refund.
_CLAIM_SLOTS = ("bigint", "bigint")
_GUARD_SLOTS = ("text", "text", "bigint", "text", "bigint", "bigint")
_LEASE = {
    "epoch": "s.epoch",
    "claimed_time_us": "s.now_us",
    "lease_until_us": "s.now_us + $1",
    "next_attempt_us": "s.now_us + $1",
    "last_send_us": "s.now_us + $2",
}
_ANSWER = "SELECT version, epoch, now_us FROM stamp"

# What nothing can have of which the provider has not heard. It stands in the text of a create: a parameter is paid for
# at both ends, and these were a quarter of them.
_NEW_PAYMENT = {
    **dict.fromkeys(("provider_payment_id", "busy_command_id", "next_action", "decline", "failover_due_us"), "NULL"),
    **dict.fromkeys((*SUMS, "reserved_capture_minor", "reserved_refund_minor"), "0"),
}
_NEW_OPERATION = {
    **dict.fromkeys(("provider_payment_id", "provider_result_id", "decline"), "NULL"),
    "recoveries": "0",
}

COMMAND = Part.of(tables.commands)
FURTHER = Part.of(tables.commands, without=KEYS)
PAYMENT = Part.of(tables.payments, without={*KEYS, "version", *_NEW_PAYMENT})
FIRST_OPERATION = Part.of(tables.operations, without={*KEYS, *_LEASE, *_NEW_OPERATION})
OPERATION = Part.of(tables.operations, without={*KEYS, *_LEASE})
HISTORY = Part.of(tables.history, without={*KEYS, "version", "recorded_time_us"})
REFUND = Part.of(tables.refunds, without=KEYS)
ATTEMPT = Part.named({"command_id": "text", "rpc": "text", "idempotency_key": "text", "request_hash": "bytea"})
AGAIN = Part.of(tables.operations, without={*KEYS, "command_id", *_LEASE})
ROUTE = Part.named({"provider": "text", "account_id": "text", "route": "text"})
"""The rows of a claim."""

# By whichever key: a command's id is a function of its idempotency key.
_NEW_COMMAND = "ON CONFLICT DO NOTHING"

_PAYMENT_GUARD = """
SELECT p.tenant_id, p.payment_id, p.version FROM payments p
WHERE p.tenant_id = $3 AND p.payment_id = $4
  AND ($5::bigint IS NULL OR p.version = $5)
  AND ($6::text IS NULL OR p.busy_command_id IS NULL)
  AND ($7::bigint = 0 OR p.authorized_open_minor - p.captured_minor - p.capture_pending_minor
      - p.reserved_capture_minor >= $7)
  AND ($8::bigint = 0 OR p.captured_minor - p.refunded_minor - p.reserved_refund_minor - p.disputed_minor >= $8)
  AND {count}
  AND {may_send}
FOR UPDATE
"""

_TOUCH_PAYMENT = """
UPDATE payments p SET version = s.version, updated_time_us = greatest(p.updated_time_us, s.now_us),
  busy_command_id = coalesce($6, p.busy_command_id), command_count = p.command_count + {added},
  reserved_capture_minor = p.reserved_capture_minor + $7, reserved_refund_minor = p.reserved_refund_minor + $8
  {routed}
FROM stamp s WHERE p.tenant_id = s.tenant_id AND p.payment_id = s.payment_id
"""


def _may_send(account: str, *, careful: bool) -> str:
    """What a restore has to say of a payment `p`; a claim that is not careful asks only whether there was one."""
    return f"NOT {held(account)} AND NOT {unread('p')}" if careful else f"NOT {CAUTION}"


def _payment_guard(count: str, account: str, *, careful: bool) -> str:
    return _PAYMENT_GUARD.format(count=count, may_send=_may_send(account, careful=careful))


_OF_PAYMENT = {name: f"s.{name}" for name in KEYS}
"""What is claimed belongs to the payment that the stamp names, whatever its row says."""


def _claim_history(slots: Slots) -> str:
    values = slots.row(HISTORY.kinds) | _OF_PAYMENT | {"version": "s.version", "recorded_time_us": "s.now_us"}
    return insert_from(values, tables.history, "stamp s")


def _claimed_operation(operation: dict[str, str]) -> str:
    return insert_from(operation | _OF_PAYMENT | _LEASE, tables.operations, "stamp s")


def _claimed_refund(slots: Slots, suffix: str = "") -> str:
    return insert_from(slots.row(REFUND.kinds) | _OF_PAYMENT, tables.refunds, "stamp s", suffix=suffix)


@lru_cache(SHAPES_MAX)
def claim_new_payment(*, refund: bool, careful: bool) -> str:
    """A create: $1, $2, restores known where it is careful, FIRST_OPERATION, COMMAND, PAYMENT, HISTORY and any REFUND.

    The order reference's index refuses a second holder by raising.
    """
    slots = Slots.past(*_CLAIM_SLOTS, *(("bigint",) if careful else ()))
    operation = slots.row(FIRST_OPERATION.kinds) | _NEW_OPERATION
    command = slots.row(COMMAND.kinds)
    payment = slots.row(PAYMENT.kinds) | _NEW_PAYMENT
    lost_before = lost(command["tenant_id"], operation["operation_id"], payment["unique_order_reference"])
    may_send = f"NOT {CAUTION}"
    if careful:
        may_send = f"NOT {held(operation['account_id'])} AND NOT {lost_before} AND NOT {unlooked('$3')}"
    stamp = f"tenant_id, payment_id, 1::bigint AS version, 1::bigint AS epoch, {NOW_US} AS now_us"
    new = f"WHERE {may_send} {_NEW_COMMAND} RETURNING {stamp}"
    parts = {
        # The new command is the guard of what follows.
        "stamp": insert_from(command, tables.commands, suffix=new),
        "payment": insert_from(payment | _OF_PAYMENT | {"version": "s.version"}, tables.payments, "stamp s"),
        "operation": _claimed_operation(operation),
        "history": _claim_history(slots),
    }
    if refund:
        parts["refund"] = _claimed_refund(slots)
    return statement(parts, _ANSWER)


@lru_cache(SHAPES_MAX)
def claim_existing_payment(*, refund: bool, careful: bool) -> str:
    """A command on a payment that is there: $1 to $8, OPERATION, FURTHER, HISTORY and REFUND where there is one."""
    slots = Slots.past(*_CLAIM_SLOTS, *_GUARD_SLOTS)
    operation = slots.row(OPERATION.kinds)
    command = slots.row(FURTHER.kinds) | {name: f"g.{name}" for name in KEYS}
    may_be = f"p.command_count < {COMMANDS_PER_PAYMENT_MAX}"
    if careful:
        may_be += f" AND NOT {lost('p.tenant_id', operation['operation_id'], 'NULL')}"
    parts = {
        "guard": _payment_guard(may_be, operation["account_id"], careful=careful),
        "command": insert_from(command, tables.commands, "guard g", suffix=f"{_NEW_COMMAND} RETURNING command_id"),
        "stamp": (
            "SELECT g.tenant_id, g.payment_id, g.version + 1 AS version, 1::bigint AS epoch, "
            f"{NOW_US} AS now_us FROM guard g, command"
        ),
        "payment": _TOUCH_PAYMENT.format(added=1, routed=""),
        "operation": _claimed_operation(operation),
        "history": _claim_history(slots),
    }
    if refund:
        parts["refund"] = _claimed_refund(slots)
    return statement(parts, _ANSWER)


@lru_cache(SHAPES_MAX)
def claim_again(*, refund: bool, routed: bool, careful: bool) -> str:
    """A command that was NOT_SENT, once more: $1 to $8, AGAIN, ATTEMPT, HISTORY, then REFUND and ROUTE if any.

    `routed`: the payment moves to the account of ROUTE.
    """
    slots = Slots.past(*_CLAIM_SLOTS, *_GUARD_SLOTS)
    operation, attempt = slots.row(AGAIN.kinds), slots.row(ATTEMPT.kinds)
    changed = columns_of(tables.operations, {"tenant_id", "operation_id", "command_id", "payment_id"})
    may_be = "TRUE"
    if careful:
        # It keeps its id wherever it is tried: what a restore has forgotten of it may be at any account.
        order = f"CASE WHEN {operation['kind']} = 'CREATE' THEN p.unique_order_reference END"
        gone_on = f"{operation['kind']} = 'CREATE' AND {lost_of('p.tenant_id', 'p.payment_id')}"
        may_be = f"NOT {lost('p.tenant_id', operation['operation_id'], order)} AND NOT ({gone_on})"
    parts = {
        "guard": _payment_guard(may_be, operation["account_id"], careful=careful),
        "attempt": f"""
            SELECT c.command_id, o.operation_id, o.epoch FROM guard g, commands c, operations o
            WHERE c.tenant_id = g.tenant_id AND c.command_id = {attempt["command_id"]} AND c.rpc = {attempt["rpc"]}
              AND c.idempotency_key = {attempt["idempotency_key"]} AND c.request_hash = {attempt["request_hash"]}
              AND c.payment_id = g.payment_id AND c.state = 'NOT_SENT' AND o.tenant_id = g.tenant_id
              AND o.operation_id = {operation["operation_id"]} AND o.command_id = c.command_id AND o.state = 'NOT_SENT'
            FOR UPDATE OF c, o""",
        "stamp": (
            "SELECT g.tenant_id, g.payment_id, g.version + 1 AS version, a.epoch + 1 AS epoch, a.command_id, "
            f"a.operation_id, {NOW_US} AS now_us FROM guard g, attempt a"
        ),
        "command": (
            "UPDATE commands c SET state = 'SENDING' FROM stamp s "
            "WHERE c.tenant_id = s.tenant_id AND c.command_id = s.command_id"
        ),
        "operation": (
            f"UPDATE operations o SET {assigned(operation | _LEASE, changed)} FROM stamp s "
            "WHERE o.tenant_id = s.tenant_id AND o.operation_id = s.operation_id"
        ),
        "history": _claim_history(slots),
    }
    if refund:
        parts["refund"] = _claimed_refund(slots, replacing(tables.refunds))
    route = f", {assigned(slots.row(ROUTE.kinds), ROUTE.kinds)}" if routed else ""
    parts["payment"] = _TOUCH_PAYMENT.format(added=0, routed=route)
    return statement(parts, _ANSWER)


@lru_cache(SHAPES_MAX)
def claim_next_step(*, careful: bool, took_effect: bool) -> str:
    """A further step of a command that is SENDING, at the account of ROUTE: $1 to $8, OPERATION, HISTORY, ROUTE.

    `took_effect`: only where the step is known as lost at that account, and its command need not be SENDING yet.
    """
    slots = Slots.past(*_CLAIM_SLOTS, *_GUARD_SLOTS)
    operation = slots.row(OPERATION.kinds)
    may_be = "TRUE"
    if took_effect:
        may_be = lost_at("p.tenant_id", operation["operation_id"], operation["account_id"])
    elif careful:
        begun_before = begun_before_restore("p.tenant_id", "p.payment_id", operation["command_id"])
        is_lost = lost("p.tenant_id", operation["operation_id"], "p.unique_order_reference")
        may_be = f"NOT {is_lost} AND NOT {begun_before}"
    # Only what is sent must not follow an answer that the caller has had.
    states = ", ".join(f"'{state}'" for state in (TAKEN_UP_STATES if took_effect else ("SENDING",)))
    its_command = f"""c.tenant_id = g.tenant_id AND c.command_id = {operation["command_id"]}
              AND c.payment_id = g.payment_id AND c.state IN ({states})"""
    command = f"SELECT c.command_id FROM guard g, commands c WHERE {its_command} FOR UPDATE OF c"
    if took_effect:
        command = (
            f"UPDATE commands c SET state = {STATE_TAKEN_UP} FROM guard g WHERE {its_command} RETURNING c.command_id"
        )
    parts = {
        "guard": _payment_guard(may_be, operation["account_id"], careful=careful or took_effect),
        "command": command,
        "stamp": (
            "SELECT g.tenant_id, g.payment_id, g.version + 1 AS version, 1::bigint AS epoch, "
            f"{NOW_US} AS now_us FROM guard g, command"
        ),
        "operation": _claimed_operation(operation),
        "history": _claim_history(slots),
    }
    # The object that the payment had is another account's now.
    moved = f", {assigned(slots.row(ROUTE.kinds), ROUTE.kinds)}, provider_payment_id = NULL, failover_due_us = NULL"
    parts["payment"] = _TOUCH_PAYMENT.format(added=0, routed=moved)
    return statement(parts, _ANSWER)
