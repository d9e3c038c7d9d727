"""Carrying a payment from an account that declined it softly to the next one, step by step, each step on record.

    decline    settled: the create stays open, `Route.failing_over`, and a time by which somebody looks after it
    cancel     a command of the gateway's own at the declining account, under one key however often it is begun
    confirmed  the facts show every object there CANCELLED, and no money
    next       a further operation of the same create, claimed at the next account that admits it

Whoever comes first does the next step: the call that began it while its caller waits, else the loop of any process.
Each step depends on the payment's version, so that two of them never send twice. What cannot go on ends with the
decline.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog

from gateway.app.clock import Clock, new_id
from gateway.app.elsewhere import awaited
from gateway.app.engine import Engine, FailsOver, NothingSent, Plan
from gateway.app.identity import LOST_STEPS_MAX, Identity, Wish, operation_id_of
from gateway.app.learning import Learning
from gateway.app.leaving import cancelled_at, failing_over, failover_key, last_operation, open_at
from gateway.app.modes import Modes
from gateway.app.patience import Patience
from gateway.app.planning import plan_create_again
from gateway.app.reading import Reading
from gateway.app.replies import CommandReply
from gateway.app.restored import RESTORED
from gateway.app.routing import no_account
from gateway.app.settings import EngineSettings
from gateway.app.settling import Lesson
from gateway.app.telemetry import Telemetry
from gateway.domain.commands import Command, CommandKind, Operation
from gateway.domain.declines import is_soft
from gateway.domain.errors import (
    Exhausted,
    InvalidRequest,
    NotFound,
    ObolError,
    Precondition,
    Reason,
    Sent,
    Unavailable,
)
from gateway.domain.observations import Source
from gateway.domain.payments import Payment
from gateway.domain.providers import Account, Accounts, AdmissionRefused
from gateway.domain.routes import AttemptOutcome, FailoverOn, Route
from gateway.domain.states import CommandState
from gateway.domain.storage import Aggregate, AuditRecord, Claimed, ClaimOutcome, Store

FAILOVER_POLL_S = 5.0
FAILOVER_BATCH = 16
FAILOVER_RETRY_S = 30.0
FAILOVER_S_MAX = 600.0
"""A failover that has not come to its next account by then ends with the decline: the payer is long gone."""

STEPS_MAX = 32

PAUSE_S = 0.25
TIMED_OUT = "the failover took too long"
BEFORE_RESTORE = "claimed before a restore of the database: nothing goes on of its own accord"

_log = structlog.get_logger(__name__)

CancelAtLeft = Callable[[str, str, str], Awaitable[None]]
"""(tenant, payment, operation that was declined): cancel the payment's object, in the gateway's own name."""


class Failover:
    """Brings failovers to their end. Safe to run for one payment in several places at once."""

    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        engine: Engine,
        learning: Learning,
        reading: Reading,
        modes: Modes,
        settings: EngineSettings,
        clock: Clock,
        cancel: CancelAtLeft,
        telemetry: Telemetry,
    ) -> None:
        self._telemetry = telemetry
        self._store = store
        self._accounts = accounts
        self._engine = engine
        self._learning = learning
        self._reading = reading
        self._modes = modes
        self._settings = settings
        self._clock = clock
        self._cancel = cancel

    async def run_once(self) -> int:
        """Take up failovers that nobody has brought to their end; how many."""
        due = await self._store.take_failovers(limit=FAILOVER_BATCH, retry_s=FAILOVER_RETRY_S)
        await asyncio.gather(*(self._look_after(tenant_id, payment_id) for tenant_id, payment_id in due))
        return len(due)

    async def carry_on(self, command: Command, aggregate: Aggregate, patience: Patience) -> CommandReply | NothingSent:
        """Go on while the caller waits; its reply, or the command's view as of now where the deadline comes first."""
        try:
            # What is cut short here is on record, and every call to a provider goes on in a task of its own.
            async with asyncio.timeout(patience.ends_in_s()):
                while failing_over(aggregate.payment):
                    result = await self._step(aggregate)
                    if isinstance(result, CommandReply | NothingSent):
                        return result
                    if result is aggregate:
                        # Nothing can be done at once: the cancellation is under way, or no account admits it.
                        await asyncio.sleep(PAUSE_S)
                    aggregate = await self._load(aggregate)
        except TimeoutError:
            aggregate = await self._load(aggregate)
        except Unavailable as error:
            raise Unavailable(
                Reason.DATABASE_UNAVAILABLE,
                "the first provider declined and the database was lost on the way to the next one; "
                "repeat the call with the same idempotency key to learn the outcome",
                sent=Sent.MAYBE,
                safe_to_retry=True,
                retry_after_s=1.0,
            ) from error
        return self._engine.current(command, aggregate)

    async def _look_after(self, tenant_id: str, payment_id: str) -> None:
        try:
            aggregate = await self._store.load(tenant_id, payment_id)
            for _ in range(STEPS_MAX):
                if aggregate is None or not failing_over(aggregate.payment):
                    return
                result = await self._step(aggregate)
                if isinstance(result, CommandReply | NothingSent) or result is aggregate:
                    return
                aggregate = await self._load(result)
        except ObolError as error:
            # It is due again soon.
            _log.warning("failover interrupted", payment_id=payment_id, reason=error.reason)
        except Exception:  # noqa: BLE001 one payment that breaks us must not hold up the others
            _log.exception("failover failed", payment_id=payment_id)

    async def _step(self, aggregate: Aggregate) -> CommandReply | NothingSent | Aggregate:
        """One step; what the create came to, or the aggregate: the same one where there was nothing to do now."""
        payment = aggregate.payment
        command = next(each for each in aggregate.commands if each.kind is CommandKind.CREATE)
        declined = last_operation(command.command_id, aggregate.operations)
        if await self._waits_for_restore(payment):
            return aggregate
        if (taken_up := await self._take_up(aggregate, command, declined)) is not None:
            return taken_up
        if command.state is not CommandState.SENDING or not is_soft(declined.decline):
            # Only a restore's doubt has held it: nothing had gone on, and nothing may go on now.
            return await self._end(aggregate, declined, "nothing of it was lost")
        if await self._store.declared_since(_first_claim_us(command, aggregate)):
            # Its caller may have been told of the decline in the time that was lost, and have paid otherwise since.
            return await self._end(aggregate, declined, BEFORE_RESTORE)
        if self._is_too_late(payment.route):
            return await self._end(aggregate, declined, TIMED_OUT)
        if cancelled_at(payment.facts, declined.account_id):
            return await self._go_on(aggregate, command, declined)
        if not open_at(payment.facts, declined.account_id):
            return await self._end(aggregate, declined, "the declining account's object ended otherwise")
        try:
            await self._cancel(payment.tenant_id, payment.payment_id, declined.operation_id)
        except ObolError as error:
            _log.info("the declining account is not cancelled yet", payment_id=payment.payment_id, reason=error.reason)
        after = await self._load(aggregate)
        if cancelled_at(after.payment.facts, declined.account_id) or not failing_over(after.payment):
            return after
        key = failover_key(declined.operation_id)
        if any(each.idempotency_key == key and each.state is CommandState.FAILED for each in after.commands):
            ended = await self._end(after, declined, "the declining account refused to cancel")
            return aggregate if ended is after else ended
        return aggregate

    async def _take_up(self, aggregate: Aggregate, command: Command, declined: Operation) -> Aggregate | None:
        """Take up the last step that a restore has lost, as sent; None where none was. The same aggregate: not now.

        What a provider carried out is looked for at every account by then. The money can only be at the last step's:
        the payment had left the accounts of the others.
        """
        payment = aggregate.payment
        route = payment.route
        assert route is not None
        wish = wish_of(command)
        # Not as many as the route has accounts: one that was tried again in the lost time had another.
        last = max(len(route.candidates), LOST_STEPS_MAX)
        steps = {operation_id_of(wish, step): step for step in range(declined.step + 1, last + 1)}
        lost = await self._store.lost_steps(payment.tenant_id, list(steps))
        if not lost:
            return None
        if not await self._store.has_lost(payment.tenant_id, payment.payment_id):
            return await self._end(aggregate, declined, "the step that a restore lost was undone, as two operators say")
        in_order = sorted(lost, key=lambda each: steps[each])
        now_us = self._clock.now_us()
        for operation_id in in_order[:-1]:
            route = route.declined_by(lost[operation_id][0], "left in the time that a restore lost", now_us)
        account_id, provider_payment_id = lost[in_order[-1]]
        account = self._accounts.get(account_id)
        try:
            if account is None:
                raise no_account(account_id)
            moved = _moved_on(route, account_id, now_us)
            plan = plan_lost_step(command, aggregate, account, steps[in_order[-1]], moved)
        except NotFound as refused:
            _log.error(
                "a lost step cannot be taken up: configure its account again, or settle it UNDONE with `obol lost`",
                payment_id=payment.payment_id,
                why=str(refused),
            )
            return aggregate
        plan = replace(plan, operation=replace(plan.operation, provider_payment_id=provider_payment_id))
        claimed = await self._engine.take_up(plan)
        if claimed.outcome is ClaimOutcome.UNREAD_SINCE_RESTORE:
            await self._reading.catch_up(command.caller, payment.payment_id)
        elif claimed.outcome is ClaimOutcome.CLAIMED:
            _log.warning("lost step taken up", payment_id=payment.payment_id, account_id=account_id)
        else:
            after = await self._load(aggregate)
            # Refused although nothing has changed: not again at once.
            return after if after.payment.version != payment.version else aggregate
        return await self._load(aggregate)

    async def _waits_for_restore(self, payment: Payment) -> bool:
        """Whether a restore leaves open at some account whether the payment had gone on there."""
        candidates = payment.route.candidates if payment.route is not None else ()
        # Also where its rules do not lead now: in the time that was lost they may have been others.
        account_id = await awaited(self._store, {*candidates, *(each.account_id for each in self._accounts.all())})
        if account_id:
            _log.warning("failover waits for a reconciliation", payment_id=payment.payment_id, account_id=account_id)
        return bool(account_id)

    async def _go_on(
        self, aggregate: Aggregate, command: Command, declined: Operation
    ) -> CommandReply | NothingSent | Aggregate:
        """Claim the next step at the first account that admits it, and send it."""
        route = aggregate.payment.route
        assert route is not None
        passed: set[str] = set()
        able = False
        while (account_id := _next(route, passed)) is not None:
            passed.add(account_id)
            account = self._accounts.get(account_id)
            if account is None:
                continue
            now_us = self._clock.now_us()
            try:
                moved = _moved_on(route, account_id, now_us)
                plan = plan_next_step(command, aggregate, account, declined.step + 1, moved)
                able = True
                self._modes.check(account, new_payment=True)
                admission = await account.admit(wait_s=self._settings.admission_wait_s)
            except (Precondition, InvalidRequest, Unavailable, AdmissionRefused) as refused:
                _log.info("failover passes an account", account_id=account_id, why=str(refused))
                route = route.ended_at(account_id, AttemptOutcome.REFUSED, str(refused), now_us)
                continue
            try:
                submitted = await self._engine.submit(plan, admission)
            except Exhausted:
                return aggregate  # this process is full: again later, or elsewhere
            match submitted:
                case CommandReply() | NothingSent() as result:
                    self._telemetry.failover(declined.account_id, "DECLINED")
                    return result
                case FailsOver(aggregate=after):
                    return after
                case Claimed(outcome=ClaimOutcome.UNREAD_SINCE_RESTORE):
                    await self._reading.catch_up(command.caller, command.payment_id)
                    return await self._load(aggregate)
                case Claimed(outcome=outcome) if outcome in RESTORED:
                    _log.warning(
                        "failover held back", payment_id=command.payment_id, account_id=account_id, why=outcome
                    )
                    return aggregate
                case Claimed(outcome=outcome):
                    # The payment has moved on, by somebody else's step or by news of the provider's.
                    assert outcome is not ClaimOutcome.CLAIMED
                    return await self._load(aggregate)
        return aggregate if able else await self._end(aggregate, declined, "no account is left that can take it")

    async def _end(self, aggregate: Aggregate, declined: Operation, why: str) -> Aggregate:
        """The payment stays where it was declined, and the create ends with that decline.

        Not while a restore leaves open whether it had gone on to another account: then the same aggregate comes back.
        """
        payment = aggregate.payment
        lost = await self._store.has_lost(payment.tenant_id, payment.payment_id)
        if lost or await self._waits_for_restore(payment):
            _log.warning("failover is not ended", payment_id=declined.payment_id, why=why)
            return aggregate
        command = next(each for each in aggregate.commands if each.kind is CommandKind.CREATE)
        audit = AuditRecord(
            audit_id=new_id("aud"),
            caller=command.caller,
            action="FAILOVER",
            result="ENDED",
            failure=why,
            provider=declined.provider,
            account_id=declined.account_id,
            payment_id=declined.payment_id,
            command_id=command.command_id,
        )
        self._telemetry.failover(declined.account_id, "ENDED")
        lesson = Lesson(Source.RECOVERY, declined.operation_id, ends_failover=why, audit=(audit,))
        settled = await self._learning.settle_read(aggregate, lesson)
        return settled if settled is not None else await self._load(aggregate)

    def _is_too_late(self, route: Route | None) -> bool:
        declines = [each.time_us for each in route.attempts if each.outcome is AttemptOutcome.DECLINED] if route else []
        return not declines or self._clock.now_us() - declines[-1] > FAILOVER_S_MAX * 1_000_000

    async def _load(self, aggregate: Aggregate) -> Aggregate:
        payment = aggregate.payment
        found = await self._store.load(payment.tenant_id, payment.payment_id)
        if found is None:
            raise LookupError(f"payment {payment.payment_id} of a failover is gone")
        return found


def wish_of(command: Command) -> Wish:
    """What was asked for, by the command that it became."""
    return Wish(
        command.caller,
        command.rpc,
        command.kind,
        command.idempotency_key,
        command.request_hash,
        command.created_time_us,
    )


def plan_next_step(command: Command, base: Aggregate, account: Account, step: int, route: Route) -> Plan:
    """A further try of a create at `account`, after the former account's object was confirmed cancelled.

    Raises Precondition and InvalidRequest for what the account cannot take.
    """
    wish = wish_of(command)
    identity = Identity(command.command_id, operation_id_of(wish, step), command.payment_id, "", step=step)
    plan = plan_create_again(wish, base, account, identity, route)
    assert plan.payment is not None
    moved = replace(plan.payment, provider_payment_id=None)
    return replace(plan, command=command, payment=moved, reopen=False, next_step=True)


def plan_lost_step(command: Command, base: Aggregate, account: Account, step: int, route: Route) -> Plan:
    """The step as the account would take it now; where it would not, with the request of the step before.

    Nothing is sent of it either way: the provider has carried it out, and recovery or a person must be able to end it.
    """
    try:
        return plan_next_step(command, base, account, step, route)
    except (Precondition, InvalidRequest) as refused:
        _log.warning("a lost step's account would not take it now", payment_id=command.payment_id, why=str(refused))
    before = last_operation(command.command_id, base.operations)
    operation = replace(
        before,
        operation_id=operation_id_of(wish_of(command), step),
        step=step,
        provider=account.provider,
        account_id=account.account_id,
        state=CommandState.SENDING,
        recoveries=0,
        provider_payment_id=None,
        provider_result_id=None,
        decline=None,
        failure="",
    )
    moved = replace(
        base.payment, provider=account.provider, account_id=account.account_id, route=route, provider_payment_id=None
    )
    version = base.payment.version
    return Plan(command, operation, account, payment=moved, base=base, expected_version=version, next_step=True)


def _moved_on(route: Route, account_id: str, now_us: int) -> Route:
    return replace(route.ended_at(account_id, AttemptOutcome.CHOSEN, "", now_us), failing_over=False)


def _first_claim_us(command: Command, aggregate: Aggregate) -> int:
    return min(each.claimed_time_us for each in aggregate.operations if each.command_id == command.command_id)


def _next(route: Route, passed: set[str]) -> str | None:
    # Also where only a restore's doubt has held the payment, and its rule would never have let it go.
    if route.next_account(FailoverOn.SOFT_DECLINE, ()) is None:
        return None
    return next((each for each in route.candidates if each not in passed and each not in route.left), None)
