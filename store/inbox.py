"""Units of the inbox: take live callbacks under a lease, say what became of them, look at them, take one again."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, LargeBinary, literal, or_, select, text, union_all, update

from gateway.domain.operating import CallbackFilter, KeptCallback
from gateway.domain.storage import AuditRecord, CallbackChange, CallbackState, TakenCallback
from store.hot import microseconds
from store.records import callback_from
from store.recovery import append_audit
from store.tables import LIVE_CALLBACK, callbacks
from store.values import Stored, clean


def take_callbacks(
    connection: Connection,
    now: ColumnElement[int],
    *,
    limit: int,
    lease_s: float,
    except_accounts: Sequence[str] = (),
) -> Sequence[TakenCallback]:
    """Callbacks that are due, oldest first; none of `except_accounts`. PostgreSQL's is in `store.postgresql_inbox`."""
    table = callbacks.c
    due = (
        select(table.callback_id)
        .where(
            text(LIVE_CALLBACK),
            table.next_attempt_us <= now,
            or_(table.lease_until_us.is_(None), table.lease_until_us < now),
            table.account_id.not_in(except_accounts),
        )
        .order_by(table.next_attempt_us)
        .limit(limit)
        .cte("due")
    )
    lease_until = now + microseconds(lease_s)
    statement = (
        update(callbacks)
        .where(table.callback_id.in_(select(due.c.callback_id)))
        .values(
            epoch=table.epoch + 1,
            tries=table.tries + 1,
            lease_until_us=lease_until,
            next_attempt_us=lease_until,
        )
        .returning(callbacks)
    )
    return taken_callbacks_from(connection.execute(statement).mappings())


def taken_callbacks_from(rows: Iterable[Stored]) -> Sequence[TakenCallback]:
    """Taken callbacks, in the order in which they came."""
    taken = sorted(rows, key=lambda row: int(row["received_time_us"]))
    return [TakenCallback(callback_from(row), row["epoch"], row["tries"], CallbackState(row["state"])) for row in taken]


def change_callback(
    connection: Connection, now: ColumnElement[int], change: CallbackChange, records: Sequence[AuditRecord] = ()
) -> bool:
    """Write what became of a callback, and audit records with it, where its epoch still stands."""
    later = None if change.next_attempt_s is None else now + microseconds(change.next_attempt_s)
    statement = (
        update(callbacks)
        .where(callbacks.c.callback_id == change.callback_id, callbacks.c.epoch == change.expected_epoch)
        .values(
            state=change.state.value,
            note=clean(change.note),
            tenant_id=change.tenant_id,
            payment_id=change.payment_id,
            lease_until_us=None,
            next_attempt_us=later,
        )
        .returning(callbacks.c.callback_id)
    )
    if connection.execute(statement).one_or_none() is None:
        return False
    append_audit(connection, now, records)
    return True


def replay_callback(
    connection: Connection, now: ColumnElement[int], callback_id: str, record: AuditRecord, *, lease_s: float
) -> TakenCallback | None:
    """Back to RECEIVED under a higher epoch and a lease; None where it is APPLIED or held."""
    table = callbacks.c
    lease_until = now + microseconds(lease_s)
    statement = (
        update(callbacks)
        .where(
            table.callback_id == callback_id,
            table.state != CallbackState.APPLIED.value,
            or_(table.lease_until_us.is_(None), table.lease_until_us < now),
        )
        .values(
            state=CallbackState.RECEIVED.value,
            epoch=table.epoch + 1,
            tries=table.tries + 1,
            lease_until_us=lease_until,
            next_attempt_us=lease_until,
        )
        .returning(callbacks)
    )
    row = connection.execute(statement).mappings().one_or_none()
    if row is None:
        return None
    append_audit(connection, now, [record])
    return TakenCallback(callback_from(row), row["epoch"], row["tries"], CallbackState(row["state"]))


def find_callback(connection: Connection, callback_id: str) -> KeptCallback | None:
    """One callback, with its body."""
    row = connection.execute(select(callbacks).where(callbacks.c.callback_id == callback_id)).mappings().one_or_none()
    return None if row is None else kept_callback_from(row)


def list_callbacks(
    connection: Connection, wanted: CallbackFilter, *, before_callback_id: str, limit: int
) -> Sequence[KeptCallback]:
    """A page, newest first. Each state is a walk down its own index, and the page is the newest of them together."""
    table = callbacks.c
    conditions: list[Any] = [table.callback_id < before_callback_id] if before_callback_id else []
    states = (wanted.state,) if wanted.state else tuple(CallbackState)
    if wanted.payment_id:
        # A payment has few callbacks: its index is walked once. The second condition is that index's own.
        conditions += [table.payment_id == wanted.payment_id, text("payment_id <> ''")]
        if wanted.account_id:
            conditions.append(table.account_id == wanted.account_id)
        if wanted.state:
            conditions.append(table.state == wanted.state.value)
        found = select(table.callback_id).where(*conditions).order_by(table.callback_id.desc()).limit(limit)
    else:
        if wanted.account_id:
            conditions.append(table.account_id == wanted.account_id)
        walks = (
            select(table.callback_id)
            .where(table.state == state.value, *conditions)
            .order_by(table.callback_id.desc())
            .limit(limit)
            .subquery(f"walk_{state.lower()}")
            for state in states
        )
        newest = union_all(*(select(walk.c.callback_id) for walk in walks)).subquery("walks")
        found = select(newest.c.callback_id).order_by(newest.c.callback_id.desc()).limit(limit)
    query = select(*HEAD).where(table.callback_id.in_(found)).order_by(table.callback_id.desc())
    return [kept_callback_from(row) for row in connection.execute(query).mappings()]


HEAD = tuple(
    literal(b"", LargeBinary).label("body") if column.name == "body" else column for column in callbacks.columns
)
"""A callback without its body: a page of bodies could be 50 MiB."""


def kept_callback_from(row: Stored) -> KeptCallback:
    """A callback as it stands."""
    return KeptCallback(
        callback=callback_from(row),
        state=CallbackState(row["state"]),
        note=row["note"],
        epoch=row["epoch"],
        tries=row["tries"],
        tenant_id=row["tenant_id"],
        payment_id=row["payment_id"],
    )
