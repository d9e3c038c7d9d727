"""A gateway that dies, or is cancelled, at a chosen point; and the one that comes after it on the same database.

A point is a place between two steps of the engine. The store and the adapters are the real ones; a thin layer before
them stops the world there. A dead process does nothing more: whatever it calls afterwards raises SimulatedCrash again.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.app.clock import Clock
from gateway.app.replies import CommandReply
from gateway.app.requests import (
    AdjustAuthorization,
    CancelPayment,
    CapturePayment,
    ConfirmPayment,
    CreatePayment,
    RefundPayment,
)
from gateway.app.runtime import Runtime
from gateway.app.settings import EngineSettings
from gateway.app.telemetry import Silence
from gateway.domain.commands import Caller
from gateway.domain.errors import Reason, Unavailable
from gateway.domain.payments import CaptureMethod, ConfirmationMethod
from gateway.domain.providers import Account, Accounts
from gateway.domain.storage import Store
from gateway.rpc.codec import ProtoReplyCodec
from obol.v1 import payment_gateway_pb2 as pb
from providers.registry import AccountRegistry, build_accounts
from providers.secret import Secret
from providers.settings import AccountsSettings, ProviderAccountSettings

ACCOUNT = "acct_main"
RESOLVE_S_MAX = 60.0
LEASE_S = 25.0

BRIEF = EngineSettings(
    send_window_s=10.0,
    provider_timeout_s=10.0,
    lease_s=LEASE_S,
    settle_retry_s=0.5,
    unknown_check_first_s=0.1,
    unknown_check_s_max=0.3,
    deadline_s_min=0.1,
    replay_wait_s=10.0,
    callback_wait_first_s=0.1,
)

POINTS = (
    "claim.before",
    "claim.lost",
    "claim.after",
    "send.before",
    "send.after",
    "settle.before",
    "settle.lost",
    "settle.after",
)
"""`lost`: committed, and the answer to COMMIT never came. `send.after`: the effect is there, its answer is not."""


class SimulatedCrash(BaseException):
    """The process is gone: no handler of ours may catch it."""


@dataclass
class Interruption:
    """Stops at `point`, once: by a crash, or by a cancellation of the call after which the process goes on."""

    point: str
    crash: bool
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    resume: asyncio.Event = field(default_factory=asyncio.Event)
    dead: bool = False

    async def at(self, point: str) -> None:
        """Pass a point: on, or out."""
        if self.dead:
            raise SimulatedCrash
        if point != self.point or self.reached.is_set():
            return
        self.reached.set()
        if self.crash:
            self.dead = True
            raise SimulatedCrash
        await self.resume.wait()


class StoreWithPoints:
    """The real store, with points around each of its methods."""

    def __init__(self, store: Store, interruption: Interruption) -> None:
        self._store = store
        self._interruption = interruption

    def __getattr__(self, name: str) -> Any:
        inner: Any = getattr(self._store, name)
        if not callable(inner):
            return inner

        async def passed(*args: Any, **kwargs: Any) -> Any:
            await self._interruption.at(f"{name}.before")
            result = await inner(*args, **kwargs)
            if self._interruption.point == f"{name}.lost" and not self._interruption.reached.is_set():
                self._interruption.reached.set()
                raise Unavailable(Reason.DATABASE_UNAVAILABLE, "the answer to COMMIT was lost")
            await self._interruption.at(f"{name}.after")
            return result

        return passed


class AccountInstead:
    """The real account, over an adapter that a test has changed."""

    def __init__(self, account: Account, change: Callable[[Any], Any]) -> None:
        self._account = account
        self.adapter = change(account.adapter)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._account, name)


class AdapterWithPoints:
    """The real adapter, with points around its send and its looks."""

    def __init__(self, adapter: Any, interruption: Interruption) -> None:
        self._adapter = adapter
        self._interruption = interruption

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    async def execute(self, *args: Any, **kwargs: Any) -> Any:
        """As the adapter's, between two points."""
        await self._interruption.at("send.before")
        outcome = await self._adapter.execute(*args, **kwargs)
        await self._interruption.at("send.after")
        return outcome

    async def fetch(self, *args: Any, **kwargs: Any) -> Any:
        """As the adapter's, between two points."""
        return await self._look(self._adapter.fetch, *args, **kwargs)

    async def lookup(self, *args: Any, **kwargs: Any) -> Any:
        """As the adapter's, between two points."""
        return await self._look(self._adapter.lookup, *args, **kwargs)

    async def _look(self, look: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        await self._interruption.at("look.before")
        found = await look(*args, **kwargs)
        await self._interruption.at("look.after")
        return found


class AccountWithPoints:
    """The real account, whose adapter has points."""

    def __init__(self, account: Account, interruption: Interruption) -> None:
        self._account = account
        self.adapter = AdapterWithPoints(account.adapter, interruption)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._account, name)


class AccountsWithPoints:
    """The real accounts, seen through an interruption."""

    def __init__(self, accounts: Accounts, interruption: Interruption) -> None:
        self._accounts = accounts
        self._interruption = interruption

    def get(self, account_id: str) -> Any:
        """As the registry's."""
        found = self._accounts.get(account_id)
        return found and AccountWithPoints(found, self._interruption)

    def route(self, *, provider: str, account_id: str) -> Any:
        """As the registry's."""
        found = self._accounts.route(provider=provider, account_id=account_id)
        return found and AccountWithPoints(found, self._interruption)

    def all(self) -> Sequence[Account]:
        """As the registry's."""
        return self._accounts.all()


def accounts_at(sandbox_url: str, *, api_key: str = "sandbox-key-main") -> AccountRegistry:
    """Our account of that name; with another key, pointed at somebody else's books."""
    settings = ProviderAccountSettings(ACCOUNT, "sandbox", sandbox_url, Secret(api_key), ACCOUNT)
    return build_accounts(AccountsSettings((settings,), ACCOUNT))


def blinded(accounts: Accounts, change: Callable[[Any], Any]) -> Accounts:
    """The real accounts, their adapters seen through `change`."""

    class Changed:
        def get(self, account_id: str) -> Any:
            found = accounts.get(account_id)
            return found and AccountInstead(found, change)

        def route(self, *, provider: str, account_id: str) -> Any:
            found = accounts.route(provider=provider, account_id=account_id)
            return found and AccountInstead(found, change)

        def all(self) -> Sequence[Account]:
            return accounts.all()

    return cast(Accounts, Changed())


def runtime_on(
    store: Store,
    accounts: Accounts,
    interruption: Interruption | None = None,
    *,
    settings: EngineSettings = BRIEF,
    clock: Clock | None = None,
) -> Runtime:
    """A process's insides; with `interruption` the one that will be stopped. Its loops are not started."""
    if interruption is not None:
        store = cast(Store, StoreWithPoints(store, interruption))
        accounts = cast(Accounts, AccountsWithPoints(accounts, interruption))
    return Runtime(store, accounts, ProtoReplyCodec(), Silence(), settings, clock)


def caller_of(tenant_id: str) -> Caller:
    """A caller of its own tenant: cases run side by side."""
    return Caller(tenant_id, "org", "tests", f"corr-{tenant_id}")


Call = Callable[[Runtime], "asyncio.Future[CommandReply] | Any"]


async def prepared(kind: str, runtime: Runtime, caller: Caller) -> Callable[[Runtime], Any]:
    """What leads up to a command of `kind`, done undisturbed; the command itself as a function of a runtime."""

    async def create(key: str, **asked: Any) -> str:
        request = CreatePayment(key, 1_000, "EUR", **{"payment_method": "card_ok"} | asked)
        reply = await runtime.commands.create(caller, request, 10)
        return str(pb.CreatePaymentResponse.FromString(reply.body).payment.payment_id)

    if kind == "create":
        return lambda r: r.commands.create(caller, CreatePayment("it", 1_000, "EUR", payment_method="card_ok"), 20)
    if kind == "confirm":
        payment_id = await create("first", confirmation_method=ConfirmationMethod.MANUAL)
        return lambda r: r.commands.confirm(caller, ConfirmPayment("it", payment_id), 20)
    if kind == "refund":
        payment_id = await create("first")
        return lambda r: r.commands.refund(caller, RefundPayment("it", payment_id, 400, "EUR"), 20)
    payment_id = await create("first", capture_method=CaptureMethod.MANUAL)
    if kind == "capture":
        return lambda r: r.commands.capture(caller, CapturePayment("it", payment_id, 600, "EUR"), 20)
    if kind == "adjust":
        return lambda r: r.commands.adjust(caller, AdjustAuthorization("it", payment_id, 1_500, "EUR"), 20)
    return lambda r: r.commands.cancel(caller, CancelPayment("it", payment_id), 20)


KINDS = ("create", "confirm", "capture", "adjust", "cancel", "refund")

RESPONSES: dict[str, Any] = {
    "create": pb.CreatePaymentResponse,
    "confirm": pb.ConfirmPaymentResponse,
    "capture": pb.CapturePaymentResponse,
    "adjust": pb.AdjustAuthorizationResponse,
    "cancel": pb.CancelPaymentResponse,
    "refund": pb.RefundPaymentResponse,
}
"""What each kind of command answers with."""

EFFECT = {
    "create": "capture",
    "confirm": "capture",
    "capture": "capture",
    "adjust": "authorization",
    "cancel": "void",
    "refund": "refund",
}
"""The one effect that a command of each kind must have at the provider, however often it was interrupted."""


async def outlive_leases(database_url: str, *, seconds: float = LEASE_S) -> None:
    """Let time pass for everything that is held, a lease's at least: the test moves its times, and waits not."""
    columns = ("claimed_time_us", "lease_until_us", "next_attempt_us", "last_send_us")
    earlier = ", ".join(f"{column} = {column} - {int(seconds * 1_000_000)}" for column in columns)
    await change(database_url, f"UPDATE operations SET {earlier} WHERE lease_until_us IS NOT NULL")
    await change(
        database_url, "UPDATE callbacks SET lease_until_us = 1, next_attempt_us = 1 WHERE lease_until_us IS NOT NULL"
    )


async def make_due(database_url: str, *, aged_s: float = 0.0) -> None:
    """Let the pause of everything pass that is live and that nobody holds, and `aged_s` since it was claimed."""
    aged = f"claimed_time_us = claimed_time_us - {int(aged_s * 1_000_000)}"
    await change(
        database_url,
        f"UPDATE operations SET next_attempt_us = 1, {aged} WHERE lease_until_us IS NULL AND next_attempt_us > 1",
    )


async def rows(database_url: str, statement: str, **values: Any) -> Sequence[Any]:
    """What a reader beside the gateway sees."""
    engine = create_async_engine(database_url)
    async with engine.connect() as connection:
        found = (await connection.execute(text(statement), values)).all()
    await engine.dispose()
    return found


async def change(database_url: str, statement: str) -> None:
    """What time, or a person with the database's password, does."""
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(text(statement))
    await engine.dispose()


async def resolve(runtime: Runtime) -> None:
    """Let recovery work until nothing is unresolved."""
    deadline = asyncio.get_running_loop().time() + RESOLVE_S_MAX
    while True:
        await runtime.recovery.run_once()
        unresolved = await runtime._store.unresolved()
        if not any(unresolved.live_by_state.values()):
            return
        assert asyncio.get_running_loop().time() < deadline, f"still {unresolved}"
        await asyncio.sleep(0.05)


def effects_of(log: Path, tenant_id: str) -> list[str]:
    """The kinds of effect that a tenant has in the provider's log."""
    return [e["kind"] for e in map(json.loads, log.read_text().splitlines()) if e["tenant"] == tenant_id]
