"""The drivers: each starts a provider's imitation in this process, over a real socket. A new adapter adds one here."""

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
from simulators.sandbox.events import signed_headers
from simulators.sandbox.server import running
from simulators.sandbox.settings import Account, SandboxSettings, Terms
from tests.conformance.driver import Driven, Driver, Effect, Fault, Methods
from tests.conformance.paypal_driver import PAYPAL
from tests.conformance.paypal_live import LIVE as PAYPAL_LIVE
from tests.conformance.stripe_driver import STRIPE
from tests.conformance.stripe_live import LIVE as STRIPE_LIVE

AMBIGUOUS = frozenset({"Ambiguous"})

API_KEY, SIGNING_SECRET = "planted-api-key-5d1", "planted-signing-secret-8c2"


SANDBOX_FAULTS = (
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


class SandboxDriver:
    """The sandbox simulator."""

    provider = "sandbox"
    currency = "USD"
    methods = Methods(
        approves="card_ok",
        declines="card_declined_insufficient_funds",
        declines_unmapped="card_declined_unmapped",
        requires_action="card_requires_action",
        processes="card_processing_then_ok",
        refunds_pend="card_refund_pending",
        not_raised="card_not_raised",
        risky="card_risk_elevated",
        too_risky="card_risk_highest",
    )
    planted = (API_KEY, SIGNING_SECRET)

    _VERBS: Mapping[str, str] = {"create": "payments", "refund": "refunds"}

    def __init__(self, base_url: str, session: aiohttp.ClientSession) -> None:
        self._base_url = base_url
        self._session = session
        self.unmapped: list[tuple[str, str]] = []

    def adapter(self, *, api_key: Secret | None = None, wire: WireLimits | None = None) -> ProviderAdapter:
        settings = ProviderAccountSettings(
            account_id="sandbox-main",
            provider=self.provider,
            base_url=self._base_url,
            api_key=api_key or Secret(API_KEY),
            merchant_id="acct_main",
            webhook_secrets=(Secret(SIGNING_SECRET),),
            wire=wire or WireLimits(),
        )
        hooks = ProviderHooks(unmapped=lambda provider, kind, value: self.unmapped.append((kind, value)))
        return adapter_builder(self.provider)(settings, hooks)

    async def effects(self) -> Sequence[Effect]:
        told = await self._control("GET", "effects")
        return [Effect(each["kind"], each["amount"], each["currency"], each["operation"]) for each in told["data"]]

    async def fail_next(self, fault: str, verb: str = "any") -> None:
        await self._control("POST", "faults", {"next": [{"fault": fault, "match": self._VERBS.get(verb, verb)}]})

    async def heal(self) -> None:
        await self._control("DELETE", "faults")

    async def payer_answers(self, snapshot: Snapshot, *, approves: bool) -> None:
        assert snapshot.next_action is not None
        outcome = {"outcome": "approve" if approves else "refuse"}
        async with self._session.post(snapshot.next_action.redirect_url, json=outcome) as response:
            assert response.status == 200

    async def refund_in_dashboard(self, snapshot: Snapshot, amount_minor: int) -> None:
        await self._control("POST", f"payments/{snapshot.provider_payment_id}/refund", {"amount": amount_minor})

    @property
    def callbacks(self) -> CallbackSettings:
        return CallbackSettings(self.provider, "sandbox-main", (Secret(SIGNING_SECRET),))

    def signed(self, body: bytes, *, secret: str, now_s: float) -> Mapping[str, str]:
        return signed_headers("sevt_told", secret, now_s, body)

    async def _control(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        async with self._session.request(method, f"{self._base_url}/control/{path}", json=body) as response:
            assert response.status == 200, await response.text()
            told: dict[str, Any] = await response.json()
            return told


@asynccontextmanager
async def sandbox() -> AsyncIterator[Driver]:
    """The sandbox on a free port, with a directory of its own and its slow steps left to the controls."""
    with tempfile.TemporaryDirectory() as directory:
        settings = SandboxSettings(
            Path(directory),
            port=0,
            accounts=(
                Account("acct_main", API_KEY, SIGNING_SECRET),
                Account("acct_other", "other-key", "other-secret"),
            ),
            hang_seconds=30.0,
            drip_seconds=30.0,
            huge_bytes=4 * 1024 * 1024,
            terms=Terms(processing_seconds=None, refund_seconds=None, dispute_seconds=None),
        )
        async with running(settings) as base_url, aiohttp.ClientSession() as session:
            yield SandboxDriver(base_url, session)


DRIVERS: Mapping[str, Driven] = {
    "paypal": PAYPAL,
    "paypal-live": PAYPAL_LIVE,
    "sandbox": Driven(sandbox, SANDBOX_FAULTS),
    "stripe": STRIPE,
    "stripe-live": STRIPE_LIVE,
}
