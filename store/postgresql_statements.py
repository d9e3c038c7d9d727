# Statements are spelled from our own tables and constants; every value is a parameter.
# ruff: noqa: S608
"""The text of settle and the reads on PostgreSQL: each is one statement, one round trip, one commit.

Data-modifying CTEs do the writing. The first CTE is the guard, locked and materialized; every write selects from it:
where it finds no row nothing is written at all. A guard that had to wait for a lock sees the row as the winner left it
(READ COMMITTED looks at the locked row again); rows that it does not lock are as old as the statement, so what a guard
compares, it locks. Locks are taken in one order: payment, command, operation, callback.

Rows travel as parameters (`store.postgresql_parts`). Statements are built once for each combination of what is present
and how often, so that a settle without refunds does not pay for them; each builder says the order of its parameters,
and a Part knows those of its own. The claims are in `store.postgresql_claims`, the inbox in `store.postgresql_inbox`.
"""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from gateway.domain.states import FINAL_COMMAND_STATES
from store import operating_tables, tables
from store.hot import SETTLED_OPERATION_COLUMNS
from store.postgresql_database import NOW_US
from store.postgresql_parts import KEYS, SHAPES_MAX, Part
from store.rows import DERIVED_COLUMNS
from store.sends import why_held
from store.spelling import Slots, assigned, insert_from, kinds_of, replacing, statement
from store.tables import LIVE_OPERATION, ORDER_GIVEN_UP_STATES, among

DERIVED = Part.named({name: kinds_of(tables.payments)[name] for name in DERIVED_COLUMNS})
SETTLED_HISTORY = Part.of(tables.history, without={*KEYS, "version", "recorded_time_us"})
SETTLED: Mapping[str, Part] = MappingProxyType(
    {
        "operations": Part.named(
            {name: kinds_of(tables.operations)[name] for name in ("operation_id", *SETTLED_OPERATION_COLUMNS)}
            | {"expected_epoch": "bigint", "next_attempt_in_us": "bigint"}
        ),
        "commands": Part.named({"command_id": "text", "state": "text", "reply": "bytea"}),
        "movements": Part.of(tables.movements, without=KEYS),
        "refunds": Part.of(tables.refunds, without=KEYS),
        "observations": Part.of(tables.observations, without={*KEYS, "version"}),
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
    slots = Slots.past("text", "text", "bigint", "text[]")
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
        is_one = counts["operations"] == 1
        fences.append("EXISTS (SELECT FROM fenced)" if is_one else "(SELECT count(*) FROM fenced) = cardinality($4)")
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
    return statement(parts, "SELECT now_us FROM guard")


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


FIND_COMMAND = "SELECT * FROM commands WHERE tenant_id = $1 AND rpc = $2 AND idempotency_key = $3"
FIND_KEY = "SELECT state FROM commands WHERE tenant_id = $1 AND rpc = $2 AND idempotency_key = $3"
WHY_HELD = why_held("$1", "$2", "$3", "$4", "$5", "$6", "$7")
"""$1 account, $2 tenant, $3 payment, $4 operation, $5 order or NULL, $6 the payment of a create that is tried again or
NULL, $7 restores known or NULL. One row: the ClaimOutcome or NULL, CAUTION."""
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
