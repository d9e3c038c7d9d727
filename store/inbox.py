"""Units of the inbox: take live callbacks under a lease, and say what became of them."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, or_, select, text, update

from gateway.domain.storage import CallbackChange, CallbackState, TakenCallback
from store.hot import microseconds
from store.records import callback_from
from store.rows import clean
from store.tables import LIVE_CALLBACK, callbacks


def take_callbacks(
    connection: Connection,
    now: ColumnElement[int],
    *,
    limit: int,
    lease_s: float,
    except_accounts: Sequence[str] = (),
) -> Sequence[TakenCallback]:
    """Callbacks that are due, oldest first; none of `except_accounts`, and none that another process is taking."""
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
        .with_for_update(skip_locked=True)
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
    taken = sorted(connection.execute(statement).mappings(), key=lambda row: int(row["received_time_us"]))
    return [TakenCallback(callback_from(row), row["epoch"], row["tries"], CallbackState(row["state"])) for row in taken]


def change_callback(connection: Connection, now: ColumnElement[int], change: CallbackChange) -> bool:
    """Write what became of a callback, where its epoch still stands."""
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
    return connection.execute(statement).one_or_none() is not None
