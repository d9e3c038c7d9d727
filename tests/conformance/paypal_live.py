"""PayPal's own sandbox, for the same battery: needs a REST app's credentials, and is never part of `make test`.

    OBOL_LIVE_PAYPAL_CLIENT_ID=... OBOL_LIVE_PAYPAL_SECRET=... pytest -m live tests/conformance

It cannot be told to fail here, its payer has a browser, and it signs with its own key: tests that need otherwise are
skipped with that reason. Paying without a payer takes a vaulted wallet of the sandbox (OBOL_LIVE_PAYPAL_VAULT_ID),
without which only what needs no payment runs.
"""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import NoReturn
from uuid import uuid4

import pytest

from gateway.domain.providers import ProviderAdapter, Snapshot
from providers.callbacks import CallbackSettings
from providers.http import WireLimits
from providers.registry import adapter_builder
from providers.secret import Secret
from providers.settings import ProviderAccountSettings, ProviderHooks
from tests.conformance.driver import Driven, Driver, Effect, Methods

CLIENT_ID, SECRET, VAULT_ID = "OBOL_LIVE_PAYPAL_CLIENT_ID", "OBOL_LIVE_PAYPAL_SECRET", "OBOL_LIVE_PAYPAL_VAULT_ID"
URL = "https://api-m.sandbox.paypal.com"


def cannot(what: str) -> NoReturn:
    pytest.skip(f"PayPal's own sandbox {what}")


class LivePayPalDriver:
    """One account at PayPal's sandbox."""

    provider = "paypal"
    currency = "USD"
    fresh = False
    finds_at_once = False
    planted: Sequence[str] = ()

    def __init__(self, client_id: str, secret: str, vault_id: str) -> None:
        self.run = uuid4().hex[:12]
        self.unmapped: list[tuple[str, str]] = []
        self._client_id, self._secret = client_id, Secret(secret)
        self._vault_id = vault_id

    @property
    def methods(self) -> Methods:
        """A vaulted wallet pays; the payer of the rest has a browser."""
        if not self._vault_id:
            cannot(f"takes payments without a payer from a vaulted wallet alone, and {VAULT_ID} is not set")
        return Methods(approves=self._vault_id, declines="")

    def adapter(self, *, api_key: Secret | None = None, wire: WireLimits | None = None) -> ProviderAdapter:
        settings = ProviderAccountSettings(
            "paypal-live",
            self.provider,
            URL,
            api_key or self._secret,
            wire=wire or WireLimits(),
            options=MappingProxyType({"client_id": self._client_id}),
        )
        hooks = ProviderHooks(unmapped=lambda provider, kind, value: self.unmapped.append((kind, value)))
        return adapter_builder(self.provider)(settings, hooks)

    async def effects(self) -> Sequence[Effect]:
        cannot("lists its money hours later only")

    async def fail_next(self, fault: str, verb: str = "any") -> None:
        cannot("is not told to fail")

    async def heal(self) -> None:
        return

    async def payer_answers(self, snapshot: Snapshot, *, approves: bool) -> None:
        cannot("has a payer with a browser")

    async def refund_in_dashboard(self, snapshot: Snapshot, amount_minor: int) -> None:
        cannot("has a dashboard with a person")

    @property
    def callbacks(self) -> CallbackSettings:
        cannot("signs with its own key")

    def signed(self, body: bytes, *, secret: str, now_s: float) -> Mapping[str, str]:
        cannot("signs with its own key")


@asynccontextmanager
async def live() -> AsyncIterator[Driver]:
    """PayPal's own sandbox. Skips without credentials."""
    client_id, secret = os.environ.get(CLIENT_ID, ""), os.environ.get(SECRET, "")
    if not client_id or not secret:
        pytest.skip(f"{CLIENT_ID} and {SECRET} are not set: no app of PayPal's sandbox to talk to it with")
    yield LivePayPalDriver(client_id, secret, os.environ.get(VAULT_ID, ""))


LIVE = Driven(live, (), live=True)
