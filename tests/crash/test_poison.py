"""Operations that nobody can resolve stand at the head of the queue, batches of them: the rest resolves in time."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.app.requests import CreatePayment
from gateway.app.runtime import Runtime
from gateway.domain.providers import Absent, Ambiguous, Lookup, Outcome, Unreadable
from gateway.domain.states import CommandState
from providers.breaker import BreakerLimits
from providers.registry import AccountRegistry, build_accounts
from providers.secret import Secret
from providers.settings import AccountsSettings, ProviderAccountSettings
from simulators.sandbox.server import running
from simulators.sandbox.settings import SandboxSettings
from store import open_store
from tests.crash.rig import (
    ACCOUNT,
    BRIEF,
    Interruption,
    SimulatedCrash,
    blinded,
    caller_of,
    effects_of,
    make_due,
    outlive_leases,
    rows,
    runtime_on,
)
from tests.databases import sqlite_url

POISONED = 100
IN_TIME_S = 45.0
PATIENT = replace(BRIEF, provider_timeout_s=60.0, lease_s=100.0)
"""Each look at the hanging account takes 60 s, well above IN_TIME_S."""

NEVER_OPENS = BreakerLimits(consecutive_failures_max=1_000_000, window_calls_min=1_000_000)
"""So that it is not the breaker that keeps the poison away."""

CALLER = caller_of("t1")
POISON = "acct_poison"


class Poison:
    """The real adapter, of a provider that never says how anything ended; other accounts' are as they are."""

    def __init__(self, adapter: Any, *, hangs: bool) -> None:
        self._adapter = adapter
        self._hangs = hangs
        self._poisoned = adapter.account_id == POISON

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    async def execute(self, *args: Any, **kwargs: Any) -> Outcome:
        outcome: Outcome = Ambiguous("lost") if self._poisoned else await self._adapter.execute(*args, **kwargs)
        return outcome

    async def lookup(self, payment_id: str, *, timeout_s: float) -> Lookup:
        if not self._poisoned:
            found: Lookup = await self._adapter.lookup(payment_id, timeout_s=timeout_s)
            return found
        if self._hangs:
            await asyncio.sleep(timeout_s)
            return Unreadable("timed out")
        return Absent(consistent=False)


async def test_a_hanging_providers_operations_hold_up_no_other_accounts(tmp_path: Path) -> None:
    """Three batches of looks that hang come first: another account's unknown payment is resolved all the same."""
    await _resolves_in_time(tmp_path, hangs=True)


async def test_what_only_a_person_can_help_holds_up_nothing(tmp_path: Path) -> None:
    """Three batches that no look can end, too old to be sent again, come first, and again: the rest is resolved."""
    await _resolves_in_time(tmp_path, hangs=False)


async def _resolves_in_time(tmp_path: Path, *, hangs: bool) -> None:
    url = sqlite_url(tmp_path)
    async with running(SandboxSettings(data_dir=tmp_path / "sandbox", port=0)) as sandbox_url:
        store, registry = await open_store(url), _accounts(sandbox_url)
        accounts = blinded(registry, lambda adapter: Poison(adapter, hangs=hangs))
        await asyncio.gather(*(_create(runtime_on(store, accounts), f"p{n}", POISON) for n in range(POISONED)))
        dying = runtime_on(store, accounts, Interruption("send.after", crash=True))
        try:
            await _create(dying, "good", ACCOUNT)
        except SimulatedCrash:
            await outlive_leases(url)
        await make_due(url, aged_s=3_600)
        runtime = runtime_on(store, accounts, settings=PATIENT)
        await runtime.start()
        loop = asyncio.get_running_loop()
        began = loop.time()
        while await rows(url, "SELECT 1 FROM operations WHERE account_id = :a AND state <> 'SUCCEEDED'", a=ACCOUNT):
            assert loop.time() < began + IN_TIME_S, "a payment that could be resolved was not"
            await asyncio.sleep(0.1)
        left = await rows(url, "SELECT state, count(*) FROM operations WHERE account_id = :a GROUP BY 1", a=POISON)
        assert left == [(CommandState.UNKNOWN, POISONED)]
        assert effects_of(tmp_path / "sandbox" / "effects.jsonl", "t1") == ["capture"]
        await runtime.drain(0.1)
        await store.close()
        await registry.close()


async def _create(runtime: Runtime, key: str, account_id: str) -> None:
    request = CreatePayment(key, 700, "EUR", payment_method="card_ok", account_id=account_id)
    await runtime.commands.create(CALLER, request, 20)


def _accounts(sandbox_url: str) -> AccountRegistry:
    return build_accounts(
        AccountsSettings(
            tuple(
                ProviderAccountSettings(
                    name, "sandbox", sandbox_url, Secret("sandbox-key-main"), merchant_id=ACCOUNT, breaker=NEVER_OPENS
                )
                for name in (ACCOUNT, POISON)
            ),
            ACCOUNT,
        )
    )
