"""Three accounts at one sandbox, one that nobody answers for, and processes that route between them."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.app import failover, patience
from gateway.app.requests import CreatePayment
from gateway.app.runtime import Runtime
from gateway.app.settings import EngineSettings, ReconciliationSettings
from gateway.app.telemetry import Silence
from gateway.demo.installation import refusing
from gateway.domain.payments import Payment
from gateway.domain.providers import Accounts
from gateway.domain.routes import FailoverOn
from gateway.domain.routing import RoutingRule
from gateway.domain.storage import Aggregate, Store
from gateway.rpc.codec import ProtoReplyCodec
from gateway.verification import verify
from obol.v1 import payment_gateway_pb2 as pb
from obol.v1 import payment_pb2
from providers.breaker import BreakerLimits
from providers.rate import RateLimits
from providers.registry import AccountRegistry, build_accounts
from providers.retry import RetryLimits
from providers.secret import Secret
from providers.settings import AccountsSettings, ProviderAccountSettings
from simulators.sandbox.server import running
from simulators.sandbox.settings import Account, SandboxSettings
from store import open_store
from tests.crash.rig import BRIEF, AccountsWithPoints, Interruption, StoreWithPoints, caller_of
from tests.databases import postgresql_url, sqlite_url

CALLER = caller_of("routed")
MAIN, OTHER, THIRD, NOWHERE = "acct_main", "acct_other", "acct_third", "acct_nowhere"
SOFT = frozenset({FailoverOn.NOT_SENT, FailoverOn.SOFT_DECLINE})
ORDER = (MAIN, OTHER, THIRD)


def rule(*accounts: str, on: frozenset[FailoverOn] = SOFT, **rest: Any) -> RoutingRule:
    """One rule for everything."""
    return RoutingRule("everything", accounts or ORDER, failover_on=on, **rest)


@dataclass
class Scene:
    """A database, a sandbox, and processes before them."""

    url: str
    sandbox_url: str
    log: Path
    store: Store
    accounts: AccountRegistry
    refusing_url: str
    """Where every connection is refused."""

    def runtime(
        self,
        *rules: RoutingRule,
        accounts: Accounts | None = None,
        interruption: Interruption | None = None,
        engine: EngineSettings = BRIEF,
        reconciliation: ReconciliationSettings | None = None,
    ) -> Runtime:
        """A process's insides with these rules; its loops are not started."""
        store, known = self.store, accounts or self.accounts
        if interruption is not None:
            store = cast(Store, StoreWithPoints(store, interruption))
            known = cast(Accounts, AccountsWithPoints(known, interruption))
        return Runtime(store, known, ProtoReplyCodec(), Silence(), engine, rules=rules, reconciliation=reconciliation)

    async def aggregate(self, payment_id: str) -> Aggregate:
        """A payment as it stands."""
        found = await self.store.load(CALLER.tenant_id, payment_id)
        assert found is not None
        return found

    async def only(self) -> Aggregate:
        """The only payment that there is."""
        found = await self.store.list_payments(CALLER.tenant_id, no_filter(), before_payment_id="", limit=2)
        assert len(found) == 1
        return await self.aggregate(found[0].payment_id)

    def effects(self) -> list[tuple[str, str]]:
        """(account, kind) of every effect at the provider."""
        return [(e["account"], e["kind"]) for e in map(json.loads, self.log.read_text().splitlines())]

    async def objects(self) -> dict[str, int]:
        """How many objects each account has at the provider."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.sandbox_url}/control/state") as told:
            counted: dict[str, int] = (await told.json())["books"]["payments"]
        return {account: count for account, count in counted.items() if count}

    async def fail_next(self, *faults: tuple[str, str]) -> None:
        """Let the next requests of these verbs fail so: (fault, verb)."""
        plan = {"next": [{"fault": fault, "match": verb} for fault, verb in faults]}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.sandbox_url}/control/faults", json=plan) as told,
        ):
            assert told.status == 200, await told.text()

    async def make_due(self) -> None:
        """Let the time pass after which another process takes a failover up."""
        await self.execute("UPDATE payments SET failover_due_us = 1 WHERE failover_due_us IS NOT NULL")

    async def execute(self, statement: str) -> None:
        """Change the database behind everybody's back."""
        engine = create_async_engine(self.url)
        async with engine.begin() as connection:
            await connection.execute(text(statement))
        await engine.dispose()

    async def verified(self) -> None:
        """Every invariant holds, over the database and the provider's log."""
        report = await verify(self.url, effect_log=self.log, healed=True)
        assert report.violations == []


def no_filter() -> Any:
    from gateway.domain.storage import PaymentFilter

    return PaymentFilter()


def wish(method: str = "card_ok", key: str = "key-1", **rest: Any) -> CreatePayment:
    """A payment of 1,000."""
    return CreatePayment(key, 1_000, "EUR", payment_method=method, **rest)


async def created(runtime: Runtime, request: CreatePayment, deadline_s: float = 10) -> Any:
    """The payment that a create answers with."""
    reply = await runtime.commands.create(CALLER, request, deadline_s)
    return pb.CreatePaymentResponse.FromString(reply.body).payment


async def created_and_left(runtime: Runtime, request: CreatePayment) -> Any:
    """The payment that a create answers with whose caller's time is up when there is nothing to do but wait."""

    async def time_is_up(_: float) -> None:
        raise TimeoutError

    clock = SimpleNamespace(timeout=asyncio.timeout, gather=asyncio.gather, sleep=time_is_up)
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(failover, "asyncio", clock)
        return await created(runtime, request, deadline_s=60)


@contextmanager
def no_time_passes() -> Iterator[None]:
    """A caller's deadline stays as far away as it was, however slow the machine is."""
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(patience, "asyncio", SimpleNamespace(get_running_loop=lambda: SimpleNamespace(time=float)))
        yield


class NthInterruption(Interruption):
    """Stops at a point of the `nth` operation that the process claims."""

    def __init__(self, nth: int, point: str, *, crash: bool) -> None:
        super().__init__("", crash)
        self._nth, self._wanted, self._seen = nth, point, 0

    async def at(self, point: str) -> None:
        if point == "claim.before":
            self._seen += 1
            self.point = self._wanted if self._seen == self._nth else ""
        await super().at(point)


AUTHORIZED = payment_pb2.PAYMENT_STATE_AUTHORIZED
CAPTURED = payment_pb2.PAYMENT_STATE_CAPTURED
FAILED = payment_pb2.PAYMENT_STATE_FAILED
CREATED = payment_pb2.PAYMENT_STATE_CREATED


def tried(payment: Payment) -> list[tuple[str, str]]:
    """(account, outcome) of every attempt on the payment's route."""
    assert payment.route is not None
    return [(each.account_id, each.outcome.value) for each in payment.route.attempts]


@asynccontextmanager
async def scene_at(folder: Path, engine: str = "sqlite", **changes: Any) -> AsyncIterator[Scene]:
    """A scene of its own in `folder`."""
    url = sqlite_url(folder) if engine == "sqlite" else postgresql_url()
    settings = SandboxSettings(
        folder / "sandbox",
        port=0,
        accounts=tuple(Account(name, f"key-{name}", f"secret-{name}") for name in ORDER),
    )
    async with running(settings) as sandbox_url:
        with closing(refusing()) as taken:
            refusing_url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            store = await open_store(url)
            accounts = accounts_at(sandbox_url, refusing_url, **changes)
            yield Scene(url, sandbox_url, folder / "sandbox" / "effects.jsonl", store, accounts, refusing_url)
            await store.close()
            await accounts.close()


def accounts_at(sandbox_url: str, refusing_url: str, *, rate: RateLimits | None = None) -> AccountRegistry:
    """Three accounts that answer, and one where every connection is refused."""
    base = ProviderAccountSettings(
        MAIN,
        "sandbox",
        sandbox_url,
        Secret("k"),
        breaker=BreakerLimits(consecutive_failures_max=3, open_s=60),
        retry=RetryLimits(attempts_max=1),
        rate=rate or RateLimits(),
    )
    named = [
        replace(base, account_id=name, merchant_id=name, api_key=Secret(f"key-{name}"), default=name == MAIN)
        for name in ORDER
    ]
    named.append(replace(base, account_id=NOWHERE, base_url=refusing_url))
    return build_accounts(AccountsSettings(tuple(named), MAIN))
