"""The composition root: settings in, a serving process out, and an orderly end.

The way up: store, accounts, runtime, server. The way down is the same one backwards: not ready, no new calls, streams
ended, calls finished, provider calls landed, then the store.
"""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

import structlog
import uvloop

import store.migrate
from gateway.app.clock import SystemClock, new_id
from gateway.app.runtime import Runtime
from gateway.app.settings import EngineSettings
from gateway.config import ConfigError, Settings
from gateway.config_sections import ProviderSection
from gateway.domain.errors import Unavailable
from gateway.domain.providers import AccountHealth
from gateway.domain.routing import unfit_of
from gateway.domain.storage import Store
from gateway.metrics import Exposition, Metrics
from gateway.rpc.address import Address, AddressTaken
from gateway.rpc.billing_observation import BillingObservation
from gateway.rpc.codec import ProtoReplyCodec
from gateway.rpc.context import Context
from gateway.rpc.interceptors import CallLimits, Edge, Service
from gateway.rpc.operations import Operations
from gateway.rpc.payment_gateway import PaymentGateway
from gateway.rpc.provider_callbacks import ProviderCallbacks
from gateway.rpc.readiness import Readiness
from gateway.rpc.server import RpcServer, WireLimits
from obol.v1 import billing_observation_pb2, operations_pb2, payment_gateway_pb2, provider_callbacks_pb2
from providers.breaker import BreakerLimits
from providers.bulkhead import BulkheadLimits
from providers.http import WireLimits as ProviderWireLimits
from providers.rate import RateLimits
from providers.registry import AccountRegistry, build_accounts
from providers.secret import Secret
from providers.settings import AccountsSettings, ProviderAccountSettings, ProviderHooks
from store import Sealing, open_store, parse_key

GAUGES_POLL_S = 10.0
GC_ALLOCATIONS = 50_000


@dataclass(frozen=True, slots=True)
class Serving:
    """Where a process serves: `metrics_port` is None without an exposition."""

    address: Address
    metrics_port: int | None


Ready = Callable[[Serving], None]


def run(settings: Settings, address: Address, *, worker: int | None = None, ready: Ready | None = None) -> None:
    """Serve at `address` on uvloop until SIGTERM or SIGINT, then drain.

    `worker` is this process's number among several that share the port. Raises AddressRefused, RegistryError,
    SchemaBehind, SchemaBeyond, Unavailable; AddressTaken also for the metrics port.
    """
    uvloop.run(serve(settings, address, worker=worker, ready=ready))


async def serve(
    settings: Settings,
    address: Address,
    *,
    worker: int | None = None,
    ready: Ready | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until a signal, or until `stop` is set where one is given. Raises as `run` does."""
    stopping = stop or asyncio.Event()
    with _signals(stopping if stop is None else None):
        async with serving(settings, address, worker=worker) as where:
            _spare_the_collector()
            structlog.get_logger().info("serving", address=str(where.address), metrics_port=where.metrics_port)
            if ready is not None:
                ready(where)
            await stopping.wait()
            structlog.get_logger().info("draining")
    structlog.get_logger().info("stopped")


def _spare_the_collector() -> None:
    """Keep what lives as long as the process out of every collection, and collect less often.

    A payment makes thousands of short-lived values and hardly a cycle: counting references frees them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 20, 50)


@asynccontextmanager
async def serving(settings: Settings, address: Address, *, worker: int | None = None) -> AsyncIterator[Serving]:
    """A whole gateway for as long as the block lasts; leaving it drains. Raises as `run` does."""
    metrics = Metrics(version("obol"))
    async with AsyncExitStack() as ending:
        accounts = build_accounts(accounts_settings(settings), _hooks(metrics))
        ending.push_async_callback(accounts.close)
        check_routing(settings, accounts)
        opened = await _open_store(settings)
        ending.push_async_callback(opened.close)
        runtime = Runtime(
            opened,
            accounts,
            ProtoReplyCodec(),
            metrics,
            settings.engine,
            SystemClock(),
            settings.routing_rules,
            reconciliation=settings.reconciliation,
            events=settings.events,
        )
        edge, services = _edge(settings, metrics), _services(runtime)
        readiness = Readiness(
            [service.descriptor.full_name for service in services],
            ping=opened.ping,
            ready=runtime.ready,
            accounts=accounts,
        )
        server = RpcServer(
            services,
            edge,
            readiness,
            limits=WireLimits(connection_age_s=settings.grpc.connection_age_s),
            reuse_port=worker is not None,
        )
        exposition = _exposition(settings, metrics, worker)
        if exposition is not None:
            ending.push_async_callback(asyncio.to_thread, exposition.close)
        gauges = asyncio.create_task(_keep_gauges(metrics, opened, accounts, settings.engine), name="gauges")
        ending.callback(gauges.cancel)
        await runtime.start()
        ending.push_async_callback(_land, runtime, settings.drain.grace_s)
        bound = await server.start(address)
        ending.push_async_callback(server.drain, announce_s=settings.drain.announce_s, grace_s=settings.drain.grace_s)
        yield Serving(bound, None if exposition is None else exposition.port)


async def migrate(settings: Settings) -> str:
    """Bring the database up to this release; the revision that it is at then. Raises Unavailable."""
    _make_data_dir(settings)
    url = settings.database_url.get_secret_value()
    await store.migrate.upgrade(url)
    return await store.migrate.current(url)


def accounts_settings(settings: Settings) -> AccountsSettings:
    """The configured accounts, as the registry takes them."""
    accounts = tuple(_account(account_id, section) for account_id, section in settings.providers.items())
    return AccountsSettings(accounts, default_account_id=settings.routed_account)


def check_routing(settings: Settings, accounts: AccountRegistry) -> None:
    """Raise ConfigError where a routing rule names an account that could never take what the rule matches."""
    able = {each.account_id: each.adapter.capabilities for each in accounts.all()}
    unfit = list(unfit_of(settings.routing_rules, able))
    if unfit:
        raise ConfigError(unfit)


def _account(account_id: str, section: ProviderSection) -> ProviderAccountSettings:
    return ProviderAccountSettings(
        account_id=account_id,
        provider=section.provider,
        base_url=section.base_url,
        api_key=Secret(section.api_key.get_secret_value()),
        merchant_id=section.merchant_id,
        webhook_secrets=tuple(Secret(each.get_secret_value()) for each in section.webhook_secrets),
        default=section.default,
        wire=ProviderWireLimits(connections_max=section.connections_max),
        breaker=BreakerLimits(consecutive_failures_max=section.failures_max, open_s=section.open_s),
        bulkhead=BulkheadLimits(calls_max=section.calls_max, waiting_max=section.waiting_max),
        rate=RateLimits(rate_per_s=section.rate_per_s, burst=section.burst),
        options=section.options,
    )


def _hooks(metrics: Metrics) -> ProviderHooks:
    def health_changed(account_id: str, before: AccountHealth, after: AccountHealth) -> None:
        metrics.breaker(account_id, after)
        structlog.get_logger().warning("breaker changed", account_id=account_id, before=before, after=after)

    def unmapped(provider: str, kind: str, value: str) -> None:
        metrics.unmapped(provider, kind)
        structlog.get_logger().error("a provider's value is in no table", provider=provider, kind=kind, value=value)

    return ProviderHooks(health_changed=health_changed, unmapped=unmapped)


async def _open_store(settings: Settings) -> Store:
    # SQLite migrates itself: its one process is this one. PostgreSQL is migrated by `obol migrate` alone, so that a
    # release which only wants to start never changes what the release beside it runs on.
    _make_data_dir(settings)
    url = settings.database_url.get_secret_value()
    opened = await open_store(url, sealing=sealing_of(settings), pool_size=settings.database.pool_max)
    if not opened.keeps_secrets:
        structlog.get_logger().warning("client secrets cannot be kept: set secrets.sealing_keys")
    return opened


def sealing_of(settings: Settings) -> Sealing | None:
    """The configured keys, None where there are none. Raises ConfigError for one that is no key."""
    try:
        keys = [parse_key(each.get_secret_value()) for each in settings.secrets.sealing_keys]
        return Sealing(keys) if keys else None
    except ValueError as error:
        raise ConfigError([f"secrets.sealing_keys: {error}"]) from None


def _make_data_dir(settings: Settings) -> None:
    if settings.database.url is None:
        # Replies and customers' references are in it: it is nobody else's to read.
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)


def _edge(settings: Settings, metrics: Metrics) -> Edge:
    limits = CallLimits(calls_max=settings.grpc.calls_max, streams_max=settings.grpc.streams_max)
    return Edge(metrics, partial(new_id, "req"), limits)


def _services(runtime: Runtime) -> tuple[Service, ...]:
    gateway = payment_gateway_pb2.DESCRIPTOR.services_by_name["PaymentGateway"]
    observation = billing_observation_pb2.DESCRIPTOR.services_by_name["BillingObservation"]
    callbacks = provider_callbacks_pb2.DESCRIPTOR.services_by_name["ProviderCallbacks"]
    operations = operations_pb2.DESCRIPTOR.services_by_name["Operations"]
    return (
        Service(gateway, PaymentGateway(runtime.commands, runtime.queries)),
        Service(observation, BillingObservation(runtime.observing, SystemClock())),
        Service(callbacks, ProviderCallbacks(runtime.callbacks), needs=Context.GATEWAY),
        Service(operations, _operations(runtime), needs=Context.GATEWAY),
    )


def _operations(runtime: Runtime) -> Operations:
    return Operations(
        runtime.oversight,
        runtime.inbox,
        runtime.resolving,
        runtime.explaining,
        runtime.reconciliations,
        runtime.modes,
        runtime.losses,
    )


def _exposition(settings: Settings, metrics: Metrics, worker: int | None) -> Exposition | None:
    section = settings.metrics
    if not section.enabled:
        return None
    # A port for each worker, and not prometheus-client's multiprocess files: those outlive a crash and forbid gauges
    # that a function answers.
    port = section.port + (worker or 0) if section.port else 0
    try:
        return Exposition(metrics, section.host, port)
    except OSError as error:
        mend = "choose another port, or set metrics.enabled to false"
        why = f"cannot listen at {section.host}, port {port}: {error.strerror}; {mend}"
        raise AddressTaken(f"metrics.port: {why}") from None


async def _keep_gauges(metrics: Metrics, opened: Store, accounts: AccountRegistry, engine: EngineSettings) -> None:
    """Tell what only the database and the breakers know, until cancelled."""
    while True:
        for account in accounts.all():
            metrics.breaker(account.account_id, account.health)
        try:
            unresolved = await opened.unresolved(alarmed_after_s=engine.unresolved_alarm_s)
            metrics.unresolved(
                unresolved.live_by_state,
                unresolved.oldest_unknown_age_s,
                unresolved.callbacks_live,
                unresolved.alarmed,
            )
            metrics.undecided(await opened.undecided(older_than_s=engine.undecided_alarm_s))
            metrics.reconciled(await opened.standings())
        except Unavailable:
            structlog.get_logger().warning("gauges are stale: the database does not answer")
        await asyncio.sleep(GAUGES_POLL_S)


async def _land(runtime: Runtime, timeout_s: float) -> None:
    left = await runtime.drain(timeout_s)
    if left:
        # Claimed and committed: recovery, here after a restart or at another replica, asks the provider how they ended.
        structlog.get_logger().warning("provider calls were left in the air", calls=left)


@contextmanager
def _signals(stopping: asyncio.Event | None) -> Iterator[None]:
    """Set `stopping` at SIGTERM or SIGINT; with None, signals are somebody else's."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT) if stopping is not None else ()
    for number in numbers:
        assert stopping is not None
        loop.add_signal_handler(number, stopping.set)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
