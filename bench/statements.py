"""Statements, round trips and commits of one payment, counted where they reach the driver.

A gateway without its loops is composed in this process, so that nothing but the payment's own is counted.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from sqlalchemy import Engine as SqlEngine
from sqlalchemy import event
from sqlalchemy.pool import Pool

from bench import requests
from bench.databases import Engine, place_of
from bench.processes import FAST_ACCOUNT
from bench.provider import PROVIDER, InstantAdapter, Patience
from gateway.app.commands import Commands
from gateway.app.queries import Queries
from gateway.app.requests import CreatePayment
from gateway.app.runtime import Runtime
from gateway.app.settings import EngineSettings
from gateway.domain.commands import Caller
from gateway.domain.storage import PaymentFilter, Store
from gateway.metrics import Metrics
from gateway.rpc.codec import ProtoReplyCodec
from obol.v1 import payment_gateway_pb2
from providers.account import ProviderAccount
from providers.breaker import AccountBreaker, BreakerLimits
from providers.bulkhead import Bulkhead, BulkheadLimits
from providers.registry import AccountRegistry
from store import open_store

WARM_PAYMENTS = 12
"""So that every connection, prepared statement and cached plan is there before anything is counted."""

CALLER = Caller(requests.TENANT, "shop", "billing", "bench-round")
_TRANSACTION = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement as the driver got it; on SQLite the text holds its values already."""

    text: str
    arguments: tuple[Any, ...] = ()
    hot: bool = False
    """Past SQLAlchemy: planned once for a connection, whatever the arguments."""

    @property
    def verb(self) -> str:
        """Its first word."""
        return self.text.split(maxsplit=1)[0].upper()


@dataclass
class Ledger:
    """What was sent while it was open."""

    engine: Engine
    statements: list[Statement] = field(default_factory=list)
    steps: int = 0
    """Steps of SQLite's virtual machine."""

    backends: list[asyncpg.Connection] = field(default_factory=list)
    """Every connection to PostgreSQL that was opened."""

    async def flush(self) -> None:
        """Have the backends tell now what they have read: by themselves they do so at most once a second."""
        for backend in self.backends:
            if not backend.is_closed():
                await backend.fetchval("SELECT pg_stat_force_next_flush()")

    def step(self) -> None:
        """One more; None lets SQLite go on."""
        self.steps += 1

    @property
    def counted(self) -> list[Statement]:
        """Those that read or write; what only opens and closes transactions and savepoints is left out."""
        return [each for each in self.statements if each.verb not in _TRANSACTION]

    @property
    def commits(self) -> int:
        """Durable commits: on PostgreSQL each statement outside of a transaction is one."""
        explicit = sum(each.verb == "COMMIT" for each in self.statements)
        if self.engine is Engine.SQLITE or explicit:
            return explicit
        return sum("INSERT INTO" in each.text or "UPDATE " in each.text for each in self.statements)


@dataclass(frozen=True, slots=True)
class Counts:
    """What one CreatePayment sends to the database; a round trip is a hop to the server, or to the writer's thread."""

    engine: str
    statements: int
    round_trips: int
    commits: int


@dataclass(frozen=True, slots=True)
class Composed:
    """A gateway without a server, and what it sends to its database."""

    commands: Commands
    queries: Queries
    store: Store
    ledger: Ledger

    async def pay(self) -> str:
        """One captured payment; its id."""
        request = payment_gateway_pb2.CreatePaymentRequest.FromString(requests.create(FAST_ACCOUNT))
        wish = CreatePayment(
            idempotency_key=request.idempotency_key,
            amount_minor=request.amount.amount_minor,
            currency=request.amount.currency_code,
            payment_method=request.payment_method,
            customer_reference=request.customer_reference,
            description=request.description,
            statement_descriptor=request.statement_descriptor,
            return_url=request.return_url,
            metadata=dict(request.metadata),
            account_id=FAST_ACCOUNT,
            order_reference=request.order_reference,
        )
        reply = await self.commands.create(CALLER, wish, None)
        return requests.created_payment(reply.body).payment_id

    async def seen(self, act: Callable[[], Awaitable[object]]) -> list[Statement]:
        """The statements of one act."""
        await _quiet()
        self.ledger.statements.clear()
        await act()
        await _quiet()
        return list(self.ledger.statements)

    async def page(self, **wanted: Any) -> None:
        """A page of payments by a filter."""
        await self.queries.list_payments(CALLER, PaymentFilter(**wanted), requests.LIST_PAGE, "")


@asynccontextmanager
async def composed(engine: Engine, url: str) -> AsyncIterator[Composed]:
    """The gateway's own composition on a database, with the instant provider and without loops."""
    ledger = Ledger(engine)
    listener = _listener(ledger)
    event.listen(Pool, "connect", listener)
    told = _core_listener(ledger)
    event.listen(SqlEngine, "before_cursor_execute", told)
    # The store's hot connections are asyncpg's own, below any pool of SQLAlchemy's.
    connect = asyncpg.connect
    asyncpg.connect = _overheard(ledger, connect)
    store = await open_store(url)
    account = ProviderAccount(
        PROVIDER,
        InstantAdapter(FAST_ACCOUNT, Patience()),
        AccountBreaker(BreakerLimits(), clock=asyncio.get_running_loop().time),
        Bulkhead(BulkheadLimits()),
        clock=asyncio.get_running_loop().time,
        rate_limited_s_max=1.0,
    )
    accounts = AccountRegistry([account], defaults={PROVIDER: FAST_ACCOUNT}, default=FAST_ACCOUNT)
    runtime = Runtime(store, accounts, ProtoReplyCodec(), Metrics("bench"), EngineSettings())
    try:
        yield Composed(runtime.commands, runtime.queries, store, ledger)
    finally:
        event.remove(Pool, "connect", listener)
        event.remove(SqlEngine, "before_cursor_execute", told)
        asyncpg.connect = connect
        await store.close()


async def count_statements(engine: Engine, url: str) -> Counts:
    """Of one CreatePayment on a database that has seen some."""
    async with composed(engine, url) as gateway:
        for _ in range(WARM_PAYMENTS):
            await gateway.pay()
        await gateway.seen(gateway.pay)
        ledger = gateway.ledger
        trips = ledger.commits if place_of(url).is_sqlite else len(ledger.statements)
        return Counts(engine, len(ledger.counted), trips, ledger.commits)


async def _quiet() -> None:
    """Let the driver tell of what it has sent: asyncpg does so a turn of the loop later."""
    await asyncio.sleep(0.05)


def _listener(ledger: Ledger) -> Callable[[Any, Any], None]:
    def connected(adapted: Any, _record: Any) -> None:
        driver = adapted if isinstance(adapted, sqlite3.Connection) else adapted.driver_connection
        if not isinstance(driver, asyncpg.Connection):
            # aiosqlite's connection wraps sqlite3's own.
            inner = driver if isinstance(driver, sqlite3.Connection) else driver._conn
            inner.set_trace_callback(lambda text: _traced(ledger, text))
            inner.set_progress_handler(ledger.step, 1)

    return connected


def _overheard(ledger: Ledger, connect: Callable[..., Any]) -> Callable[..., Any]:
    """asyncpg's `connect`, whose connections tell what is sent over them."""

    def heard(said: Any) -> None:
        ledger.statements.append(Statement(said.query, tuple(said.args), hot=True))

    async def connected(*arguments: Any, **options: Any) -> asyncpg.Connection:
        driver: asyncpg.Connection = await connect(*arguments, **options)
        ledger.backends.append(driver)
        driver.add_query_logger(heard)
        return driver

    return connected


def _core_listener(ledger: Ledger) -> Callable[..., None]:
    """What goes through SQLAlchemy: asyncpg tells its loggers nothing of it, sqlite3's trace has it already."""

    def executing(
        _connection: Any, _cursor: Any, text: str, arguments: Sequence[Any], _context: Any, _many: bool
    ) -> None:
        if ledger.engine is Engine.POSTGRESQL:
            ledger.statements.append(Statement(text, tuple(arguments)))

    return executing


def _traced(ledger: Ledger, text: str) -> None:
    # Statements of triggers are told as comments: they are part of the one that fired them.
    if not text.startswith("--"):
        ledger.statements.append(Statement(text))
