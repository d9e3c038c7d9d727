"""Units of reconciliation: what is ours in a window, and what the provider's list has shown of it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, exists, func, insert, select

from gateway.domain.observations import ObservationKind
from gateway.domain.payments import Payment
from gateway.domain.reconciliation import OurRecord, Reconciliation
from gateway.domain.states import CommandState
from store.hot import microseconds
from store.listing import SKEW_S_MAX, id_at
from store.oversight_tables import reconciliation_seen
from store.rows import payment_from
from store.tables import movements, observations, operations, payments
from store.values import clean

Now = ColumnElement[int]
Key = tuple[str, str]

TENANTS_AT_ONCE_MAX = 200
"""How many tenants one page looks into, so that a window in which hardly anybody paid stays a bounded unit."""

_STUCK = (CommandState.SENDING.value, CommandState.UNKNOWN.value)


def list_window(
    connection: Connection, now: Now, job: Reconciliation, *, after: Key, limit: int, stuck_s: float
) -> Sequence[OurRecord]:
    """A page of the window, tenant by tenant: no index leads with the account, and no payment pays for one."""
    found: list[OurRecord] = []
    tenant_id, payment_id = after
    if not tenant_id:
        tenant_id = _next_tenant(connection, "")
    for _ in range(TENANTS_AT_ONCE_MAX):
        if not tenant_id or len(found) >= limit:
            break
        found += _of_tenant(connection, now, job, tenant_id, payment_id, limit - len(found), stuck_s)
        if len(found) < limit:
            tenant_id, payment_id = _next_tenant(connection, tenant_id), ""
    if tenant_id and not found:
        # No payment of theirs: a mark, so that the next page goes on behind these tenants.
        return [OurRecord(tenant_id, "", None, None, False)]
    return found


def get_payments(connection: Connection, keys: Sequence[Key]) -> Mapping[Key, Payment]:
    """Payments and their movements, in two statements for each tenant.

    Not by pairs: SQLite walks no index for them.
    """
    by_tenant: dict[str, list[str]] = {}
    for tenant_id, payment_id in keys:
        by_tenant.setdefault(tenant_id, []).append(payment_id)
    return {
        (tenant_id, payment.payment_id): payment
        for tenant_id, payment_ids in by_tenant.items()
        for payment in _payments_of(connection, tenant_id, payment_ids)
    }


def _payments_of(connection: Connection, tenant_id: str, payment_ids: Sequence[str]) -> Iterable[Payment]:
    moved: dict[str, list[Any]] = {}
    table = movements.c
    query = select(movements).where(table.tenant_id == tenant_id, table.payment_id.in_(payment_ids))
    for row in connection.execute(query).mappings():
        moved.setdefault(row["payment_id"], []).append(row)
    query = select(payments).where(payments.c.tenant_id == tenant_id, payments.c.payment_id.in_(payment_ids))
    for row in connection.execute(query).mappings():
        yield payment_from(row, moved.get(row["payment_id"], ()))


def has_contradiction(connection: Connection, tenant_id: str, payment_id: str, detail: str) -> bool:
    """By the payment's own observations: a handful."""
    table = observations.c
    query = select(table.observation_id).where(
        table.tenant_id == tenant_id,
        table.payment_id == payment_id,
        table.kind == ObservationKind.CONTRADICTION.value,
        table.detail == clean(detail),
    )
    return connection.scalar(query.limit(1)) is not None


def seen_before(connection: Connection, job: Reconciliation, provider_payment_ids: Sequence[str]) -> Collection[str]:
    """What the list has shown on pages that were committed."""
    table = reconciliation_seen.c
    query = select(table.provider_payment_id).where(
        table.reconciliation_id == job.reconciliation_id, table.provider_payment_id.in_(provider_payment_ids)
    )
    return set(connection.scalars(query))


def remember(connection: Connection, job: Reconciliation, seen: Sequence[tuple[str, str, str]]) -> None:
    """Keep what the list showed, once; a page that is read again shows it again."""
    if not seen:
        return
    known = seen_before(connection, job, [each[0] for each in seen])
    new = {each[0]: each for each in seen if each[0] not in known}
    if new:
        names = ("provider_payment_id", "tenant_id", "payment_id")
        connection.execute(
            insert(reconciliation_seen),
            [
                {"reconciliation_id": job.reconciliation_id} | dict(zip(names, each, strict=True))
                for each in new.values()
            ],
        )


def _of_tenant(
    connection: Connection, now: Now, job: Reconciliation, tenant_id: str, after: str, limit: int, stuck_s: float
) -> Iterable[OurRecord]:
    table, seen, own = payments.c, reconciliation_seen.c, operations.c
    skew_ms = SKEW_S_MAX * 1_000
    start_us, end_us = job.window_start_us, job.window_end_us or 0
    stuck = exists().where(
        own.tenant_id == table.tenant_id,
        own.payment_id == table.payment_id,
        own.state.in_(_STUCK),
        own.claimed_time_us < now - microseconds(stuck_s),
    )
    query = (
        select(
            table.tenant_id,
            table.payment_id,
            table.provider_payment_id,
            seen.tenant_id.label("seen_tenant"),
            seen.payment_id.label("seen_payment"),
            stuck.label("is_stuck"),
        )
        .select_from(
            payments.outerjoin(
                reconciliation_seen,
                and_(
                    seen.reconciliation_id == job.reconciliation_id,
                    seen.provider_payment_id == table.provider_payment_id,
                ),
            )
        )
        .where(
            table.tenant_id == tenant_id,
            table.account_id == job.account_id,
            table.payment_id > after,
            table.payment_id >= id_at(start_us // 1_000 - skew_ms),
            table.payment_id < id_at(end_us // 1_000 + skew_ms + 1),
            table.created_time_us >= start_us,
            table.created_time_us < end_us,
        )
        .order_by(table.payment_id)
        .limit(limit)
    )
    for row in connection.execute(query):
        seen_as = None if row.seen_tenant is None else (row.seen_tenant, row.seen_payment)
        yield OurRecord(row.tenant_id, row.payment_id, row.provider_payment_id, seen_as, bool(row.is_stuck))


def _next_tenant(connection: Connection, after: str) -> str:
    """The tenant that follows: one step down the primary key, however many payments lie between."""
    return connection.scalar(select(func.min(payments.c.tenant_id)).where(payments.c.tenant_id > after)) or ""
