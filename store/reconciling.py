"""Units of reconciliation: jobs under leases, one under way for each account."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, delete, exists, func, or_, select, text, update

from gateway.domain.commands import Caller
from gateway.domain.reconciliation import (
    Break,
    CurrencySums,
    JobState,
    Phase,
    Reconciliation,
    ReconciliationFilter,
    Standing,
    Step,
    Sums,
    Wanted,
)
from gateway.domain.storage import AuditRecord
from store import breaks, windows
from store.hot import microseconds
from store.inserting import insert_if_new
from store.oversight_tables import LIVE_JOB, reconciliation_breaks, reconciliation_seen
from store.oversight_tables import reconciliations as jobs
from store.recovery import append_audit
from store.values import clean, document

Now = ColumnElement[int]

TAKE_LOCK = 6_242_661_003
"""Any fixed number: whoever takes a reconciliation from an Obol database holds this advisory lock meanwhile."""


def want(connection: Connection, now: Now, wanted: Wanted, audit: AuditRecord) -> tuple[Reconciliation, bool]:
    """Queue a job, unless its key has one."""
    values = {
        "reconciliation_id": wanted.reconciliation_id,
        "tenant_id": wanted.caller.tenant_id,
        "idempotency_key": wanted.idempotency_key,
        "organization_id": wanted.caller.organization_id,
        "actor": wanted.caller.actor,
        "correlation_id": wanted.caller.correlation_id,
        "account_id": wanted.account_id,
        "window_start_us": wanted.window_start_us,
        "window_end_us": wanted.window_end_us,
        "dry_run": wanted.dry_run,
        "state": JobState.QUEUED.value,
        "phase": Phase.THEIRS.value,
        "position": "",
        "created_time_us": now,
        "next_attempt_us": now,
        "sums": "{}",
        "failure": "",
    } | dict.fromkeys(("epoch", "postponed", "generation", "provider_count", "foreign_count", "payment_count"), 0)
    is_new = insert_if_new(connection, jobs, values)
    if is_new:
        append_audit(connection, now, [audit])
    same = and_(jobs.c.tenant_id == wanted.caller.tenant_id, jobs.c.idempotency_key == wanted.idempotency_key)
    return _job(connection, connection.execute(select(jobs).where(same)).mappings().one()), is_new


def get(connection: Connection, reconciliation_id: str) -> Reconciliation | None:
    """A job with its counts."""
    found = connection.execute(select(jobs).where(jobs.c.reconciliation_id == reconciliation_id)).mappings()
    row = found.one_or_none()
    return None if row is None else _job(connection, row)


def list_jobs(
    connection: Connection, wanted: ReconciliationFilter, *, before_reconciliation_id: str, limit: int
) -> Sequence[Reconciliation]:
    """A page with its counts, by id from the newest: a walk down the key. There are a few jobs for an account a day."""
    query = select(jobs).order_by(jobs.c.reconciliation_id.desc()).limit(limit)
    if before_reconciliation_id:
        query = query.where(jobs.c.reconciliation_id < before_reconciliation_id)
    if wanted.account_id:
        query = query.where(jobs.c.account_id == wanted.account_id)
    if wanted.states:
        query = query.where(jobs.c.state.in_(sorted(each.value for each in wanted.states)))
    if wanted.created_from_us is not None:
        query = query.where(jobs.c.created_time_us >= wanted.created_from_us)
    if wanted.created_before_us is not None:
        query = query.where(jobs.c.created_time_us < wanted.created_before_us)
    if wanted.with_breaks_left:
        found = reconciliation_breaks.c
        query = query.where(exists().where(found.reconciliation_id == jobs.c.reconciliation_id, ~found.mended))
    return [_job(connection, row) for row in connection.execute(query).mappings().all()]


def take(connection: Connection, now: Now, generation: ColumnElement[int], *, lease_s: float) -> Reconciliation | None:
    """A job under way whose lease has ended, else the oldest queued one of an account that has none under way."""
    # One take at a time: two replicas that start two jobs of one account would both find none under way.
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(TAKE_LOCK)))
    other = jobs.alias("other")
    busy = exists().where(other.c.account_id == jobs.c.account_id, other.c.state == JobState.RUNNING.value)
    free = or_(jobs.c.lease_until_us.is_(None), jobs.c.lease_until_us < now)
    due = (
        select(jobs.c.reconciliation_id)
        .where(text(LIVE_JOB), jobs.c.next_attempt_us <= now, free)
        .where(or_(jobs.c.state == JobState.RUNNING.value, ~busy))
        .order_by((jobs.c.state == JobState.RUNNING.value).desc(), jobs.c.created_time_us, jobs.c.reconciliation_id)
        .limit(1)
    )
    taken = connection.scalar(due)
    if taken is None:
        return None
    lease_until = now + microseconds(lease_s)
    begins = jobs.c.begun_time_us.is_(None)
    statement = (
        update(jobs)
        .where(jobs.c.reconciliation_id == taken)
        .values(
            state=JobState.RUNNING.value,
            epoch=jobs.c.epoch + 1,
            lease_until_us=lease_until,
            next_attempt_us=lease_until,
            begun_time_us=func.coalesce(jobs.c.begun_time_us, now),
            window_end_us=func.coalesce(jobs.c.window_end_us, now),
            generation=case((begins, generation), else_=jobs.c.generation),
        )
        .returning(jobs)
    )
    return _job(connection, connection.execute(statement).mappings().one())


def note_breaks(connection: Connection, now: Now, job: Reconciliation, found: Sequence[Break]) -> bool:
    """Keep breaks under the job's epoch."""
    if not _held(connection, job):
        return False
    breaks.note_breaks(connection, now, job, found)
    return True


def take_step(
    connection: Connection, now: Now, job: Reconciliation, step: Step, *, lease_s: float
) -> Reconciliation | None:
    """Commit a page under the job's epoch."""
    if not _held(connection, job):
        return None
    windows.remember(connection, job, step.seen)
    breaks.mark_mended(connection, job, step.clean)
    sums = dict(job.sums)
    for currency, added in step.sums.items():
        sums[currency] = sums.get(currency, CurrencySums()).plus(added)
    lease_until = now + microseconds(lease_s)
    statement = (
        update(jobs)
        .where(jobs.c.reconciliation_id == job.reconciliation_id)
        .values(
            phase=step.phase.value,
            position=step.position,
            postponed=0,
            provider_count=jobs.c.provider_count + step.provider_count,
            foreign_count=jobs.c.foreign_count + step.foreign_count,
            payment_count=jobs.c.payment_count + step.payment_count,
            sums=document({currency: _sums_row(each) for currency, each in sums.items()}),
            lease_until_us=lease_until,
            next_attempt_us=lease_until,
        )
        .returning(jobs)
    )
    return _job(connection, connection.execute(statement).mappings().one())


def pause(connection: Connection, now: Now, job: Reconciliation, *, next_attempt_s: float, postponed: bool) -> bool:
    """End the lease; somebody takes the job again later."""
    statement = (
        update(jobs)
        .where(*_of_holder(job))
        .values(
            lease_until_us=None,
            next_attempt_us=now + microseconds(next_attempt_s),
            postponed=jobs.c.postponed + (1 if postponed else 0),
        )
        .returning(jobs.c.reconciliation_id)
    )
    return connection.execute(statement).one_or_none() is not None


def end(connection: Connection, now: Now, job: Reconciliation, *, failure: str) -> bool:
    """DONE or FAILED, and what was seen is forgotten."""
    statement = (
        update(jobs)
        .where(*_of_holder(job))
        .values(
            state=(JobState.FAILED if failure else JobState.DONE).value,
            failure=clean(failure),
            ended_time_us=now,
            lease_until_us=None,
            next_attempt_us=None,
        )
        .returning(jobs.c.reconciliation_id)
    )
    if connection.execute(statement).one_or_none() is None:
        return False
    connection.execute(
        delete(reconciliation_seen).where(reconciliation_seen.c.reconciliation_id == job.reconciliation_id)
    )
    return True


def standings(connection: Connection, now: Now) -> Sequence[Standing]:
    """The newest finished job of each account, and what it left unmended."""
    table = jobs.c
    newest = (
        select(table.account_id, func.max(table.ended_time_us).label("ended_time_us"))
        .where(table.state == JobState.DONE.value)
        .group_by(table.account_id)
        .subquery()
    )
    found = reconciliation_breaks.c
    unmended = (
        select(func.count()).where(found.reconciliation_id == table.reconciliation_id, ~found.mended).scalar_subquery()
    )
    query = select(table.account_id, table.ended_time_us, unmended.label("unmended"), now.label("now_us")).join(
        newest, and_(newest.c.account_id == table.account_id, newest.c.ended_time_us == table.ended_time_us)
    )
    return [
        Standing(row.account_id, row.unmended, max(0, row.now_us - row.ended_time_us) / 1_000_000)
        for row in connection.execute(query)
    ]


def _of_holder(job: Reconciliation) -> tuple[ColumnElement[bool], ...]:
    return (
        jobs.c.reconciliation_id == job.reconciliation_id,
        jobs.c.epoch == job.epoch,
        jobs.c.state == JobState.RUNNING.value,
    )


def _held(connection: Connection, job: Reconciliation) -> bool:
    """Lock the job's row; whether its epoch still stands."""
    query = select(jobs.c.epoch).where(*_of_holder(job)).with_for_update()
    return connection.scalar(query) is not None


def _job(connection: Connection, row: Any) -> Reconciliation:
    found, mended = breaks.count(connection, row["reconciliation_id"])
    return Reconciliation(
        reconciliation_id=row["reconciliation_id"],
        caller=Caller(row["tenant_id"], row["organization_id"], row["actor"], row["correlation_id"]),
        idempotency_key=row["idempotency_key"],
        account_id=row["account_id"],
        window_start_us=row["window_start_us"],
        window_end_us=row["window_end_us"],
        dry_run=bool(row["dry_run"]),
        state=JobState(row["state"]),
        phase=Phase(row["phase"]),
        position=row["position"],
        epoch=row["epoch"],
        postponed=row["postponed"],
        generation=row["generation"],
        created_time_us=row["created_time_us"],
        begun_time_us=row["begun_time_us"],
        ended_time_us=row["ended_time_us"],
        provider_count=row["provider_count"],
        foreign_count=row["foreign_count"],
        payment_count=row["payment_count"],
        sums=_sums(row["sums"]),
        failure=row["failure"],
        break_count=found,
        mended_count=mended,
    )


def _sums(kept: str) -> Sums:
    return {currency: CurrencySums(*amounts) for currency, amounts in json.loads(kept).items()}


def _sums_row(sums: CurrencySums) -> list[int]:
    return [sums.our_captured_minor, sums.their_captured_minor, sums.our_refunded_minor, sums.their_refunded_minor]
