"""Stripe's own sandbox, for the same battery: needs a test key, and is never part of `make test`.

    OBOL_LIVE_STRIPE_KEY=sk_test_... pytest -m live tests/conformance

It cannot be told to fail, its payer has a browser, and its books hold what others made: tests that need otherwise are
skipped with that reason. What took effect is read through the adapter, for there is nothing else to ask.
"""

import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NoReturn
from uuid import uuid4

import pytest

from gateway.domain.movements import MovementKind, MovementStatus
from gateway.domain.providers import Found, ListsPayments, ProviderAdapter, Snapshot
from providers.callbacks import CallbackSettings
from providers.http import WireLimits
from providers.registry import adapter_builder
from providers.secret import Secret
from providers.settings import ProviderAccountSettings, ProviderHooks
from providers.stripe.requests import REFUNDS_PATH, Place
from providers.stripe.wire import StripeWire
from simulators.stripe.imitation import signed_headers
from tests.conformance.driver import Driven, Driver, Effect, Methods

KEY, URL = "OBOL_LIVE_STRIPE_KEY", "OBOL_LIVE_STRIPE_URL"
PAGES_MAX = 20
TIMEOUT_S = 20.0
TELLING = {MovementKind.AUTHORIZATION: "authorization", MovementKind.CAPTURE: "capture", MovementKind.REFUND: "refund"}


def cannot(what: str) -> NoReturn:
    pytest.skip(f"Stripe's own sandbox {what}")


class LiveStripeDriver:
    """One account at Stripe, in test mode."""

    provider = "stripe"
    currency = "USD"
    fresh = False
    methods = Methods(
        approves="pm_card_visa",
        declines="pm_card_visa_chargeDeclinedInsufficientFunds",
        processes="pm_usBankAccount_success",
        refunds_pend="pm_card_pendingRefund",
    )
    planted: Sequence[str] = ()

    def __init__(self, key: str, base_url: str) -> None:
        self.run = uuid4().hex[:12]
        self.unmapped: list[tuple[str, str]] = []
        self._key, self._base_url = Secret(key), base_url
        self._began_us = int(time.time() - 5) * 1_000_000
        self._own = self.adapter()

    def adapter(self, *, api_key: Secret | None = None, wire: WireLimits | None = None) -> ProviderAdapter:
        settings = ProviderAccountSettings(
            "stripe-live", self.provider, self._base_url, api_key or self._key, wire=wire or WireLimits()
        )
        hooks = ProviderHooks(unmapped=lambda provider, kind, value: self.unmapped.append((kind, value)))
        return adapter_builder(self.provider)(settings, hooks)

    async def effects(self) -> Sequence[Effect]:
        lists, found, token = self._own, list[Effect](), ""
        assert isinstance(lists, ListsPayments)
        for _ in range(PAGES_MAX):
            page, token = await lists.list_payments(
                created_from_us=self._began_us,
                created_before_us=int(time.time() + 60) * 1_000_000,
                page_token=token,
                limit=100,
                timeout_s=TIMEOUT_S,
            )
            ours = [each for each in page if each.payment_id.startswith(f"pay_{self.run}_")]
            for each in ours:
                read = await self._own.fetch(each.provider_payment_id, timeout_s=TIMEOUT_S)
                assert isinstance(read, Found)
                found += [
                    Effect(TELLING[moved.kind], moved.amount_minor, moved.currency, moved.operation_id)
                    for moved in read.snapshot.facts.movements
                    if moved.kind in TELLING and moved.status is not MovementStatus.PENDING
                ]
            if not token:
                return found
        raise AssertionError("more payments than this test can look through")

    async def fail_next(self, fault: str, verb: str = "any") -> None:
        cannot("cannot be told to fail")

    async def heal(self) -> None:
        return

    async def payer_answers(self, snapshot: Snapshot, *, approves: bool) -> None:
        cannot("has a payer with a browser")

    async def refund_in_dashboard(self, snapshot: Snapshot, amount_minor: int) -> None:
        wire = StripeWire(self._base_url, self._key, WireLimits())
        intent = Place.of(snapshot.provider_payment_id).intent_id
        told = await wire.write(
            REFUNDS_PATH,
            f"payment_intent={intent}&amount={amount_minor}",
            key=uuid4().hex,
            version="",
            send_before=float("inf"),
            timeout_s=TIMEOUT_S,
        )
        await wire.close()
        assert told.error is None

    @property
    def callbacks(self) -> CallbackSettings:
        return CallbackSettings(self.provider, "stripe-live", (Secret(f"whsec_{self.run}"),))

    def signed(self, body: bytes, *, secret: str, now_s: float) -> Mapping[str, str]:
        return signed_headers(secret, now_s, body)

    async def close(self) -> None:
        await self._own.close()


@asynccontextmanager
async def live() -> AsyncIterator[Driver]:
    """Stripe's own sandbox. Skips without a key; refuses one that is not of test mode."""
    key = os.environ.get(KEY, "")
    if not key:
        pytest.skip(f"{KEY} is not set: no test key of Stripe's to talk to it with")
    assert "_test_" in key, f"{KEY} must be a test key: this battery takes money"
    driver = LiveStripeDriver(key, os.environ.get(URL, ""))
    try:
        yield driver
    finally:
        await driver.close()


LIVE = Driven(live, (), live=True)
