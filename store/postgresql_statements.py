# Statements are spelled from our own tables and constants; every value is a parameter.
# ruff: noqa: S608
"""The text of claim, settle and the inbox on PostgreSQL: each is one statement, one round trip, one commit.

Data-modifying CTEs do the writing. The first CTE is the guard, locked and materialized; every write selects from it:
where it finds no row nothing is written at all. A guard that had to wait for a lock sees the row as the winner left it
(READ COMMITTED looks at the locked row again); rows that it does not lock are as old as the statement, so what a guard
compares, it locks. Locks are taken in one order: payment, command, operation, callback.

Rows travel as parameters (`store.postgresql_parts`). Statements are built once for each combination of what is present
and how often, so that a settle without refunds does not pay for them; each builder says the order of its parameters,
and a Part knows those of its own.
"""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from gateway.domain.states import FINAL_COMMAND_STATES
from gateway.domain.storage import COMMANDS_PER_PAYMENT_MAX
from store import operating_tables, tables
from store.hot import SETTLED_OPERATION_COLUMNS
from store.postgresql_database import NOW_US
from store.postgresql_parts import Part
from store.rows import DERIVED_COLUMNS
from store.sends import CAUTION, held, lost, unread, why_held
from store.spelling import Slots, assigned, columns_of, insert_from, kinds_of, replacing
from store.tables import LIVE_OPERATION, ORDER_GIVEN_UP_STATES, among

SHAPES_MAX = 256
"""Texts of each builder that are kept; a connection keeps fewer of them prepared."""

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
_KEYS = ("tenant_id", "payment_id")
_ANSWER = "SELECT version, epoch, now_us FROM stamp"

COMMAND = Part.of(tables.commands)
FURTHER = Part.of(tables.commands, without=_KEYS)
PAYMENT = Part.of(tables.payments, without={*_KEYS, "version"})
OPERATION = Part.of(tables.operations, without={*_KEYS, *_LEASE})
HISTORY = Part.of(tables.history, without={*_KEYS, "version", "recorded_time_us"})
REFUND = Part.of(tables.refunds, without=_KEYS)
ATTEMPT = Part.named({"command_id": "text", "rpc": "text", "idempotency_key": "text", "request_hash": "bytea"})
AGAIN = Part.of(tables.operations, without={*_KEYS, "command_id", *_LEASE})
ROUTE = Part.named({"provider": "text", "account_id": "text"})
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


def _statement(parts: dict[str, str], answer: str) -> str:
    """Each part as a CTE; those that only read are materialized, so that they run once and before what reads them."""
    named = (
        f"{name} AS {'MATERIALIZED ' if sql.lstrip().startswith('SELECT') else ''}({sql})"
        for name, sql in parts.items()
    )
    return f"WITH {', '.join(named)} {answer}"


def _slots(*kinds: str) -> Slots:
    """Past the parameters that every statement of a kind begins with."""
    slots = Slots()
    for kind in kinds:
        slots.one(kind)
    return slots


def _may_send(account: str, *, careful: bool) -> str:
    """What a restore has to say of a payment `p`; a claim that is not careful asks only whether there was one."""
    return f"NOT {held(account)} AND NOT {unread('p')}" if careful else f"NOT {CAUTION}"


def _payment_guard(count: str, account: str, *, careful: bool) -> str:
    return _PAYMENT_GUARD.format(count=count, may_send=_may_send(account, careful=careful))


_OF_PAYMENT = {name: f"s.{name}" for name in _KEYS}
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
    """A create: $1, $2, OPERATION, COMMAND, PAYMENT, HISTORY and REFUND where there is one.

    The order reference's index refuses a second holder by raising.
    """
    slots = _slots(*_CLAIM_SLOTS)
    operation, command = slots.row(OPERATION.kinds), slots.row(COMMAND.kinds)
    payment = slots.row(PAYMENT.kinds)
    lost_before = lost(command["tenant_id"], operation["operation_id"], payment["unique_order_reference"])
    may_send = f"NOT {held(operation['account_id'])} AND NOT {lost_before}" if careful else f"NOT {CAUTION}"
    new = f"WHERE {may_send} {_NEW_COMMAND} RETURNING tenant_id, payment_id"
    parts = {
        "command": insert_from(command, tables.commands, suffix=new),
        "stamp": f"SELECT c.*, 1::bigint AS version, 1::bigint AS epoch, {NOW_US} AS now_us FROM command c",
        "payment": insert_from(payment | _OF_PAYMENT | {"version": "s.version"}, tables.payments, "stamp s"),
        "operation": _claimed_operation(operation),
        "history": _claim_history(slots),
    }
    if refund:
        parts["refund"] = _claimed_refund(slots)
    return _statement(parts, _ANSWER)


@lru_cache(SHAPES_MAX)
def claim_existing_payment(*, refund: bool, careful: bool) -> str:
    """A command on a payment that is there: $1 to $8, OPERATION, FURTHER, HISTORY and REFUND where there is one."""
    slots = _slots(*_CLAIM_SLOTS, *_GUARD_SLOTS)
    operation = slots.row(OPERATION.kinds)
    command = slots.row(FURTHER.kinds) | {name: f"g.{name}" for name in _KEYS}
    parts = {
        "guard": _payment_guard(
            f"p.command_count < {COMMANDS_PER_PAYMENT_MAX}", operation["account_id"], careful=careful
        ),
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
    return _statement(parts, _ANSWER)


@lru_cache(SHAPES_MAX)
def claim_again(*, refund: bool, routed: bool, careful: bool) -> str:
    """A command that was NOT_SENT, once more: $1 to $8, AGAIN, ATTEMPT, HISTORY, then REFUND and ROUTE if any.

    `routed`: the payment moves to the account of ROUTE.
    """
    slots = _slots(*_CLAIM_SLOTS, *_GUARD_SLOTS)
    operation, attempt = slots.row(AGAIN.kinds), slots.row(ATTEMPT.kinds)
    changed = columns_of(tables.operations, {"tenant_id", "operation_id", "command_id", "payment_id"})
    parts = {
        "guard": _payment_guard("TRUE", operation["account_id"], careful=careful),
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
    return _statement(parts, _ANSWER)


DERIVED = Part.named({name: kinds_of(tables.payments)[name] for name in DERIVED_COLUMNS})
SETTLED_HISTORY = Part.of(tables.history, without={*_KEYS, "version", "recorded_time_us"})
SETTLED: Mapping[str, Part] = MappingProxyType(
    {
        "operations": Part.named(
            {name: kinds_of(tables.operations)[name] for name in ("operation_id", *SETTLED_OPERATION_COLUMNS)}
            | {"expected_epoch": "bigint", "next_attempt_in_us": "bigint"}
        ),
        "commands": Part.named({"command_id": "text", "state": "text", "reply": "bytea"}),
        "movements": Part.of(tables.movements, without=_KEYS),
        "refunds": Part.of(tables.refunds, without=_KEYS),
        "observations": Part.of(tables.observations, without={*_KEYS, "version"}),
        "audit": Part.of(tables.audit, without={"recorded_time_us"}),
        "callback": Part.named(
            {
                "callback_id": "text",
                "expected_epoch": "bigint",
                "state": "text",
                "note": "text",
                "tenant_id": "text",
                "payment_id": "text",
                "next_attempt_in_us": "bigint",
            }
        ),
        "approval": Part.of(operating_tables.approvals, without={"approved_time_us"}),
    }
)
"""The rows of a settlement that can be absent, in the order of their parameters."""

Shape = tuple[int, ...]
"""How many rows of each part of SETTLED a settlement has; what is too many for parameters counts as one more."""


@lru_cache(SHAPES_MAX)
def settle(shape: Shape) -> str:
    """$1 tenant, $2 payment, $3 expected version, $4 ids of operations, DERIVED, SETTLED_HISTORY, then each of SETTLED.

    One row if applied. Keys are compared with parameters, not only with each other: so an index that ends at the
    payment is walked even where the planner knows nothing of the tables yet.
    """
    slots = _slots("text", "text", "bigint", "text[]")
    derived, history = slots.row(DERIVED.kinds), slots.row(SETTLED_HISTORY.kinds)
    counts = {name: count for name, count in zip(SETTLED, shape, strict=True) if count}
    sources = {name: SETTLED[name].source(slots, count) for name, count in counts.items()}
    reads = {name: SETTLED[name].read(count) for name, count in counts.items()}
    parts = {
        "locked": (
            "SELECT p.tenant_id, p.payment_id FROM payments p "
            "WHERE p.tenant_id = $1 AND p.payment_id = $2 AND p.version = $3 FOR UPDATE"
        )
    }
    fences = ["cardinality($4::text[]) >= 0"]
    if "operations" in counts:
        parts["fenced"] = f"""
            SELECT o.operation_id FROM locked l, {sources["operations"]}, operations o
            WHERE o.tenant_id = $1 AND o.operation_id = ANY($4) AND o.operation_id = r.operation_id
              AND o.payment_id = $2 AND o.epoch = r.expected_epoch FOR UPDATE OF o"""
        fences.append("(SELECT count(*) FROM fenced) = cardinality($4)")
    if "callback" in counts:
        parts["taken"] = f"""
            SELECT c.callback_id FROM locked l, {sources["callback"]}, callbacks c
            WHERE c.callback_id = r.callback_id AND c.epoch = r.expected_epoch FOR UPDATE OF c"""
        fences.append("EXISTS (SELECT FROM taken)")
    parts["guard"] = f"SELECT l.*, {NOW_US} AS now_us FROM locked l WHERE {' AND '.join(fences)}"
    parts["payment"] = f"""
        UPDATE payments p SET {assigned(derived, DERIVED.kinds)}, unique_order_reference =
          CASE WHEN {among(derived["state"], ORDER_GIVEN_UP_STATES)} THEN NULL ELSE p.unique_order_reference END
        FROM guard g WHERE p.tenant_id = $1 AND p.payment_id = $2"""
    parts["history"] = insert_from(
        history | _SETTLED_KEYS | {"recorded_time_us": "g.now_us"}, tables.history, "guard g"
    )
    for name, read in reads.items():
        for write, sql in _settled_writes(name, read, f"guard g, {sources[name]}").items():
            parts[f"write_{write}"] = sql
    return _statement(parts, "SELECT now_us FROM guard")


_SETTLED_KEYS = {"tenant_id": "$1", "payment_id": "$2", "version": "$3 + 1"}
"""Whatever is told of a payment is told of the one that is locked, at its next version."""


def _settled_writes(name: str, read: dict[str, str], source: str) -> dict[str, str]:
    """What a part writes, by a name for it; every write selects from the guard `g` and the part's rows `r`."""
    match name:
        case "operations":
            # The last possible send never moves back: what absence means is counted from it.
            values = read | {
                "lease_until_us": "NULL",
                "last_send_us": f"greatest(o.last_send_us, {read['last_send_us']})",
                "next_attempt_us": f"g.now_us + {read['next_attempt_in_us']}",
            }
            changed = (*SETTLED_OPERATION_COLUMNS, "lease_until_us", "next_attempt_us")
            update = (
                f"UPDATE operations o SET {assigned(values, changed)} FROM {source} "
                "WHERE o.tenant_id = $1 AND o.operation_id = ANY($4) AND o.operation_id = r.operation_id"
            )
            return {name: update}
        case "commands":
            update = (
                "UPDATE commands c SET state = r.state, reply = CASE WHEN c.expired THEN NULL "
                f"ELSE coalesce(c.reply, {read['reply']}) END, final_time_us = coalesce(c.final_time_us, "
                f"CASE WHEN {among('r.state', FINAL_COMMAND_STATES)} THEN g.now_us END) "
                f"FROM {source} WHERE c.tenant_id = $1 AND c.command_id = r.command_id "
                "AND c.payment_id = $2"
            )
            return {name: update}
        case "callback":
            update = (
                "UPDATE callbacks c SET state = r.state, note = r.note, tenant_id = r.tenant_id, "
                "payment_id = r.payment_id, lease_until_us = NULL, next_attempt_us = g.now_us + r.next_attempt_in_us "
                f"FROM {source} WHERE c.callback_id = r.callback_id"
            )
            return {name: update}
        case "observations":
            return {
                name: insert_from(read | _SETTLED_KEYS, tables.observations, source),
                "outbox": insert_from(read | _SETTLED_KEYS, tables.observation_outbox, source),
            }
        case "approval":
            approved = read | {"approved_time_us": "g.now_us"}
            return {name: insert_from(approved, operating_tables.approvals, source)}
        case "audit":
            return {name: insert_from(read | {"recorded_time_us": "g.now_us"}, tables.audit, source)}
        case _:
            table = tables.metadata.tables[name]
            return {name: insert_from(read | _SETTLED_KEYS, table, source, suffix=replacing(table))}


CALLBACK = Part.of(tables.callbacks, without={"next_attempt_us"})


def _receive_callback() -> str:
    slots = Slots()
    audited = SETTLED["audit"]
    now = f"(SELECT {NOW_US} AS now_us) s"
    suffix = "ON CONFLICT (provider, account_id, event_id) DO NOTHING RETURNING callback_id"
    inbox = slots.row(CALLBACK.kinds) | {"next_attempt_us": "s.now_us"}
    audit = slots.row(audited.kinds) | {"recorded_time_us": NOW_US}
    parts = {
        "inbox": insert_from(inbox, tables.callbacks, now, suffix=suffix),
        "audit": insert_from(audit, tables.audit, "inbox"),
    }
    return _statement(parts, "SELECT callback_id FROM inbox")


RECEIVE_CALLBACK = _receive_callback()
"""CALLBACK, then the audit's. One row if the event was new."""

FIND_COMMAND = "SELECT * FROM commands WHERE tenant_id = $1 AND rpc = $2 AND idempotency_key = $3"
FIND_KEY = "SELECT state FROM commands WHERE tenant_id = $1 AND rpc = $2 AND idempotency_key = $3"
WHY_HELD = why_held("$1", "$2", "$3", "$4", "$5")
"""$1 account, $2 tenant, $3 payment, $4 operation, $5 order or NULL. One row: the ClaimOutcome or NULL, CAUTION."""
FIND_ORDER = "SELECT payment_id FROM payments WHERE tenant_id = $1 AND unique_order_reference = $2"


def _aggregate(*relations: str) -> str:
    """A payment and its rows in `relations` as one document, read at one moment."""
    members = ", ".join(
        f"'{name}', (SELECT coalesce(json_agg(r), '[]') FROM {name} r "
        "WHERE r.tenant_id = p.tenant_id AND r.payment_id = p.payment_id)"
        for name in relations
    )
    return (
        f"SELECT json_build_object('payment', to_json(p), {members}) AS found FROM payments p "
        "WHERE p.tenant_id = $1 AND p.payment_id = $2"
    )


GET_PAYMENT = _aggregate("movements")
LOAD = _aggregate("movements", "commands", "operations", "refunds")

TAKE_DUE = f"""
WITH clock AS MATERIALIZED (SELECT {NOW_US} AS now_us),
due AS MATERIALIZED (
  SELECT o.tenant_id, o.operation_id, o.next_attempt_us AS due_us FROM operations o
  WHERE {LIVE_OPERATION} AND o.next_attempt_us <= (SELECT now_us FROM clock)
    AND (o.lease_until_us IS NULL OR o.lease_until_us < (SELECT now_us FROM clock))
    AND o.account_id <> ALL ($3::text[])
  ORDER BY o.next_attempt_us LIMIT $1 FOR UPDATE SKIP LOCKED),
taken AS (
  UPDATE operations o SET epoch = o.epoch + 1, recoveries = o.recoveries + 1,
    lease_until_us = c.now_us + $2, next_attempt_us = c.now_us + $2
  FROM due d, clock c WHERE o.tenant_id = d.tenant_id AND o.operation_id = d.operation_id
  RETURNING o.*, d.due_us)
SELECT c.now_us, to_json(t) AS operation FROM clock c LEFT JOIN taken t ON TRUE ORDER BY t.due_us
"""
"""$1 limit, $2 lease in microseconds, $3 accounts to leave out. One row at least, for the time; skips what is taken."""
