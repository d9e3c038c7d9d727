# Statements are spelled from our own tables and constants; every value is a parameter.
# ruff: noqa: S608
"""The statement of ListPayments, for each shape of a filter: which of its fields are given, and how many states.

A page is a walk down an index that ends at the page's length. Where states are asked for, each has a walk of its own,
and the page is the newest of them together: one walk over all states would read past every payment in any other, and
the more of those there are, the longer. Times bound the walk through the ids: a payment's id begins with the
millisecond of its making, give or take `SKEW_S_MAX`; what was asked for exactly is compared exactly.
"""

from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import TextClause, text

from gateway.domain.storage import PaymentFilter
from store.spelling import columns_of
from store.sqlite_statements import json_object
from store.tables import movements, payments

SKEW_S_MAX = 60
"""How far the clock may move between a payment's id and its created time, which are made in one request."""

COLUMNS = (*columns_of(payments), "movements")
"""Of each row of a page; `movements` is the JSON of a list."""

_US_OF_MS = 1_000
_ID_MS_MAX = 2**48 - 1


class Shape(NamedTuple):
    """What tells one statement from another."""

    dialect: str
    fields: frozenset[str]
    states: int


def shape_of(dialect: str, wanted: PaymentFilter, before_payment_id: str) -> Shape:
    """The shape of a page that is asked for."""
    given = {
        "order_reference": wanted.order_reference,
        "customer_reference": wanted.customer_reference,
        "account_id": wanted.account_id,
        "before_payment_id": before_payment_id,
    }
    times = {"created_from_us": wanted.created_from_us, "created_before_us": wanted.created_before_us}
    fields = {name for name, value in given.items() if value} | {name for name, us in times.items() if us is not None}
    return Shape(dialect, frozenset(fields), len(frozenset(wanted.states)))


def parameters_of(tenant_id: str, wanted: PaymentFilter, before_payment_id: str, limit: int) -> dict[str, Any]:
    """Every value that some shape's statement needs."""
    since, until = wanted.created_from_us or 0, wanted.created_before_us or 0
    states = sorted({state.value for state in wanted.states})
    return {
        "tenant_id": tenant_id,
        "order_reference": wanted.order_reference,
        "customer_reference": wanted.customer_reference,
        "account_id": wanted.account_id,
        "before_payment_id": before_payment_id,
        "created_from_us": since,
        "created_before_us": until,
        "first_id": id_at(since // _US_OF_MS - SKEW_S_MAX * 1_000),
        "last_id": id_at(until // _US_OF_MS + SKEW_S_MAX * 1_000 + 1),
        "limit": limit,
    } | {f"state_{number}": state for number, state in enumerate(states)}


@cache
def page_of(shape: Shape) -> TextClause:
    """The statement: rows of COLUMNS, newest first."""
    named = [f"state_{number}" for number in range(shape.states)]
    # An order or a customer has few payments: their index is walked once, whatever the states.
    few = shape.fields & {"order_reference", "customer_reference"}
    if len(named) > 1 and not few:
        walks = " UNION ALL ".join(
            f"SELECT payment_id FROM ({_walk(shape, f'state = :{name}')}) {name}" for name in named
        )
        found = f"payment_id IN (SELECT payment_id FROM ({walks}) walks ORDER BY payment_id DESC LIMIT :limit)"
    else:
        among = f"state IN ({', '.join(f':{name}' for name in named)})" if named else ""
        found = f"payment_id IN (SELECT payment_id FROM ({_walk(shape, among)}) walk)"
    return text(
        f"SELECT {', '.join(f'p.{name}' for name in columns_of(payments))}, {_movements(shape.dialect)} "
        f"FROM payments p WHERE p.tenant_id = :tenant_id AND p.{found} ORDER BY p.payment_id DESC"
    )


def _walk(shape: Shape, state: str) -> str:
    """Ids of the newest payments that the filter allows, as many as a page."""
    conditions = {
        # The partial indexes' own conditions must be seen to hold: no parameters.
        "order_reference": "order_reference = :order_reference AND order_reference <> ''",
        "customer_reference": "customer_reference = :customer_reference AND customer_reference <> ''",
        "account_id": "account_id = :account_id",
        "before_payment_id": "payment_id < :before_payment_id",
        "created_from_us": "payment_id >= :first_id AND created_time_us >= :created_from_us",
        "created_before_us": "payment_id < :last_id AND created_time_us < :created_before_us",
    }
    asked = [condition for name, condition in conditions.items() if name in shape.fields]
    where = " AND ".join(["tenant_id = :tenant_id", *([state] if state else []), *asked])
    return f"SELECT payment_id FROM payments WHERE {where} ORDER BY payment_id DESC LIMIT :limit"


def _movements(dialect: str) -> str:
    rows = (
        "coalesce(CAST(json_agg(m) AS text), '[]')"
        if dialect == "postgresql"
        else f"json_group_array({json_object(movements, 'm')})"
    )
    return f"(SELECT {rows} FROM movements m WHERE m.tenant_id = p.tenant_id AND m.payment_id = p.payment_id)"


def id_at(milliseconds: int) -> str:
    """The lowest id of a payment that was made in that millisecond, or later."""
    return f"pay_{min(max(milliseconds, 0), _ID_MS_MAX):012x}"
