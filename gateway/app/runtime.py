"""What one gateway process runs: the use cases, and the loops beside them, with a start and a drain."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import structlog

from gateway.app.alarms import Alarms
from gateway.app.callbacks import Applier, Callbacks
from gateway.app.clock import Clock, SystemClock, jitter
from gateway.app.commands import Commands
from gateway.app.engine import Engine
from gateway.app.examining import Examination
from gateway.app.explaining import Explaining
from gateway.app.failover import FAILOVER_POLL_S
from gateway.app.hearing import Hearing
from gateway.app.inbox import Inbox
from gateway.app.learning import Learning
from gateway.app.losses import Losses
from gateway.app.missed_events import MissedEvents
from gateway.app.modes import MODES_POLL_S, Modes
from gateway.app.observing import Observing
from gateway.app.oversight import Oversight
from gateway.app.precedence import Precedence
from gateway.app.queries import Queries
from gateway.app.reading import Reading
from gateway.app.reconciliation import Reconciler
from gateway.app.reconciliations import Reconciliations
from gateway.app.recovery import Recovery
from gateway.app.replays import Replays
from gateway.app.replies import ReplyCodec
from gateway.app.resolving import Resolving
from gateway.app.routing import Router
from gateway.app.sequencer import Sequencer
from gateway.app.settings import EngineSettings, EventSettings, ReconciliationSettings
from gateway.app.telemetry import Telemetry
from gateway.domain.errors import ObolError, Unavailable
from gateway.domain.providers import Accounts
from gateway.domain.routing import RoutingRule
from gateway.domain.storage import Store

LOOP_PAUSE_S_MAX = 5.0
ABANDONED_BATCH = 32
ABANDONED_RETRY_S = 300.0
EXPIRY_BATCH = 1_000
STATISTICS_S = 10.0
EVENT_CURSORS_POLL_S = 5.0

_log = structlog.get_logger(__name__)


class Runtime:
    """Everything of a process but its wires. `start` begins the loops, `drain` ends them and waits for flights."""

    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        codec: ReplyCodec,
        telemetry: Telemetry,
        settings: EngineSettings,
        clock: Clock | None = None,
        rules: Sequence[RoutingRule] = (),
        *,
        reconciliation: ReconciliationSettings | None = None,
        events: EventSettings | None = None,
    ) -> None:
        clock = clock or SystemClock()
        learning = Learning(store, accounts, codec, telemetry, settings, clock)
        reading = Reading(store, accounts, learning, telemetry, settings)
        self.engine = Engine(store, learning, codec, telemetry, settings)
        replays = Replays(store, self.engine, telemetry, settings)
        self.modes = Modes(store, accounts)
        router = Router(accounts, self.modes, rules)
        self.commands = Commands(
            store, accounts, self.engine, replays, learning, reading, telemetry, settings, clock, router, self.modes
        )
        self.queries = Queries(store)
        self.observing = Observing(store, settings)
        precedence = Precedence()
        self.callbacks = Callbacks(store, accounts, telemetry, clock, precedence)
        complete = self.commands.complete
        self.recovery = Recovery(
            store, accounts, self.engine, learning, reading, telemetry, settings, self.modes, complete
        )
        hearing = Hearing(store, accounts, reading, settings, clock)
        self.applier = Applier(store, hearing, learning, telemetry, settings, complete, precedence)
        self.inbox = Inbox(store, self.applier, hearing, learning, settings)
        self.oversight = Oversight(store, accounts, settings)
        self.resolving = Resolving(store, accounts, reading, learning, settings)
        self.losses = Losses(store, accounts, reading)
        self.explaining = Explaining(store)
        self.alarms = Alarms(store, telemetry, settings)
        self._reconciling = reconciliation or ReconciliationSettings()
        self._events = events or EventSettings()
        examination = Examination(store, accounts, learning, reading, telemetry, self._reconciling)
        self.reconciler = Reconciler(store, accounts, examination, telemetry, settings, self._reconciling, clock)
        self.reconciliations = Reconciliations(store, accounts, self.reconciler.wanted)
        self.missed_events = MissedEvents(store, accounts, telemetry, settings, self._events, self.callbacks.arrived)
        self._store = store
        self._learning = learning
        self._sequencer = Sequencer(store, learning.appended)
        self._settings = settings
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Begin recovery, callbacks, sequencing and housekeeping."""
        settings = self._settings
        with suppress(Unavailable):  # the loop asks again
            await self.modes.refresh()
        loops = {
            "recovery": self._loop(self.recovery.pump, settings.recovery_poll_s),
            "callbacks": self._loop(self._apply_arrived, settings.recovery_poll_s, self.callbacks.arrived),
            "sequencer": self._loop(self._sequencer.run_once, settings.sequencer_poll_s, self._learning.appended),
            "reconciliation": self._loop(self.reconciler.run_once, self._reconciling.poll_s, self.reconciler.wanted),
            "housekeeping": self._loop(self._keep_house, settings.housekeeping_s),
            "modes": self._loop(self.modes.refresh, MODES_POLL_S),
            "failovers": self._loop(self.commands.failover.run_once, FAILOVER_POLL_S),
            "statistics": self._loop(self._refresh_statistics, STATISTICS_S),
        }
        if self._events.poll_s:
            # Every account has a cursor of its own that says when: the loop only asks whether one is due.
            poll_s = min(self._events.poll_s, EVENT_CURSORS_POLL_S)
            loops["events"] = self._loop(self.missed_events.run_once, poll_s)
        self._tasks = [asyncio.create_task(loop, name=name) for name, loop in loops.items()]

    def ready(self) -> bool:
        """Whether commands are taken: not before `start`, not after `drain` began."""
        return bool(self._tasks) and not self._stopping.is_set()

    async def drain(self, timeout_s: float) -> int:
        """Stop the loops between two rounds and wait for flights; how many were left in the air."""
        self._stopping.set()
        left = await self.engine.drain(timeout_s)
        if self._tasks:
            _, running = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        await asyncio.gather(self.recovery.rest(timeout_s), self.applier.rest(timeout_s))
        # What the last flights appended is numbered before the process goes.
        try:
            await self._store.number_observations()
        except Unavailable:
            _log.warning("the last observations are left for another process to number")
        return left

    async def _loop(self, work: Callable[[], Awaitable[int]], poll_s: float, wake: asyncio.Event | None = None) -> None:
        """Run `work` again at once while it finds something, else after `poll_s` or a wake; survive its errors."""
        pause_s = poll_s
        while not self._stopping.is_set():
            try:
                found = await work()
                pause_s = 0.0 if found else poll_s
            except ObolError as error:
                pause_s = min(LOOP_PAUSE_S_MAX, max(poll_s, pause_s * 2))
                _log.warning("loop paused", loop=getattr(work, "__qualname__", ""), reason=error.reason)
            except Exception:  # noqa: BLE001 a loop that dies would leave commands unresolved without a word
                pause_s = LOOP_PAUSE_S_MAX
                _log.exception("loop failed", loop=getattr(work, "__qualname__", ""))
            if pause_s:
                await self._pause(jitter(pause_s), wake)

    async def _pause(self, seconds: float, wake: asyncio.Event | None) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (self._stopping, wake) if event is not None]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    async def _apply_arrived(self) -> int:
        self.callbacks.arrived.clear()
        return await self.applier.pump()

    async def _refresh_statistics(self) -> int:
        # A young database is planned for as if it were empty, and the plan is kept: until somebody counts its rows.
        await self._store.refresh_statistics()
        return 0

    async def _keep_house(self) -> int:
        """Cancel what was abandoned, tell of what is unresolved too long, and turn expired keys into tombstones."""
        for tenant_id, payment_id in await self._store.take_abandoned(limit=ABANDONED_BATCH, retry_s=ABANDONED_RETRY_S):
            try:
                await self.commands.cancel_abandoned(tenant_id, payment_id)
            except ObolError as error:
                _log.warning("abandoned payment stays", payment_id=payment_id, reason=error.reason)
        await self.alarms.run_once()
        await self._store.expire_keys(older_than_s=self._settings.idempotency_window_s, limit=EXPIRY_BATCH)
        return 0
