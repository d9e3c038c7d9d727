"""Units that read payments, refunds and histories for lists; each is one statement."""

import json
from collections.abc import Sequence

from sqlalchemy import Connection, select, text

from gateway.domain.payments import Payment, Refund
from gateway.domain.storage import HistoryEntry, PaymentFilter
from store.listing import COLUMNS, page_of, parameters_of, shape_of
from store.records import history_from, refund_from
from store.rows import payment_from
from store.tables import history, payments, refunds

FOUND_MAX = 2


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
    statement = page_of(shape_of(connection.dialect.name, payment_filter, before_payment_id))
    values = parameters_of(tenant_id, payment_filter, before_payment_id, limit)
    found = (dict(zip(COLUMNS, row, strict=True)) for row in connection.execute(statement, values))
    return [payment_from(row, json.loads(row["movements"])) for row in found]


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
