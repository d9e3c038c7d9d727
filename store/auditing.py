"""Units of the audit trail: records, newest first, over indexes that every insert has already paid for.

An audit record's id begins with the millisecond of its making, so the primary key is the order of time. What has no
index of its own (actor, action, exact times) is looked for among WALK_ROWS records of that order at a time: a page
costs the same whatever is asked, and says where to go on.
"""

from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, text

from gateway.domain.commands import Caller
from gateway.domain.operating import AuditFilter, AuditPage, KeptAuditRecord
from gateway.domain.storage import AuditRecord
from store.operating_tables import OPERATOR_ACT
from store.tables import audit
from store.values import Stored

WALK_ROWS = 5_000
"""Records that one page looks at."""

SKEW_S_MAX = 900
"""How far a process's clock, which makes the id, may be from the database's, which records the time."""

_ID_MS_MAX = 2**48 - 1


def list_audit(connection: Connection, wanted: AuditFilter, *, position: str, limit: int) -> AuditPage:
    """A page after `position`, and where to go on."""
    walk = select(audit).where(*_bounds(wanted, position)).order_by(audit.c.audit_id.desc()).limit(WALK_ROWS)
    walked = walk.subquery("walked")
    found = select(walked).where(*_exactly(wanted, walked.c)).order_by(walked.c.audit_id.desc()).limit(limit)
    records = tuple(kept_audit_from(row) for row in connection.execute(found).mappings())
    if len(records) == limit:
        return AuditPage(records, records[-1].record.audit_id)
    last, looked_at = connection.execute(select(func.min(walked.c.audit_id), func.count()).select_from(walked)).one()
    return AuditPage(records, last if looked_at == WALK_ROWS else "")


def _bounds(wanted: AuditFilter, position: str) -> list[ColumnElement[bool]]:
    """What an index is walked by."""
    table = audit.c
    conditions: list[Any] = [text(OPERATOR_ACT)] if wanted.operators_only else []
    if wanted.tenant_id or not wanted.operators_only:
        conditions.append(table.tenant_id == wanted.tenant_id)
    if wanted.payment_id:
        # The second condition is the partial index's own, and must be seen to hold: no parameter.
        conditions += [table.payment_id == wanted.payment_id, text("payment_id <> ''")]
    if position:
        conditions.append(table.audit_id < position)
    if wanted.recorded_from_us is not None:
        conditions.append(table.audit_id >= _id_at(wanted.recorded_from_us // 1_000 - SKEW_S_MAX * 1_000))
    if wanted.recorded_before_us is not None:
        conditions.append(table.audit_id < _id_at(wanted.recorded_before_us // 1_000 + SKEW_S_MAX * 1_000 + 1))
    return conditions


def _exactly(wanted: AuditFilter, column: Any) -> list[ColumnElement[bool]]:
    """What is compared record by record."""
    conditions = []
    if wanted.actor:
        conditions.append(column.actor == wanted.actor)
    if wanted.action:
        conditions.append(column.action == wanted.action)
    if wanted.recorded_from_us is not None:
        conditions.append(column.recorded_time_us >= wanted.recorded_from_us)
    if wanted.recorded_before_us is not None:
        conditions.append(column.recorded_time_us < wanted.recorded_before_us)
    return conditions


def kept_audit_from(row: Stored) -> KeptAuditRecord:
    """A record with its time."""
    record = AuditRecord(
        audit_id=row["audit_id"],
        caller=Caller(row["tenant_id"], row["organization_id"], row["actor"], row["correlation_id"]),
        action=row["action"],
        result=row["result"],
        failure=row["failure"],
        provider=row["provider"],
        account_id=row["account_id"],
        payment_id=row["payment_id"],
        command_id=row["command_id"],
        detail=row["detail"],
    )
    return KeptAuditRecord(record, row["recorded_time_us"])


def _id_at(milliseconds: int) -> str:
    """The lowest id of a record that was made in that millisecond, or later."""
    return f"aud_{min(max(milliseconds, 0), _ID_MS_MAX):012x}"
