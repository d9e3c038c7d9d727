"""Whether an account is set up at Stripe: each thing that can be wrong is named, with what to do."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.domain.setup_checks import ChecksSetup, SetupCheck
from providers.registry import adapter_builder
from providers.secret import Secret
from providers.settings import ProviderAccountSettings, ProviderHooks
from providers.stripe.capabilities import API_VERSION
from simulators.sandbox.server import running as running_sandbox
from simulators.sandbox.settings import SandboxSettings
from simulators.stripe.server import running
from simulators.stripe.settings import StripeSettings
from tests.unit.providers.misbehaving import answer, answering, misbehaving

PATH = "/webhooks/stripe/acct_main"
ACCOUNT = {"id": "acct_main", "object": "account", "charges_enabled": True}


def endpoint(**changed: Any) -> dict[str, Any]:
    told = {"url": f"https://pay.example{PATH}", "status": "enabled", "enabled_events": ["*"]}
    return {**told, **changed}


async def looked_at(base_url: str, provider: str = "stripe", **changed: Any) -> dict[str, SetupCheck]:
    told: dict[str, Any] = {"api_key": Secret("sk_test_simulated"), "webhook_secrets": (Secret("planted"),), **changed}
    settings = ProviderAccountSettings("acct_main", provider, base_url, **told)
    adapter = adapter_builder(provider)(settings, ProviderHooks())
    try:
        assert isinstance(adapter, ChecksSetup)
        return {each.subject: each for each in await adapter.check_setup(callback_path=PATH, timeout_s=5.0)}
    finally:
        await adapter.close()


@asynccontextmanager
async def telling(account: object, endpoints: object, version: str = API_VERSION) -> AsyncIterator[str]:
    """A Stripe that answers the two questions so."""
    first = answer(json.dumps(account).encode(), 200, f"Stripe-Version: {version}")
    async with misbehaving(answering(first, answer(json.dumps(endpoints).encode()))) as server:
        yield server.base_url


def problems(checks: dict[str, SetupCheck]) -> list[str]:
    return [subject for subject, check in checks.items() if check.problem]


async def test_an_account_that_is_set_up_has_no_problem(tmp_path: Path) -> None:
    """Key, version, signing secret, and an endpoint that leads here and hears what we need."""
    settings = StripeSettings(tmp_path, port=0, webhook_url="http://127.0.0.1:1/webhooks/stripe/{account}")
    async with running(settings) as url:
        assert problems(await looked_at(url, merchant_id="acct_main")) == []
        assert problems(await looked_at(url, merchant_id="acct_2")) == ["credentials"]
        assert problems(await looked_at(url, webhook_secrets=())) == ["signing secret"]
        assert list(await looked_at(url, api_key=Secret("of-somebody-else"))) == ["credentials"]


@pytest.mark.parametrize(
    ("endpoints", "subject"),
    [
        ([], "webhook endpoint"),
        ([endpoint(url="https://elsewhere.example/hooks")], "webhook endpoint"),
        ([endpoint(status="disabled")], "webhook endpoint"),
        ([endpoint(enabled_events=["charge.succeeded"])], "webhook events"),
    ],
)
async def test_an_endpoint_that_would_not_bring_events_is_a_problem(endpoints: list[Any], subject: str) -> None:
    """None, another's, a disabled one, one that does not subscribe."""
    async with telling(ACCOUNT, {"data": endpoints}) as url:
        assert problems(await looked_at(url)) == [subject]


async def test_another_version_is_a_problem() -> None:
    """Stripe answered in another version than was asked for."""
    async with telling(ACCOUNT, {"data": [endpoint()]}, version="2020-08-27") as url:
        assert problems(await looked_at(url)) == ["API version"]


async def test_an_account_that_takes_no_charges_is_a_problem() -> None:
    """Onboarding is not finished."""
    async with telling({**ACCOUNT, "charges_enabled": False}, {"data": [endpoint()]}) as url:
        assert problems(await looked_at(url)) == ["charges"]


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]"])
async def test_what_is_not_stripe_is_said_so(body: bytes) -> None:
    """Something else at the address: named, and no exception."""
    async with misbehaving(answering(*[answer(body)] * 2)) as server:
        assert problems(await looked_at(server.base_url)) == ["credentials"]


async def test_the_sandbox_says_whose_key_it_is(tmp_path: Path) -> None:
    """The sandbox is looked at too."""
    async with running_sandbox(SandboxSettings(tmp_path, port=0)) as url:
        right = await looked_at(url, "sandbox", api_key=Secret("sandbox-key-main"), merchant_id="acct_main")
        assert problems(right) == []
        assert problems(await looked_at(url, "sandbox", api_key=Secret("no"))) == ["credentials"]


def test_a_person_is_told_and_the_exit_code_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody at the address: a line with what to do, the exit code of a failure, and no secret."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OBOL_PROVIDERS__STRIPE__API_KEY", "planted-key")
    monkeypatch.setenv("OBOL_PROVIDERS__STRIPE__BASE_URL", "http://127.0.0.1:1")
    result = CliRunner().invoke(app, ["providers", "check"])
    assert (result.exit_code, "PROBLEM" in result.output, "planted" in result.output) == (1, True, False)
    assert CliRunner().invoke(app, ["providers", "check", "nobody"]).exit_code == 2
