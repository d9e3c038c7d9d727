"""Missed callbacks, fetched from the provider's event list where it has one.

Each account has a cursor in the database; whichever replica holds its lease reads on from it. Every event that the
inbox does not have goes there, under its own key and marked as fetched; from there on it is a callback like any other.
One that arrives by delivery as well is a duplicate, whichever comes first.
"""

import asyncio
from collections.abc import Sequence

import structlog

from gateway.app.clock import new_id
from gateway.app.reconciliation import A_PAGE, want
from gateway.app.settings import EngineSettings, EventSettings
from gateway.app.telemetry import Telemetry
from gateway.domain.commands import Caller
from gateway.domain.errors import InvalidRequest, ObolError, Reason
from gateway.domain.providers import (
    Account,
    Accounts,
    AdmissionRefused,
    ListsEvents,
    ProviderEvent,
    ReadsCallbacks,
    Unreadable,
)
from gateway.domain.reconciliation import WINDOW_S_MAX, EventCursor
from gateway.domain.storage import AuditRecord, Callback, Store

PROVENANCE_HEADER = "obol-provenance"
FETCHED = "event list"
"""What the inbox has under PROVENANCE_HEADER for an event that no delivery brought. No provider calls a header so."""

GAP_REACH_US = WINDOW_S_MAX * 1_000_000
"""A lost event can be about an older payment: what is reconciled for a gap begins so long before it."""
SYSTEM_ACTOR = "system:events"

_log = structlog.get_logger(__name__)


class MissedEvents:
    """Reads on in the event lists; every gateway process has one."""

    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        telemetry: Telemetry,
        engine: EngineSettings,
        settings: EventSettings,
        arrived: asyncio.Event,
    ) -> None:
        """`arrived` wakes whoever applies callbacks."""
        self._store = store
        self._accounts = accounts
        self._telemetry = telemetry
        self._engine = engine
        self._settings = settings
        self._arrived = arrived

    async def run_once(self) -> int:
        """Take one account's cursor that is due and read on; how many were taken."""
        listing = {
            each.account_id: each
            for each in self._accounts.all()
            if isinstance(each.adapter, ListsEvents) and isinstance(each.adapter, ReadsCallbacks)
        }
        if not listing:
            return 0
        settings = self._settings
        cursor = await self._store.take_event_cursor(
            listing.keys(), lease_s=settings.lease_s, first_s=settings.first_s, poll_s=settings.poll_s
        )
        if cursor is None:
            return 0
        await self._read_on(listing[cursor.account_id], cursor)
        return 1

    async def _read_on(self, account: Account, cursor: EventCursor) -> None:
        after, last_us = cursor.after_event_id, cursor.last_event_time_us
        pause_s = self._settings.poll_s
        for page in range(self._settings.pages_per_turn):
            try:
                listed = await self._list(account, after)
            except InvalidRequest as error:
                if error.reason is not Reason.CURSOR_INVALID or not after:
                    raise
                await self._tell_gap(account, cursor, last_us)
                after = ""
                continue
            if listed is None:
                break
            due = self._due(listed, cursor)
            kept = [each for each in due if each.created_time_us >= cursor.first_time_us]
            await self._keep(account, kept, cursor.now_us)
            if due:
                after, last_us = due[-1].event_id, max(last_us, due[-1].created_time_us)
            if len(due) < self._settings.page:
                break
            if page == self._settings.pages_per_turn - 1:
                pause_s = 0.0  # there is more: the next turn is whoever's comes first
        moved = await self._store.move_event_cursor(
            cursor, after_event_id=after, last_event_time_us=last_us, next_attempt_s=pause_s
        )
        if not moved:
            _log.warning("event cursor was taken over", account_id=account.account_id)

    async def _list(self, account: Account, after: str) -> Sequence[ProviderEvent] | None:
        """A page, or None where the list cannot be read now. Raises InvalidRequest(CURSOR_INVALID)."""
        assert isinstance(account.adapter, ListsEvents)
        try:
            admission = await account.admit(wait_s=self._engine.admission_wait_s)
        except AdmissionRefused as refused:
            _log.warning("event list waits", account_id=account.account_id, failure=str(refused))
            return None
        try:
            listed = await account.adapter.list_events(
                after_event_id=after, limit=self._settings.page, timeout_s=self._engine.provider_timeout_s
            )
            admission.report(A_PAGE)
            return listed
        except InvalidRequest:
            raise
        except ObolError as error:
            admission.report(Unreadable(error.message))
            _log.warning("event list waits", account_id=account.account_id, failure=error.message)
            return None
        finally:
            admission.release()

    def _due(self, listed: Sequence[ProviderEvent], cursor: EventCursor) -> list[ProviderEvent]:
        """Those that ordinary delivery had time for; none behind one that is too young, or the cursor would pass it."""
        young_us = cursor.now_us - int(self._settings.lag_s * 1_000_000)
        due = []
        for event in listed:
            if event.created_time_us > young_us:
                break
            due.append(event)
        return due

    async def _keep(self, account: Account, events: Sequence[ProviderEvent], now_us: int) -> None:
        if not events:
            return
        known = [event.event_id for event in events]
        missed = set(await self._store.unknown_events(account.provider, account.account_id, known))
        for event in events:
            new = event.event_id in missed and await self._receive(account, event, now_us)
            self._telemetry.fetched_event(account.provider, account.account_id, "MISSED" if new else "KNOWN")
        if missed:
            _log.warning("missed events were fetched", account_id=account.account_id, events=len(missed))
            self._arrived.set()

    async def _receive(self, account: Account, event: ProviderEvent, now_us: int) -> bool:
        callback = Callback(
            callback_id=new_id("cbk"),
            provider=account.provider,
            account_id=account.account_id,
            event_id=event.event_id,
            event_type=event.event_type[:255],
            body=event.body,
            headers={PROVENANCE_HEADER: FETCHED},
            correlation_id=f"events:{account.account_id}",
            received_time_us=now_us,
        )
        audit = AuditRecord(
            audit_id=new_id("aud"),
            caller=Caller("", "", SYSTEM_ACTOR, callback.correlation_id),
            action="CALLBACK",
            result="FETCHED",
            provider=account.provider,
            account_id=account.account_id,
            detail=f"{callback.event_type} {event.event_id}",
        )
        return await self._store.receive_callback(callback, audit)

    async def _tell_gap(self, account: Account, cursor: EventCursor, last_us: int) -> None:
        """The provider keeps the cursor's event no more: have the gap reconciled, and begin at the oldest event."""
        self._telemetry.fetched_event(account.provider, account.account_id, "GAP")
        start_us = max(0, (last_us or cursor.first_time_us) - GAP_REACH_US)
        job = await want(self._store, "event-gap", account.account_id, start_us, cursor.now_us)
        _log.error(
            "the event list no longer has the last event that was read; it is read from the oldest that is kept",
            account_id=account.account_id,
            event_id=cursor.after_event_id,
            reconciliation_id=job.reconciliation_id,
        )
