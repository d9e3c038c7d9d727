"""Units that read payments, refunds and histories for lists; each is one statement."""

from collections.abc import Sequence
from itertools import groupby

from sqlalchemy import Connection, Select, and_, select, text

from gateway.domain.payments import Payment, Refund
from gateway.domain.storage import HistoryEntry, PaymentFilter
from store.records import history_from, refund_from
from store.rows import payment_from
from store.tables import history, movements, payments, refunds

FOUND_MAX = 2
_OF_MOVEMENT = "movement_"


def find_payments(
    connection: Connection, tenant_id: str, *, order_reference: str, account_id: str, provider_payment_id: str
) -> Sequence[str]:
    """Ids, newest first; by order reference where one is given, else by provider reference."""
    table = payments.c
    query = select(table.payment_id).where(table.tenant_id == tenant_id)
    if order_reference:
        # The second condition is the partial index's own, and must be seen to hold: no parameter.
        query = query.where(table.order_reference == order_reference, text("order_reference <> ''"))
    elif provider_payment_id:
        query = query.where(table.account_id == account_id, table.provider_payment_id == provider_payment_id)
    else:
        return ()
    return connection.scalars(query.order_by(table.payment_id.desc()).limit(FOUND_MAX)).all()


def list_payments(
    connection: Connection, tenant_id: str, payment_filter: PaymentFilter, *, before_payment_id: str, limit: int
) -> Sequence[Payment]:
    """A page of payments, newest first, with their facts: page and movements in one statement, so of one moment."""
    page = _page(tenant_id, payment_filter, before_payment_id).limit(limit).subquery("page")
    facts = [column.label(_OF_MOVEMENT + column.name) for column in movements.c]
    joined = page.outerjoin(
        movements,
        and_(movements.c.tenant_id == page.c.tenant_id, movements.c.payment_id == page.c.payment_id),
    )
    query = select(page, *facts).select_from(joined).order_by(page.c.payment_id.desc())
    found = []
    for _, group in groupby(connection.execute(query).mappings(), key=lambda row: str(row["payment_id"])):
        rows = list(group)
        seen = [
            {name.removeprefix(_OF_MOVEMENT): value for name, value in row.items() if name.startswith(_OF_MOVEMENT)}
            for row in rows
            if row[_OF_MOVEMENT + "kind"] is not None
        ]
        found.append(payment_from(rows[0], seen))
    return found


def _page(tenant_id: str, wanted: PaymentFilter, before_payment_id: str) -> Select[tuple[object, ...]]:
    table = payments.c
    query = select(payments).where(table.tenant_id == tenant_id).order_by(table.payment_id.desc())
    if before_payment_id:
        query = query.where(table.payment_id < before_payment_id)
    if wanted.order_reference:
        query = query.where(table.order_reference == wanted.order_reference, text("order_reference <> ''"))
    if wanted.customer_reference:
        query = query.where(table.customer_reference == wanted.customer_reference, text("customer_reference <> ''"))
    if wanted.account_id:
        query = query.where(table.account_id == wanted.account_id)
    if wanted.states:
        query = query.where(table.state.in_(sorted(state.value for state in wanted.states)))
    if wanted.created_from_us is not None:
        query = query.where(table.created_time_us >= wanted.created_from_us)
    if wanted.created_before_us is not None:
        query = query.where(table.created_time_us < wanted.created_before_us)
    return query


def get_refund(connection: Connection, tenant_id: str, refund_id: str) -> Refund | None:
    """One refund of the tenant."""
    query = select(refunds).where(refunds.c.tenant_id == tenant_id, refunds.c.refund_id == refund_id)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else refund_from(row)


def list_refunds(
    connection: Connection, tenant_id: str, payment_id: str, *, before_refund_id: str, limit: int
) -> Sequence[Refund]:
    """A page of refunds, newest first."""
    table = refunds.c
    query = select(refunds).where(table.tenant_id == tenant_id).order_by(table.refund_id.desc()).limit(limit)
    if payment_id:
        query = query.where(table.payment_id == payment_id)
    if before_refund_id:
        query = query.where(table.refund_id < before_refund_id)
    return [refund_from(row) for row in connection.execute(query).mappings()]


def list_history(
    connection: Connection, tenant_id: str, payment_id: str, *, after_version: int, limit: int
) -> Sequence[HistoryEntry]:
    """The versions of a payment after `after_version`, in order."""
    table = history.c
    query = (
        select(history)
        .where(table.tenant_id == tenant_id, table.payment_id == payment_id, table.version > after_version)
        .order_by(table.version)
        .limit(limit)
    )
    return [history_from(row) for row in connection.execute(query).mappings()]
