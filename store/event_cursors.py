"""Units of missed events: how far each account's event list was read, and which of its events are new."""

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, Connection, or_, select, update

from gateway.domain.reconciliation import EventCursor
from store.hot import microseconds
from store.inserting import insert_if_new
from store.oversight_tables import event_cursors
from store.tables import callbacks

Now = ColumnElement[int]


def take(
    connection: Connection,
    now: Now,
    account_ids: Collection[str],
    *,
    lease_s: float,
    first_s: float,
    poll_s: float,
) -> EventCursor | None:
    """A due cursor under a lease; accounts without one get theirs."""
    table = event_cursors.c
    known = set(connection.scalars(select(table.account_id).where(table.account_id.in_(account_ids))))
    for account_id in sorted(set(account_ids) - known):
        _begin(connection, now, account_id, first_s=first_s, poll_s=poll_s)
    due = (
        select(table.account_id)
        .where(table.account_id.in_(account_ids), table.next_attempt_us <= now)
        .where(or_(table.lease_until_us.is_(None), table.lease_until_us < now))
        .order_by(table.next_attempt_us)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    taken = connection.scalar(due)
    if taken is None:
        return None
    lease_until = now + microseconds(lease_s)
    statement = (
        update(event_cursors)
        .where(table.account_id == taken)
        .values(epoch=table.epoch + 1, lease_until_us=lease_until, next_attempt_us=lease_until)
        .returning(event_cursors, now.label("now_us"))
    )
    row = connection.execute(statement).mappings().one()
    return EventCursor(**{name: row[name] for name in EventCursor.__dataclass_fields__})


def move(
    connection: Connection,
    now: Now,
    cursor: EventCursor,
    *,
    after_event_id: str,
    last_event_time_us: int,
    next_attempt_s: float,
) -> bool:
    """Go on from there under the cursor's epoch."""
    table = event_cursors.c
    statement = (
        update(event_cursors)
        .where(table.account_id == cursor.account_id, table.epoch == cursor.epoch)
        .values(
            after_event_id=after_event_id,
            last_event_time_us=last_event_time_us,
            lease_until_us=None,
            next_attempt_us=now + microseconds(next_attempt_s),
        )
        .returning(table.account_id)
    )
    return connection.execute(statement).one_or_none() is not None


def unknown(connection: Connection, provider: str, account_id: str, event_ids: Sequence[str]) -> Sequence[str]:
    """Those that the inbox does not have, in the order given."""
    table = callbacks.c
    known = set(
        connection.scalars(
            select(table.event_id).where(
                table.provider == provider, table.account_id == account_id, table.event_id.in_(event_ids)
            )
        )
    )
    return [event_id for event_id in event_ids if event_id not in known]


def _begin(connection: Connection, now: Now, account_id: str, *, first_s: float, poll_s: float) -> None:
    values = {
        "account_id": account_id,
        "after_event_id": "",
        "last_event_time_us": 0,
        "first_time_us": now - microseconds(first_s),
        "epoch": 0,
        "next_attempt_us": now + microseconds(poll_s),
    }
    insert_if_new(connection, event_cursors, values)  # another replica may begin it at the same moment
