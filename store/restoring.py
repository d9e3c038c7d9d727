"""Units of a restore from backup: the generation that an operator raises, and what ends the wait after it."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Select, exists, func, insert, literal, select, text

from gateway.domain.reconciliation import Reconciliation, Restore
from store.hot import microseconds
from store.inserting import insert_if_new
from store.oversight_tables import (
    cautions,
    restore_clearances,
    restore_points,
    restore_reads,
    restores,
)
from store.sends import SKEW_US
from store.tables import observation_log

Now = ColumnElement[int]

current = select(func.coalesce(func.max(restores.c.generation), 0)).scalar_subquery()
"""The database's generation."""


def generation(connection: Connection) -> int:
    """The database's generation; 0 where it was never restored."""
    return connection.scalar(select(current)) or 0


def declared_since(connection: Connection, time_us: int) -> bool:
    """Whether a restore was, or may have been, declared after that time: `before_restore`, as a look."""
    newest_us = connection.scalar(select(func.max(restores.c.raised_time_us)))
    return newest_us is not None and time_us < newest_us + SKEW_US


def raise_generation(
    connection: Connection, now: Now, *, backup_time_us: int, stopped_time_us: int | None, actor: str, reason: str
) -> Restore:
    """One more restore. On PostgreSQL it waits for every claim that has looked already."""
    # Before the lock, which every claim waits for: what is numbered in between comes after it.
    resume_after = _resume_after(connection, backup_time_us)
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE cautions, restores IN ACCESS EXCLUSIVE MODE"))
    insert_if_new(connection, cautions, {"kind": "RESTORE", "since_us": now})
    values = {
        "generation": generation(connection) + 1,
        "backup_time_us": backup_time_us,
        "stopped_time_us": now if stopped_time_us is None else stopped_time_us,
        "raised_time_us": now,
        "actor": actor,
        "reason": reason,
    }
    row = connection.execute(insert(restores).values(values).returning(restores)).mappings().one()
    point = {"generation": row["generation"], "resume_sequence": resume_after}
    connection.execute(insert(restore_points).values(point))
    return Restore(**row)


def release_account(connection: Connection, now: Now, account_id: str, *, actor: str, reason: str) -> int:
    """End every wait of an account by a person's word."""
    return _grant(connection, now, account_id, _waiting(account_id), reconciliation_id="", actor=actor, reason=reason)


def grant(connection: Connection, now: Now, job: Reconciliation, *, quiet_s: float) -> int:
    """End the waits that a finished job proves over."""
    if job.dry_run or job.begun_time_us is None or job.window_end_us is None:
        return 0
    over_us = restores.c.stopped_time_us + microseconds(quiet_s)
    proven = (
        restores.c.generation <= job.generation,
        restores.c.raised_time_us <= job.begun_time_us,
        over_us <= job.begun_time_us,
        over_us <= job.window_end_us,
        restores.c.backup_time_us >= job.window_start_us,
    )
    condition = _waiting(job.account_id).where(*proven)
    return _grant(connection, now, job.account_id, condition, reconciliation_id=job.reconciliation_id)


def quiet_in_s(connection: Connection, now: Now, account_id: str, *, quiet_s: float) -> float:
    """Seconds until what a lost database may have sent last has arrived; 0 where nothing waits."""
    waiting = _waiting(account_id).subquery()
    query = select(func.max(restores.c.stopped_time_us).label("stopped"), now.label("now_us")).where(
        restores.c.generation.in_(select(waiting.c.generation))
    )
    row = connection.execute(query).one()
    if row.stopped is None:
        return 0.0
    return float(max(0, row.stopped + microseconds(quiet_s) - row.now_us)) / 1_000_000


def list_restores(connection: Connection, account_ids: Sequence[str]) -> Sequence[Restore]:
    """Oldest first, each with the accounts that still wait."""
    table = restore_clearances.c
    cleared = {
        (row.account_id, row.generation)
        for row in connection.execute(
            select(table.account_id, table.generation).where(table.account_id.in_(account_ids))
        )
    }
    rows = connection.execute(select(restores).order_by(restores.c.generation)).mappings()
    return [
        Restore(**row, pending=tuple(each for each in account_ids if (each, row["generation"]) not in cleared))
        for row in rows
    ]


def is_pending(connection: Connection, account_id: str) -> bool:
    """Whether some restore still waits at the account."""
    return connection.execute(_waiting(account_id).limit(1)).first() is not None


def mark_read(connection: Connection, tenant_id: str, payment_id: str, *, generation: int) -> None:
    """The payment is known as of every restore up to `generation`."""
    table = restore_reads.c
    known = exists().where(
        table.tenant_id == tenant_id, table.payment_id == payment_id, table.generation == restores.c.generation
    )
    unread = select(literal(tenant_id), literal(payment_id), restores.c.generation).where(
        restores.c.generation <= generation, ~known
    )
    connection.execute(insert(restore_reads).from_select(["tenant_id", "payment_id", "generation"], unread))


def _resume_after(connection: Connection, backup_time_us: int) -> int:
    """The number up to which the log is the backup's.

    What was numbered after the backup was taken is the restored database's own, of gateways that ran on it before the
    restore was declared. An earlier time than the true one only lets consumers read more again.
    """
    log = observation_log.c
    own = select(func.min(log.sequence)).where(log.numbered_time_us > backup_time_us)
    first_own: int | None = connection.scalar(own)
    if first_own is not None:
        return first_own - 1
    return connection.scalar(select(func.max(log.sequence))) or 0


def _waiting(account_id: str) -> Select[int]:
    cleared = exists().where(
        restore_clearances.c.account_id == account_id, restore_clearances.c.generation == restores.c.generation
    )
    return select(restores.c.generation).where(~cleared)


def _grant(
    connection: Connection,
    now: Now,
    account_id: str,
    waiting: Select[int],
    *,
    reconciliation_id: str,
    actor: str = "",
    reason: str = "",
) -> int:
    generations = connection.scalars(waiting).all()
    for generation in generations:
        connection.execute(
            insert(restore_clearances).values(
                account_id=account_id,
                generation=generation,
                reconciliation_id=reconciliation_id,
                actor=actor,
                reason=reason,
                cleared_time_us=now,
            )
        )
    return len(generations)
