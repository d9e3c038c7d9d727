"""PayPal's transaction search: what is asked, what a row leads to, which window is complete, what proves nothing."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.errors import InvalidRequest, Reason, Unavailable
from gateway.domain.providers import Absent, Found, Lookup, Snapshot, Unreadable
from providers.http import Exchange, Lost, Received
from providers.paypal import listing
from providers.paypal.adapter import build
from providers.paypal.listing import LOOKUP_FROM_S, Listing
from providers.paypal.reporting import KEPT_S, LAG_S, WINDOW_S_MAX, Kind, Reporting
from providers.paypal.times import parsed_us
from providers.secret import Secret
from providers.settings import ProviderAccountSettings, ProviderHooks
from tests.unit.providers.paypal_objects import (
    CAPTURE,
    HOLD,
    ORDER,
    REFUND,
    Unmapped,
    error,
    mapping,
    order,
    part,
    received,
)
from tests.unit.providers.paypal_searching import (
    CAPTURES,
    NOW_S,
    ORDERS,
    OTHER_CUSTOM,
    PayPal,
    made_id,
    related,
    row,
    still,
)


async def page_of(subject: Listing, start_s: int, end_s: int, token: str = "", limit: int = 100) -> Any:
    """A page of a window in whole seconds."""
    return await subject.payments(
        created_from_us=start_s * 1_000_000,
        created_before_us=end_s * 1_000_000,
        page_token=token,
        limit=limit,
        timeout_s=5.0,
        now=still,
    )


async def walked(subject: Listing, start_s: int, end_s: int, limit: int) -> list[str]:
    """The ids of every record of a window."""
    token, seen = "", list[str]()
    for _ in range(200):
        page, token = await page_of(subject, start_s, end_s, token, limit)
        seen += [each.provider_payment_id for each in page]
        if not token:
            return seen
    raise AssertionError("it never ends")


async def test_the_request_is_bounded_and_asks_for_no_person() -> None:
    """Transactions alone, also those that move no balance, in a page of a bounded size."""
    paypal = PayPal()
    await page_of(paypal.listing(), NOW_S - 60, NOW_S, limit=10_000)
    assert paypal.asked == [
        {
            "start_date": "2026-05-28T20:25:40Z",
            "end_date": "2026-05-28T20:26:40Z",
            "fields": "transaction_info",
            "balance_affecting_records_only": "N",
            "page_size": str(listing.LIST_PAGE_MAX),
            "page": "1",
        }
    ]


@pytest.mark.parametrize(
    ("code", "kind", "lead"),
    [
        ("T0006", Kind.PAYMENT, f"capture:{CAPTURE}"),
        ("T0003", Kind.PAYMENT, f"capture:{CAPTURE}"),
        ("T1300", Kind.AUTHORIZATION, f"authorization:{CAPTURE}"),
        ("T1301", Kind.AUTHORIZATION, f"authorization:{CAPTURE}"),
        ("T1302", Kind.VOID, f"authorization:{HOLD}"),
        ("T1107", Kind.REFUND, f"refund:{CAPTURE}"),
        ("T1106", Kind.REVERSAL, f"capture:{HOLD}"),
        ("T0401", Kind.OTHER, ""),
        ("T1201", Kind.OTHER, ""),
        ("T1105", Kind.OTHER, ""),
    ],
)
async def test_a_code_says_what_leads_to_the_order(code: str, kind: Kind, lead: str) -> None:
    """By its own id, or by that of what it belongs to; and where it is of no order, to none."""
    unmapped = Unmapped()
    paypal = PayPal((NOW_S, row(CAPTURE, code, paypal_reference_id=HOLD)))
    subject = Reporting(paypal.read, mapping(unmapped))
    (read,) = (await subject.page(NOW_S - 9, NOW_S, number=1, size=10, timeout_s=1.0)).rows
    assert (read.kind, read.lead, read.payment_id) == (kind, lead, "pay_1")
    assert (read.unmapped, unmapped) == ((), [])


async def test_what_no_table_has_is_counted_and_leads_nowhere() -> None:
    """A code of no known group, one of a group in which each means something else, a status: counted, not guessed."""
    paypal = PayPal(
        (NOW_S, row("A", "T9900")), (NOW_S, row("B", "T1199")), (NOW_S, row(CAPTURE, transaction_status="Q"))
    )
    assert await looked(paypal.listing(), "pay_1") == Found(mapping().snapshot(paypal.objects[f"{ORDERS}{ORDER}"]))
    unmapped = Unmapped()
    page, token = await page_of(paypal.listing(unmapped=unmapped), NOW_S - 9, NOW_S)
    assert [(each.provider_payment_id, each.payment_id) for each in page] == [
        (ORDER, "pay_1"),
        ("transaction:A", ""),
        ("transaction:B", ""),
    ]
    assert unmapped == [
        ("transaction.event_code", "T9900"),
        ("transaction.event_code", "T1199"),
        ("transaction.status", "Q"),
    ]
    assert token == ""


async def test_a_listed_record_is_the_order_read_in_full() -> None:
    """No amount is taken from a row; rows of one order are one record; a stranger's is counted, and not read."""
    lying = row(CAPTURE, transaction_amount={"currency_code": "USD", "value": "9999.00"})
    hold = row(HOLD, "T1300", invoice_id="op_1", custom_field=None)
    paypal = PayPal((NOW_S, lying), (NOW_S, hold), (NOW_S, row("STRANGER", custom_field="shop 7")))
    page, _ = await page_of(paypal.listing(), NOW_S - 9, NOW_S)
    known, stranger = page
    assert known == mapping().snapshot(paypal.objects[f"{ORDERS}{ORDER}"])
    assert (stranger.provider_payment_id, stranger.tenant_id, stranger.payment_id) == ("transaction:STRANGER", "", "")


async def test_a_record_of_ours_that_cannot_be_read_is_not_passed_over() -> None:
    """A list without it would let a lost payment be charged again: it fails, and names it."""
    for ours, words in (
        (row("GONE"), "capture:GONE is listed"),
        (row(None), "transaction_id: missing"),
        (row("A", "T1302"), "paypal_reference_id: missing"),
    ):
        with pytest.raises(Unavailable, match=words):
            await page_of(PayPal((NOW_S, ours)).listing(), NOW_S - 9, NOW_S)


async def test_a_payment_under_a_code_of_tomorrow_is_found_by_its_id() -> None:
    """The code is counted; whether it is a capture of ours is for the capture to say, and not for the code."""
    unmapped = Unmapped()
    page, _ = await page_of(PayPal((NOW_S, row(CAPTURE, "T3100"))).listing(unmapped=unmapped), NOW_S - 9, NOW_S)
    assert [each.provider_payment_id for each in page] == [ORDER]
    assert unmapped == [("transaction.event_code", "T3100")]


async def test_a_strangers_row_may_lack_what_it_likes() -> None:
    """By its document every field of a row may be missing: that holds up nobody's reconciliation."""
    paypal = PayPal((NOW_S, {"transaction_info": {}}), (NOW_S, row(None, "T1302", custom_field=None)))
    page, _ = await page_of(paypal.listing(), NOW_S - 9, NOW_S)
    assert [(each.provider_payment_id, each.payment_id) for each in page] == [("transaction:", "")]


@given(
    seconds=st.lists(st.integers(0, 80 * 24 * 3600), max_size=12),
    limit=st.integers(1, 5),
    rows_max=st.integers(2, 20),
)
def test_every_transaction_of_a_window_is_listed(seconds: list[int], limit: int, rows_max: int) -> None:
    """However they lie over several months, and though PayPal takes a month at most and gives only so many."""
    start_s = NOW_S - 81 * 24 * 3600
    crowds = {each: seconds.count(each) + seconds.count(each + 1) for each in seconds}
    if max(crowds.values(), default=0) > rows_max:
        rows_max = max(crowds.values())
    rows = [(start_s + at, row(f"T{number}", custom_field="theirs")) for number, at in enumerate(seconds)]
    subject = PayPal(*rows, rows_max=rows_max).listing()
    listed = asyncio.run(walked(subject, start_s, NOW_S, limit))
    assert set(listed) == {f"transaction:T{number}" for number in range(len(seconds))}


async def test_more_in_a_second_than_paypal_gives_is_told() -> None:
    """Halving ends: that is no empty list."""
    rows = [(NOW_S - 100, row(f"T{number}", custom_field=None)) for number in range(5)]
    with pytest.raises(Unavailable, match="too many transactions in one second"):
        await walked(PayPal(*rows, rows_max=4).listing(), NOW_S - 3600, NOW_S, 5)


async def test_a_window_is_listed_once_it_must_be_complete() -> None:
    """Before PayPal must show all of it nothing is asked, and how long that takes is told; to the moment."""
    paypal = PayPal()
    with pytest.raises(Unavailable) as early:
        await page_of(paypal.listing(lag_s=LAG_S), NOW_S - 3 * LAG_S, NOW_S - LAG_S + 7)
    assert early.value.retry_after_s == 7.0
    with pytest.raises(Unavailable) as future:
        await page_of(paypal.listing(lag_s=LAG_S), NOW_S - 3 * LAG_S, NOW_S + 9_000)
    assert (future.value.retry_after_s, paypal.asked) == (LAG_S + 9_000, [])
    with pytest.raises(InvalidRequest, match="too far ahead"):
        await page_of(paypal.listing(lag_s=LAG_S), NOW_S - 3 * LAG_S, NOW_S + LAG_S + 1)
    assert await page_of(paypal.listing(lag_s=LAG_S), NOW_S - 2 * LAG_S, NOW_S - LAG_S) == ([], "")


async def test_what_paypal_does_not_keep_is_not_asked_for() -> None:
    """Three years back and no further; a window before that, or one that has not begun, is empty without a question."""
    paypal = PayPal()
    assert await page_of(paypal.listing(), 0, NOW_S - KEPT_S - 1) == ([], "")
    assert await page_of(paypal.listing(), NOW_S + 1, NOW_S + 9) == ([], "")
    assert paypal.asked == []
    assert await page_of(paypal.listing(), 0, NOW_S) == ([], "")
    assert len(paypal.asked) == -(-KEPT_S // WINDOW_S_MAX)


@pytest.mark.parametrize("token", ["x", "1.2.3", "5.5.9.1.10", "5.9.8.1.10", "1.2.3.0.10", "1.2.3.1.0", "1.2.3.1.9999"])
async def test_a_token_of_nobodys_is_refused(token: str) -> None:
    """It is no beginning of a list."""
    with pytest.raises(InvalidRequest) as refused:
        await page_of(PayPal().listing(), NOW_S - 9, NOW_S, token)
    assert refused.value.reason is Reason.CURSOR_INVALID


FAILURES: Mapping[str, Callable[[], Exchange]] = {
    "no leave": lambda: received(403, error("NOT_AUTHORIZED")),
    "credentials": lambda: received(401, error("AUTHENTICATION_FAILURE")),
    "limited": lambda: received(429, error("RATE_LIMIT_REACHED")),
    "broken": lambda: received(500, error("INTERNAL_SERVER_ERROR")),
    "refused": lambda: received(400, error("INVALID_REQUEST", "INVALID_DATE_RANGE")),
    "lost": lambda: Lost("reset"),
    "no list": lambda: received(200, {"transaction_details": 7, "total_pages": 1}),
    "no pages": lambda: received(200, {"transaction_details": []}),
    "no id": lambda: received(200, {"transaction_details": [row("../x")], "total_pages": 1}),
    "no info": lambda: received(200, {"transaction_details": [{}], "total_pages": 1}),
    "nonsense": lambda: Received(200, {}, b"<html>"),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_failure_is_no_empty_list_and_no_absence(failure: str) -> None:
    """A list raises; a lookup cannot be read. Without leave there is no search, as at a provider that has none."""
    paypal = PayPal()
    paypal.answers = [FAILURES[failure](), FAILURES[failure]()]
    with pytest.raises(Unavailable):
        await page_of(paypal.listing(), NOW_S - 9, NOW_S)
    found = await looked(paypal.listing(), "pay_1")
    assert found == Absent(consistent=False) if failure == "no leave" else isinstance(found, Unreadable)
    assert paypal.answers == []


async def looked(subject: Listing, payment_id: str) -> Lookup:
    """A lookup."""
    return await subject.lookup(payment_id, timeout_s=5.0, now=still)


def seen(found: Lookup) -> Snapshot:
    """What was found."""
    assert isinstance(found, Found), found
    return found.snapshot


async def test_an_order_is_found_by_our_reference_and_read_in_full() -> None:
    """The row that bears our custom id leads to the capture, that to the order; what counts is the order."""
    paypal = PayPal((NOW_S - 5, row("STRANGER", custom_field=OTHER_CUSTOM)), (NOW_S - 3, row(CAPTURE)))
    assert seen(await looked(paypal.listing(), "pay_1")) == mapping().snapshot(paypal.objects[f"{ORDERS}{ORDER}"])


@given(at=st.integers(-9_000, 9_000), payment=st.sampled_from(["pay_3", "pay_x", "", "op_1", "a/b?c", "pay_1 "]))
def test_nothing_found_proves_nothing(at: int, payment: str) -> None:
    """Whatever is asked for, and however old it is: an absence is never consistent."""
    subject = PayPal((NOW_S - 3, row(CAPTURE))).listing(lag_s=LAG_S)
    for payment_id in (payment, made_id(NOW_S + at)):
        assert asyncio.run(looked(subject, payment_id)) == Absent(consistent=False)


async def test_a_young_payment_is_not_searched_for() -> None:
    """The search would not show it, and a resend does not wait for its answer; an older one is, around its making."""
    paypal = PayPal()
    subject = paypal.listing(lag_s=LAG_S)
    await looked(subject, made_id(NOW_S - LOOKUP_FROM_S + 1))
    assert paypal.asked == []
    await looked(subject, made_id(NOW_S - 7_200))
    (asked,) = paypal.asked
    spans = [parsed_us(asked[name]) // 1_000_000 - (NOW_S - 7_200) for name in ("start_date", "end_date")]
    assert spans == [-listing.BEFORE_S, listing.AFTER_S]


async def test_an_order_that_is_not_of_the_payment_is_none_of_it() -> None:
    """The row says pay_2, the order says pay_1: neither found nor absent."""
    paypal = PayPal((NOW_S - 3, row(CAPTURE, custom_field=OTHER_CUSTOM)))
    assert isinstance(await looked(paypal.listing(), "pay_2"), Unreadable)


async def test_two_orders_of_one_payment_are_for_a_person() -> None:
    """Which of them is meant is not guessed; a listed one that is not there is no absence either."""
    paypal = PayPal((NOW_S - 3, row(CAPTURE)), (NOW_S - 2, row("SECOND")))
    assert isinstance(await looked(paypal.listing(), "pay_1"), Unreadable)
    second = {**order(captures=[part("SECOND", "COMPLETED")]), "id": "ORDER2"}
    paypal.objects |= {f"{CAPTURES}SECOND": part("SECOND", "COMPLETED", **related("ORDER2")), f"{ORDERS}ORDER2": second}
    found = await looked(paypal.listing(), "pay_1")
    assert found == Unreadable("more than one order carries this reference")


async def test_a_lookup_reads_a_bounded_number_of_pages() -> None:
    """A busy merchant's hour is looked through as far as that goes, and no further."""
    paypal = PayPal(*((NOW_S - 60, row(f"T{number}", custom_field=None)) for number in range(50)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "LOOKUP_PAGE", 2)
        assert await looked(paypal.listing(), "pay_1") == Absent(consistent=False)
    assert len(paypal.asked) == listing.LOOKUP_PAGES_MAX


async def test_a_check_says_whether_the_app_may_search() -> None:
    """`obol providers check`: allowed, refused with what to do, or not to be told."""
    problems = {}
    for name, make in FAILURES.items():
        paypal = PayPal()
        paypal.answers = [make()]
        problems[name] = (await Reporting(paypal.read, mapping()).check(now_s=NOW_S, timeout_s=1.0)).problem
    assert all(problems.values())
    assert "Transaction Search" in problems.pop("no leave")
    assert set(problems.values()) == {"check it by hand"}
    allowed = await Reporting(PayPal().read, mapping()).check(now_s=NOW_S, timeout_s=1.0)
    assert (allowed.subject, allowed.problem) == ("transaction search", "")


def test_a_refund_row_of_ours_is_told_by_either_id() -> None:
    """A refund in PayPal's pages inherits ids; one of them is enough to be read."""

    async def both() -> list[bool]:
        rows = [row(REFUND, "T1107", custom_field=None, invoice_id=told) for told in ("op_9", "invoice 9")]
        paypal = PayPal(*((NOW_S, each) for each in rows))
        page = await Reporting(paypal.read, mapping()).page(NOW_S - 9, NOW_S, number=1, size=9, timeout_s=1.0)
        return [bool(each.lead) for each in page.rows]

    assert asyncio.run(both()) == [True, False]


@pytest.mark.parametrize("told", ["-1", "1.5", "soon", "", "10801", "²"])
def test_a_lag_that_cannot_be_right_is_refused_at_the_start(told: str) -> None:
    """Longer than PayPal's own is no PayPal's; three hours where nothing is said."""
    settings = ProviderAccountSettings(
        "acct_main", "paypal", "http://127.0.0.1:1", Secret("s"), options={"client_id": "c", "reporting_lag_s": told}
    )
    with pytest.raises(ValueError, match="reporting_lag_s"):
        build(settings, ProviderHooks())
