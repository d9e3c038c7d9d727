"""The imitation of PayPal keeps its books: idempotent by request id, durable, strict where PayPal is."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from simulators.paypal.server import running
from simulators.paypal.settings import Merchant, PayPalSettings, Terms
from tests.exchanges import MADE_UP
from tests.paypal_documents import DOCUMENTS, FILES, MISSING, document

ORDERS = "/v2/checkout/orders"


class Clock:
    """Time that a test moves; in unix seconds."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Client:
    """Posts and gets with a token; answers are (status, body)."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self._http = http
        self._token = ""

    async def post(self, path: str, body: Any = None, request_id: str = "", **headers: str) -> tuple[int, Any]:
        told = {**await self._bearer(), **headers, **({"PayPal-Request-Id": request_id} if request_id else {})}
        async with self._http.post(self.url + path, json=body or {}, headers=told) as answer:
            return answer.status, await answer.json()

    async def get(self, path: str) -> tuple[int, Any]:
        async with self._http.get(self.url + path, headers=await self._bearer()) as answer:
            return answer.status, await answer.json()

    async def effects(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.get("/control/effects"))[1]["data"]
        return found

    async def _bearer(self) -> dict[str, str]:
        if not self._token:
            merchant = Merchant()
            basic = base64.b64encode(f"{merchant.client_id}:{merchant.client_secret}".encode()).decode()
            headers = {"Authorization": f"Basic {basic}"}
            async with self._http.post(f"{self.url}/v1/oauth2/token", headers=headers) as answer:
                self._token = (await answer.json())["access_token"]
        return {"Authorization": f"Bearer {self._token}", **MADE_UP}


@asynccontextmanager
async def imitation(folder: Path, clock: Clock | None = None, **terms: Any) -> AsyncIterator[Client]:
    """The imitation on this folder."""
    settings = PayPalSettings(folder, port=0, clock=clock or Clock(), terms=Terms(**terms))
    async with running(settings) as url, aiohttp.ClientSession() as http:
        yield Client(url, http)


def asked(invoice: str = "op_1", value: str = "10.00", vault_id: str = "wallet_ok", **more: Any) -> dict[str, Any]:
    """A create of ten dollars, paid at once."""
    unit = {
        "custom_id": "pay_1.op_1.cmd_1",
        "invoice_id": invoice,
        "amount": {"currency_code": "USD", "value": value},
    }
    told = {"intent": "CAPTURE", "purchase_units": [unit], "payment_source": {"paypal": {"vault_id": vault_id}}}
    return {**told, **more}


def test_the_documents_are_there() -> None:
    """Without them nothing of this is validated, which this test says aloud."""
    if not DOCUMENTS.exists():
        pytest.skip(MISSING)
    assert all(document(name) for name in FILES.values())


async def test_one_request_id_is_one_order_for_as_long_as_it_is_kept(tmp_path: Path) -> None:
    """201, then 200 with the same order, also for other contents; after six hours the id is new."""
    clock = Clock()
    async with imitation(tmp_path, clock) as client:
        first, again = await client.post(ORDERS, asked(), "r1"), await client.post(ORDERS, asked(), "r1")
        assert (first[0], again[0]) == (201, 200)
        assert first[1]["id"] == again[1]["id"]
        other = await client.post(ORDERS, asked("op_2", "99.00"), "r1")
        assert other[1]["id"] == first[1]["id"]
        clock.now += 6 * 3600 + 1
        late = await client.post(ORDERS, asked(), "r1")
        assert (late[0], late[1]["details"][0]["issue"]) == (422, "DUPLICATE_INVOICE_ID")
        assert len(await client.effects()) == 1


async def test_a_restart_forgets_nothing_but_tokens(tmp_path: Path) -> None:
    """Orders, parts, request ids, events and certificates are on disk; the effect log is whole."""
    async with imitation(tmp_path) as client:
        _, order = await client.post(ORDERS, asked(), "r1")
        capture = order["purchase_units"][0]["payments"]["captures"][0]["id"]
        refund = await client.post(f"/v2/payments/captures/{capture}/refund", {"invoice_id": "op_2"}, "r2")
        events, effects = await client.get("/v1/notifications/webhooks-events"), await client.effects()
    async with imitation(tmp_path) as client:
        assert (await client.get(f"{ORDERS}/{order['id']}"))[1]["status"] == "COMPLETED"
        again = await client.post(f"/v2/payments/captures/{capture}/refund", {"invoice_id": "op_2"}, "r2")
        assert again[1]["id"] == refund[1]["id"]
        found = await client.get("/v1/notifications/webhooks-events")
        assert [each["id"] for each in found[1]["events"]] == [each["id"] for each in events[1]["events"]]
        assert await client.effects() == effects
        assert [each["kind"] for each in effects] == ["capture", "refund"]


@pytest.mark.parametrize("issue", ["INSTRUMENT_DECLINED", "DUPLICATE_INVOICE_ID", "TRANSACTION_REFUSED"])
async def test_negative_testing_refuses_with_the_issue_that_is_asked_for(tmp_path: Path, issue: str) -> None:
    """PayPal-Mock-Response, as PayPal's own sandbox has it: 422, and nothing is booked."""
    async with imitation(tmp_path) as client:
        mock = {"PayPal-Mock-Response": json.dumps({"mock_application_codes": issue})}
        status, body = await client.post(ORDERS, asked(), "r1", **mock)
        assert (status, body["name"], body["details"][0]["issue"]) == (422, "UNPROCESSABLE_ENTITY", issue)
        assert await client.effects() == []


async def test_what_paypal_refuses_is_refused(tmp_path: Path) -> None:
    """Over-refunds, over-captures, a second void, an unapproved capture, the wrong verb, decimals of yen."""
    async with imitation(tmp_path) as client:

        async def issue(path: str, body: Any, request_id: str) -> str:
            status, told = await client.post(path, body, request_id)
            assert status == 422, told
            return str(told["details"][0]["issue"])

        _, order = await client.post(ORDERS, asked(), "r1")
        capture = f"/v2/payments/captures/{order['purchase_units'][0]['payments']['captures'][0]['id']}/refund"
        six = {"amount": {"currency_code": "USD", "value": "6.00"}}
        assert (await client.post(capture, six, "f1"))[0] == 201
        assert await issue(capture, six, "f2") == "REFUND_AMOUNT_EXCEEDED"
        euros = {"amount": {"currency_code": "EUR", "value": "1.00"}}
        assert await issue(capture, euros, "f3") == "REFUND_CAPTURE_CURRENCY_MISMATCH"
        _, held = await client.post(ORDERS, asked("op_2", intent="AUTHORIZE"), "r2")
        hold = f"/v2/payments/authorizations/{held['purchase_units'][0]['payments']['authorizations'][0]['id']}"
        eleven = {"amount": {"currency_code": "USD", "value": "11.00"}}
        assert await issue(f"{hold}/capture", eleven, "c1") == "MAX_CAPTURE_AMOUNT_EXCEEDED"
        assert (await client.post(f"{hold}/void"))[0] == 200
        assert await issue(f"{hold}/void", None, "") == "PREVIOUSLY_VOIDED"
        assert await issue(f"{hold}/capture", None, "c2") == "AUTHORIZATION_VOIDED"
        _, waits = await client.post(ORDERS, asked("op_3", payment_source={}), "r3")
        assert await issue(f"{ORDERS}/{waits['id']}/capture", None, "k1") == "ORDER_NOT_APPROVED"
        assert await issue(f"{ORDERS}/{waits['id']}/authorize", None, "k2") == "ACTION_DOES_NOT_MATCH_INTENT"
        yen = asked("op_4")
        yen["purchase_units"][0]["amount"] = {"currency_code": "JPY", "value": "10.50"}
        assert await issue(ORDERS, yen, "r4") == "DECIMAL_PRECISION"
        assert [each["kind"] for each in await client.effects()] == ["capture", "refund", "authorization", "void"]


async def test_a_trusting_imitation_gives_back_more_than_it_took(tmp_path: Path) -> None:
    """It compares no refund with what is left: whoever asks for 6 of 10 twice gets 12, and 11 at once are refused."""
    async with imitation(tmp_path, trusting=True) as client:
        _, order = await client.post(ORDERS, asked(), "r1")
        capture = f"/v2/payments/captures/{order['purchase_units'][0]['payments']['captures'][0]['id']}/refund"
        for number, value in enumerate(("6.00", "6.00", "10.00")):
            amount = {"amount": {"currency_code": "USD", "value": value}}
            assert (await client.post(capture, amount, f"f{number}"))[0] == 201
        status, told = await client.post(capture, {"amount": {"currency_code": "USD", "value": "11.00"}}, "f9")
        assert (status, told["details"][0]["issue"]) == (422, "REFUND_AMOUNT_EXCEEDED")


@pytest.mark.parametrize("fails", [False, True])
async def test_whatever_pends_comes_to_its_end(tmp_path: Path, fails: bool) -> None:
    """A hold, a capture and a refund: an effect each where they come through, and no second end."""
    async with imitation(tmp_path) as client:
        orders = [
            (await client.post(ORDERS, told, told["purchase_units"][0]["invoice_id"]))[1]["id"]
            for told in (
                asked("op_1", vault_id="wallet_pending", intent="AUTHORIZE"),
                asked("op_2", vault_id="wallet_pending"),
                asked("op_3", vault_id="wallet_refund_pending"),
            )
        ]
        paid = (await client.get(f"{ORDERS}/{orders[2]}"))[1]["purchase_units"][0]["payments"]["captures"][0]["id"]
        await client.post(f"/v2/payments/captures/{paid}/refund", {"invoice_id": "op_4"}, "f")
        for ended in (3, 0):
            assert await client.post("/control/pending", {"fails": fails}) == (200, {"ended": ended})
        parts = [(await client.get(f"{ORDERS}/{each}"))[1]["purchase_units"][0]["payments"] for each in orders]
        (hold,), (capture,), (refund,) = parts[0]["authorizations"], parts[1]["captures"], parts[2]["refunds"]
        wanted = ("DENIED", "DECLINED", "FAILED") if fails else ("CREATED", "COMPLETED", "COMPLETED")
        assert (hold["status"], capture["status"], refund["status"]) == wanted
        booked = [(each["kind"], each["operation"]) for each in await client.effects()]
        later = [] if fails else [("authorization", "op_1"), ("capture", "op_2"), ("refund", "op_4")]
        assert booked == [("capture", "op_3"), *later]


async def test_an_order_that_nobody_approves_is_gone(tmp_path: Path) -> None:
    """404 after its time, to reads and to captures; a paid one stays."""
    clock = Clock()
    async with imitation(tmp_path, clock, order_seconds=60.0) as client:
        _, paid = await client.post(ORDERS, asked(), "r1")
        _, waits = await client.post(ORDERS, asked("op_2", payment_source={}), "r2")
        clock.now += 61
        assert (await client.get(f"{ORDERS}/{waits['id']}"))[0] == 404
        assert (await client.post(f"{ORDERS}/{waits['id']}/capture", None, "k"))[0] == 404
        assert (await client.get(f"{ORDERS}/{paid['id']}"))[0] == 200


async def test_without_a_token_nothing_is_answered(tmp_path: Path) -> None:
    """401 for none, for a wrong one, and for one that has ended."""
    clock = Clock()
    async with imitation(tmp_path, clock, token_seconds=60) as client:
        assert (await client.post(ORDERS, asked(), "r1"))[0] == 201
        assert (await client.post(ORDERS, asked("op_2"), "r2", Authorization="Bearer wrong"))[0] == 401
        clock.now += 61
        assert (await client.post(ORDERS, asked("op_3"), "r3"))[0] == 401


def searching(start: str, end: str, **more: str) -> str:
    """A question to the transaction search, of all records."""
    told = {"start_date": start, "end_date": end, "fields": "transaction_info", "balance_affecting_records_only": "N"}
    return f"/v1/reporting/transactions?{urlencode({**told, **more})}"


JANUARY = ("2027-01-01T00:00:00Z", "2027-01-31T00:00:00Z")


async def test_the_search_shows_transactions_late_oldest_first_in_pages(tmp_path: Path) -> None:
    """A hold, a capture of it and a refund of that, each under its own code; nothing before its time."""
    clock = Clock()
    async with imitation(tmp_path, clock, reporting_seconds=3_600.0) as client:
        _, order = await client.post(ORDERS, {**asked(), "intent": "AUTHORIZE"}, "r1")
        hold = order["purchase_units"][0]["payments"]["authorizations"][0]["id"]
        clock.now += 1
        capture = (await client.post(f"/v2/payments/authorizations/{hold}/capture", {"invoice_id": "op_2"}, "r2"))[1]
        clock.now += 1
        refund = (await client.post(f"/v2/payments/captures/{capture['id']}/refund", {"invoice_id": "op_3"}, "r3"))[1]
        assert "transaction_details" not in (await client.get(searching(*JANUARY)))[1]
        clock.now += 3_599
        early = (await client.get(searching(*JANUARY)))[1]
        clock.now += 1
        pages = [(await client.get(searching(*JANUARY, page_size="2", page=number)))[1] for number in "12"]
        rows = [each["transaction_info"] for page in pages for each in page["transaction_details"]]
        assert (early["total_items"], pages[1]["total_items"], pages[1]["total_pages"]) == (2, 3, 2)
        assert [(each["transaction_id"], each["transaction_event_code"], each["invoice_id"]) for each in rows] == [
            (hold, "T1300", "op_1"),
            (capture["id"], "T0006", "op_2"),
            (refund["id"], "T1107", "op_3"),
        ]
        assert [each.get("paypal_reference_id") for each in rows] == [None, hold, capture["id"]]
        assert {each["custom_field"] for each in rows} == {"pay_1.op_1.cmd_1"}
        moving = (await client.get(searching(*JANUARY, balance_affecting_records_only="Y")))[1]
        assert moving["total_items"] == 2


async def test_the_search_refuses_as_paypal_does(tmp_path: Path) -> None:
    """More than 31 days, no time, a page too large, too many rows; and an app without leave."""
    async with imitation(tmp_path, reporting_rows_max=1) as client:
        for number in "12":
            await client.post(ORDERS, asked(f"op_{number}"), f"r{number}")
        for question, issue in (
            (searching("2026-12-01T00:00:00Z", JANUARY[1]), "INVALID_DATE_RANGE"),
            (searching("yesterday", JANUARY[1]), "INVALID_PARAMETER_SYNTAX"),
            (searching(*JANUARY, page_size="501"), "INVALID_PARAMETER_VALUE"),
            (searching(*JANUARY), "RESULTSET_TOO_LARGE"),
        ):
            status, answer = await client.get(question)
            assert (status, answer["details"][0]["issue"]) == (400, issue)
    async with imitation(tmp_path, reporting=False) as client:
        status, answer = await client.get(searching(*JANUARY))
        assert (status, answer["name"]) == (403, "NOT_AUTHORIZED")
