"""Our imitation beside `localstripe`, which somebody else wrote from Stripe's documents: one story, told alike by both.

localstripe runs as a process on loopback. It knows no idempotency keys, lets refunds pass that are too large, and
refuses parameters that we send; what is compared is what a payment comes to.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.demo.installation import free_ports
from simulators.stripe.server import running
from simulators.stripe.settings import StripeSettings, Terms
from tests.exchanges import MADE_UP

START_S_MAX = 20.0
# Its own start binds every interface and keeps its objects in a file of the machine's.
PROGRAM = """
import sys
from aiohttp import web
from localstripe.resources import store
from localstripe.server import app
type(store).dump_to_disk = lambda self: None
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
"""

CARDS = {
    "pm_card_visa": "4242424242424242",
    # localstripe declines to attach the usual one (...0002), and to charge this one.
    "pm_card_visa_chargeDeclined": "4000000000000341",
    "pm_card_authenticationRequired": "4000002500003155",
}
"""Stripe's names of test cards to their numbers: localstripe has the numbers alone."""


class Side:
    """One of the two, asked in the words that both understand."""

    def __init__(self, session: aiohttp.ClientSession, url: str, methods: dict[str, str]) -> None:
        self._session, self._url, self._methods = session, url, methods

    async def ask(self, method: str, path: str, **fields: str) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": "Bearer sk_test_simulated", **MADE_UP}
        async with self._session.request(method, f"{self._url}/v1/{path}", data=fields, headers=headers) as answer:
            return answer.status, await answer.json()

    async def begun(self, card: str, capture: str) -> str:
        fields = {"amount": "1000", "currency": "usd", "capture_method": capture}
        _, made = await self.ask("POST", "payment_intents", payment_method=self._methods[card], **fields)
        return str(made["id"])

    async def seen(self, intent_id: str) -> dict[str, Any]:
        """What a payment has come to, as far as both tell it."""
        _, intent = await self.ask("GET", f"payment_intents/{intent_id}")
        latest = intent["latest_charge"]
        _, charge = await self.ask("GET", f"charges/{latest}") if isinstance(latest, str) else (200, latest)
        names = ["amount", "amount_refunded", "refunded", "status", "failure_code"]
        # Of a charge that failed neither is to be believed: Stripe's own samples show both.
        names += ["captured"] if charge and charge["status"] == "succeeded" else []
        return {
            "status": intent["status"],
            "error": (intent["last_payment_error"] or {}).get("code"),
            "action": (intent["next_action"] or {}).get("type"),
            "charge": charge and {name: charge[name] for name in names},
        }


@contextlib.asynccontextmanager
async def localstripe(session: aiohttp.ClientSession) -> AsyncIterator[Side]:
    (port,) = free_ports(1)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, str(port), stderr=asyncio.subprocess.DEVNULL
    )
    side = Side(session, f"http://127.0.0.1:{port}", {})
    try:
        async with asyncio.timeout(START_S_MAX):
            for name, number in CARDS.items():
                card = {"card[number]": number, "card[exp_month]": "12", "card[exp_year]": "2034", "card[cvc]": "123"}
                while name not in side._methods:
                    try:
                        _, made = await side.ask("POST", "payment_methods", type="card", **card)
                        side._methods[name] = made["id"]
                    except aiohttp.ClientConnectorError:
                        await asyncio.sleep(0.05)
        yield side
    finally:
        process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def ours(session: aiohttp.ClientSession, directory: Path) -> AsyncIterator[Side]:
    by_control = Terms(processing_seconds=None, refund_seconds=None, dispute_seconds=None)
    async with running(StripeSettings(directory, port=0, terms=by_control)) as url:
        yield Side(session, url, {name: name for name in CARDS})


async def story(side: Side) -> list[Any]:
    """Paid, refunded in two parts; held, captured in part; held, let go; declined; asked for 3D Secure."""
    told: list[Any] = []

    async def step(intent_id: str, path: str, **fields: str) -> None:
        status, answer = await side.ask("POST", path, **fields)
        told.append((status, answer.get("error", {}).get("code"), await side.seen(intent_id)))

    paid = await side.begun("pm_card_visa", "automatic")
    await step(paid, f"payment_intents/{paid}/confirm")
    await step(paid, "refunds", payment_intent=paid, amount="300")
    await step(paid, "refunds", payment_intent=paid, amount="700")
    held = await side.begun("pm_card_visa", "manual")
    await step(held, f"payment_intents/{held}/confirm")
    await step(held, f"payment_intents/{held}/capture", amount_to_capture="600")
    gone = await side.begun("pm_card_visa", "manual")
    await step(gone, f"payment_intents/{gone}/cancel")
    declined = await side.begun("pm_card_visa_chargeDeclined", "automatic")
    await step(declined, f"payment_intents/{declined}/confirm")
    asked = await side.begun("pm_card_authenticationRequired", "automatic")
    await step(asked, f"payment_intents/{asked}/confirm")
    return told


async def test_both_tell_one_story_alike(tmp_path: Path) -> None:
    """Statuses, amounts, errors and what the payer must do, step by step."""
    pytest.importorskip("localstripe", reason="localstripe is not installed")
    async with aiohttp.ClientSession() as session, localstripe(session) as theirs, ours(session, tmp_path) as own:
        for number, (left, right) in enumerate(zip(await story(own), await story(theirs), strict=True)):
            assert left == right, f"step {number}"
