"""PayPal's imitation as the battery drives it; every exchange is validated against PayPal's own OpenAPI documents."""

import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp

from gateway.domain.movements import MovementKind
from gateway.domain.providers import ProviderAdapter, Snapshot
from providers.callbacks import CallbackSettings
from providers.http import WireLimits
from providers.registry import adapter_builder
from providers.secret import Secret
from providers.settings import ProviderAccountSettings, ProviderHooks
from simulators.paypal.certificates import ROOT_FILE, chain_in
from simulators.paypal.events import signed_headers
from simulators.paypal.imitation import CERTIFICATE_PATH
from simulators.paypal.server import running
from simulators.paypal.settings import Merchant, PayPalSettings, Terms
from tests.conformance.driver import Driven, Driver, Effect, Fault, Methods

AMBIGUOUS = frozenset({"Ambiguous"})
CLIENT_SECRET, WEBHOOK_ID = "planted-client-secret-7a3", "4JH86294PLANTED24"
MERCHANT = replace(Merchant(), client_secret=CLIENT_SECRET, webhook_id=WEBHOOK_ID)

PAYPAL_FAULTS = (
    Fault("timeout_before", False, AMBIGUOUS),
    Fault("timeout_after", True, AMBIGUOUS),
    Fault("http_500_before", False, AMBIGUOUS),
    Fault("http_500_after", True, AMBIGUOUS),
    Fault("reset_before", False, AMBIGUOUS),
    Fault("reset_after", True, AMBIGUOUS),
    Fault("lost_before", False, AMBIGUOUS),
    Fault("lost_after", True, AMBIGUOUS),
    Fault("http_429", False, frozenset({"NotExecuted"})),
    Fault("stall", True, AMBIGUOUS),
    Fault("truncated", True, AMBIGUOUS),
    Fault("malformed", True, AMBIGUOUS),
    Fault("wrong_amount", True, AMBIGUOUS),
    Fault("unknown_status", True, frozenset({"Answered"})),
    Fault("slow_drip", True, AMBIGUOUS),
    Fault("huge_body", True, AMBIGUOUS),
)


class PayPalDriver:
    """The imitation of PayPal."""

    provider = "paypal"
    currency = "USD"
    methods = Methods(
        approves="wallet_ok",
        declines="wallet_declined",
        declines_unmapped="wallet_unknown_issue",
        requires_action="paypal",
        processes="wallet_pending",
        refunds_pend="wallet_refund_pending",
        not_raised="wallet_empty_later",
    )
    planted = (CLIENT_SECRET,)

    def __init__(self, base_url: str, directory: Path, session: aiohttp.ClientSession) -> None:
        self.base_url = base_url
        self._directory = directory
        self._session = session
        self.unmapped: list[tuple[str, str]] = []

    def adapter(self, *, api_key: Secret | None = None, wire: WireLimits | None = None) -> ProviderAdapter:
        settings = ProviderAccountSettings(
            account_id="paypal-main",
            provider=self.provider,
            base_url=self.base_url,
            api_key=api_key or Secret(CLIENT_SECRET),
            merchant_id=MERCHANT.merchant_id,
            webhook_secrets=(Secret(WEBHOOK_ID),),
            wire=wire or WireLimits(),
            options=MappingProxyType({"client_id": MERCHANT.client_id, "reporting_lag_s": "0"}),
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
        outcome = {"outcome": "approve" if approves else "cancel"}
        async with self._session.post(snapshot.next_action.redirect_url, json=outcome) as response:
            assert response.status == 200, await response.text()

    async def refund_in_dashboard(self, snapshot: Snapshot, amount_minor: int) -> None:
        captures = [each for each in snapshot.facts.movements if each.kind is MovementKind.CAPTURE]
        path = f"captures/{captures[0].provider_movement_id}/refund"
        await self.control("POST", path, {"amount": amount_minor})

    @property
    def callbacks(self) -> CallbackSettings:
        options = {"roots_file": str(self._directory / ROOT_FILE), "certificate_origin": self.base_url}
        return CallbackSettings(
            self.provider,
            "paypal-main",
            (Secret(WEBHOOK_ID),),
            tolerance_s=3 * 24 * 3600 + 3600,
            options=MappingProxyType(options),
        )

    def signed(self, body: bytes, *, secret: str, now_s: float) -> Mapping[str, str]:
        return signed_headers(chain_in(self._directory), secret, now_s, body, self.base_url + CERTIFICATE_PATH)

    async def control(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One of the imitation's controls."""
        async with self._session.request(method, f"{self.base_url}/control/{path}", json=body) as response:
            assert response.status == 200, await response.text()
            told: dict[str, Any] = await response.json()
            return told


@asynccontextmanager
async def paypal(**changed: Any) -> AsyncIterator[PayPalDriver]:
    """The imitation on a free port, with a directory of its own."""
    with tempfile.TemporaryDirectory() as directory:
        told: dict[str, Any] = {
            "port": 0,
            "merchant": MERCHANT,
            "hang_seconds": 30.0,
            "drip_seconds": 30.0,
            "huge_bytes": 4 * 1024 * 1024,
            "terms": Terms(honor_seconds=0.0),
        }
        settings = PayPalSettings(Path(directory), **{**told, **changed})
        async with running(settings) as base_url, aiohttp.ClientSession() as session:
            yield PayPalDriver(base_url, Path(directory), session)


@asynccontextmanager
async def driver() -> AsyncIterator[Driver]:
    """As the battery starts it."""
    async with paypal() as started:
        yield started


PAYPAL = Driven(driver, PAYPAL_FAULTS)
