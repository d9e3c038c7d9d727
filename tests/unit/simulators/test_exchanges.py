"""What a test's imitations hear is held to the providers' documents: a wrong request is found, whatever its answer."""

from collections.abc import AsyncIterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from simulators import hearing
from simulators.paypal.server import running as paypal
from simulators.paypal.settings import PayPalSettings
from simulators.stripe.server import running as stripe
from simulators.stripe.settings import StripeSettings
from tests.conformance.paypal_driver import CLIENT_SECRET, MERCHANT
from tests.exchanges import MADE_UP, Exchanges, listening
from tests.paypal_documents import DOCUMENTS, MISSING
from tests.stripe_document import ABSENT, document, fixtures

ORDERS = "/v2/checkout/orders"
UNIT = {"amount": {"currency_code": "USD", "value": "10.00"}}
ORDER: dict[str, Any] = {
    "intent": "CAPTURE",
    "purchase_units": [UNIT],
}


class Asking:
    """Asks an imitation as an adapter would, unless a request says that it is made up."""

    def __init__(self, session: aiohttp.ClientSession, url: str, bearer: str) -> None:
        self.session, self.url, self._headers = session, url, {"Authorization": f"Bearer {bearer}"}

    async def ask(self, method: str, path: str, *, made_up: bool = False, **said: Any) -> int:
        """The status of the answer."""
        headers = {**self._headers, **(MADE_UP if made_up else {})}
        async with self.session.request(method, self.url + path, headers=headers, **said) as answer:
            await answer.read()
            return answer.status


@pytest.fixture
async def at_stripe(tmp_path: Path) -> AsyncIterator[Asking]:
    if document() is None:
        pytest.skip(ABSENT)
    async with stripe(StripeSettings(tmp_path / "stripe", port=0)) as url, aiohttp.ClientSession() as session:
        yield Asking(session, url, "sk_test_simulated")


@pytest.fixture
async def at_paypal(tmp_path: Path) -> AsyncIterator[Asking]:
    if not DOCUMENTS.exists():
        pytest.skip(MISSING)
    settings = PayPalSettings(tmp_path / "paypal", port=0, merchant=MERCHANT)
    async with paypal(settings) as url, aiohttp.ClientSession() as session:
        credentials = aiohttp.encode_basic_auth(MERCHANT.client_id, CLIENT_SECRET)
        async with session.post(f"{url}/v1/oauth2/token", headers={"Authorization": credentials}) as answer:
            token = (await answer.json())["access_token"]
        yield Asking(session, url, token)


def test_stripes_document_and_samples_are_there() -> None:
    """Without them nothing of Stripe's is validated, which this test says aloud."""
    if document() is None or not fixtures():
        pytest.skip(ABSENT)
    assert "payment_intent" in fixtures()


async def test_a_wrong_request_to_stripe_is_found(at_stripe: Asking, exchanges: Exchanges) -> None:
    """A parameter that there is not, one of another kind, one too few, a path that there is not: 400 and 404."""
    told = {"amount": "1000", "currency": "usd"}
    assert await at_stripe.ask("POST", "/v1/payment_intents", data=told) == 200
    assert exchanges.problems() == []
    assert await at_stripe.ask("POST", "/v1/payment_intents", data={**told, "amout": "1000"}) == 400
    assert await at_stripe.ask("POST", "/v1/payment_intents", data={**told, "amount": "many"}) == 400
    assert await at_stripe.ask("POST", "/v1/payment_intents", data={"amount": "1000"}) == 400
    assert await at_stripe.ask("POST", "/v1/payment_intnets", data=told) == 404
    exchanges.expected += [
        "POST /v1/payment_intents: amout is no parameter",
        "POST /v1/payment_intents: amount is not",
        "POST /v1/payment_intents: currency is missing",
        "POST /v1/payment_intnets: the document has no such path",
    ]


async def test_whoever_sends_a_wrong_request_fails_by_it(tmp_path: Path) -> None:
    """At the end of the test, with what was wrong; nobody has to ask."""
    if document() is None:
        pytest.skip(ABSENT)
    around = contextmanager(listening)()
    around.__enter__()
    async with stripe(StripeSettings(tmp_path, port=0)) as url, aiohttp.ClientSession() as session:
        asking = Asking(session, url, "sk_test_simulated")
        assert await asking.ask("POST", "/v1/payment_intents", data={"amout": "1000"}) == 400
    with pytest.raises(AssertionError, match="amout is no parameter"):
        around.__exit__(None, None, None)


async def test_a_wrong_request_to_paypal_is_found(at_paypal: Asking, exchanges: Exchanges) -> None:
    """A value that the document does not take, a name that it has not, a field too few, a path that there is not."""
    assert await at_paypal.ask("POST", ORDERS, json=ORDER) == 201
    assert exchanges.problems() == []
    assert await at_paypal.ask("POST", ORDERS, json={**ORDER, "intent": "capture"}) == 400
    assert await at_paypal.ask("POST", ORDERS, json={"intent": "CAPTURE"}) == 400
    unit = {**UNIT, "invoice_idd": "op_1"}
    assert await at_paypal.ask("POST", ORDERS, json={**ORDER, "purchase_units": [unit]}) == 201
    assert await at_paypal.ask("GET", "/v1/notifications/webhooks-events?page=1") == 200
    assert await at_paypal.ask("POST", "/v2/checkout/oders", json=ORDER) == 404
    exchanges.expected += [
        "$.intent: 'capture'",
        "'purchase_units' is a required property",
        "purchase_units[].invoice_idd is no property",
        "page is no parameter",
        "POST /v2/checkout/oders 404",
    ]


async def test_a_request_is_told_also_where_a_fault_takes_its_answer(at_stripe: Asking, exchanges: Exchanges) -> None:
    """Before anything is booked, and in place of the answer."""
    for fault in ("http_500_before", "wrong_amount", "http_429"):
        await at_stripe.ask("POST", "/control/faults", json={"next": [{"fault": fault, "match": "create"}]})
        told = {"amount": "1000", "currency": "usd", f"planted_{fault}": "1"}
        await at_stripe.ask("POST", "/v1/payment_intents", data=told)
        exchanges.expected.append(f"planted_{fault} is no parameter")


async def test_paypals_is_told_as_well_where_nothing_is_answered(at_paypal: Asking, exchanges: Exchanges) -> None:
    """The connection is reset before anything is booked."""
    await at_paypal.ask("POST", "/control/faults", json={"next": [{"fault": "reset_before", "match": "create"}]})
    with pytest.raises(aiohttp.ClientError):
        await at_paypal.ask("POST", ORDERS, json={**ORDER, "planted": 1})
    exchanges.expected.append("planted is no property")


async def test_a_strangers_request_is_told_as_well(at_stripe: Asking, exchanges: Exchanges) -> None:
    """A key that is nobody's excuses no wrong parameter."""
    stranger = Asking(at_stripe.session, at_stripe.url, "of-somebody-else")
    assert await stranger.ask("POST", "/v1/payment_intents", data={"amout": "1000"}) == 401
    exchanges.expected += ["amout is no parameter", "amount is missing", "currency is missing"]


async def test_what_a_test_makes_up_may_be_wrong_where_it_is_answered_so(
    at_stripe: Asking, at_paypal: Asking, exchanges: Exchanges
) -> None:
    """With the header that says so nothing is found; nothing else excuses."""
    assert await at_stripe.ask("POST", "/v1/payment_intents", made_up=True, data={"amout": "1"}) == 400
    assert await at_paypal.ask("POST", ORDERS, made_up=True, json={"intent": "CAPTURE"}) == 400
    assert (exchanges.count("stripe"), exchanges.count("paypal")) == (1, 1)
    assert exchanges.problems() == []


async def test_no_credential_is_written_down(at_stripe: Asking, exchanges: Exchanges) -> None:
    """The scheme alone."""
    await at_stripe.ask("GET", "/v1/account")
    (line,) = exchanges.lines()
    assert line["headers"]["authorization"] == "Bearer -"
    assert "sk_test" not in exchanges.file.read_text()


async def test_what_is_written_down_is_bounded(
    at_stripe: Asking, exchanges: Exchanges, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past the bound a last line says that there was more, once, and that is a problem."""
    monkeypatch.setattr(hearing, "HEARD_BYTES_MAX", 1)
    for _ in range(3):
        await at_stripe.ask("GET", "/v1/account")
    first, last = exchanges.lines()
    assert (first["path"], last) == ("/v1/account", {"cut": True})
    exchanges.expected.append("not all of it is validated")
