"""Stripe's driver: its imitation in this process, over a real socket."""

import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from gateway.domain.providers import ProviderAdapter, Snapshot
from providers.callbacks import CallbackSettings
from providers.http import WireLimits
from providers.registry import adapter_builder
from providers.secret import Secret
from providers.settings import ProviderAccountSettings, ProviderHooks
from simulators.stripe.imitation import signed_headers
from simulators.stripe.server import running
from simulators.stripe.settings import Account, StripeSettings, Terms
from tests.conformance.driver import Driven, Driver, Effect, Fault, Methods

API_KEY, SIGNING_SECRET = "planted-api-key-7f2", "planted-signing-secret-4e1"

_AMBIGUOUS, _BOOKED = frozenset({"Ambiguous"}), True

FAULTS = (
    Fault("timeout_before", False, _AMBIGUOUS),
    Fault("timeout_after", _BOOKED, _AMBIGUOUS),
    Fault("http_500_before", False, _AMBIGUOUS),
    Fault("http_500_after", _BOOKED, _AMBIGUOUS),
    Fault("reset_before", False, _AMBIGUOUS),
    Fault("reset_after", _BOOKED, _AMBIGUOUS),
    Fault("lost_before", False, _AMBIGUOUS),
    Fault("lost_after", _BOOKED, _AMBIGUOUS),
    Fault("http_429", False, frozenset({"NotExecuted"})),
    Fault("stall", _BOOKED, _AMBIGUOUS),
    Fault("truncated", _BOOKED, _AMBIGUOUS),
    Fault("malformed", _BOOKED, _AMBIGUOUS),
    # A capture's answer has no amount that was asked for: the engine compares the PaymentIntent's with the terms.
    Fault("wrong_amount", _BOOKED, frozenset({"Ambiguous", "Answered"})),
    Fault("unknown_status", _BOOKED, frozenset({"Answered"})),
    Fault("slow_drip", _BOOKED, _AMBIGUOUS),
    Fault("huge_body", _BOOKED, _AMBIGUOUS),
)


class StripeDriver:
    """Stripe's imitation, with the payment methods for tests that Stripe publishes."""

    provider = "stripe"
    currency = "USD"
    methods = Methods(
        approves="pm_card_visa",
        declines="pm_card_visa_chargeDeclinedInsufficientFunds",
        declines_unmapped="pm_card_chargeDeclinedUnheardOf",
        requires_action="pm_card_threeDSecure2Required",
        processes="pm_usBankAccount_success",
        refunds_pend="pm_card_pendingRefund",
        not_raised="pm_card_incrementDeclined",
        risky="pm_card_riskLevelElevated",
        too_risky="pm_card_radarBlock",
    )
    planted = (API_KEY, SIGNING_SECRET)

    def __init__(self, base_url: str, session: aiohttp.ClientSession) -> None:
        self._base_url = base_url
        self._session = session
        self.unmapped: list[tuple[str, str]] = []

    def adapter(self, *, api_key: Secret | None = None, wire: WireLimits | None = None) -> ProviderAdapter:
        settings = ProviderAccountSettings(
            account_id="stripe-main",
            provider=self.provider,
            base_url=self._base_url,
            api_key=api_key or Secret(API_KEY),
            webhook_secrets=(Secret(SIGNING_SECRET),),
            wire=wire or WireLimits(),
            options={
                "multicapture": "true",
                "incremental_authorization": "true",
                "connected_accounts": "acct_connected",
            },
        )
        hooks = ProviderHooks(unmapped=lambda provider, kind, value: self.unmapped.append((kind, value)))
        return adapter_builder(self.provider)(settings, hooks)

    async def effects(self) -> Sequence[Effect]:
        told = await self.control("GET", "effects")
        return [Effect(each["kind"], each["amount"], each["currency"], each["operation"]) for each in told["data"]]

    async def fail_next(self, fault: str, verb: str = "any") -> None:
        await self.control("POST", "faults", {"next": [{"fault": fault, "match": verb}]})

    async def heal(self) -> None:
        await self.control("DELETE", "faults")

    async def payer_answers(self, snapshot: Snapshot, *, approves: bool) -> None:
        assert snapshot.next_action is not None
        outcome = {"outcome": "approve" if approves else "refuse"}
        async with self._session.post(snapshot.next_action.redirect_url, json=outcome) as response:
            assert response.status == 200

    async def refund_in_dashboard(self, snapshot: Snapshot, amount_minor: int) -> None:
        await self.control("POST", f"payments/{snapshot.provider_payment_id}/refund", {"amount": amount_minor})

    @property
    def callbacks(self) -> CallbackSettings:
        return CallbackSettings(self.provider, "stripe-main", (Secret(SIGNING_SECRET),))

    def signed(self, body: bytes, *, secret: str, now_s: float) -> Mapping[str, str]:
        return signed_headers(secret, now_s, body)

    async def control(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One of the imitation's controls."""
        async with self._session.request(method, f"{self._base_url}/control/{path}", json=body) as response:
            assert response.status == 200, await response.text()
            told: dict[str, Any] = await response.json()
            return told


@asynccontextmanager
async def stripe(**changed: Any) -> AsyncIterator[StripeDriver]:
    """The imitation on a free port, with a directory of its own and its slow steps left to the controls."""
    with tempfile.TemporaryDirectory() as directory:
        told: dict[str, Any] = {
            "port": 0,
            "accounts": (
                Account("acct_main", API_KEY, SIGNING_SECRET, ("acct_connected",)),
                Account("acct_other", "other-key", "other-secret"),
            ),
            "hang_seconds": 30.0,
            "drip_seconds": 30.0,
            "huge_bytes": 4 * 1024 * 1024,
            "terms": Terms(processing_seconds=None, refund_seconds=None, dispute_seconds=None),
        }
        settings = StripeSettings(Path(directory), **{**told, **changed})
        async with running(settings) as base_url, aiohttp.ClientSession() as session:
            yield StripeDriver(base_url, session)


@asynccontextmanager
async def driver() -> AsyncIterator[Driver]:
    """As the battery starts it."""
    async with stripe() as started:
        yield started


STRIPE = Driven(driver, FAULTS)
