"""Recovery: what was sent and not answered, and what the provider has not finished, ends on evidence.

Every process runs it. It takes due operations by lease, asks the provider for its object, and

    found, and it shows the operation      settle by the facts
    no trace of it                         resend the same request while it is young: its key makes it one effect; not
                                           what was claimed before a restore of the database
    no trace, and not to be resent         conclude NEVER_EXECUTED, but only by a read that cannot miss, begun after the
                                           last send could still have been in flight; else a person is told, once
    anything else                          look again later; UNKNOWN never ends by a timer
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import structlog

from gateway.app.clock import SendWindow, jitter
from gateway.app.elsewhere import LOST, PENDING, gone_elsewhere
from gateway.app.engine import Engine
from gateway.app.learning import Held, Learning
from gateway.app.modes import Modes
from gateway.app.places import Places
from gateway.app.reading import Reading
from gateway.app.settings import EngineSettings
from gateway.app.settling import Lesson, next_attempt_s
from gateway.app.telemetry import Telemetry
from gateway.app.verdicts import MISMATCH, NEVER_EXECUTED, Verdict, classify, mismatch, verdict_of_facts
from gateway.domain.commands import CommandKind, Operation
from gateway.domain.errors import ObolError, Sent, Unavailable
from gateway.domain.movements import Closure, Facts, ProviderObject
from gateway.domain.observations import Source
from gateway.domain.payments import Payment
from gateway.domain.providers import Absent, Account, Accounts, AdmissionRefused, Found, Snapshot, Unreadable
from gateway.domain.states import RESERVING_STATES, CommandState
from gateway.domain.storage import Aggregate, Store

Complete = Callable[[str, str], Awaitable[None]]
"""`Commands.complete`: of a tenant's payment that the payer has approved."""

FAILURE_LENGTH_MAX = 500
TOLD_PATIENCE = 5
OUT_OF_MEANS = "too old to resend, and a look cannot prove its absence: ask the provider how it ended"
BEFORE_RESTORE = "claimed before a restore, and a look cannot prove its absence: ask the provider how it ended"

_log = structlog.get_logger(__name__)


class Recovered(StrEnum):
    """What one look at one operation came to."""

    RESOLVED = "RESOLVED"
    WAITING = "WAITING"
    RESENT = "RESENT"
    ABSENT = "ABSENT"
    OUT_OF_MEANS = "OUT_OF_MEANS"
    LOST = "LOST"


@dataclass(frozen=True, slots=True)
class _Case:
    operation: Operation
    aggregate: Aggregate
    account: Account
    begun_us: int


class Recovery:
    """Takes due operations and looks after each."""

    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        engine: Engine,
        learning: Learning,
        reading: Reading,
        telemetry: Telemetry,
        settings: EngineSettings,
        modes: Modes,
        complete: Complete,
    ) -> None:
        self._modes = modes
        self._store = store
        self._accounts = accounts
        self._engine = engine
        self._learning = learning
        self._reading = reading
        self._telemetry = telemetry
        self._settings = settings
        self._complete = complete
        self._places = Places(settings.recovery_concurrency)

    async def run_once(self) -> int:
        """Take what there is room for, and look after each to its end; how many were taken."""
        started = await self._take()
        await asyncio.gather(*started)
        return len(started)

    async def pump(self) -> int:
        """Take what there is room for and leave it to its own tasks; whether to come again at once."""
        await self._places.some()
        taken = len(await self._take())
        return taken or int(await self._places.freed(self._settings.recovery_poll_s))

    async def rest(self, timeout_s: float) -> None:
        """Return when nothing that was taken is looked after any more."""
        await self._places.rest(timeout_s)

    async def _take(self) -> Sequence[asyncio.Task[None]]:
        settings, places = self._settings, self._places
        due = await self._store.take_due(
            limit=min(settings.recovery_batch, places.room),
            # A look and a resend, each with its wait for admission, fit into it.
            lease_s=settings.lease_s + 2 * (settings.provider_timeout_s + settings.admission_wait_s),
            except_accounts=places.full_accounts,
        )
        return [places.start(each.account_id, self._look_after(each, due.now_us)) for each in due.operations]

    async def _look_after(self, operation: Operation, now_us: int) -> None:
        try:
            recovered = await self._recover(operation, now_us)
        except ObolError as error:
            # The lease ends by itself, and the operation is due again then.
            _log.warning("recovery interrupted", operation_id=operation.operation_id, reason=error.reason)
            return
        except Exception:  # noqa: BLE001 one operation that breaks us must not hold up the others
            _log.exception("recovery failed", operation_id=operation.operation_id)
            return
        self._telemetry.recovery(operation.provider, operation.kind, recovered)
        _log.info("recovered", operation_id=operation.operation_id, kind=operation.kind, result=recovered)

    async def _recover(self, operation: Operation, now_us: int) -> Recovered:
        account = self._accounts.get(operation.account_id)
        if account is None:
            return await self._wait(operation, f"account {operation.account_id} is not configured")
        aggregate = await self._store.load(operation.tenant_id, operation.payment_id)
        if aggregate is None:
            raise LookupError(f"payment {operation.payment_id} of operation {operation.operation_id} is gone")
        case = _Case(operation, aggregate, account, now_us)
        payment = aggregate.payment
        known = payment.provider_payment_id if payment.account_id == operation.account_id else None
        provider_payment_id = known or operation.provider_payment_id
        lookup = await self._reading.look(account, operation.payment_id, provider_payment_id)
        match lookup:
            case Found(snapshot=snapshot):
                recovered = await self._found(case, snapshot)
                is_current = payment.account_id == operation.account_id
                lie = mismatch(operation, payment.terms, snapshot, aggregate.operations)
                if snapshot.completion_due and is_current and not lie:
                    await self._complete(operation.tenant_id, operation.payment_id)
                return recovered
            case Absent() if provider_payment_id and self._has_lapsed(case):
                return await self._lapsed(case, provider_payment_id)
            case Absent() if provider_payment_id:
                # The object was there: that it is gone says something of the account, and nothing of this write.
                return await self._contradicted(case, f"{MISMATCH}the provider does not know its own object any more")
            case Absent(consistent=consistent):
                return await self._absent(case, consistent=consistent)
            case Unreadable(failure=failure, retry_after_s=retry_after_s):
                # What a person was told stands until a look says otherwise: it is not told again after an outage.
                failure = operation.failure if _told(operation) else failure
                return await self._wait(operation, failure, within_s=retry_after_s)

    async def _found(self, case: _Case, snapshot: Snapshot) -> Recovered:
        operation, payment = case.operation, case.aggregate.payment
        lie = mismatch(operation, payment.terms, snapshot, case.aggregate.operations)
        if lie:
            return await self._contradicted(case, lie)
        if snapshot.unmapped:
            return await self._wait(operation, f"unmapped: {', '.join(snapshot.unmapped)}")
        facts = payment.facts.merge(snapshot.facts)
        said = verdict_of_facts(operation, facts, payment.terms.confirmation_method)
        if said is None and operation.kind is not CommandKind.CREATE and operation.state in RESERVING_STATES:
            # The object is there and shows no trace of this write; a create, of course, is its own trace.
            if facts != payment.facts:
                lesson = Lesson(Source.RECOVERY, operation.operation_id, snapshot)
                learned = await self._learning.settle_read(case.aggregate, lesson)
                if learned is None:
                    return await self._wait(operation, "the payment moved on while it was read")
                case = replace(case, aggregate=learned)
            return await self._absent(case, consistent=case.account.adapter.capabilities.absence_is_consistent)
        concluded = said is not None and said[0] is not operation.state
        if not concluded and facts == payment.facts and operation.state is not CommandState.SENDING:
            return await self._wait(operation, "" if _told(operation) else operation.failure)
        verdict = Verdict(operation.state, operation.sent, failure=operation.failure, snapshot=snapshot)
        return await self._settle(
            case, self._unresolved(operation, verdict), Recovered.RESOLVED if concluded else Recovered.WAITING
        )

    def _has_lapsed(self, case: _Case) -> bool:
        """Whether the provider may have dropped an object that nobody paid: no write of ours can have moved money.

        Only a completion of ours takes money there. None was sent that is not known to have been refused, so that the
        absence, which proves nothing of other objects, hides nothing here.
        """
        kept_s = case.account.adapter.capabilities.unpaid_kept_s
        completions = {o.state for o in case.aggregate.operations if o.kind is CommandKind.COMPLETE}
        return (
            kept_s is not None
            and case.operation.state is CommandState.REQUIRES_ACTION
            and case.begun_us - case.operation.claimed_time_us > kept_s * 1_000_000
            and completions <= {CommandState.FAILED, CommandState.NOT_SENT}
            and not case.aggregate.payment.facts.movements
        )

    async def _lapsed(self, case: _Case, provider_payment_id: str) -> Recovered:
        operation, terms = case.operation, case.aggregate.payment.terms
        gone = Facts(objects=(ProviderObject(operation.account_id, provider_payment_id, Closure.EXPIRED),))
        snapshot = Snapshot(operation.account_id, provider_payment_id, terms.amount_minor, terms.currency, gone)
        verdict = Verdict(operation.state, operation.sent, failure="dropped by the provider, unpaid", snapshot=snapshot)
        return await self._settle(case, self._unresolved(operation, verdict), Recovered.RESOLVED)

    async def _contradicted(self, case: _Case, failure: str) -> Recovered:
        """Stay as it is and tell a person, once: as long as the same is seen, a look writes no version."""
        operation, failure = case.operation, failure[:FAILURE_LENGTH_MAX]
        if operation.failure == failure and operation.state is not CommandState.SENDING:
            return await self._wait(operation, failure)
        verdict = Verdict(operation.state, operation.sent, failure=failure, quarantined=True)
        return await self._settle(case, self._unresolved(operation, verdict), Recovered.WAITING)

    async def _absent(self, case: _Case, *, consistent: bool) -> Recovered:
        operation = case.operation
        if operation.state not in RESERVING_STATES or operation.sent is Sent.YES:
            # One that the provider has answered to is somewhere: it shows late, or a person must look.
            return await self._wait(operation, "the provider shows no trace of it yet")
        open_since_restore = await self._left_open(operation, case.aggregate.payment)
        if open_since_restore:
            # What was sent before the restore, and when, is not in this database.
            return await self._held_open(case, open_since_restore)
        # Of old its caller may know how it ended, and have asked again under another key.
        is_of_old = await self._store.declared_since(operation.claimed_time_us)
        if self._may_resend(case) and not is_of_old:
            # Whether or not the look can miss: while the provider keeps the key, a second send is no second effect.
            return await self._resend(case)
        if not consistent:
            return await self._out_of_means(case, BEFORE_RESTORE if is_of_old else OUT_OF_MEANS)
        able = case.account.adapter.capabilities
        flight_us = int((able.flight_s_max + self._settings.provider_timeout_s) * 1_000_000)
        if case.begun_us > (operation.last_send_us or operation.claimed_time_us) + flight_us:
            verdict = Verdict(
                CommandState.FAILED, operation.sent, decline=NEVER_EXECUTED, failure="absent after the longest flight"
            )
            return await self._settle(case, verdict, Recovered.ABSENT)
        return await self._wait(operation, "absent, and the last send may still be in flight")

    async def _left_open(self, operation: Operation, payment: Payment) -> str:
        """What a restore leaves open of what is absent; empty where nothing.

        A create may have gone on at any account, by whichever rules there were then. All else is bound to its own.
        """
        if operation.kind is not CommandKind.CREATE:
            return PENDING if await self._store.restore_pending(operation.account_id) else ""
        return await gone_elsewhere(self._store, payment, (each.account_id for each in self._accounts.all()))

    async def _held_open(self, case: _Case, failure: str) -> Recovered:
        """Wait for a reconciliation; or stay as it is, where one has found it elsewhere, and tell a person, once."""
        operation = case.operation
        if failure == LOST and operation.failure != LOST:
            _log.error(
                "operation went on elsewhere", operation_id=operation.operation_id, payment_id=operation.payment_id
            )
        return await self._wait(operation, failure)

    async def _out_of_means(self, case: _Case, why: str) -> Recovered:
        """It may not be resent, and no look can prove absence: it stays UNKNOWN, and a person is told, once."""
        operation = case.operation
        if operation.failure == why and operation.state is not CommandState.SENDING:
            return await self._wait(operation, why)
        _log.error("operation needs a person", operation_id=operation.operation_id, kind=operation.kind)
        verdict = Verdict(operation.state, operation.sent, failure=why)
        return await self._settle(case, self._unresolved(operation, verdict), Recovered.OUT_OF_MEANS)

    def _may_resend(self, case: _Case) -> bool:
        """Only what the row proves identical, while it is young, and well inside the provider's key window.

        Its age counts from the claim, before which nothing was sent: no resend is later than the key's first use by
        more than this.
        """
        operation, settings = case.operation, self._settings
        age_s = (case.begun_us - operation.claimed_time_us) / 1_000_000
        window_s = operation.prepared.key_window_s - settings.key_window_margin_s
        return age_s < min(settings.resend_age_s_max, window_s)

    async def _resend(self, case: _Case) -> Recovered:
        window = SendWindow(self._settings.send_window_s)
        try:
            self._modes.check(case.account, new_payment=False)
        except Unavailable as refused:
            return await self._wait(case.operation, f"not resent: {refused.reason}")
        try:
            admission = await case.account.admit(wait_s=self._settings.admission_wait_s)
        except AdmissionRefused as refused:
            return await self._wait(case.operation, f"not admitted: {refused}")
        try:
            operation = await self._store.start_resend(
                case.operation, lease_s=self._settings.lease_s, send_window_s=self._settings.send_window_s
            )
            if operation is None:
                return await self._not_resent(case.operation, case.aggregate.payment)
            outcome = await self._engine.call(case.account, operation, admission, window)
        finally:
            admission.release()
        # A claim that died before its send looks like one that died after it: what comes back is a resend's.
        verdict = classify(operation, case.aggregate.payment.terms, outcome, resend=True)
        return await self._settle(
            replace(case, operation=operation), self._unresolved(operation, verdict), Recovered.RESENT
        )

    async def _not_resent(self, operation: Operation, payment: Payment) -> Recovered:
        """The lease is another's, or a restore was declared since the look: then it is given back, and looked at on."""
        open_since_restore = await self._left_open(operation, payment)
        return await self._wait(operation, open_since_restore) if open_since_restore else Recovered.LOST

    def _unresolved(self, operation: Operation, verdict: Verdict) -> Verdict:
        """A verdict that may leave the operation live: one that was SENDING when its holder died is UNKNOWN now."""
        if verdict.state is CommandState.SENDING:
            verdict = replace(verdict, state=CommandState.UNKNOWN)
        return replace(verdict, sent=verdict.sent.at_least(operation.sent).at_least(Sent.MAYBE))

    async def _settle(self, case: _Case, verdict: Verdict, recovered: Recovered) -> Recovered:
        command = next(c for c in case.aggregate.commands if c.command_id == case.operation.command_id)
        held = Held(case.operation, command.caller, _with_held(case))
        settled = await self._learning.settle_held(held, verdict, Source.RECOVERY)
        return Recovered.LOST if settled is None else recovered

    async def _wait(self, operation: Operation, failure: str, *, within_s: float | None = None) -> Recovered:
        """Look again later. An operation whose holder died is UNKNOWN from now on, and says so.

        `within_s`: nobody was asked, and by then somebody can be; a pause that grew with the looks is cut short.
        """
        if operation.state is CommandState.SENDING:
            aggregate = await self._store.load(operation.tenant_id, operation.payment_id)
            if aggregate is not None:
                command = next(c for c in aggregate.commands if c.command_id == operation.command_id)
                verdict = Verdict(CommandState.UNKNOWN, operation.sent.at_least(Sent.MAYBE), failure=failure)
                held = Held(operation, command.caller, aggregate)
                settled = await self._learning.settle_held(held, verdict, Source.RECOVERY)
                return Recovered.WAITING if settled is not None else Recovered.LOST
        pause_s = jitter(next_attempt_s(operation, self._settings) or self._settings.pending_check_s_max)
        if failure == operation.failure and _told(operation):
            # Thousands that only a person can help are looked at less often: the rest must still be in time.
            pause_s *= TOLD_PATIENCE
        if within_s is not None:
            pause_s = min(pause_s, max(within_s, self._settings.recovery_poll_s))
        kept = await self._store.reschedule(operation, next_attempt_s=pause_s, failure=failure[:FAILURE_LENGTH_MAX])
        return Recovered.WAITING if kept else Recovered.LOST


def _told(operation: Operation) -> bool:
    """Whether what was seen last is for a person, who was told."""
    return operation.failure in (OUT_OF_MEANS, BEFORE_RESTORE, LOST) or operation.failure.startswith(MISMATCH)


def _with_held(case: _Case) -> Aggregate | None:
    """The aggregate with the operation as we hold it now; None (read it again) where somebody has taken it over."""
    held = case.operation
    current = next((o for o in case.aggregate.operations if o.operation_id == held.operation_id), None)
    if current is None or current.epoch != held.epoch:
        return None
    operations = tuple(held if o.operation_id == held.operation_id else o for o in case.aggregate.operations)
    return replace(case.aggregate, operations=operations)
