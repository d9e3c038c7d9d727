"""Reconciliation: the provider's own records of a window against ours, in both directions, as a job that survives us.

A job walks the provider's list and then our payments of the window, page by page; each page is one commit, under the
job's epoch. What looks like a break is looked at again by `Examination`, since both sides are read at different
moments. A crash loses at most a page, whose breaks are kept already and whose merges teach nothing the second time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

import structlog

from gateway.app.clock import Clock, jitter, new_id
from gateway.app.comparing import differences, our_sums, summed, their_sums
from gateway.app.examining import Examination, Examined, Unreachable
from gateway.app.settings import EngineSettings, ReconciliationSettings
from gateway.app.telemetry import Telemetry
from gateway.domain.commands import Caller
from gateway.domain.errors import InvalidRequest, ObolError
from gateway.domain.providers import Absent, Account, Accounts, AdmissionRefused, ListsPayments, Snapshot, Unreadable
from gateway.domain.reconciliation import JobState, Phase, Reconciliation, Step, Wanted
from gateway.domain.storage import AuditRecord, Store

SYSTEM_ACTOR = "system:reconciliation"
A_PAGE = Absent(consistent=False)
"""What a page that was read tells the account's breaker: it answers."""

_SEPARATOR = " "
"""No tenant has one in its name: they are of visible characters."""

_log = structlog.get_logger(__name__)


class Unwalkable(Exception):
    """The job can never come to its end."""


class LeaseLost(Exception):
    """Another process has the job now."""


class Reconciler:
    """Takes jobs by lease and walks them; every gateway process has one."""

    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        examination: Examination,
        telemetry: Telemetry,
        engine: EngineSettings,
        settings: ReconciliationSettings,
        clock: Clock,
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._examination = examination
        self._telemetry = telemetry
        self._engine = engine
        self._settings = settings
        self._clock = clock
        self._scheduled: dict[str, int] = {}
        self.wanted = asyncio.Event()
        """Set when a job was queued in this process."""

    async def run_once(self) -> int:
        """Queue what is scheduled, take one job and walk some of its pages; how many jobs were taken."""
        self.wanted.clear()
        await self._schedule()
        job = await self._store.take_reconciliation(lease_s=self._settings.lease_s)
        if job is None:
            return 0
        account = self._accounts.get(job.account_id)
        if account is None or not isinstance(account.adapter, ListsPayments):
            await self._end(job, f"account {job.account_id} is not configured, or cannot list its payments")
            return 1
        try:
            await self._turn(job, account)
        except LeaseLost:
            _log.warning("reconciliation lost its lease", reconciliation_id=job.reconciliation_id)
        return 1

    async def _schedule(self) -> None:
        """Queue the scheduled windows that have ended; whichever replica comes first does it, by the job's key."""
        settings = self._settings
        if not settings.every_s:
            return
        every_us = int(settings.every_s * 1_000_000)
        end_us = (self._clock.now_us() - int(settings.lag_s * 1_000_000)) // every_us * every_us
        start_us = end_us - int(settings.window_s * 1_000_000)
        for account in self._accounts.all():
            if isinstance(account.adapter, ListsPayments) and self._scheduled.get(account.account_id) != end_us:
                await want(self._store, "schedule", account.account_id, start_us, end_us)
                self._scheduled[account.account_id] = end_us

    async def _turn(self, job: Reconciliation, account: Account) -> None:
        """Some pages of a job, so that a drain need not wait for all of it."""
        quiet_s = account.adapter.capabilities.flight_s_max + self._engine.provider_timeout_s
        first = job.phase is Phase.THEIRS and not job.position
        wait_s = await self._store.restore_quiet_in_s(account.account_id, quiet_s=quiet_s) if first else 0.0
        if wait_s:
            # What the lost database sent last may still take effect: listed now, it would be missed.
            await self._store.pause_reconciliation(job, next_attempt_s=wait_s, postponed=False)
            return
        walk = {Phase.THEIRS: self._theirs, Phase.OURS: self._ours}
        for _ in range(self._settings.pages_per_turn):
            try:
                step, over = await walk[job.phase](job, account)
            except Unreachable as failure:
                await self._postpone(job, str(failure), failure.retry_after_s)
                return
            except Unwalkable as failure:
                await self._end(job, str(failure))
                return
            after = await self._store.take_step(job, step, lease_s=self._settings.lease_s)
            if after is None:
                raise LeaseLost
            job = after
            if over:
                await self._end(job, "", quiet_s=quiet_s)
                return
            await asyncio.sleep(self._settings.pause_s)
        await self._store.pause_reconciliation(job, next_attempt_s=0.0, postponed=False)

    async def _postpone(self, job: Reconciliation, failure: str, retry_after_s: float) -> None:
        settings = self._settings
        if job.postponed >= settings.postponed_max:
            await self._end(job, failure)
            return
        pause_s = min(settings.postpone_s_max, settings.postpone_first_s * 2.0 ** min(job.postponed, 20))
        _log.warning("reconciliation waits", reconciliation_id=job.reconciliation_id, failure=failure)
        await self._store.pause_reconciliation(job, next_attempt_s=max(jitter(pause_s), retry_after_s), postponed=True)

    async def _end(self, job: Reconciliation, failure: str, *, quiet_s: float = 0.0) -> None:
        if not await self._store.end_reconciliation(job, failure=failure[:500], quiet_s=quiet_s):
            raise LeaseLost
        state = JobState.FAILED if failure else JobState.DONE
        self._telemetry.reconciliation(job.account_id, state)
        ended = await self._store.get_reconciliation(job.reconciliation_id) or job
        _log.info(
            "reconciliation ended",
            reconciliation_id=job.reconciliation_id,
            account_id=job.account_id,
            state=state,
            failure=failure,
            breaks=ended.break_count,
            mended=ended.mended_count,
        )

    async def _theirs(self, job: Reconciliation, account: Account) -> tuple[Step, bool]:
        """A page of the provider's list."""
        given, token = await self._list(job, account)
        listed = await self._new(job, given)
        own = [each for each in listed if each.tenant_id and each.payment_id]
        ours = await self._store.get_payments([(each.tenant_id, each.payment_id) for each in own])
        examined: list[Examined] = []
        for snapshot in own:
            payment = ours.get((snapshot.tenant_id, snapshot.payment_id))
            suspect = payment is None or len(payment.facts.objects) > 1 or differences(payment, snapshot, ())
            if payment is not None and not suspect:
                sums = summed(our_sums(payment), their_sums(snapshot))
                examined.append(Examined((payment.tenant_id, payment.payment_id), sums, is_clean=True))
                continue
            examined.append(await self._again(partial(self._examination.listed, job, account, snapshot)))
        step = Step(
            phase=Phase.THEIRS if token else Phase.OURS,
            position=token,
            provider_count=len(own),
            foreign_count=len(listed) - len(own),
            sums=summed(*(each.sums for each in examined)),
            # Those without our reference as well: they are counted once, too.
            seen=tuple((each.provider_payment_id, each.tenant_id, each.payment_id) for each in listed),
            clean=tuple(each.key for each in examined if each.is_clean),
        )
        return step, False

    async def _new(self, job: Reconciliation, given: Sequence[Snapshot]) -> Sequence[Snapshot]:
        """What was not shown before: a record that comes twice, on one page or on two, is compared and summed once."""
        once = {each.provider_payment_id: each for each in given}
        before = await self._store.seen_before(job, list(once))
        return [each for reference, each in once.items() if reference not in before]

    async def _list(self, job: Reconciliation, account: Account) -> tuple[list[Snapshot], str]:
        assert isinstance(account.adapter, ListsPayments)
        try:
            admission = await account.admit(wait_s=self._engine.admission_wait_s)
        except AdmissionRefused as refused:
            raise Unreachable(f"not admitted: {refused}", refused.retry_after_s) from refused
        try:
            listed, token = await account.adapter.list_payments(
                created_from_us=job.window_start_us,
                created_before_us=job.window_end_us or 0,
                page_token=job.position,
                limit=self._settings.page,
                timeout_s=self._engine.provider_timeout_s,
            )
            admission.report(A_PAGE)
        except InvalidRequest as error:
            # A page token does not outlive what it points at, and what was counted before it would be counted again.
            raise Unwalkable(f"the provider's list cannot be continued ({error.message}): ask for a new one") from error
        except ObolError as error:
            if error.retry_after_s is None:
                # Where it says when to come again nothing was asked, and nothing of the account's health is known.
                admission.report(Unreadable(error.message))
            raise Unreachable(error.message, error.retry_after_s or 0.0) from error
        finally:
            admission.release()
        return list(listed), token

    async def _ours(self, job: Reconciliation, account: Account) -> tuple[Step, bool]:
        """A page of our payments of the window: what the list has not shown is fetched, one by one."""
        tenant_id, _, payment_id = job.position.partition(_SEPARATOR)
        records = await self._store.list_window(
            job, after=(tenant_id, payment_id), limit=self._settings.page, stuck_s=self._settings.stuck_s
        )
        examined: list[Examined] = []
        for record in records:
            is_listed = record.seen_as == (record.tenant_id, record.payment_id)
            if record.payment_id and (record.is_stuck or not is_listed):
                seen = await self._again(partial(self._examination.ours, job, account, record))
                # What the list has shown is in the sums already.
                examined.append(replace(seen, sums={}) if is_listed else seen)
        last = f"{records[-1].tenant_id}{_SEPARATOR}{records[-1].payment_id}" if records else job.position
        step = Step(
            phase=Phase.OURS,
            position=last,
            payment_count=sum(1 for each in records if each.payment_id),
            sums=summed(*(each.sums for each in examined)),
            clean=tuple(each.key for each in examined if each.is_clean),
        )
        return step, not records

    async def _again(self, examine: Callable[[], Awaitable[Examined]]) -> Examined:
        """One examination, at a pace that leaves the provider to its payers."""
        examined = await examine()
        if examined.lost_lease:
            raise LeaseLost
        await asyncio.sleep(self._settings.pause_s)
        return examined


async def want(store: Store, cause: str, account_id: str, start_us: int, end_us: int | None) -> Reconciliation:
    """Queue a reconciliation in the gateway's own name, once for each cause and window."""
    caller = Caller("", "", SYSTEM_ACTOR, f"{cause}:{account_id}")
    wanted = Wanted(
        reconciliation_id=new_id("rec"),
        caller=caller,
        idempotency_key=f"system:{cause}:{account_id}:{start_us}:{end_us or ''}",
        account_id=account_id,
        window_start_us=start_us,
        window_end_us=end_us,
    )
    job, _ = await store.want_reconciliation(wanted, audit_of(wanted))
    return job


def audit_of(wanted: Wanted) -> AuditRecord:
    """Who asked for a reconciliation."""
    return AuditRecord(
        audit_id=new_id("aud"),
        caller=wanted.caller,
        action="RECONCILE",
        result="QUEUED",
        account_id=wanted.account_id,
        detail=f"{wanted.reconciliation_id} {wanted.window_start_us} {wanted.window_end_us or ''}"
        f"{' dry run' if wanted.dry_run else ''}",
    )
