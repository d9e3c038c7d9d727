"""Stripe's events of what the gateway does not know yet: verified, kept, acknowledged, and replayed later."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.providers import CallbackHint
from obol.v1 import operations_pb2 as ops
from providers.registry import build_accounts
from providers.secret import Secret
from providers.settings import AccountsSettings, ProviderAccountSettings
from store import open_store
from tests.crash.rig import blinded, caller_of, runtime_on
from tests.databases import sqlite_url
from tests.integration.operators import at_rest, operate
from tests.store.looking import rows
from tests.stripe.house import ACCOUNT, PLATFORM, StripeHouse, house_before, stripe_in
from tests.stripe_document import fixtures

IGNORED = ops.CALLBACK_STATE_IGNORED
EVENTS = {
    "checkout.session.completed": "checkout.session",
    "checkout.session.expired": "checkout.session",
    "invoice.paid": "invoice",
    "invoice.payment_failed": "invoice",
    "customer.subscription.updated": "subscription",
    "customer.subscription.deleted": "subscription",
    "setup_intent.succeeded": "setup_intent",
    "account.updated": "account",
    "payout.paid": "payout",
}
"""The event's type, and the resource that it carries: Stripe's own sample of one where it is at hand."""


def event(kind: str, about: Mapping[str, Any]) -> bytes:
    """An event's body, printed as Stripe prints it."""
    told = {"id": f"evt_{kind}", "object": "event", "type": kind, "created": 1_700_000_000, "livemode": False}
    return json.dumps({**told, "data": {"object": about}}, indent=2).encode()


async def deliver(house: StripeHouse, kind: str, about: Mapping[str, Any]) -> Any:
    """The callback at rest, after its 2xx."""
    assert await house.deliver(event(kind, about)) == 200, kind
    return await at_rest(house.operations, f"evt_{kind}")


async def body_of(url: str, callback_id: str) -> bytes:
    """The body as whoever replays it gets it."""
    store = await open_store(url)
    kept = await store.find_callback(callback_id)
    await store.close()
    assert kept is not None
    return kept.callback.body


async def test_events_of_what_is_not_known_yet_are_kept_as_they_came(tmp_path: Path) -> None:
    """2xx, one row each with its bytes, no payment touched; a replay finds them as they were, and does nothing yet."""
    url = sqlite_url(tmp_path)
    async with stripe_in(tmp_path) as stripe, house_before(stripe, url, tmp_path) as house:
        for kind, resource in EVENTS.items():
            about = fixtures().get(resource) or {"object": resource, "id": f"{resource}_1"}
            kept = await deliver(house, kind, about)
            assert (kept.state, kept.note) == (IGNORED, f"of no payment: {kind}")
            assert await body_of(url, kept.callback_id) == event(kind, about)
            assert (await deliver(house, kind, about)).callback_id == kept.callback_id
            again = await operate(house.operations, "ReplayCallback", callback_id=kept.callback_id)
            assert (again.replayed, again.callback.state, len(again.movements)) == (True, IGNORED, 0)
        assert await rows(url, "SELECT COUNT(*) FROM callbacks") == [(len(EVENTS),)]
        assert await rows(url, "SELECT COUNT(*) FROM observations") == [(0,)]


async def test_an_event_that_is_not_signed_by_stripe_is_not_kept(tmp_path: Path) -> None:
    """Whatever it is about: 401, and no row."""
    url = sqlite_url(tmp_path)
    async with stripe_in(tmp_path) as stripe, house_before(stripe, url, tmp_path) as house:
        for kind in EVENTS:
            headers = {"Content-Type": "application/json", "Stripe-Signature": "t=1700000000,v1=" + "0" * 64}
            path = f"http://127.0.0.1:{stripe.callback_port}/webhooks/stripe/{ACCOUNT}"
            async with house.http.post(path, data=event(kind, {"id": "x"}), headers=headers) as answer:
                assert answer.status == 401
        assert await rows(url, "SELECT COUNT(*) FROM callbacks") == [(0,)]


class KnowsCheckout:
    """The adapter of a later release: a Checkout Session leads to the PaymentIntent that it made."""

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def interpret(self, body: bytes, headers: Mapping[str, str]) -> CallbackHint:
        told = json.loads(body)
        return CallbackHint(told["id"], told["type"], told["data"]["object"]["payment_intent"])


@pytest.mark.parametrize("dry_run", [True, False])
async def test_what_is_known_later_is_replayed_from_what_was_kept(dry_run: bool, tmp_path: Path) -> None:
    """A release that knows Checkout applies a session that came before it, from the row as it stands."""
    url = sqlite_url(tmp_path)
    async with stripe_in(tmp_path) as stripe:
        async with house_before(stripe, url, tmp_path) as house:
            paid = await house.create("k1")
            intent = paid.provider_reference.provider_payment_id
            await house.control(f"payments/{intent}/refund", {"amount": 300})
            session = {
                "id": "cs_1",
                "object": "checkout.session",
                "payment_intent": intent,
                "client_secret": "cs_secret",
            }
            kept = await deliver(house, "checkout.session.completed", session)
            assert kept.state == IGNORED
        store = await open_store(url)
        account = ProviderAccountSettings(ACCOUNT, "stripe", stripe.url, Secret(PLATFORM.api_key), ACCOUNT)
        accounts = build_accounts(AccountsSettings((account,), ACCOUNT))
        later = runtime_on(store, blinded(accounts, KnowsCheckout))
        done = await later.inbox.replay(caller_of("ops"), kept.callback_id, dry_run=dry_run)
        assert done.callback.state == "APPLIED"
        assert done.settlement is not None
        assert done.settlement.payment.sums.refunded_minor == 300
        found = await store.load("t1", paid.payment_id)
        assert found is not None
        assert found.payment.sums.refunded_minor == (0 if dry_run else 300)
        await accounts.close()
        await store.close()
