"""A transaction search of PayPal's in memory, for tests that list with it and look something up in it."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

from providers.http import Exchange
from providers.paypal.listing import Listing
from providers.paypal.objects import Objects
from providers.paypal.reporting import TRANSACTIONS_PATH, Reporting
from providers.paypal.times import parsed_us
from tests.unit.providers.paypal_objects import (
    ACCOUNT,
    CAPTURE,
    HOLD,
    ORDER,
    Unmapped,
    error,
    mapping,
    order,
    part,
    received,
)

NOW_S = 1_780_000_000
CUSTOM, OTHER_CUSTOM = "pay_1.op_1.cmd_1", "pay_2.op_2.cmd_2"
ORDERS, CAPTURES = "/v2/checkout/orders/", "/v2/payments/captures/"


def row(transaction_id: str | None, code: str = "T0006", **more: Any) -> dict[str, Any]:
    """A row as PayPal lists it, with our custom id unless told otherwise."""
    told = {"transaction_id": transaction_id, "transaction_event_code": code, "transaction_status": "S"}
    info = {**told, "custom_field": CUSTOM, **more}
    return {"transaction_info": {name: value for name, value in info.items() if value is not None}}


def made_id(at_s: float) -> str:
    """An id of ours that was made at that moment."""
    return f"pay_{int(at_s * 1000):012x}7{'0' * 19}"


class PayPal:
    """Transactions by their second, listed oldest first in pages; and the objects that are read by their path."""

    def __init__(self, *rows: tuple[int, dict[str, Any]], rows_max: int = 10_000) -> None:
        self.rows = sorted(rows, key=lambda each: each[0])
        self.rows_max = rows_max
        self.objects: dict[str, Any] = {
            f"{CAPTURES}{CAPTURE}": part(CAPTURE, "COMPLETED", **related(ORDER)),
            f"/v2/payments/authorizations/{HOLD}": part(HOLD, "CREATED", **related(ORDER)),
            f"{ORDERS}{ORDER}": order(captures=[part(CAPTURE, "COMPLETED")]),
        }
        self.answers: list[Exchange] = []
        self.asked: list[dict[str, str]] = []

    async def read(self, path: str, timeout_s: float) -> Exchange:
        parts = urlsplit(path)
        if parts.path != TRANSACTIONS_PATH:
            found = self.objects.get(parts.path)
            return received(200, found) if found else received(404, error("RESOURCE_NOT_FOUND"))
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.asked.append(query)
        if self.answers:
            return self.answers.pop(0)
        start, end = (parsed_us(query[name]) // 1_000_000 for name in ("start_date", "end_date"))
        assert 0 < end - start <= 31 * 24 * 3600
        inside = [each for second, each in self.rows if start <= second <= end]
        if len(inside) > self.rows_max:
            return received(400, error("INVALID_REQUEST", "RESULTSET_TOO_LARGE"))
        size, number = int(query["page_size"]), int(query["page"])
        page = inside[(number - 1) * size : number * size]
        return received(200, {"transaction_details": page, "total_pages": -(-len(inside) // size)})

    def listing(self, *, lag_s: float = 0.0, unmapped: Unmapped | None = None) -> Listing:
        """The subject, over these answers."""
        read_by = mapping(unmapped)
        objects = Objects(self.read, read_by)
        return Listing(Reporting(self.read, read_by), objects, ACCOUNT, lag_s=lag_s, wall=lambda: float(NOW_S))


def related(order_id: str) -> dict[str, Any]:
    """What a part says of its order."""
    return {"supplementary_data": {"related_ids": {"order_id": order_id}}}


def still() -> float:
    """A clock that stands."""
    return 0.0
