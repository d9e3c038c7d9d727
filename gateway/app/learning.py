"""Committing what was learned: the loop around `settlement_of` and `Store.settle`, and the fence.

A holder of a lease settles its operation with whatever else the payment has become meanwhile; one that lost its fence
leaves its reply as evidence and changes nothing. A reader's snapshot applies only to the version that it read before.
"""

import asyncio
from dataclasses import dataclass, replace

import structlog

from gateway.app.clock import Clock, jitter, new_id
from gateway.app.elsewhere import gone_elsewhere
from gateway.app.leaving import would_fail
from gateway.app.replies import ReplyCodec
from gateway.app.settings import EngineSettings
from gateway.app.settling import Lesson, settlement_of
from gateway.app.telemetry import Telemetry
from gateway.app.verdicts import Verdict, moved_otherwise
from gateway.domain.commands import Caller, Operation
from gateway.domain.errors import Busy, Reason, Sent, Unavailable
from gateway.domain.observations import ObservationKind, Source
from gateway.domain.payments import NextAction
from gateway.domain.providers import Accounts, Snapshot
from gateway.domain.states import CommandState
from gateway.domain.storage import (
    Aggregate,
    AuditRecord,
    Settlement,
    SettleOutcome,
    Store,
)

SETTLE_TRIES_MAX = 100
SETTLE_PAUSE_S = 0.05
TAUGHT_NOTHING = "taught nothing new"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Held:
    """An operation under our lease, with its aggregate where that was read at the same version."""

    operation: Operation
    caller: Caller
    aggregate: Aggregate | None


@dataclass(frozen=True, slots=True)
class Learned:
    """The payment after a lesson, and the transaction that it took; None where it taught nothing."""

    aggregate: Aggregate
    settlement: Settlement | None


class Learning:
    """Applies lessons to payments through the store."""

    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        codec: ReplyCodec,
        telemetry: Telemetry,
        settings: EngineSettings,
        clock: Clock,
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._codec = codec
        self._telemetry = telemetry
        self._settings = settings
        self._clock = clock
        self.appended = asyncio.Event()
        """Set when observations were appended: the sequencer may number them."""

    async def settle_held(self, held: Held, verdict: Verdict, source: Source) -> Aggregate | None:
        """Settle a held operation; the aggregate afterwards, or None where the fence was lost (kept as evidence).

        Raises Unavailable(DATABASE_UNAVAILABLE) when the database stays away for `settle_retry_s`: recovery settles
        later, by the lease.
        """
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._settings.settle_retry_s
        aggregate = held.aggregate
        for _ in range(SETTLE_TRIES_MAX):
            try:
                aggregate = aggregate or await self._load(held.operation)
                current = _operation(aggregate, held.operation.operation_id)
                if current.epoch != held.operation.epoch:
                    await self._keep_as_evidence(held, verdict)
                    return None
                if held.operation.state is CommandState.SENDING and current.state is not CommandState.SENDING:
                    return aggregate  # our own settle, whose COMMIT answer was lost
                lesson = _believed(aggregate, self._lesson(held, verdict, source))
                lesson = await self._with_doubt(aggregate, lesson)
                # One that is held always has a settlement: its lease must end.
                settlement = self.preview(aggregate, lesson)
                settled = aggregate if settlement is None else await self._settle(aggregate, settlement)
                if settled is not None:
                    return settled
            except Unavailable:
                if loop.time() >= give_up:
                    raise
            aggregate = None
            await asyncio.sleep(jitter(SETTLE_PAUSE_S))
        raise Busy(
            Reason.CONTENTION,
            "the payment is changing too fast to settle; its state will follow, ask for it again",
            sent=verdict.sent,
            safe_to_retry=True,
            retry_after_s=1.0,
        )

    async def settle_read(self, aggregate: Aggregate, lesson: Lesson) -> Aggregate | None:
        """The aggregate after `learn`; None where the payment has moved on meanwhile."""
        learned = await self.learn(aggregate, lesson)
        return learned.aggregate if learned is not None else None

    async def learn(self, aggregate: Aggregate, lesson: Lesson) -> "Learned | None":
        """Apply a reader's lesson to the version it was read at; None where the payment has moved on meanwhile.

        A lesson that teaches nothing writes no version: only its audit, and what became of its callback, together. None
        also where somebody else has taken the callback over meanwhile.
        """
        lesson = await self._with_doubt(aggregate, _believed(aggregate, lesson))
        settlement = self.preview(aggregate, lesson)
        if settlement is not None:
            settled = await self._settle(aggregate, settlement)
            return None if settled is None else Learned(settled, settlement)
        if lesson.callback is None:
            await self._store.append_audit(lesson.audit)
        else:
            change = replace(lesson.callback, note=lesson.callback.note or TAUGHT_NOTHING)
            if not await self._store.change_callback(change, lesson.audit):
                return None
        return Learned(aggregate, None)

    def preview(self, aggregate: Aggregate, lesson: Lesson) -> Settlement | None:
        """The transaction that `lesson` asks for, written nowhere; None where it teaches nothing."""
        lesson = self._without_secret(lesson)
        return settlement_of(aggregate, lesson, now_us=self._clock.now_us(), codec=self._codec, settings=self._settings)

    async def _with_doubt(self, aggregate: Aggregate, lesson: Lesson) -> Lesson:
        """The lesson, and whether a restore leaves open that the create went on; asks only where it would fail by it.

        What a first call is answered with is no news of the time that a restore lost: its claim was made after that.
        """
        payment = aggregate.payment
        held = next((o for o in aggregate.operations if o.operation_id == lesson.operation_id), None)
        if lesson.source is Source.API_REPLY and held is not None and held.state is CommandState.SENDING:
            return lesson
        settlement = self.preview(aggregate, lesson)
        after = {each.command_id: each.state for each in settlement.commands} if settlement is not None else {}
        if not would_fail(payment, aggregate.commands, after):
            return lesson
        anywhere = (each.account_id for each in self._accounts.all())
        return replace(lesson, doubted=bool(await gone_elsewhere(self._store, payment, anywhere)))

    async def _settle(self, aggregate: Aggregate, settlement: Settlement) -> Aggregate | None:
        if await self._store.settle(settlement) is not SettleOutcome.APPLIED:
            return None
        if settlement.observations:
            self.appended.set()
        self._tell(aggregate, settlement)
        return aggregate_after(aggregate, settlement)

    def _without_secret(self, lesson: Lesson) -> Lesson:
        """The lesson, less a client secret that could only be stored in the clear."""
        snapshot = lesson.snapshot
        action = snapshot.next_action if snapshot else None
        if snapshot is None or action is None or not action.holds_secret or self._store.keeps_secrets:
            return lesson
        _log.error(
            "client secret left out: set secrets.sealing_keys, and sync the payment", payment_id=snapshot.payment_id
        )
        redirect = NextAction(action.redirect_url)
        shown = redirect if action.redirect_url and not redirect.holds_secret else None
        return replace(lesson, snapshot=replace(snapshot, next_action=shown))

    async def _load(self, operation: Operation) -> Aggregate:
        aggregate = await self._store.load(operation.tenant_id, operation.payment_id)
        if aggregate is None:
            raise LookupError(f"payment {operation.payment_id} of a claimed operation is gone")
        return aggregate

    def _lesson(self, held: Held, verdict: Verdict, source: Source) -> Lesson:
        operation = held.operation
        return Lesson(
            source=source,
            causation_id=operation.operation_id,
            snapshot=verdict.snapshot,
            operation_id=operation.operation_id,
            epoch=operation.epoch,
            verdict=verdict,
            audit=(audit_of(held, verdict, source),),
            contradiction=verdict.failure if verdict.quarantined else "",
        )

    async def _keep_as_evidence(self, held: Held, verdict: Verdict) -> None:
        self._telemetry.lost_fence(held.operation.kind)
        _log.warning("fence lost", operation_id=held.operation.operation_id, verdict=verdict.state)
        record = replace(audit_of(held, verdict, Source.API_REPLY), action=f"{held.operation.kind}.EVIDENCE")
        await self._store.append_evidence(held.operation, _words(verdict), record)
        if verdict.snapshot is not None:
            await self._learn_anyway(held, verdict.snapshot)

    async def _learn_anyway(self, held: Held, snapshot: Snapshot) -> None:
        """Facts need no fence: what the provider's books say is merged, whoever brought it, unless it is a lie."""
        lesson = Lesson(Source.API_REPLY, held.operation.operation_id, snapshot)
        for _ in range(SETTLE_TRIES_MAX):
            if await self.settle_read(await self._load(held.operation), lesson) is not None:
                return
            await asyncio.sleep(jitter(SETTLE_PAUSE_S))

    def _tell(self, aggregate: Aggregate, settlement: Settlement) -> None:
        kinds = {command.command_id: command.kind for command in aggregate.commands}
        declines = {c.operation.command_id: c.operation.decline for c in settlement.operations}
        for change in settlement.commands:
            decline = declines.get(change.command_id) if change.state is CommandState.FAILED else None
            self._telemetry.command(
                aggregate.payment.provider, kinds[change.command_id], change.state, decline.reason if decline else ""
            )
        for observation in settlement.observations:
            if observation.kind is ObservationKind.CONTRADICTION:
                self._telemetry.contradiction(observation.provider, "facts")
                _log.error("contradiction", payment_id=observation.payment_id, detail=observation.detail)


def _believed(aggregate: Aggregate, lesson: Lesson) -> Lesson:
    """The lesson; only that it lies, where its snapshot tells another amount than one of the operations asked for."""
    lie = moved_otherwise(aggregate.operations, aggregate.payment.terms, lesson.snapshot)
    if not lie:
        return lesson
    verdict = lesson.verdict and Verdict(CommandState.UNKNOWN, Sent.YES, failure=lie, quarantined=True)
    return replace(lesson, snapshot=None, verdict=verdict, contradiction=lesson.contradiction or lie)


def aggregate_after(aggregate: Aggregate, settlement: Settlement) -> Aggregate:
    """The aggregate as `settlement` left it."""
    commands = {change.command_id: change for change in settlement.commands}
    operations = {change.operation.operation_id: change.operation for change in settlement.operations}
    refunds = {refund.refund_id: refund for refund in (*aggregate.refunds, *settlement.refunds)}
    return Aggregate(
        payment=settlement.payment,
        commands=tuple(
            replace(c, state=commands[c.command_id].state, reply=commands[c.command_id].reply)
            if c.command_id in commands
            else c
            for c in aggregate.commands
        ),
        operations=tuple(operations.get(o.operation_id, o) for o in aggregate.operations),
        refunds=tuple(refunds.values()),
    )


def audit_of(held: Held, verdict: Verdict, source: Source) -> AuditRecord:
    """What one exchange with a provider came to, for the audit."""
    operation = held.operation
    return AuditRecord(
        audit_id=new_id("aud"),
        caller=held.caller,
        action=f"{operation.kind}.{source}",
        result=verdict.state,
        failure=verdict.failure or (verdict.decline.reason if verdict.decline else ""),
        provider=operation.provider,
        account_id=operation.account_id,
        payment_id=operation.payment_id,
        command_id=operation.command_id,
    )


def _operation(aggregate: Aggregate, operation_id: str) -> Operation:
    return next(operation for operation in aggregate.operations if operation.operation_id == operation_id)


def _words(verdict: Verdict) -> str:
    """The reply in words that can be kept: no secret is in a verdict but the next action's, which is left out."""
    snapshot = verdict.snapshot
    seen = f" {snapshot.provider_payment_id} {snapshot.facts}" if snapshot else ""
    return f"{verdict.state} sent={verdict.sent} {verdict.failure}{seen}"[:4_000]
