"""`obol providers check` at PayPal: what is wrong is named, with what to do about it."""

from typing import Any

from gateway.domain.setup_checks import ChecksSetup, SetupCheck
from providers.http import Exchange, Lost
from providers.paypal.events import SUBSCRIBED
from providers.paypal.setup import check_setup
from providers.paypal.tokens import NoToken, Token
from providers.refusals import Refusal
from providers.secret import Secret
from simulators.paypal.settings import Terms
from tests.conformance.paypal_driver import WEBHOOK_ID, paypal
from tests.unit.providers.paypal_objects import received

PATH = "/webhooks/paypal/acct_main"
TOKEN = Token(Secret("t"), 1.0)


async def problems(exchange: Exchange, *webhook_ids: str) -> dict[str, str]:
    """What is to be mended, by subject."""

    async def read(path: str, timeout_s: float) -> Exchange:
        return exchange

    checks = await check_setup(read, TOKEN, webhook_ids, callback_path=PATH, timeout_s=1.0)
    return {each.subject: each.problem for each in checks if each.problem}


def webhook(webhook_id: str = "WH1", url: str = f"https://pay.example{PATH}", *events: str) -> dict[str, Any]:
    """A webhook as PayPal lists it."""
    return {"id": webhook_id, "url": url, "event_types": [{"name": each} for each in events or ("*",)]}


async def test_a_whole_set_up_has_no_problem() -> None:
    """All events, or each that is needed."""
    assert await problems(received(200, {"webhooks": [webhook()]}), "WH1") == {}
    assert await problems(received(200, {"webhooks": [webhook("WH1", f"https://x{PATH}", *SUBSCRIBED)]}), "WH1") == {}


async def test_each_thing_that_is_missing_is_named() -> None:
    """No id, no webhook, another's id, an event too few, no leave, no answer, nonsense."""
    assert "webhook id" in await problems(received(200, {"webhooks": [webhook()]}))
    assert PATH in (await problems(received(200, {"webhooks": []}), "WH1"))["webhook"]
    assert "webhook_secrets" in (await problems(received(200, {"webhooks": [webhook("WH2")]}), "WH1"))["webhook"]
    few = webhook("WH1", f"https://x{PATH}", *SUBSCRIBED[1:])
    assert SUBSCRIBED[0] in (await problems(received(200, {"webhooks": [few]}), "WH1"))["webhook events"]
    for broken in (received(403, {}), Lost("reset"), received(200, ["x"])):
        assert "webhook" in await problems(broken, "WH1")


async def test_refused_credentials_end_the_looking() -> None:
    """Nothing else can be known."""

    async def read(path: str, timeout_s: float) -> Exchange:
        raise AssertionError("nothing is read without a token")

    told = await check_setup(read, NoToken("401", Refusal.CREDENTIALS), ("W",), callback_path=PATH, timeout_s=1.0)
    assert [(each.subject, bool(each.problem)) for each in told] == [("credentials", True)]


async def test_the_imitation_is_set_up() -> None:
    """Over the wire: the adapter is one that checks, and finds its webhook."""
    async with paypal(webhook_url=f"http://127.0.0.1:9{PATH}") as driver:
        adapter = driver.adapter()
        assert isinstance(adapter, ChecksSetup)
        checks = await adapter.check_setup(callback_path=PATH, timeout_s=5.0)
        assert [each for each in checks if each.problem] == []
        assert SetupCheck("webhook id", "1 set") in checks
        assert WEBHOOK_ID
        await adapter.close()


async def test_an_app_that_may_not_search_is_named() -> None:
    """Over the wire: everything else is well, and what to switch on is told."""
    async with paypal(webhook_url=f"http://127.0.0.1:9{PATH}", terms=Terms(reporting=False)) as driver:
        adapter = driver.adapter()
        assert isinstance(adapter, ChecksSetup)
        (lacking,) = [each for each in await adapter.check_setup(callback_path=PATH, timeout_s=5.0) if each.problem]
        assert (lacking.subject, "Transaction Search" in lacking.problem) == ("transaction search", True)
        await adapter.close()
