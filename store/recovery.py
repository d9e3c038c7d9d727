"""Units of recovery: resend, give back, keep evidence, find what was abandoned, and count what is open."""

import math
from collections.abc import Sequence

from sqlalchemy import Column, ColumnElement, Connection, case, func, insert, select, text, tuple_, update

from gateway.domain.commands import Operation
from gateway.domain.states import LIVE_COMMAND_STATES, RESERVING_STATES, CommandState
from gateway.domain.storage import AuditRecord, Unresolved
from store.hot import microseconds
from store.records import audit_row
from store.rows import operation_from
from store.sends import before_restore, held, lost_to
from store.tables import (
    EXPIRABLE_COMMAND,
    FAILING_OVER,
    LIVE_CALLBACK,
    LIVE_OPERATION,
    UNFINISHED_ACTION,
    audit,
    callbacks,
    commands,
    evidence,
    observation_log,
    operations,
    payments,
)
from store.values import clean

AGE_S_MAX = 100 * 366 * 86_400

Now = ColumnElement[int]
_MAY_RESEND = (
    f"NOT {held('operations.account_id')} AND NOT {lost_to('operations')} "
    f"AND NOT {before_restore('operations.claimed_time_us')}"
)
_LIVE = sorted(state.value for state in LIVE_COMMAND_STATES)


def start_resend(
    connection: Connection, now: Now, operation: Operation, *, lease_s: float, send_window_s: float
) -> Operation | None:
    """Move the last possible send and the lease on; None where the epoch no longer stands, or the lease has ended.

    The lease is asked for although the epoch stands: a holder that slept through it judged the operation's age long
    ago, and nobody else need have taken it since. By now the provider may have forgotten the key. And nothing is sent
    at an account that waits for its reconciliation after a restore, nor what a restore has lost elsewhere, nor what was
    claimed before one.
    """
    lease_until = now + microseconds(lease_s)
    statement = (
        update(operations)
        .where(*_held(operation), operations.c.lease_until_us > now, text(_MAY_RESEND))
        .values(lease_until_us=lease_until, next_attempt_us=lease_until, last_send_us=now + microseconds(send_window_s))
        .returning(operations)
    )
    row = connection.execute(statement).mappings().one_or_none()
    return None if row is None else operation_from(row)


def reschedule(connection: Connection, now: Now, operation: Operation, *, next_attempt_s: float, failure: str) -> bool:
    """End the lease and come again later, nothing else changed."""
    statement = (
        update(operations)
        .where(*_held(operation))
        .values(lease_until_us=None, next_attempt_us=now + microseconds(next_attempt_s), failure=clean(failure))
        .returning(operations.c.operation_id)
    )
    return connection.execute(statement).one_or_none() is not None


def append_evidence(connection: Connection, now: Now, operation: Operation, words: str, record: AuditRecord) -> None:
    """Keep `words` under the audit record's id, and make the operation due where it is live.

    A lease that somebody holds is left to end: its holder will see the same provider.
    """
    connection.execute(
        insert(evidence).values(
            tenant_id=operation.tenant_id,
            evidence_id=record.audit_id,
            payment_id=operation.payment_id,
            operation_id=operation.operation_id,
            epoch=operation.epoch,
            evidence=clean(words),
            recorded_time_us=now,
        )
    )
    append_audit(connection, now, [record])
    connection.execute(
        update(operations)
        .where(
            operations.c.tenant_id == operation.tenant_id,
            operations.c.operation_id == operation.operation_id,
            operations.c.state.in_(_LIVE),
        )
        .values(next_attempt_us=now)
    )


def append_audit(connection: Connection, now: Now, records: Sequence[AuditRecord]) -> None:
    """Add audit records."""
    for record in records:
        connection.execute(insert(audit).values(**audit_row(record), recorded_time_us=now))


def take_abandoned(connection: Connection, now: Now, *, limit: int, retry_s: float) -> Sequence[tuple[str, str]]:
    """(tenant, payment) whose action is overdue; each is put off by `retry_s`, so that nobody else takes it now."""
    return _take_payments(connection, now, payments.c.action_due_us, UNFINISHED_ACTION, limit=limit, retry_s=retry_s)


def take_failovers(connection: Connection, now: Now, *, limit: int, retry_s: float) -> Sequence[tuple[str, str]]:
    """(tenant, payment) whose failover is due; each is put off by `retry_s`, so that nobody else takes it now."""
    return _take_payments(connection, now, payments.c.failover_due_us, FAILING_OVER, limit=limit, retry_s=retry_s)


def _take_payments(
    connection: Connection, now: Now, due_us: Column[int], which: str, *, limit: int, retry_s: float
) -> Sequence[tuple[str, str]]:
    table = payments.c
    due = (
        select(table.tenant_id, table.payment_id)
        .where(text(which), due_us <= now)
        .order_by(due_us)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    statement = (
        update(payments)
        .where(tuple_(table.tenant_id, table.payment_id).in_(select(due.c.tenant_id, due.c.payment_id)))
        .values({due_us: now + microseconds(retry_s)})
        .returning(table.tenant_id, table.payment_id)
    )
    return [(row.tenant_id, row.payment_id) for row in connection.execute(statement)]


def expire_keys(connection: Connection, now: Now, *, older_than_s: float, limit: int) -> int:
    """Empty final commands whose window is over, and the requests of their operations; how many."""
    table = commands.c
    past = (
        select(table.tenant_id, table.command_id)
        .where(text(EXPIRABLE_COMMAND), table.final_time_us <= now - microseconds(older_than_s))
        .order_by(table.final_time_us)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("past")
    )
    statement = (
        update(commands)
        .where(tuple_(table.tenant_id, table.command_id).in_(select(past.c.tenant_id, past.c.command_id)))
        .values(expired=True, reply=None, request_hash=b"")
        .returning(table.tenant_id, table.command_id)
    )
    expired = [(row.tenant_id, row.command_id) for row in connection.execute(statement)]
    if expired:
        of = operations.c
        connection.execute(
            update(operations)
            .where(tuple_(of.tenant_id, of.command_id).in_(expired), of.state.not_in(_LIVE))
            .values(prepared="")
        )
    return len(expired)


def latest_time_us(connection: Connection) -> int:
    """The latest time that is recorded of what is live, or of an observation's number: it was not later than now."""
    claimed = select(func.max(operations.c.claimed_time_us)).where(text(LIVE_OPERATION)).scalar_subquery()
    last = observation_log.c
    numbered = select(last.numbered_time_us).order_by(last.sequence.desc()).limit(1).scalar_subquery()
    row = connection.execute(select(claimed.label("claimed"), numbered.label("numbered"))).one()
    return max(row.claimed or 0, row.numbered or 0)


def unresolved(connection: Connection, now: Now, *, alarmed_after_s: float = math.inf) -> Unresolved:
    """What is live, counted over the partial indexes of live rows."""
    table = operations.c
    unknown_since = func.min(case((table.state == CommandState.UNKNOWN.value, table.claimed_time_us)))
    # In the same look: an age that nothing has alarms nothing.
    age_us = microseconds(min(alarmed_after_s, AGE_S_MAX))
    old = func.sum(case((table.claimed_time_us <= now - age_us, 1), else_=0))
    counted = select(
        table.state, func.count().label("live"), unknown_since.label("since"), now.label("now_us"), old.label("old")
    )
    rows = connection.execute(counted.where(text(LIVE_OPERATION)).group_by(table.state)).all()
    waiting = connection.scalar(select(func.count()).select_from(callbacks).where(text(LIVE_CALLBACK)))
    ages_us = [row.now_us - row.since for row in rows if row.since is not None]
    return Unresolved(
        live_by_state={CommandState(row.state): row.live for row in rows},
        oldest_unknown_age_s=max(0, *ages_us) / 1_000_000 if ages_us else 0.0,
        callbacks_live=waiting or 0,
        alarmed=sum(int(row.old) for row in rows if CommandState(row.state) in RESERVING_STATES),
    )


def _held(operation: Operation) -> tuple[ColumnElement[bool], ...]:
    """The operation is live, and nobody has raised its epoch."""
    table = operations.c
    return (
        table.tenant_id == operation.tenant_id,
        table.operation_id == operation.operation_id,
        table.epoch == operation.epoch,
        table.state.in_(_LIVE),
    )
