# Statements are spelled from our own tables and constants; every value is a parameter.
# ruff: noqa: S608
"""Units over what has not come to an end: a page of it by age, and the alarms of which a person is told once.

Each state has a walk of its own down a partial index of live rows, and the page is the oldest of them together. A
tenant is compared row by row: what is live is little beside what has ended.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, and_, exists, select, text, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from gateway.domain.commands import Operation
from gateway.domain.operating import Place, StuckPayment, UnresolvedFilter, UnresolvedItem, UnresolvedOperation
from gateway.domain.operating import UnresolvedPage as Page
from gateway.domain.resolutions import Proposal
from gateway.domain.states import RESERVING_STATES, PaymentState
from gateway.domain.storage import AuditRecord
from store.hot import microseconds
from store.operating_tables import STUCK_PAYMENT, alarms, proposals
from store.records import proposal_from
from store.recovery import Now, append_audit
from store.rows import operation_from
from store.tables import LIVE_OPERATION, operations, payments

_OPERATION, _PAYMENT = 0, 1
Key = tuple[str, str]


def list_unresolved(connection: Connection, now: Now, wanted: UnresolvedFilter, *, after: Place, limit: int) -> Page:
    """A page after a place, and the database's time."""
    now_us = connection.execute(select(now)).scalar_one()
    walks, values = [], {"since_us": after.since_us, "item_id": after.item_id, "tenant_id": wanted.tenant_id}
    tables: tuple[tuple[int, Any, str, str, str], ...] = (
        (_OPERATION, wanted.operations, "operations", "operation_id, claimed_time_us", LIVE_OPERATION),
        (_PAYMENT, wanted.payments, "payments", "payment_id, created_time_us", STUCK_PAYMENT),
    )
    for kind, states, table, columns, live in tables:
        item_id, since = columns.split(", ")
        for number, (state, age_s) in enumerate(sorted(states.items())):
            name = f"{table}_{number}"
            values |= {f"{name}_state": state.value, f"{name}_until_us": now_us - microseconds(age_s)}
            walks.append(
                f"SELECT {kind} AS kind, tenant_id, item_id, since_us FROM (SELECT tenant_id, {item_id} AS item_id, "
                f"{since} AS since_us FROM {table} WHERE state = :{name}_state AND {live} "
                # The first condition is what the index is searched by.
                f"AND {since} >= :since_us AND ({since} > :since_us OR {item_id} > :item_id) "
                f"AND {since} <= :{name}_until_us {'AND tenant_id = :tenant_id' if wanted.tenant_id else ''} "
                f"ORDER BY {since}, {item_id} LIMIT :limit) {name}"
            )
    if not walks:
        return Page((), now_us)
    union = " UNION ALL ".join(walks)
    rows = connection.execute(
        text(f"SELECT * FROM ({union}) walks ORDER BY since_us, item_id LIMIT :limit"), values | {"limit": limit + 1}
    ).all()
    more, rows = len(rows) > limit, rows[:limit]
    operations_found = _operations(connection, [(r.tenant_id, r.item_id) for r in rows if r.kind == _OPERATION])
    payments_found = _payments(connection, [(r.tenant_id, r.item_id) for r in rows if r.kind == _PAYMENT])
    found = (operations_found, payments_found)
    # One that came to its end between the two looks is not on the page any more.
    items = (found[row.kind].get((row.tenant_id, row.item_id)) for row in rows)
    last = Place(rows[-1].since_us, rows[-1].item_id) if more else None
    return Page(tuple(item for item in items if item is not None), now_us, last)


def _operations(connection: Connection, keys: list[Key]) -> dict[Key, UnresolvedItem]:
    if not keys:
        return {}
    of = operations.c
    same = and_(payments.c.tenant_id == of.tenant_id, payments.c.payment_id == of.payment_id)
    query = (
        select(operations, payments.c.version)
        .join(payments, same)
        .where(tuple_(of.tenant_id, of.operation_id).in_(keys))
    )
    rows = connection.execute(query).mappings().all()
    proposed = _proposals(connection, [(row["tenant_id"], row["command_id"]) for row in rows])
    return {
        (row["tenant_id"], row["operation_id"]): UnresolvedOperation(
            operation_from(row),
            row["claimed_time_us"],
            row["version"],
            proposed.get((row["tenant_id"], row["command_id"])),
        )
        for row in rows
    }


def _proposals(connection: Connection, keys: list[Key]) -> dict[Key, Proposal]:
    """The latest proposal for each command."""
    table = proposals.c
    query = (
        select(proposals)
        .where(tuple_(table.tenant_id, table.command_id).in_(keys))
        .order_by(table.proposed_time_us, table.proposal_id)
    )
    return {(row["tenant_id"], row["command_id"]): proposal_from(row) for row in connection.execute(query).mappings()}


def _payments(connection: Connection, keys: list[Key]) -> dict[Key, UnresolvedItem]:
    if not keys:
        return {}
    table = payments.c
    query = select(payments).where(tuple_(table.tenant_id, table.payment_id).in_(keys))
    return {
        (row["tenant_id"], row["payment_id"]): StuckPayment(
            payment_id=row["payment_id"],
            tenant_id=row["tenant_id"],
            state=PaymentState(row["state"]),
            amount_minor=row["amount_minor"],
            currency=row["currency"],
            provider=row["provider"],
            account_id=row["account_id"],
            order_reference=row["order_reference"],
            since_us=row["created_time_us"],
        )
        for row in connection.execute(query).mappings()
    }


def raise_alarms(
    connection: Connection,
    now: Now,
    record: Callable[[Operation], AuditRecord],
    *,
    older_than_s: float,
    limit: int,
) -> list[Operation]:
    """Mark what is past its alarm and was not marked yet, with an audit record each; a mark is made once."""
    table = operations.c
    known = exists().where(alarms.c.tenant_id == table.tenant_id, alarms.c.operation_id == table.operation_id)
    query = (
        select(operations)
        .where(
            text(LIVE_OPERATION),
            table.state.in_(sorted(state.value for state in RESERVING_STATES)),
            table.claimed_time_us <= now - microseconds(older_than_s),
            ~known,
        )
        .order_by(table.claimed_time_us)
        .limit(limit)
    )
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    raised = []
    for row in connection.execute(query).mappings().all():
        operation = operation_from(row)
        mark = {"tenant_id": operation.tenant_id, "operation_id": operation.operation_id, "raised_time_us": now}
        # Another process may be marking it as well: whoever makes the mark tells.
        marked = dialect.insert(alarms).values(mark).on_conflict_do_nothing().returning(alarms.c.operation_id)
        if connection.execute(marked).one_or_none() is not None:
            append_audit(connection, now, [record(operation)])
            raised.append(operation)
    return raised
