"""One run: a faulty phase with kills, a quiet phase without, and the reckoning."""

import asyncio
import contextlib
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.demo.installation import ACCOUNT, HOST
from gateway.verification import Report, verify
from obol.client import AioBillingObservationClient, AioPaymentGatewayClient, GatewayError, aio_channel
from tests.processes import CALLER
from tests.torture.billing import Billing
from tests.torture.callbacks import Hook
from tests.torture.convergence import Convergence, converge
from tests.torture.database import Database, PostgresqlDatabase, SqliteFile
from tests.torture.defects import judge_logs
from tests.torture.intents import Intent, Journal
from tests.torture.killing import Killer
from tests.torture.processes import Nursery
from tests.torture.provider import Provider, read_effects
from tests.torture.reckoning import (
    judge_ends,
    judge_inbox,
    judge_intents,
    judge_records,
    judge_watching,
    read_commands,
    read_routes,
)
from tests.torture.restarts import judge_restarts, restart_every
from tests.torture.site import OTHER, Site
from tests.torture.tortured import TORTURED
from tests.torture.watching import CONSUMER, CursorWatcher, NamedConsumer
from tests.torture.weather import Weather
from tests.torture.witness import TRIGGERS, judge_fence, judge_moments, judge_sends

CLIENTS = 14
CLIENT_PAUSE_S = 0.15
CHANNELS = 4
CHANNEL_OPTIONS = (
    ("grpc.max_reconnect_backoff_ms", 100),
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 20),
)
"""A gateway lives for a moment: whoever is slow to notice that it is back sends it nothing before it dies."""

ALIVE_S = {"sqlite": 0.1, "postgresql": 0.35}
"""How long a gateway is let live. With one gateway every kill is an outage, so that more of it only costs time."""
LEAVE_S_MAX = 90.0
CATCH_UP_S_MAX = 30.0
ASKED_AT_ONCE = 8
# A gateway that meets no database while it starts says so and ends with 1; a supervisor would start it again.
NO_DATABASE = 1


@dataclass(frozen=True)
class Plan:
    """What to do. `store`: sqlite or postgresql."""

    kills: int
    store: str
    seed: int
    gateways: int
    sidecars: int = 2
    redeliver: bool = True
    provider: str = "sandbox"


@dataclass
class Outcome:
    """What came of it."""

    plan: Plan
    kills: int = 0
    pauses: int = 0
    faults: int = 0
    report: Report = field(default_factory=Report)
    violations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        """The last line."""
        return (
            f"torture: store={self.plan.store} kills={self.kills} faults={self.faults} "
            f"payments={self.report.payments} effects={self.report.effects} unresolved={self.report.unresolved} "
            f"violations={len(self.violations)}"
        )

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.violations and not self.report.unresolved


async def torture(plan: Plan, directory: Path) -> Outcome:
    """Carry `plan` out in `directory`, which keeps everything."""
    outcome = Outcome(plan)
    database: Database = (
        PostgresqlDatabase() if plan.store == "postgresql" else SqliteFile(directory / "data" / "obol.db")
    )
    async with Nursery(plan.provider) as nursery:
        site = Site(
            directory,
            nursery,
            gateways=plan.gateways,
            sidecars=plan.sidecars,
            database_url=database.url,
            seed=plan.seed,
            tortured=TORTURED[plan.provider],
        )
        try:
            await site.open()
            await database.keep_watch(TRIGGERS)
            async with Provider(f"http://{HOST}:{site.sandbox_port}", site.tortured) as provider:
                try:
                    await _Run(plan, site, database, provider, outcome).carry_out()
                except Exception:  # noqa: BLE001  the reckoning of what there is comes all the same
                    outcome.violations.append(f"the run broke off: {traceback.format_exc()}")
        finally:
            slow = await site.close()
    outcome.violations.extend(f"process {name} did not end in order within 10 s" for name in slow)
    bystanders = frozenset({NO_DATABASE} if plan.store == "postgresql" else ())
    outcome.violations.extend(judge_ends([site.sandbox], bystanders=frozenset()))
    outcome.violations.extend(judge_ends([*site.gateways, *site.sidecars], bystanders=bystanders))
    outcome.violations.extend(judge_logs([*site.gateways, *site.sidecars]))
    outcome.report = await verify(site.database_url, effect_log=site.effect_log, healed=True)
    outcome.violations.extend(
        f"{v.invariant} {v.tenant_id}/{v.payment_id} {v.row}: {v.message}" for v in outcome.report.violations
    )
    return outcome


class _Run:
    """The phases, over what is open."""

    def __init__(self, plan: Plan, site: Site, database: Database, provider: Provider, outcome: Outcome) -> None:
        self._plan = plan
        self._site = site
        self._database = database
        self._provider = provider
        self._outcome = outcome
        self._journal = Journal()
        self._killer = Killer(site, plan.seed, plan.kills, ALIVE_S[plan.store])

    async def carry_out(self) -> None:
        """All of it but what is read when every process has ended."""
        async with AsyncExitStack() as ending:
            channels = [
                await ending.enter_async_context(
                    # Of its own: channels with equal arguments would share one connection.
                    aio_channel(self._site.target, options=(*CHANNEL_OPTIONS, ("grpc.channel_id", str(number))))
                )
                for number in range(CHANNELS + 2)
            ]
            billing = Billing(
                [AioPaymentGatewayClient(channel, CALLER) for channel in channels[2:]],
                self._provider,
                self._journal,
                self._plan.seed,
                lambda: _call(self._killer.replied),
            )
            watcher = CursorWatcher(
                AioBillingObservationClient(channels[0], CALLER), lambda: _call(self._killer.observed)
            )
            consumer = NamedConsumer(AioBillingObservationClient(channels[1], CALLER))
            async with _running(watcher.run()), _running(consumer.run()) as consuming:
                await self._faulty(billing)
                convergence = await self._quiet(billing)
                await self._caught_up(watcher, consumer)
                await consumer.stop(consuming, CATCH_UP_S_MAX)
            await self._reckon(billing, watcher, consumer, convergence)

    async def _faulty(self, billing: Billing) -> None:
        began = time.monotonic()
        weather = Weather(self._provider, self._database, self._site.shut_other, self._plan.seed)
        clients = [
            asyncio.create_task(billing.client(number, CLIENT_PAUSE_S), name=f"client {number}")
            for number in range(CLIENTS)
        ]
        killer = self._killer
        kills = [
            *(killer.reap_gateway(number) for number in range(self._plan.gateways)),
            *(killer.reap_sidecar(number) for number in range(self._plan.sidecars)),
            killer.massacre(),
        ]
        async with _running(weather.run()) as blowing, _running(self._tell_progress(began)):
            await _first_failure(asyncio.gather(*kills), [*clients, blowing])
            weather.stop()
            await blowing
        killer.wake()
        await self._restarting(billing)
        billing.stopping = True
        seconds = time.monotonic() - began
        outcome = self._outcome
        outcome.kills, outcome.pauses = killer.kills, killer.pauses
        restarts = sorted(killer.restart_s) or [0.0]
        outcome.notes += [
            f"faulty phase: {seconds:.1f} s, {killer.kills / seconds:.2f} kills/s, {killer.pauses} stopped and woken",
            f"restart to serving: median {restarts[len(restarts) // 2]:.2f} s, worst {restarts[-1]:.2f} s",
            f"kills: {_counted(killer.kinds)}",
            f"weather: {_counted(weather.kinds)}",
        ]
        await self._site.settled()
        done, late = await asyncio.wait(clients, timeout=LEAVE_S_MAX)
        for task in done:
            task.result()
        if late:
            outcome.violations.append(f"{len(late)} clients were still at it {LEAVE_S_MAX:g} s after the last fault")

    async def _restarting(self, billing: Billing) -> None:
        """A server that is restarted every few seconds, under clients that go on; nothing else fails meanwhile."""
        if not isinstance(self._database, PostgresqlDatabase):
            return
        await self._provider.heal()
        await self._site.settled()
        back = await restart_every(billing, self._database.url, self._plan.kills, self._plan.seed)
        self._outcome.violations.extend(judge_restarts(back))
        self._outcome.notes.append(
            f"restarted {len(back)} times more: paid again within {max(each.elapsed_s for each in back):.2f} s, "
            f"of which at most {max(each.own_s for each in back):.2f} s neither PostgreSQL's nor the machine's"
        )

    async def _quiet(self, billing: Billing) -> Convergence:
        healed_s = time.monotonic()
        outcome = self._outcome
        outcome.faults = await self._provider.injected()
        await self._provider.end_pending()
        convergence = await converge(self._database, healed_s)
        if self._plan.redeliver:
            await self._provider.redeliver()
            await self._delivered()
            again = await converge(self._database, time.monotonic())
            convergence.left = convergence.left or again.left
        outcome.notes.append(
            f"quiet phase: {convergence.unknown} UNKNOWN at its start, 99 % ended in {convergence.unknown_99_s:.1f} s, "
            f"all in {convergence.unknown_all_s:.1f} s, at rest after {convergence.rest_s:.1f} s"
        )
        await self._ask_again(billing)
        return convergence

    async def _delivered(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP_S_MAX):
                while (await self._provider.deliveries())["pending"]:  # noqa: ASYNC110  in another process
                    await asyncio.sleep(0.2)

    async def _ask_again(self, billing: Billing) -> None:
        """Every command that there is, twice: it must say what it said (I6, I10)."""
        commands = await read_commands(self._database)
        asking = asyncio.Semaphore(ASKED_AT_ONCE)

        async def ask(intent: Intent) -> None:
            async with asking:
                for _ in range(1 if intent.final is not None else 2):
                    try:
                        await billing.ask(intent, timeout_s=10.0)
                    except GatewayError as error:
                        self._journal.violations.append(f"I10 {intent.rpc} {intent.key}: asked again: {error}")

        known = [i for s, i in self._journal.intents.items() if s in commands and commands[s].state != "NOT_SENT"]
        await asyncio.gather(*map(ask, known))
        self._outcome.notes.append(f"asked again: {len(known)} of {len(self._journal.intents)} intents")

    async def _caught_up(self, watcher: CursorWatcher, consumer: NamedConsumer) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP_S_MAX):
                while True:
                    count = (await self._database.rows("SELECT count(*) FROM observation_log"))[0][0]
                    if len(watcher.seen) >= count and len({each[0] for each in consumer.handled}) >= count:
                        return
                    await asyncio.sleep(0.1)

    async def _reckon(
        self, billing: Billing, watcher: CursorWatcher, consumer: NamedConsumer, convergence: Convergence
    ) -> None:
        site, outcome = self._site, self._outcome
        found = outcome.violations
        found.extend(self._journal.violations)
        found.extend(convergence.violations())
        effects = read_effects(site.effect_log)
        found.extend(judge_intents(self._journal, await read_commands(self._database), effects))
        found.extend(await judge_sends(site.witness, self._database, (ACCOUNT, OTHER), effects))
        found.extend(await judge_fence(self._database))
        found.extend(await judge_moments(self._database, effects))
        found.extend(watcher.defects)
        for key in filter(None, (site.tortured.api_key, site.tortured.other_key)):
            # Each account by itself: one that declined a payment keeps its record of it when it goes on to the other.
            found.extend(judge_records([payment async for payment in self._provider.payments(key)]))
        found.extend(await judge_watching(self._database, watcher.seen, consumer.handled, CONSUMER))
        if site.tortured.other:
            outcome.notes.append(f"routed by a rule: {_counted(await read_routes(self._database))}")
        relay = site.callbacks
        found.extend(await judge_inbox(self._database, relay.acknowledged, relay.forged, relay.forged_accepted))
        outcome.notes += [
            f"billing: {billing.scenarios} stories, {len(self._journal.intents)} intents, "
            f"{sum(self._journal.replies.values())} replies, errors {_counted(self._journal.errors)}",
            f"replies: {_counted(self._journal.replies)}",
            f"watcher: {len(watcher.seen)} observations, reconnected {_counted(watcher.disconnects)}; consumer: "
            f"{len(consumer.handled)} handled",
            f"witnesses: {len(site.witness.sends)} sends",
            f"callbacks: {len(relay.acknowledged)} acknowledged, {len(relay.forged)} forged and refused",
        ]

    async def _tell_progress(self, began: float) -> None:
        while True:
            await asyncio.sleep(30.0)
            killer, seconds = self._killer, time.monotonic() - began
            print(
                f"  {seconds:.0f} s: {killer.kills} kills, {len(self._journal.intents)} intents, "
                f"{len(self._journal.violations)} contradictions so far",
                flush=True,
            )


@contextlib.asynccontextmanager
async def _running(coroutine: Coroutine[Any, Any, None]) -> AsyncIterator["asyncio.Task[None]"]:
    """Beside the block; ended with it, and its failure is the block's."""
    task = asyncio.create_task(coroutine)
    try:
        yield task
    finally:
        if not task.done():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _first_failure(kills: "asyncio.Future[list[None]]", others: Sequence["asyncio.Task[None]"]) -> None:
    """Wait for the kills; raise at once what any other meets."""
    waiting: set[asyncio.Future[Any]] = {kills, *others}
    while not kills.done():
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
        waiting -= done
    kills.result()


def _call(hooks: list[Hook]) -> None:
    waiting = hooks[:]
    hooks.clear()
    for hook in waiting:
        hook()


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common(40))
