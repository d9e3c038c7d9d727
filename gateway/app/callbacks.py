"""Callbacks: committed to the inbox first, applied later, and never believed.

`Callbacks.deliver` is what the sidecar calls: when it returns, the callback is on disk. `Applier` takes callbacks from
the inbox by lease, asks the provider for the object that the callback is about, and applies that.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

import structlog

from gateway.app.clock import Clock, jitter, new_id
from gateway.app.learning import Learning
from gateway.app.reading import Reading
from gateway.app.recovery import Complete
from gateway.app.requests import check_id
from gateway.app.settings import EngineSettings
from gateway.app.settling import Lesson
from gateway.app.telemetry import Telemetry
from gateway.app.verdicts import mismatch
from gateway.domain.commands import Caller
from gateway.domain.errors import InvalidRequest, NotFound, ObolError, Reason
from gateway.domain.observations import Source
from gateway.domain.providers import Account, Accounts, CallbackHint, Found, ReadsCallbacks, Snapshot, Unreadable
from gateway.domain.states import CommandState
from gateway.domain.storage import (
    Aggregate,
    AuditRecord,
    Callback,
    CallbackChange,
    CallbackState,
    Store,
    TakenCallback,
)

BODY_BYTES_MAX = 256 * 1024
HEADERS_MAX = 20
IN_FLIGHT_DEFERRALS_MAX = 3

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

    def __init__(self, store: Store, accounts: Accounts, telemetry: Telemetry, clock: Clock) -> None:
        self._store = store
        self._accounts = accounts
        self._telemetry = telemetry
        self._clock = clock
        self.arrived = asyncio.Event()

    async def deliver(self, caller: Caller, delivery: Delivery) -> tuple[str, bool]:
        """(callback id, False), or ("", True) for a duplicate; committed when it returns.

        Raises InvalidRequest past a bound, NotFound(ACCOUNT_NOT_FOUND), Unavailable.
        """
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
        self._telemetry.callback(delivery.provider, "RECEIVED" if is_new else "DUPLICATE")
        if not is_new:
            return "", True
        self.arrived.set()
        return callback.callback_id, False


class Applier:
    """Takes callbacks from the inbox and applies what the provider's object says."""

    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        learning: Learning,
        reading: Reading,
        telemetry: Telemetry,
        settings: EngineSettings,
        clock: Clock,
        complete: Complete,
    ) -> None:
        self._complete = complete
        self._store = store
        self._accounts = accounts
        self._learning = learning
        self._reading = reading
        self._telemetry = telemetry
        self._settings = settings
        self._clock = clock

    async def run_once(self) -> int:
        """Take one batch and apply each; how many were taken."""
        taken = await self._store.take_callbacks(limit=self._settings.callback_batch, lease_s=self._settings.lease_s)
        await asyncio.gather(*(self._apply_safely(each) for each in taken))
        return len(taken)

    async def _apply_safely(self, taken: TakenCallback) -> None:
        try:
            change = await self._apply(taken)
            if change is not None:
                await self._store.change_callback(change)
        except ObolError as error:
            # The lease ends by itself, and the callback is taken again then.
            _log.warning("callback interrupted", callback_id=taken.callback.callback_id, reason=error.reason)
            return
        except Exception as error:  # noqa: BLE001 one callback that breaks us must not hold up the others
            _log.exception("callback failed", callback_id=taken.callback.callback_id)
            change = self._wait(taken, f"failed: {type(error).__name__}")
            await self._store.change_callback(change)
        if change is not None and change.state is not CallbackState.WAITING:
            self._telemetry.callback(taken.callback.provider, change.state)

    async def _apply(self, taken: TakenCallback) -> CallbackChange | None:
        """What is left to write of the callback; None where the settle wrote it."""
        account = self._accounts.get(taken.callback.account_id)
        if account is None or not isinstance(account.adapter, ReadsCallbacks):
            return _rest(taken, CallbackState.QUARANTINED, "the account is not configured for callbacks any more")
        try:
            hint = account.adapter.interpret(taken.callback.body, taken.callback.headers)
        except ValueError as error:
            return _rest(taken, CallbackState.QUARANTINED, f"unreadable: {error}")
        if hint.provider_payment_id is None:
            note = "of no payment" if hint.known_type else "unknown type"
            return _rest(taken, CallbackState.IGNORED, f"{note}: {hint.event_type}")
        return await self._apply_hint(taken, account, hint)

    async def _apply_hint(self, taken: TakenCallback, account: Account, hint: CallbackHint) -> CallbackChange | None:
        # Which payment it is must be known before the object is read, so that the version read stands before it.
        tenant_id, payment_id = hint.tenant_id, hint.payment_id
        if not (tenant_id and payment_id):
            lookup = await self._reading.look(account, "", hint.provider_payment_id)
            if isinstance(lookup, Unreadable):
                return self._wait(taken, lookup.failure)
            if not isinstance(lookup, Found):
                return _rest(taken, CallbackState.IGNORED, "the provider does not have the object")
            tenant_id, payment_id = lookup.snapshot.tenant_id, lookup.snapshot.payment_id
            if not (tenant_id and payment_id):
                return _rest(taken, CallbackState.IGNORED, "not of this gateway: it carries no reference of ours")
        aggregate = await self._store.load(tenant_id, payment_id)
        if aggregate is None:
            return self._wait(taken, "its payment is not here yet", tenant_id, payment_id)
        if aggregate.payment.account_id != account.account_id:
            return _rest(
                taken, CallbackState.QUARANTINED, "it names a payment of another account", tenant_id, payment_id
            )
        in_flight = any(o.state is CommandState.SENDING for o in aggregate.operations)
        if in_flight and taken.tries <= IN_FLIGHT_DEFERRALS_MAX:
            # Our own call is about to bring the same news, and it holds the lease.
            return self._wait(taken, "a call of ours is in flight", tenant_id, payment_id)
        lookup = await self._reading.look(account, payment_id, hint.provider_payment_id)
        if isinstance(lookup, Unreadable):
            return self._wait(taken, lookup.failure, tenant_id, payment_id)
        if not isinstance(lookup, Found):
            return _rest(taken, CallbackState.QUARANTINED, "the provider has no such object", tenant_id, payment_id)
        return await self._apply_snapshot(taken, aggregate, lookup.snapshot, hint)

    async def _apply_snapshot(
        self, taken: TakenCallback, aggregate: Aggregate, snapshot: Snapshot, hint: CallbackHint
    ) -> CallbackChange | None:
        payment = aggregate.payment
        tenant_id, payment_id = payment.tenant_id, payment.payment_id
        foreign = (snapshot.tenant_id, snapshot.payment_id) != (tenant_id, payment_id)
        lie = mismatch(payment, payment.terms, snapshot)
        if foreign:
            lie = "mismatch: the provider's object carries another payment's reference"
        if snapshot.unmapped and not lie:
            return self._wait(taken, f"unmapped: {', '.join(snapshot.unmapped)}", tenant_id, payment_id)
        change = _rest(taken, CallbackState.QUARANTINED if lie else CallbackState.APPLIED, lie, tenant_id, payment_id)
        caller = Caller(
            tenant_id, payment.organization_id, f"callback:{taken.callback.provider}", payment.correlation_id
        )
        completing = snapshot.completion_due and not lie
        told_us = hint.provider_time_us or snapshot.provider_time_us
        lesson = Lesson(
            source=Source.CALLBACK,
            # One that asks for a completion may be taken up several times: it is applied once the payment is completed,
            # and whoever dies on the way is followed by another under the same key.
            causation_id=f"{taken.callback.callback_id}{'/completion' if completing else ''}",
            snapshot=None if lie else replace(snapshot, provider_time_us=told_us),
            callback=None if completing else change,
            contradiction=lie,
            audit=(
                AuditRecord(
                    audit_id=new_id("aud"),
                    caller=caller,
                    action="CALLBACK.APPLY",
                    result=change.state,
                    failure=lie,
                    provider=taken.callback.provider,
                    account_id=taken.callback.account_id,
                    payment_id=payment_id,
                    detail=f"{taken.callback.event_type} {taken.callback.event_id}",
                ),
            ),
        )
        settled = await self._learning.settle_read(aggregate, lesson)
        if settled is None:
            return self._wait(taken, "the payment moved on while it was read", tenant_id, payment_id)
        if completing:
            try:
                await self._complete(tenant_id, payment_id)
            except ObolError as error:
                return self._wait(taken, f"completion put off: {error.reason}", tenant_id, payment_id)
            return replace(change, note="the payer approved; completed")
        self._telemetry.callback(taken.callback.provider, change.state)
        return None

    def _wait(self, taken: TakenCallback, note: str, tenant_id: str = "", payment_id: str = "") -> CallbackChange:
        """Try again later; past `callback_give_up_s` it rests in quarantine, where a person can replay it."""
        age_s = (self._clock.now_us() - taken.callback.received_time_us) / 1_000_000
        if age_s > self._settings.callback_give_up_s:
            return _rest(taken, CallbackState.QUARANTINED, f"given up: {note}", tenant_id, payment_id)
        doubled = 2.0 ** min(taken.tries - 1, 20)
        pause_s = min(self._settings.callback_wait_s_max, self._settings.callback_wait_first_s * doubled)
        return CallbackChange(
            callback_id=taken.callback.callback_id,
            expected_epoch=taken.epoch,
            state=CallbackState.WAITING,
            note=note[:500],
            next_attempt_s=jitter(pause_s),
            tenant_id=tenant_id,
            payment_id=payment_id,
        )


def _rest(
    taken: TakenCallback, state: CallbackState, note: str, tenant_id: str = "", payment_id: str = ""
) -> CallbackChange:
    return CallbackChange(
        callback_id=taken.callback.callback_id,
        expected_epoch=taken.epoch,
        state=state,
        note=note[:500],
        tenant_id=tenant_id,
        payment_id=payment_id,
    )
