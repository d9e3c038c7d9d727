# Statements are spelled from our own tables and constants; every value is a parameter.
# ruff: noqa: S608
"""The text of claim, settle and the inbox on PostgreSQL: each is one statement, one round trip, one commit.

Data-modifying CTEs do the writing. The first CTE is the guard, locked and materialized; every write selects from it:
where it finds no row nothing is written at all. A guard that had to wait for a lock sees the row as the winner left it
(READ COMMITTED looks at the locked row again); rows that it does not lock are as old as the statement, so what a guard
compares, it locks. Locks are taken in one order: payment, command, operation, callback.

Rows travel as one JSON document; `jsonb_to_recordset` makes rows of it again. Statements are built once for each
combination of what is present, so that a settle without refunds does not pay for them.
"""

from functools import cache

from gateway.domain.states import FINAL_COMMAND_STATES
from gateway.domain.storage import COMMANDS_PER_PAYMENT_MAX
from store import tables
from store.postgresql_database import NOW_US
from store.rows import DERIVED_COLUMNS
from store.spelling import assign_from, columns_of, insert_from, record, replacing
from store.tables import LIVE_OPERATION, ORDER_GIVEN_UP_STATES, among

# The parameters of every claim: $1 the rows as JSON, $2 lease and $3 send window in microseconds. For an existing
# payment also $4 tenant, $5 payment, $6 expected version or NULL, $7 the exclusive command or NULL, and the amounts to
# reserve: $8 of a capture, $9 of a refund.
_LEASE = {
    "epoch": "s.epoch",
    "claimed_time_us": "s.now_us",
    "lease_until_us": "s.now_us + $2",
    "next_attempt_us": "s.now_us + $2",
    "last_send_us": "s.now_us + $3",
}
_ANSWER = "SELECT version, epoch, now_us FROM stamp"

_NEW_COMMAND = "ON CONFLICT (tenant_id, rpc, idempotency_key) DO NOTHING RETURNING command_id"

_PAYMENT_GUARD = """
SELECT p.tenant_id, p.payment_id, p.version FROM payments p
WHERE p.tenant_id = $4 AND p.payment_id = $5
  AND ($6::bigint IS NULL OR p.version = $6)
  AND ($7::text IS NULL OR p.busy_command_id IS NULL)
  AND ($8::bigint = 0 OR p.authorized_open_minor - p.captured_minor - p.capture_pending_minor
      - p.reserved_capture_minor >= $8)
  AND ($9::bigint = 0 OR p.captured_minor - p.refunded_minor - p.reserved_refund_minor - p.disputed_minor >= $9)
  AND {count}
FOR UPDATE
"""

_TOUCH_PAYMENT = """
UPDATE payments p SET version = s.version, updated_time_us = greatest(p.updated_time_us, s.now_us),
  busy_command_id = coalesce($7, p.busy_command_id), command_count = p.command_count + {added},
  reserved_capture_minor = p.reserved_capture_minor + $8, reserved_refund_minor = p.reserved_refund_minor + $9
  {routed}
FROM stamp s WHERE p.tenant_id = s.tenant_id AND p.payment_id = s.payment_id
"""

_MOVED = ", " + ", ".join(
    f"{name} = $1::jsonb #>> '{{payment,{name}}}'" for name in ("provider", "account_id", "route")
)
"""The payment moves to the account of $1's payment."""


def _statement(parts: dict[str, str], answer: str) -> str:
    """Each part as a CTE; those that only read are materialized, so that they run once and before what reads them."""
    named = (
        f"{name} AS {'MATERIALIZED ' if sql.lstrip().startswith('SELECT') else ''}({sql})"
        for name, sql in parts.items()
    )
    return f"WITH {', '.join(named)} {answer}"


def _one(name: str, table: str) -> str:
    """The row called `name` of the document."""
    return f"stamp s, jsonb_to_record($1::jsonb -> '{name}') AS r({record(tables.metadata.tables[table])})"


def _claim_history() -> str:
    given = {"version": "s.version", "recorded_time_us": "s.now_us"}
    return insert_from(tables.history, _one("history", "history"), given=given)


@cache
def claim_new_payment(*, refund: bool) -> str:
    """A create: $1 to $3. The order reference's index refuses a second holder by raising."""
    command = f"jsonb_to_record($1::jsonb -> 'command') AS r({record(tables.commands)})"
    parts = {
        "command": insert_from(tables.commands, command, suffix=_NEW_COMMAND),
        "stamp": f"SELECT 1::bigint AS version, 1::bigint AS epoch, {NOW_US} AS now_us FROM command",
        "payment": insert_from(tables.payments, _one("payment", "payments"), given={"version": "s.version"}),
        "operation": insert_from(tables.operations, _one("operation", "operations"), given=_LEASE),
        "history": _claim_history(),
    }
    if refund:
        parts["refund"] = insert_from(tables.refunds, _one("refund", "refunds"))
    return _statement(parts, _ANSWER)


@cache
def claim_existing_payment(*, refund: bool) -> str:
    """A command on a payment that is there: $1 to $9."""
    command = f"guard g, jsonb_to_record($1::jsonb -> 'command') AS r({record(tables.commands)})"
    parts = {
        "guard": _PAYMENT_GUARD.format(count=f"p.command_count < {COMMANDS_PER_PAYMENT_MAX}"),
        "command": insert_from(tables.commands, command, suffix=_NEW_COMMAND),
        "stamp": (
            "SELECT g.tenant_id, g.payment_id, g.version + 1 AS version, 1::bigint AS epoch, "
            f"{NOW_US} AS now_us FROM guard g, command"
        ),
        "payment": _TOUCH_PAYMENT.format(added=1, routed=""),
        "operation": insert_from(tables.operations, _one("operation", "operations"), given=_LEASE),
        "history": _claim_history(),
    }
    if refund:
        parts["refund"] = insert_from(tables.refunds, _one("refund", "refunds"))
    return _statement(parts, _ANSWER)


@cache
def claim_again(*, refund: bool, routed: bool) -> str:
    """A command that was NOT_SENT, once more: $1 to $9. `routed`: the payment moves to the account of $1's payment."""
    known = "c.tenant_id, c.command_id, o.operation_id, o.epoch"
    changed = columns_of(tables.operations, {"tenant_id", "operation_id", "command_id", "payment_id", *_LEASE})
    lease = ", ".join(f"{name} = {expression}" for name, expression in _LEASE.items())
    parts = {
        "guard": _PAYMENT_GUARD.format(count="TRUE"),
        "attempt": f"""
            SELECT {known} FROM guard g, jsonb_to_record($1::jsonb -> 'command') AS r({record(tables.commands)}),
              jsonb_to_record($1::jsonb -> 'operation') AS q(operation_id text), commands c, operations o
            WHERE c.tenant_id = g.tenant_id AND c.command_id = r.command_id AND c.rpc = r.rpc
              AND c.idempotency_key = r.idempotency_key AND c.request_hash = decode(r.request_hash, 'hex')
              AND c.payment_id = g.payment_id AND c.state = 'NOT_SENT' AND o.tenant_id = g.tenant_id
              AND o.operation_id = q.operation_id AND o.command_id = c.command_id AND o.state = 'NOT_SENT'
            FOR UPDATE OF c, o""",
        "stamp": (
            "SELECT g.tenant_id, g.payment_id, g.version + 1 AS version, a.epoch + 1 AS epoch, a.command_id, "
            f"a.operation_id, {NOW_US} AS now_us FROM guard g, attempt a"
        ),
        "payment": _TOUCH_PAYMENT.format(added=0, routed=_MOVED if routed else ""),
        "command": (
            "UPDATE commands c SET state = 'SENDING' FROM stamp s "
            "WHERE c.tenant_id = s.tenant_id AND c.command_id = s.command_id"
        ),
        "operation": (
            f"UPDATE operations o SET {assign_from(tables.operations, changed)}, {lease} "
            f"FROM {_one('operation', 'operations')} "
            "WHERE o.tenant_id = s.tenant_id AND o.operation_id = s.operation_id"
        ),
        "history": _claim_history(),
    }
    if refund:
        parts["refund"] = insert_from(tables.refunds, _one("refund", "refunds"), suffix=replacing(tables.refunds))
    return _statement(parts, _ANSWER)


@cache
def claim_next_step() -> str:
    """A further operation of a command that is SENDING, at the account of $1's payment: $1 to $9."""
    parts = {
        "guard": _PAYMENT_GUARD.format(count="TRUE"),
        "command": f"""
            SELECT c.command_id FROM guard g, jsonb_to_record($1::jsonb -> 'command') AS r({record(tables.commands)}),
              commands c
            WHERE c.tenant_id = g.tenant_id AND c.command_id = r.command_id AND c.payment_id = g.payment_id
              AND c.state = 'SENDING'
            FOR UPDATE OF c""",
        "stamp": (
            "SELECT g.tenant_id, g.payment_id, g.version + 1 AS version, 1::bigint AS epoch, "
            f"{NOW_US} AS now_us FROM guard g, command"
        ),
        # The object that the payment had is another account's now.
        "payment": _TOUCH_PAYMENT.format(
            added=0, routed=f"{_MOVED}, provider_payment_id = NULL, failover_due_us = NULL"
        ),
        "operation": insert_from(tables.operations, _one("operation", "operations"), given=_LEASE),
        "history": _claim_history(),
    }
    return _statement(parts, _ANSWER)


SETTLED = ("operations", "commands", "movements", "refunds", "observations", "audit", "callback")
"""The parts of a settlement that can be absent."""


def _rows(name: str, table: str, *, more: str = "") -> str:
    """The rows called `name` of the document, as `r`, beside the guard `g`."""
    return f"guard g, jsonb_to_recordset($1::jsonb -> '{name}') AS r({record(tables.metadata.tables[table])}{more})"


@cache
def settle(present: frozenset[str]) -> str:
    """$1 the rows as JSON, $2 tenant, $3 payment, $4 expected version, $5 ids of operations. One row if applied.

    Keys are compared with parameters, not only with the document's rows: so the primary key is walked even where the
    planner knows nothing of the tables yet. `present` names the parts of SETTLED that this settlement has.
    """
    parts = {
        "locked": (
            "SELECT p.tenant_id, p.payment_id FROM payments p "
            "WHERE p.tenant_id = $2 AND p.payment_id = $3 AND p.version = $4 FOR UPDATE"
        )
    }
    fences = ["cardinality($5::text[]) >= 0"]
    if "operations" in present:
        parts["fenced"] = """
            SELECT o.operation_id FROM locked l, jsonb_to_recordset($1::jsonb -> 'operations') AS r(operation_id text,
              expected_epoch bigint), operations o
            WHERE o.tenant_id = $2 AND o.operation_id = ANY($5::text[]) AND o.operation_id = r.operation_id
              AND o.payment_id = l.payment_id AND o.epoch = r.expected_epoch FOR UPDATE OF o"""
        fences.append("(SELECT count(*) FROM fenced) = cardinality($5)")
    if "callback" in present:
        parts["taken"] = """
            SELECT c.callback_id FROM locked l, jsonb_to_record($1::jsonb -> 'callback') AS r(callback_id text,
              expected_epoch bigint), callbacks c WHERE c.callback_id = r.callback_id AND c.epoch = r.expected_epoch
            FOR UPDATE OF c"""
        fences.append("EXISTS (SELECT FROM taken)")
    parts["guard"] = f"SELECT l.*, {NOW_US} AS now_us FROM locked l WHERE {' AND '.join(fences)}"
    parts["payment"] = f"""
        UPDATE payments p SET {assign_from(tables.payments, DERIVED_COLUMNS)}, unique_order_reference =
          CASE WHEN {among("r.state", ORDER_GIVEN_UP_STATES)} THEN NULL ELSE p.unique_order_reference END
        FROM guard g, jsonb_to_record($1::jsonb -> 'payment') AS r({record(tables.payments)})
        WHERE p.tenant_id = $2 AND p.payment_id = $3"""
    parts["history"] = insert_from(tables.history, _rows("history", "history"), given={"recorded_time_us": "g.now_us"})
    parts |= {f"write_{name}": sql for name, sql in _settled_writes().items() if name.split("_")[0] in present}
    return _statement(parts, "SELECT now_us FROM guard")


def _settled_writes() -> dict[str, str]:
    """What each part writes; every one selects from the guard."""
    changed = columns_of(
        tables.operations,
        {
            "tenant_id",
            "operation_id",
            "command_id",
            "payment_id",
            "claimed_time_us",
            "lease_until_us",
            "next_attempt_us",
            "last_send_us",
        },
    )
    outbox = ("tenant_id", "payment_id", "version", "ordinal", "observation_id")
    return {
        "operations": (
            # The last possible send never moves back: what absence means is counted from it.
            f"UPDATE operations o SET {assign_from(tables.operations, changed)}, lease_until_us = NULL, "
            "last_send_us = greatest(o.last_send_us, r.last_send_us), "
            "next_attempt_us = g.now_us + r.next_attempt_in_us FROM "
            + _rows("operations", "operations", more=", next_attempt_in_us bigint")
            + " WHERE o.tenant_id = $2 AND o.operation_id = ANY($5::text[]) AND o.operation_id = r.operation_id"
        ),
        "commands": (
            "UPDATE commands c SET state = r.state, reply = CASE WHEN c.expired THEN NULL "
            "ELSE coalesce(c.reply, decode(r.reply, 'hex')) END, final_time_us = coalesce(c.final_time_us, "
            f"CASE WHEN {among('r.state', FINAL_COMMAND_STATES)} THEN g.now_us END) "
            "FROM guard g, jsonb_to_recordset($1::jsonb -> 'commands') AS r(command_id text, state text, reply text) "
            "WHERE c.tenant_id = $2 AND c.command_id = r.command_id AND c.payment_id = $3"
        ),
        "movements": insert_from(tables.movements, _rows("movements", "movements"), suffix=replacing(tables.movements)),
        "refunds": insert_from(tables.refunds, _rows("refunds", "refunds"), suffix=replacing(tables.refunds)),
        "observations": insert_from(tables.observations, _rows("observations", "observations")),
        "observations_outbox": (
            f"INSERT INTO observation_outbox ({', '.join(outbox)}) SELECT {', '.join('r.' + name for name in outbox)} "
            f"FROM guard g, jsonb_to_recordset($1::jsonb -> 'observations') AS r(tenant_id text, payment_id text, "
            "version bigint, ordinal bigint, observation_id text)"
        ),
        "audit": insert_from(tables.audit, _rows("audit", "audit"), given={"recorded_time_us": "g.now_us"}),
        "callback": (
            "UPDATE callbacks c SET state = r.state, note = r.note, tenant_id = r.tenant_id, "
            "payment_id = r.payment_id, lease_until_us = NULL, next_attempt_us = g.now_us + r.next_attempt_in_us "
            "FROM guard g, jsonb_to_record($1::jsonb -> 'callback') AS r(callback_id text, state text, note text, "
            "tenant_id text, payment_id text, next_attempt_in_us bigint) WHERE c.callback_id = r.callback_id"
        ),
    }


RECEIVE_CALLBACK = _statement(
    {
        "inbox": insert_from(
            tables.callbacks,
            f"(SELECT {NOW_US} AS now_us) s, jsonb_to_record($1::jsonb -> 'callback') AS r({record(tables.callbacks)})",
            given={"next_attempt_us": "s.now_us", "body": "$2::bytea"},
            suffix="ON CONFLICT (provider, account_id, event_id) DO NOTHING RETURNING callback_id",
        ),
        "audit": insert_from(
            tables.audit,
            f"inbox i, jsonb_to_record($1::jsonb -> 'audit') AS r({record(tables.audit)})",
            given={"recorded_time_us": NOW_US},
        ),
    },
    "SELECT callback_id FROM inbox",
)
"""$1 the rows as JSON, $2 the body. One row if the event was new."""

FIND_COMMAND = "SELECT * FROM commands WHERE tenant_id = $1 AND rpc = $2 AND idempotency_key = $3"
FIND_KEY = "SELECT state FROM commands WHERE tenant_id = $1 AND rpc = $2 AND idempotency_key = $3"
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
  ORDER BY o.next_attempt_us LIMIT $1 FOR UPDATE SKIP LOCKED),
taken AS (
  UPDATE operations o SET epoch = o.epoch + 1, recoveries = o.recoveries + 1,
    lease_until_us = c.now_us + $2, next_attempt_us = c.now_us + $2
  FROM due d, clock c WHERE o.tenant_id = d.tenant_id AND o.operation_id = d.operation_id
  RETURNING o.*, d.due_us)
SELECT c.now_us, to_json(t) AS operation FROM clock c LEFT JOIN taken t ON TRUE ORDER BY t.due_us
"""
"""$1 limit, $2 lease in microseconds. One row at least, for the time; skips what another process is taking."""
