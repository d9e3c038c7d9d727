"""Units of reconciliation: the breaks that a job found, in order, and the operations that a restore lost."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, select, tuple_, update

from gateway.domain.reconciliation import Break, BreakType, Reconciliation
from store.inserting import insert_if_new
from store.lost import in_turn
from store.oversight_tables import cautions, lost_operations, reconciliation_breaks
from store.tables import operations
from store.values import Row, clean, document

Now = ColumnElement[int]


def list_breaks(connection: Connection, reconciliation_id: str, *, after_number: int, limit: int) -> Sequence[Break]:
    """In the order in which they were found."""
    table = reconciliation_breaks.c
    query = (
        select(reconciliation_breaks)
        .where(table.reconciliation_id == reconciliation_id, table.number > after_number)
        .order_by(table.number)
        .limit(limit)
    )
    return [_break(row) for row in connection.execute(query).mappings()]


def note_breaks(connection: Connection, now: Now, job: Reconciliation, breaks: Sequence[Break]) -> None:
    """Number and keep breaks that this job has not found yet; operations that nobody claimed there are lost."""
    table = reconciliation_breaks.c
    last = connection.scalar(
        select(func.coalesce(func.max(table.number), 0)).where(table.reconciliation_id == job.reconciliation_id)
    )
    for each in breaks:
        row: Row = {
            "type": each.type.value,
            "tenant_id": clean(each.tenant_id),
            "payment_id": clean(each.payment_id),
            "provider_payment_id": clean(each.provider_payment_id),
            "mends": each.mends,
        }
        there = select(table.number).where(
            table.reconciliation_id == job.reconciliation_id, *(table[name] == value for name, value in row.items())
        )
        if connection.scalar(there) is None:
            last = (last or 0) + 1
            row |= {
                "reconciliation_id": job.reconciliation_id,
                "number": last,
                "ours": clean(each.ours),
                "theirs": clean(each.theirs),
                "order_reference": clean(each.order_reference),
                "operation_ids": document(list(each.operation_ids)),
                "mended": False,
                "found_time_us": now,
            }
            connection.execute(insert(reconciliation_breaks).values(row))
        if not job.dry_run:
            _note_lost(connection, now, job, each)


def mark_mended(connection: Connection, job: Reconciliation, clean_now: Sequence[tuple[str, str]]) -> None:
    """The breaks of these payments that a merge removes are removed."""
    if not clean_now or job.dry_run:
        return
    table = reconciliation_breaks.c
    connection.execute(
        update(reconciliation_breaks)
        .where(table.reconciliation_id == job.reconciliation_id, table.mends)
        .where(tuple_(table.tenant_id, table.payment_id).in_(clean_now))
        .values(mended=True)
    )


def count(connection: Connection, reconciliation_id: str) -> tuple[int, int]:
    """How many a job has found, and how many of those are mended."""
    table = reconciliation_breaks.c
    counted = select(func.count(), func.count().filter(table.mended))
    found, mended = connection.execute(counted.where(table.reconciliation_id == reconciliation_id)).one()
    return found, mended


def _note_lost(connection: Connection, now: Now, job: Reconciliation, each: Break) -> None:
    if each.operation_ids:
        in_turn(connection, each.tenant_id, each.payment_id)
    for operation_id in each.operation_ids:
        key = (lost_operations.c.tenant_id == each.tenant_id, lost_operations.c.operation_id == operation_id)
        # At this account: a create that was reopened at another one keeps its operation.
        claimed = select(operations.c.operation_id).where(
            operations.c.tenant_id == each.tenant_id,
            operations.c.operation_id == operation_id,
            operations.c.account_id == job.account_id,
        )
        noted = select(lost_operations.c.operation_id).where(*key)
        if connection.scalar(claimed) is not None or connection.scalar(noted) is not None:
            continue
        insert_if_new(connection, cautions, {"kind": "LOST", "since_us": now})
        connection.execute(
            insert(lost_operations).values(
                tenant_id=clean(each.tenant_id),
                operation_id=clean(operation_id),
                account_id=job.account_id,
                payment_id=clean(each.payment_id),
                provider_payment_id=clean(each.provider_payment_id),
                reconciliation_id=job.reconciliation_id,
                order_reference=clean(each.order_reference) if each.holds_order else "",
                found_time_us=now,
            )
        )


def _break(row: Any) -> Break:
    return Break(
        type=BreakType(row["type"]),
        tenant_id=row["tenant_id"],
        payment_id=row["payment_id"],
        provider_payment_id=row["provider_payment_id"],
        ours=row["ours"],
        theirs=row["theirs"],
        order_reference=row["order_reference"],
        operation_ids=tuple(json.loads(row["operation_ids"])),
        mends=bool(row["mends"]),
        mended=bool(row["mended"]),
        number=row["number"],
    )
