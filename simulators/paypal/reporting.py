"""The transaction search: a row for each authorization, capture and refund, shown late, oldest first, in pages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from starlette.requests import Request

from simulators.paypal.imitation import Imitation
from simulators.paypal.order import Json, Order, iso
from simulators.paypal.refusals import forbidden, invalid

TRANSACTIONS_PATH = "/v1/reporting/transactions"
PAGE_MAX, PAGE = 500, 100
WINDOW_SECONDS_MAX = 31 * 24 * 3_600

AUTHORIZATION, PAYMENT, REFUND = "T1300", "T0006", "T1107"

_STATUSES = {"PENDING": "P", "DENIED": "D", "DECLINED": "D", "FAILED": "D", "VOIDED": "V", "REFUNDED": "V"}


def transactions(imitation: Imitation, request: Request) -> Json:
    """The transactions that began in a window of at most 31 days."""
    terms, query = imitation.settings.terms, request.query_params
    if not terms.reporting:
        raise forbidden()
    start, end = _time(query.get("start_date")), _time(query.get("end_date"))
    if not start <= end <= start + WINDOW_SECONDS_MAX:
        raise invalid("INVALID_DATE_RANGE")
    size = _whole(query.get("page_size", str(PAGE)), PAGE_MAX)
    number = _whole(query.get("page", "1"), 10**9)
    every = query.get("balance_affecting_records_only", "Y") == "N"
    shown_until = imitation.settings.clock() - terms.reporting_seconds
    inside = sorted(
        (
            (began, row)
            for order in imitation.books.orders.after(None)
            for began, row in _rows(order)
            if start <= began <= min(end, shown_until) and (every or row["transaction_event_code"] != AUTHORIZATION)
        ),
        key=lambda each: (each[0], each[1]["transaction_id"]),
    )
    if len(inside) > terms.reporting_rows_max:
        raise invalid("RESULTSET_TOO_LARGE")
    told: Json = {
        "account_number": imitation.settings.merchant.merchant_id,
        "start_date": iso(start),
        "end_date": iso(end),
        "last_refreshed_datetime": iso(shown_until),
        "page": number,
        "total_items": len(inside),
        "total_pages": -(-len(inside) // size),
    }
    page = inside[(number - 1) * size : number * size]
    # By its document the list is not empty: it is left out.
    return {**told, "transaction_details": [{"transaction_info": row} for _, row in page]} if page else told


def _rows(order: Order) -> Iterator[tuple[float, Json]]:
    for code, parts in ((AUTHORIZATION, order.authorizations), (PAYMENT, order.captures), (REFUND, order.refunds)):
        for part in parts:
            yield _time(part["create_time"]), _row(code, part)


def _row(code: str, part: Json) -> Json:
    money = part["amount"]
    row: Json = {
        "transaction_id": part["id"],
        "transaction_event_code": code,
        "transaction_initiation_date": part["create_time"],
        "transaction_updated_date": part["update_time"],
        "transaction_amount": {**money, "value": f"-{money['value']}"} if code == REFUND else money,
        "transaction_status": _STATUSES.get(part["status"], "S"),
    }
    ups = [each["href"] for each in part["links"] if each["rel"] == "up"]
    if ups:
        # What it was taken or given back from.
        row |= {"paypal_reference_id": ups[0].rpartition("/")[2], "paypal_reference_id_type": "TXN"}
    for name, ours in (("invoice_id", "invoice_id"), ("custom_field", "custom_id")):
        if part.get(ours):
            row[name] = part[ours]
    return row


def _whole(text: str, at_most: int) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= at_most:
        raise invalid("INVALID_PARAMETER_VALUE")
    return int(text)


def _time(text: str | None) -> float:
    try:
        return datetime.fromisoformat(text or "").timestamp()
    except ValueError:
        raise invalid("INVALID_PARAMETER_SYNTAX") from None
