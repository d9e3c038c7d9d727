"""Callbacks: committed to the inbox first, applied later, and never believed.

`Callbacks.deliver` is what the sidecar calls: when it returns, the callback is on disk. `Applier` takes callbacks from
the inbox by lease, hears each one out (`gateway.app.hearing` asks the provider for the object that it is about), and
writes what came of it.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from gateway.app.clock import Clock, new_id
from gateway.app.hearing import Hearing
from gateway.app.learning import Learned, Learning
from gateway.app.places import Places
from gateway.app.precedence import Precedence
from gateway.app.recovery import Complete
from gateway.app.requests import check_id
from gateway.app.settings import EngineSettings
from gateway.app.telemetry import Telemetry
from gateway.domain.commands import Caller
from gateway.domain.errors import InvalidRequest, NotFound, ObolError, Reason
from gateway.domain.movements import Movement
from gateway.domain.providers import Accounts
from gateway.domain.storage import AuditRecord, Callback, CallbackChange, CallbackState, Store, TakenCallback

BODY_BYTES_MAX = 256 * 1024
HEADERS_MAX = 20

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A callback as the sidecar hands it over, verified. `receive_time_us` in unix microseconds, 0 for unset."""

    provider: str
    account_id: str
    event_id: str
    event_type: str
    body: bytes
    headers: Mapping[str, str]
    receive_time_us: int


class Callbacks:
    """The use case behind ProviderCallbacks."""

    def __init__(
        self, store: Store, accounts: Accounts, telemetry: Telemetry, clock: Clock, precedence: Precedence
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._telemetry = telemetry
        self._clock = clock
        self._precedence = precedence
        self.arrived = asyncio.Event()

    async def deliver(self, caller: Caller, delivery: Delivery) -> tuple[str, bool]:
        """(callback id, False), or ("", True) for a duplicate; committed when it returns.

        Raises InvalidRequest past a bound, NotFound(ACCOUNT_NOT_FOUND), Unavailable.
        """
        began_s = time.monotonic()
        check_id("event_id", delivery.event_id)
        if len(delivery.body) > BODY_BYTES_MAX:
            raise InvalidRequest(Reason.FIELD_INVALID, f"body: must be at most {BODY_BYTES_MAX} bytes", field="body")
        if len(delivery.headers) > HEADERS_MAX or len(delivery.event_type) > 255:
            raise InvalidRequest(Reason.FIELD_INVALID, f"headers: must be at most {HEADERS_MAX}", field="headers")
        account = self._accounts.get(delivery.account_id)
        if account is None or account.provider != delivery.provider:
            raise NotFound(
                Reason.ACCOUNT_NOT_FOUND,
                f"no account {delivery.account_id} of {delivery.provider} is configured",
                field="account_id",
            )
        callback = Callback(
            callback_id=new_id("cbk"),
            provider=delivery.provider,
            account_id=delivery.account_id,
            event_id=delivery.event_id,
            event_type=delivery.event_type,
            body=delivery.body,
            headers=delivery.headers,
            correlation_id=caller.correlation_id,
            received_time_us=delivery.receive_time_us or self._clock.now_us(),
        )
        audit = AuditRecord(
            audit_id=new_id("aud"),
            caller=caller,
            action="CALLBACK",
            result="RECEIVED",
            provider=delivery.provider,
            account_id=delivery.account_id,
            detail=f"{delivery.event_type} {delivery.event_id}",
        )
        is_new = await self._store.receive_callback(callback, audit)
        self._precedence.acknowledged(time.monotonic() - began_s)
        self._telemetry.callback(delivery.provider, "RECEIVED" if is_new else "DUPLICATE")
        if not is_new:
            return "", True
        self.arrived.set()
        return callback.callback_id, False


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a taken callback; `learned` where a payment was taught, with its movements as they were.

    `kept`: written by us; somebody else had taken the callback over otherwise.
    """

    change: CallbackChange
    kept: bool
    learned: Learned | None = None
    movements_before: tuple[Movement, ...] = ()


class Applier:
    """Takes callbacks from the inbox and applies what the provider's object says."""

    def __init__(
        self,
        store: Store,
        hearing: Hearing,
        learning: Learning,
        telemetry: Telemetry,
        settings: EngineSettings,
        complete: Complete,
        precedence: Precedence,
    ) -> None:
        self._complete = complete
        self._precedence = precedence
        self._store = store
        self._hearing = hearing
        self._learning = learning
        self._telemetry = telemetry
        self._settings = settings
        self._places = Places(settings.callback_batch)

    async def run_once(self) -> int:
        """Take what there is room for, and apply each; how many were taken."""
        started = await self._take()
        await asyncio.gather(*started)
        return len(started)

    async def pump(self) -> int:
        """Take what there is room for and leave it to its own tasks; whether to come again at once."""
        await self._places.some()
        taken = len(await self._take())
        return taken or int(await self._places.freed(self._settings.recovery_poll_s))

    async def rest(self, timeout_s: float) -> None:
        """Return when nothing that was taken is being applied any more."""
        await self._places.rest(timeout_s)

    async def _take(self) -> Sequence[asyncio.Task[None]]:
        settings, places = self._settings, self._places
        taken = await self._store.take_callbacks(
            limit=places.room,
            # Two looks and a completion, each with its wait for admission, fit into it.
            lease_s=settings.lease_s + 3 * (settings.provider_timeout_s + settings.admission_wait_s),
            except_accounts=places.full_accounts,
        )
        return [places.start(each.callback.account_id, self._apply_safely(each)) for each in taken]

    async def apply(self, taken: TakenCallback, *, known_lie: str = "") -> Applied:
        """Hear a taken callback out and write what comes of it. Raises Unavailable: then its lease ends by itself.

        `known_lie` is the contradiction for which it was quarantined before: that is not said twice.
        """
        heard = await self._hearing.hear(taken, known_lie=known_lie)
        change, learned = heard.change, None
        movements_before: tuple[Movement, ...] = ()
        if heard.lesson is not None:
            movements_before = heard.lesson.aggregate.payment.facts.movements
            learned = await self._learning.learn(heard.lesson.aggregate, heard.lesson.lesson)
            if learned is None:
                note = "the payment moved on while it was read"
                change = self._hearing.wait(taken, note, change.tenant_id, change.payment_id)
            elif heard.completes:
                change = await self._completed(taken, change)
        written = learned is not None and not heard.completes
        kept = written or await self._store.change_callback(change)
        if kept and change.state is not CallbackState.WAITING:
            self._telemetry.callback(taken.callback.provider, change.state)
        return Applied(change, kept, learned, movements_before)

    async def _completed(self, taken: TakenCallback, change: CallbackChange) -> CallbackChange:
        """`change`, once what the payer approved is completed; else that it is tried again."""
        try:
            await self._complete(change.tenant_id, change.payment_id)
        except ObolError as error:
            note = f"completion put off: {error.reason}"
            return self._hearing.wait(taken, note, change.tenant_id, change.payment_id)
        return change

    async def _apply_safely(self, taken: TakenCallback) -> None:
        """Apply one in its turn; whatever goes wrong with it is logged, and holds up no other."""
        try:
            await self._precedence.turn()
            await self.apply(taken)
        except ObolError as error:
            # The lease ends by itself, and the callback is taken again then.
            _log.warning("callback interrupted", callback_id=taken.callback.callback_id, reason=error.reason)
        except Exception as error:  # noqa: BLE001 one callback that breaks us must not hold up the others
            _log.exception("callback failed", callback_id=taken.callback.callback_id)
            await self._put_off(taken, f"failed: {type(error).__name__}")

    async def _put_off(self, taken: TakenCallback, note: str) -> None:
        change = self._hearing.wait(taken, note)
        try:
            kept = await self._store.change_callback(change)
        except ObolError as error:
            # The database went as well: the lease ends by itself.
            _log.warning("callback interrupted", callback_id=taken.callback.callback_id, reason=error.reason)
            return
        if kept and change.state is not CallbackState.WAITING:
            self._telemetry.callback(taken.callback.provider, change.state)
