"""PayPal's Transaction Search: the request, and what each row of its answer is and leads to.

    GET /v1/reporting/transactions?fields=transaction_info&balance_affecting_records_only=N&start_date=&end_date=...

A row is a hint. It tells a transaction and not an order, hours late, and moves no money here: what counts is the order
that it leads to, read by its id. So of a row only its ids and its kind are read, and no amount. Facts and codes are
those of PayPal's documents: at most 31 days in one window, 500 rows on a page, 10,000 rows for one question, three
years back, and three hours until a transaction is shown.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from urllib.parse import urlencode

from gateway.domain.setup_checks import SetupCheck
from providers.fields import Fields, UnreadableAnswer
from providers.http import Exchange, Received
from providers.paypal.answers import error_of
from providers.paypal.events import ID
from providers.paypal.mapping import PayPalMapping, listed
from providers.paypal.references import is_ours, payment_of
from providers.paypal.times import spelled
from providers.strict_json import parse_object

TRANSACTIONS_PATH = "/v1/reporting/transactions"
PAGE_MAX = 500
WINDOW_S_MAX = 30 * 24 * 3600
"""Of one question; PayPal takes 31 days."""

KEPT_S = (3 * 365 - 1) * 24 * 3600
"""How far back PayPal lists, a day less than three years."""

LAG_S = 3 * 3600
"""How long PayPal takes at most until it shows a transaction."""

Read = Callable[[str, float], Awaitable[Exchange]]
"""(path, timeout in seconds) to what came back."""


class NoLeave(UnreadableAnswer):
    """PayPal does not let this app search: it cannot be asked, and that says nothing of any transaction."""


class TooMany(UnreadableAnswer):
    """The window has more rows than PayPal gives for one question."""


class Kind(StrEnum):
    """What a transaction is."""

    PAYMENT = "PAYMENT"
    AUTHORIZATION = "AUTHORIZATION"
    VOID = "VOID"
    REFUND = "REFUND"
    REVERSAL = "REVERSAL"
    OTHER = "OTHER"
    UNMAPPED = "UNMAPPED"


_OTHER_REVERSALS = "01 02 03 04 05 08 09 12 14 15"
CODES: Mapping[str, Kind] = MappingProxyType(
    {
        "T1107": Kind.REFUND,
        "T1106": Kind.REVERSAL,
        # Held, and let go again, while a payment is looked into.
        "T1110": Kind.REVERSAL,
        "T1111": Kind.REVERSAL,
        # Reversals of transfers, of points, of holds of the balance, of fees and of payouts.
        **{f"T11{each}": Kind.OTHER for each in _OTHER_REVERSALS.split()},
        "T1300": Kind.AUTHORIZATION,
        "T1301": Kind.AUTHORIZATION,
        "T1302": Kind.VOID,
    }
)
"""T-codes of which each means something else within its group."""

_OTHER = "01 02 03 04 05 06 07 08 09 10 12 14 15 16 17 18 19 20 21 22"
GROUPS: Mapping[str, Kind] = MappingProxyType(
    {
        "T00": Kind.PAYMENT,
        # Fees, conversions, transfers, holds of the balance: of no order. A dispute is told by its events.
        **{f"T{group}": Kind.OTHER for group in _OTHER.split()},
    }
)
"""The rest, by the code's group, which is what PayPal says is enough to reconcile by."""

STATUSES = frozenset("DPSV")
"""Denied, pending, succeeded, reversed: the order that is read afterwards says it better."""

_LEADS: Mapping[Kind, tuple[str, str]] = MappingProxyType(
    {
        Kind.PAYMENT: ("capture", "transaction_id"),
        Kind.AUTHORIZATION: ("authorization", "transaction_id"),
        Kind.VOID: ("authorization", "paypal_reference_id"),
        Kind.REFUND: ("refund", "transaction_id"),
        Kind.REVERSAL: ("capture", "paypal_reference_id"),
        # Tried, where it bears an id of ours: a payment under a code of tomorrow must not be passed over.
        Kind.UNMAPPED: ("capture", "transaction_id"),
    }
)
"""By which of its ids a kind of transaction leads to its order, as `Objects.find` takes it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One transaction.

    `lead` is what to read for its order, empty where no id of it was written by this gateway, or it is of no order.
    `payment_id` is ours, empty where its custom field is not.
    """

    transaction_id: str
    kind: Kind
    lead: str = ""
    payment_id: str = ""
    unmapped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a window, and how many pages it has."""

    rows: Sequence[Row]
    pages: int


class Reporting:
    """The transaction search of one account. What its tables do not know is counted by `mapping`."""

    def __init__(self, read: Read, mapping: PayPalMapping) -> None:
        self._read = read
        self._mapping = mapping

    async def page(self, start_s: int, end_s: int, *, number: int, size: int, timeout_s: float) -> Page:
        """Page `number`, from 1, of a window of whole unix seconds. Raises NoLeave, TooMany, else ValueError."""
        exchange = await self._read(transactions_path(start_s, end_s, number=number, size=size), timeout_s)
        answer = Fields(_body(exchange), "transactions")
        return Page([self._row(each) for each in listed(answer, "transaction_details")], answer.whole("total_pages"))

    async def check(self, *, now_s: float, timeout_s: float) -> SetupCheck:
        """Whether this app may search. Raises nothing."""
        subject, end_s = "transaction search", int(now_s) - LAG_S
        try:
            await self.page(end_s - 60, end_s, number=1, size=1, timeout_s=timeout_s)
        except NoLeave as refused:
            return SetupCheck(
                subject,
                str(refused),
                "give the REST app the feature Transaction Search: without it nothing is reconciled, "
                "and no order whose id was lost is found",
            )
        except TooMany:
            pass
        except ValueError as error:
            return SetupCheck(subject, f"unreadable: {error}"[:200], "check it by hand")
        return SetupCheck(subject, "allowed")

    def _row(self, detail: Fields) -> Row:
        info = detail.optional("transaction_info")
        if info is None:
            raise UnreadableAnswer(f"{detail.where}.transaction_info: missing")
        code, status = info.optional_text("transaction_event_code"), info.optional_text("transaction_status")
        custom, invoice = info.optional_text("custom_field"), info.optional_text("invoice_id")
        kind, ours = CODES.get(code) or GROUPS.get(code[:3], Kind.UNMAPPED), is_ours(custom, invoice)
        unmapped = [] if kind is not Kind.UNMAPPED else [self._mapping.tell("transaction.event_code", code)]
        if status not in STATUSES:
            unmapped.append(self._mapping.tell("transaction.status", status))
        name, told_by = _LEADS.get(kind, ("", ""))
        lead_id = _id(info, told_by) if name else ""
        if name and ours and not lead_id:
            raise UnreadableAnswer(f"{info.where}.{told_by}: missing")
        lead = f"{name}:{lead_id}" if ours and lead_id else ""
        return Row(_id(info, "transaction_id"), kind, lead, payment_of(custom), tuple(unmapped))


def transactions_path(start_s: int, end_s: int, *, number: int, size: int) -> str:
    """What is asked for one page; its balances, payers and carts are nobody's business here."""
    query = {
        "start_date": spelled(start_s * 1_000_000),
        "end_date": spelled(end_s * 1_000_000),
        "fields": "transaction_info",
        # Also what moves no balance: authorizations.
        "balance_affecting_records_only": "N",
        "page_size": str(max(1, min(size, PAGE_MAX))),
        "page": str(number),
    }
    return f"{TRANSACTIONS_PATH}?{urlencode(query)}"


def _id(info: Fields, name: str) -> str:
    told = info.optional_text(name)
    if told and not ID.match(told):
        raise UnreadableAnswer(f"{info.where}.{name}: not an id")
    return told


def _body(exchange: Exchange) -> object:
    if not isinstance(exchange, Received):
        raise UnreadableAnswer(exchange.failure)
    if exchange.status == 403:
        raise NoLeave("403: this app may not search transactions")
    if exchange.status == 400 and "RESULTSET_TOO_LARGE" in error_of(exchange)[:2]:
        raise TooMany("400: more transactions than PayPal gives for one question")
    if exchange.status != 200:
        raise UnreadableAnswer(f"status {exchange.status}")
    return parse_object(exchange.body)
