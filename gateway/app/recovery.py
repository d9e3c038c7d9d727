"""Recovery: what was sent and not answered, and what the provider has not finished, ends on evidence.

Every process runs it. It takes due operations by lease, asks the provider for its object, and

    found, and it shows the operation      settle by the facts
    absent, by a read that cannot miss     resend the same request while that is allowed, else conclude NEVER_EXECUTED,
                                           but only by a look begun after the last send could still have been in flight
    anything else                          look again later; UNKNOWN never ends by a timer
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import structlog

from gateway.app.clock import SendWindow, jitter
from gateway.app.engine import Engine
from gateway.app.learning import Held, Learning
from gateway.app.reading import Reading
from gateway.app.settings import EngineSettings
from gateway.app.settling import Lesson, next_attempt_s
from gateway.app.telemetry import Telemetry
from gateway.app.verdicts import NEVER_EXECUTED, Verdict, classify, mismatch, verdict_of_facts
from gateway.domain.commands import CommandKind, Operation
from gateway.domain.errors import ObolError, Sent
from gateway.domain.movements import Closure, Facts, ProviderObject
from gateway.domain.observations import Source
from gateway.domain.providers import Absent, Account, Accounts, AdmissionRefused, Found, Snapshot, Unreadable
from gateway.domain.states import RESERVING_STATES, CommandState
from gateway.domain.storage import Aggregate, Store

Complete = Callable[[str, str], Awaitable[None]]
"""`Commands.complete`: of a tenant's payment that the payer has approved."""

_log = structlog.get_logger(__name__)


class Recovered(StrEnum):
    """What one look at one operation came to."""

    RESOLVED = "RESOLVED"
    WAITING = "WAITING"
    RESENT = "RESENT"
    ABSENT = "ABSENT"
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
        complete: Complete,
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._engine = engine
        self._learning = learning
        self._reading = reading
        self._telemetry = telemetry
        self._settings = settings
        self._complete = complete
        self._slots = asyncio.Semaphore(settings.recovery_concurrency)

    async def run_once(self) -> int:
        """Take one batch of due operations and look after each; how many were taken."""
        # A batch is no larger than what can be looked after before its lease ends: each look is one or two calls.
        due = await self._store.take_due(limit=self._settings.recovery_batch, lease_s=self._lease_s)
        await asyncio.gather(*(self._look_after(operation, due.now_us) for operation in due.operations))
        return len(due.operations)

    @property
    def _lease_s(self) -> float:
        settings = self._settings
        rounds = -(-settings.recovery_batch // settings.recovery_concurrency)
        return settings.lease_s + 2 * rounds * (settings.provider_timeout_s + settings.admission_wait_s)

    async def _look_after(self, operation: Operation, now_us: int) -> None:
        async with self._slots:
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
        provider_payment_id = aggregate.payment.provider_payment_id or operation.provider_payment_id
        lookup = await self._reading.look(account, operation.payment_id, provider_payment_id)
        match lookup:
            case Found(snapshot=snapshot):
                recovered = await self._found(case, snapshot)
                if snapshot.completion_due and not mismatch(operation, aggregate.payment.terms, snapshot):
                    await self._complete(operation.tenant_id, operation.payment_id)
                return recovered
            case Absent() if provider_payment_id and self._has_lapsed(case):
                return await self._lapsed(case, provider_payment_id)
            case Absent() if provider_payment_id:
                # The object was there: that it is gone says something of the account, and nothing of this write.
                return await self._contradicted(case, "the provider does not know its own object any more")
            case Absent(consistent=consistent):
                return await self._absent(case, consistent=consistent)
            case Unreadable(failure=failure):
                return await self._wait(operation, failure)

    async def _found(self, case: _Case, snapshot: Snapshot) -> Recovered:
        operation, payment = case.operation, case.aggregate.payment
        lie = mismatch(operation, payment.terms, snapshot)
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
            return await self._wait(operation, operation.failure)
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
        """Stay as it is and tell a person, once."""
        operation = case.operation
        verdict = Verdict(operation.state, operation.sent, failure=failure, quarantined=operation.failure != failure)
        return await self._settle(case, self._unresolved(operation, verdict), Recovered.WAITING)

    async def _absent(self, case: _Case, *, consistent: bool) -> Recovered:
        operation = case.operation
        if operation.state not in RESERVING_STATES or operation.sent is Sent.YES:
            # One that the provider has answered to is somewhere: it shows late, or a person must look.
            return await self._wait(operation, "the provider shows no trace of it yet")
        if self._may_resend(case):
            # Whether or not the look can miss: while the provider keeps the key, a second send is no second effect.
            return await self._resend(case)
        if not consistent:
            return await self._wait(operation, "the provider shows no trace of it yet")
        able = case.account.adapter.capabilities
        flight_us = int((able.flight_s_max + self._settings.provider_timeout_s) * 1_000_000)
        if case.begun_us > (operation.last_send_us or operation.claimed_time_us) + flight_us:
            verdict = Verdict(
                CommandState.FAILED, operation.sent, decline=NEVER_EXECUTED, failure="absent after the longest flight"
            )
            return await self._settle(case, verdict, Recovered.ABSENT)
        return await self._wait(operation, "absent, and the last send may still be in flight")

    def _may_resend(self, case: _Case) -> bool:
        """Only what the row proves identical, while it is young, and well inside the provider's key window."""
        operation, settings = case.operation, self._settings
        age_s = (case.begun_us - operation.claimed_time_us) / 1_000_000
        window_s = operation.prepared.key_window_s - settings.key_window_margin_s
        return age_s < min(settings.resend_age_s_max, window_s)

    async def _resend(self, case: _Case) -> Recovered:
        window = SendWindow(self._settings.send_window_s)
        try:
            admission = await case.account.admit(wait_s=self._settings.admission_wait_s)
        except AdmissionRefused as refused:
            return await self._wait(case.operation, f"not admitted: {refused}")
        try:
            operation = await self._store.start_resend(
                case.operation, lease_s=self._settings.lease_s, send_window_s=self._settings.send_window_s
            )
            if operation is None:
                return Recovered.LOST
            outcome = await self._engine.call(case.account, operation, admission, window)
        finally:
            admission.release()
        # A claim that died before its send looks like one that died after it: what comes back is a resend's.
        verdict = classify(operation, case.aggregate.payment.terms, outcome, resend=True)
        return await self._settle(
            replace(case, operation=operation), self._unresolved(operation, verdict), Recovered.RESENT
        )

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

    async def _wait(self, operation: Operation, failure: str) -> Recovered:
        """Look again later. An operation whose holder died is UNKNOWN from now on, and says so."""
        if operation.state is CommandState.SENDING:
            aggregate = await self._store.load(operation.tenant_id, operation.payment_id)
            if aggregate is not None:
                command = next(c for c in aggregate.commands if c.command_id == operation.command_id)
                verdict = Verdict(CommandState.UNKNOWN, operation.sent.at_least(Sent.MAYBE), failure=failure)
                held = Held(operation, command.caller, aggregate)
                settled = await self._learning.settle_held(held, verdict, Source.RECOVERY)
                return Recovered.WAITING if settled is not None else Recovered.LOST
        pause_s = jitter(next_attempt_s(operation, self._settings) or self._settings.pending_check_s_max)
        kept = await self._store.reschedule(operation, next_attempt_s=pause_s, failure=failure[:500])
        return Recovered.WAITING if kept else Recovered.LOST


def _with_held(case: _Case) -> Aggregate | None:
    """The aggregate with the operation as we hold it now; None (read it again) where somebody has taken it over."""
    held = case.operation
    current = next((o for o in case.aggregate.operations if o.operation_id == held.operation_id), None)
    if current is None or current.epoch != held.epoch:
        return None
    operations = tuple(held if o.operation_id == held.operation_id else o for o in case.aggregate.operations)
    return replace(case.aggregate, operations=operations)
