"""The engine: claim, call, settle. One mechanism for every command.

    claim    one transaction, before the provider hears of it: command, operation with its exact request, reservation
    call     one send, in a task of its own that no caller can cancel, never after `send_window_s`
    settle   one transaction: what the answer taught, or that it is UNKNOWN

Whatever goes wrong between claim and settle is found by recovery when the lease ends.
"""

import asyncio
from dataclasses import dataclass, replace

import structlog

from gateway.app.clock import SendWindow
from gateway.app.learning import Held, Learning
from gateway.app.leaving import failing_over
from gateway.app.replies import CommandReply, ReplyCodec
from gateway.app.settings import EngineSettings
from gateway.app.settling import view_of
from gateway.app.telemetry import Telemetry
from gateway.app.verdicts import Verdict, classify
from gateway.domain.commands import EXCLUSIVE_KINDS, Command, CommandKind, Operation
from gateway.domain.errors import Exhausted, ObolError, Reason, Sent, Unavailable
from gateway.domain.observations import Source
from gateway.domain.payments import LatestCommand, Payment, Refund
from gateway.domain.providers import Account, Admission, Ambiguous, Outcome
from gateway.domain.states import CommandState
from gateway.domain.storage import Aggregate, Claim, Claimed, ClaimOutcome, Entity, Store, Transition

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """A command that is ready to be claimed.

    `payment` is a new one (create); else `base` is the payment's aggregate as it was read, and `expected_version` the
    version that the claim depends on (None: only on its amount). `reopen` for a command that was NOT_SENT, `next_step`
    for a further operation of a command under way: with `payment` as well, it moves to that one's account; with
    `took_effect` the provider has carried it out already, and a restore has lost it. `restores_known`: up to which
    restore it was asked what is lost of a new payment.
    """

    command: Command
    operation: Operation
    account: Account
    payment: Payment | None = None
    base: Aggregate | None = None
    expected_version: int | None = None
    refund: Refund | None = None
    reopen: bool = False
    next_step: bool = False
    took_effect: bool = False
    restores_known: int = 0

    @property
    def is_of_new_payment(self) -> bool:
        """Whether the claim brings its payment into being."""
        return self.payment is not None and not (self.reopen or self.next_step)


@dataclass(frozen=True, slots=True)
class NothingSent:
    """The command provably had no effect, as is on record now with `payment`: the same key may try again."""

    verdict: Verdict
    payment: Payment


@dataclass(frozen=True, slots=True)
class FailsOver:
    """The account declined softly, and the command is not over: it may go on at another one (gateway.app.failover)."""

    aggregate: Aggregate


Key = tuple[str, str, str]
Landed = CommandReply | Claimed | NothingSent | FailsOver
"""What a flight comes to: a reply, what the claim came to where it was not CLAIMED, or that another try may follow."""


class Engine:
    """Carries plans out. One for a process."""

    def __init__(
        self, store: Store, learning: Learning, codec: ReplyCodec, telemetry: Telemetry, settings: EngineSettings
    ) -> None:
        self._store = store
        self._learning = learning
        self._codec = codec
        self._telemetry = telemetry
        self._settings = settings
        self._flights: dict[Key, asyncio.Task[Landed]] = {}

    async def submit(self, plan: Plan, admission: Admission) -> Landed:
        """Claim, call and settle `plan`.

        The work goes on when the caller is cancelled. Raises Exhausted(OVERLOADED) past `in_flight_max`, and
        Unavailable where the database was lost.
        """
        key = (plan.command.caller.tenant_id, plan.command.rpc, plan.command.idempotency_key)
        if len(self._flights) >= self._settings.in_flight_max or key in self._flights:
            admission.release()
            if key in self._flights:
                return Claimed(ClaimOutcome.KEY_TAKEN)
            raise Exhausted(
                Reason.OVERLOADED,
                f"{self._settings.in_flight_max} commands are in flight in this process; retry with backoff",
                safe_to_retry=True,
                retry_after_s=1.0,
            )
        task = asyncio.create_task(self._carry_out(plan, admission), name=f"flight {plan.operation.operation_id}")
        self._flights[key] = task
        task.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(task)

    def flight(self, key: Key) -> "asyncio.Task[Landed] | None":
        """The task that carries this key out in this process right now."""
        return self._flights.get(key)

    async def drain(self, timeout_s: float) -> int:
        """Wait for every flight to land; how many are still in the air after `timeout_s` (recovery takes those)."""
        if self._flights:
            await asyncio.wait(tuple(self._flights.values()), timeout=timeout_s)
        return len(self._flights)

    def _landed(self, key: Key, task: "asyncio.Task[Landed]") -> None:
        self._flights.pop(key, None)
        if not task.cancelled() and task.exception() is not None and not isinstance(task.exception(), ObolError):
            _log.error("flight failed", exc_info=task.exception())

    async def _carry_out(self, plan: Plan, admission: Admission) -> Landed:
        # The window opens before the claim is written, so that by any clock it ends before the lease does.
        window = SendWindow(self._settings.send_window_s)
        try:
            claimed = await self._claim(plan)
            if claimed.outcome is not ClaimOutcome.CLAIMED:
                return claimed
            held = held_after(plan, claimed)
            terms = (plan.payment or _base(plan).payment).terms
            outcome = await self.call(plan.account, held.operation, admission, window)
        finally:
            admission.release()
        verdict = classify(held.operation, terms, outcome, resend=False)
        return await self._answer(plan, held, verdict)

    async def take_up(self, plan: Plan) -> Claimed:
        """Claim what a provider has carried out already. Nothing is sent: it is due for recovery's look at once.

        Its operation says that it was sent, so that nothing concludes from absence and nothing is sent again.
        """
        sent = replace(plan.operation, sent=Sent.YES)
        return await self._claim(replace(plan, operation=sent, took_effect=True))

    async def _claim(self, plan: Plan) -> Claimed:
        operation, lasts = plan.operation, not plan.took_effect
        claim = Claim(
            command=plan.command,
            operation=operation,
            transitions=_opening(plan),
            lease_s=self._settings.lease_s if lasts else 0.0,
            send_window_s=self._settings.send_window_s if lasts else 0.0,
            payment=plan.payment,
            expected_version=plan.expected_version,
            refund=plan.refund,
            reopen=plan.reopen,
            next_step=plan.next_step,
            took_effect=plan.took_effect,
            restores_known=plan.restores_known if plan.is_of_new_payment else None,
        )
        try:
            return await self._store.claim(claim)
        except Unavailable as error:
            # The commit may have arrived: then recovery will find the claim, and may carry it out.
            raise Unavailable(
                Reason.DATABASE_UNAVAILABLE,
                "the database was lost while the command was recorded; repeat it with the same idempotency key",
                sent=Sent.MAYBE,
                safe_to_retry=True,
                retry_after_s=1.0,
            ) from error

    async def call(self, account: Account, operation: Operation, admission: Admission, window: SendWindow) -> Outcome:
        """Send the operation's exact request once, and report to the account's breaker how it went."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            outcome = await account.adapter.execute(
                operation.prepared, send_before=window.send_before(), timeout_s=self._settings.provider_timeout_s
            )
        except Exception as error:  # noqa: BLE001 whatever an adapter breaks with, the send may have happened
            _log.exception("adapter raised", provider=account.provider, operation_id=operation.operation_id)
            outcome = Ambiguous(f"adapter raised {type(error).__name__}")
        admission.report(outcome)
        kind = type(outcome).__name__
        self._telemetry.attempt(account.provider, account.account_id, operation.kind, kind, loop.time() - began)
        return outcome

    async def _answer(self, plan: Plan, held: Held, verdict: Verdict) -> Landed:
        try:
            settled = await self._learning.settle_held(held, verdict, Source.API_REPLY)
        except Unavailable as error:
            raise Unavailable(
                Reason.DATABASE_UNAVAILABLE,
                "the provider was called and the database was lost before its answer could be recorded; "
                "repeat the call with the same idempotency key to learn the outcome",
                sent=verdict.sent.at_least(Sent.MAYBE),
                safe_to_retry=True,
                retry_after_s=1.0,
            ) from error
        if settled is None:
            return Claimed(ClaimOutcome.KEY_TAKEN)  # somebody else settled it: answer what is stored
        command = next(c for c in settled.commands if c.command_id == plan.command.command_id)
        if command.state is CommandState.NOT_SENT:
            return NothingSent(verdict, settled.payment)
        if command.kind is CommandKind.CREATE and failing_over(settled.payment):
            return FailsOver(settled)
        return self.current(command, settled)

    def current(self, command: Command, aggregate: Aggregate) -> CommandReply:
        """How `command` stands in `aggregate`: its stored reply, or its view as of now."""
        now = next(each for each in aggregate.commands if each.command_id == command.command_id)
        return CommandReply(now.reply or self.encode(now, aggregate), replayed=False)

    def encode(self, command: Command, aggregate: Aggregate) -> bytes:
        """The command's current view as its reply's bytes."""
        return self._codec.encode(view_of(command, aggregate.operations, aggregate.payment, aggregate.refunds))


def not_sent(verdict: Verdict) -> Unavailable:
    """The error for a command that provably had no effect: the same key may try again."""
    return Unavailable(
        Reason.PROVIDER_NOT_EXECUTED if verdict.reached else Reason.PROVIDER_UNAVAILABLE,
        f"the provider did not carry the command out ({verdict.failure}); nothing happened: "
        "repeat it with the same idempotency key",
        sent=Sent.NO,
        safe_to_retry=True,
        retry_after_s=verdict.retry_after_s or 1.0,
    )


def held_after(plan: Plan, claimed: Claimed) -> Held:
    """The operation under its lease, and the aggregate as the claim left it where nobody else came between."""
    operation = replace(
        plan.operation,
        state=CommandState.SENDING,
        epoch=claimed.epoch,
        claimed_time_us=claimed.claimed_time_us,
        lease_until_us=claimed.lease_until_us,
        next_attempt_us=claimed.lease_until_us,
        last_send_us=claimed.last_send_us,
    )
    command = plan.command
    if plan.reopen or plan.next_step:
        return Held(operation, command.caller, None)
    if plan.payment is not None:
        payment = plan.payment
        if payment.version != claimed.version:
            payment = replace(payment, version=claimed.version)
        return Held(operation, command.caller, Aggregate(payment, (command,), (operation,), ()))
    base = _base(plan)
    if claimed.version != base.payment.version + 1:
        return Held(operation, command.caller, None)
    payment = base.payment
    payment = replace(
        payment,
        version=claimed.version,
        busy_command_id=command.command_id if command.kind in EXCLUSIVE_KINDS else payment.busy_command_id,
        latest_command=LatestCommand(command.command_id, command.kind, command.state),
    )
    refunds = (*base.refunds, plan.refund) if plan.refund else base.refunds
    return Held(
        operation,
        command.caller,
        Aggregate(payment, (*base.commands, command), (*base.operations, operation), refunds),
    )


def _base(plan: Plan) -> Aggregate:
    if plan.base is None:
        raise LookupError("a plan has a new payment or the aggregate of one that exists")
    return plan.base


def _opening(plan: Plan) -> tuple[Transition, ...]:
    before = CommandState.NOT_SENT if plan.reopen else ""
    edges = [Transition(Entity.OPERATION, plan.operation.operation_id, before, CommandState.SENDING)]
    if not plan.next_step:
        edges.insert(0, Transition(Entity.COMMAND, plan.command.command_id, before, CommandState.SENDING))
    elif plan.took_effect and plan.command.state is CommandState.NOT_SENT:
        # A restore took it back to where nothing was sent; something was, by the step that is taken up.
        edges.insert(0, Transition(Entity.COMMAND, plan.command.command_id, plan.command.state, CommandState.SENDING))
    if plan.is_of_new_payment and plan.payment is not None:
        edges.insert(0, Transition(Entity.PAYMENT, plan.payment.payment_id, "", plan.payment.state))
    if plan.refund is not None:
        edges.append(Transition(Entity.REFUND, plan.refund.refund_id, before, CommandState.SENDING))
    return tuple(edges)
