"""The commands: create, confirm, complete, capture, adjust, cancel, refund, sync, each a straight line to the engine.

Every command: plan (which needs the payment as it stands), admit, claim, call, settle, reply. A refusal on the way
first looks whether the key was used before, since a stored reply outranks it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog

from gateway.app.adjusting import plan_adjust
from gateway.app.admitting import admit, check_not_lost, check_room
from gateway.app.clock import Clock
from gateway.app.completing import completion_of
from gateway.app.engine import Engine, FailsOver, NothingSent, Plan, not_sent
from gateway.app.failover import Failover
from gateway.app.identity import Identity, Wish, identity_of
from gateway.app.learning import Learning
from gateway.app.leaving import SYSTEM_KEY_PREFIX, failover_key, last_operation
from gateway.app.modes import Modes
from gateway.app.patience import Patience
from gateway.app.planning import (
    plan_cancel,
    plan_capture,
    plan_complete,
    plan_confirm,
    plan_create,
    plan_create_again,
    plan_refund,
)
from gateway.app.reading import Reading
from gateway.app.recording import as_recorded
from gateway.app.replays import Reopen, Replays
from gateway.app.replies import CommandReply
from gateway.app.requests import (
    AdjustAuthorization,
    CancelPayment,
    CapturePayment,
    CommandRequest,
    ConfirmPayment,
    CreatePayment,
    RefundPayment,
    check_id,
    request_hash,
)
from gateway.app.restored import RESTORED, as_known, refusal_told
from gateway.app.routing import Itinerary, Router, no_account
from gateway.app.settings import EngineSettings
from gateway.app.telemetry import Telemetry
from gateway.domain.commands import Caller, CommandKind
from gateway.domain.errors import (
    Busy,
    Conflict,
    DeadlineTooShort,
    InvalidRequest,
    NotFound,
    ObolError,
    Precondition,
    Reason,
)
from gateway.domain.payments import Payment
from gateway.domain.providers import Account, Accounts
from gateway.domain.storage import Aggregate, Claimed, ClaimOutcome, Store

CLAIM_TRIES_MAX = 16
HURRIED_WAIT_S = 0.1

Planner = Callable[[Wish, Aggregate, Account, Identity], Plan]

_log = structlog.get_logger(__name__)


class Commands:
    """The use cases behind the commands of PaymentGateway; every method may be called concurrently."""

    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        engine: Engine,
        replays: Replays,
        learning: Learning,
        reading: Reading,
        telemetry: Telemetry,
        settings: EngineSettings,
        clock: Clock,
        router: Router,
        modes: Modes,
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._router = router
        self._modes = modes
        self._engine = engine
        self._replays = replays
        self._reading = reading
        self._telemetry = telemetry
        self._settings = settings
        self._was_restored = False
        self._clock = clock
        self.failover = Failover(
            store,
            accounts,
            engine,
            learning,
            reading,
            modes,
            settings,
            clock,
            cancel=self.cancel_declined,
            telemetry=telemetry,
        )

    async def create(self, caller: Caller, request: CreatePayment, deadline_s: float | None) -> CommandReply:
        """Make a payment. Raises ObolError as the contract says."""
        wish = self._wish(caller, "CreatePayment", CommandKind.CREATE, request)
        itinerary = self._router.itinerary(caller, request)

        async def plan() -> Plan:
            account = itinerary.account()
            return plan_create(wish, request, account, identity_of(wish), itinerary.route(wish.now_us))

        def again(wish: Wish, base: Aggregate, _: Account, identity: Identity) -> Plan:
            account = itinerary.account_again(base.payment)
            return plan_create_again(wish, base, account, identity, itinerary.route(wish.now_us, base.payment.route))

        return await self._run(wish, plan, again, deadline_s, itinerary)

    async def confirm(self, caller: Caller, request: ConfirmPayment, deadline_s: float | None) -> CommandReply:
        """Confirm a payment. Raises ObolError as the contract says."""
        wish = self._wish(caller, "ConfirmPayment", CommandKind.CONFIRM, request)
        return await self._run_on(
            wish, request.payment_id, lambda w, base, a, i: plan_confirm(w, request, base, a, i), deadline_s
        )

    async def capture(self, caller: Caller, request: CapturePayment, deadline_s: float | None) -> CommandReply:
        """Capture what is held. Raises ObolError as the contract says."""
        wish = self._wish(caller, "CapturePayment", CommandKind.CAPTURE, request)
        return await self._run_on(
            wish,
            request.payment_id,
            lambda w, base, a, i: plan_capture(w, as_recorded(request, base, i), base, a, i),
            deadline_s,
        )

    async def adjust(self, caller: Caller, request: AdjustAuthorization, deadline_s: float | None) -> CommandReply:
        """Raise what is held, or make it valid anew. Raises ObolError as the contract says."""
        wish = self._wish(caller, "AdjustAuthorization", CommandKind.ADJUST, request)
        return await self._run_on(
            wish,
            request.payment_id,
            lambda w, base, a, i: plan_adjust(w, as_recorded(request, base, i), base, a, i),
            deadline_s,
        )

    async def cancel(self, caller: Caller, request: CancelPayment, deadline_s: float | None) -> CommandReply:
        """Cancel a payment. Raises ObolError as the contract says."""
        wish = self._wish(caller, "CancelPayment", CommandKind.CANCEL, request)
        return await self._run_on(
            wish, request.payment_id, lambda w, base, a, i: plan_cancel(w, request, base, a, i), deadline_s
        )

    async def refund(self, caller: Caller, request: RefundPayment, deadline_s: float | None) -> CommandReply:
        """Refund captured money. Raises ObolError as the contract says."""
        wish = self._wish(caller, "RefundPayment", CommandKind.REFUND, request)
        return await self._run_on(
            wish,
            request.payment_id,
            lambda w, base, a, i: plan_refund(w, as_recorded(request, base, i), base, a, i),
            deadline_s,
        )

    async def sync(self, caller: Caller, payment_id: str, deadline_s: float | None) -> Payment:
        """Ask the provider how the payment stands, and apply it. Raises NotFound, DeadlineTooShort, Unavailable."""
        check_id("payment_id", payment_id)
        self._check_deadline(deadline_s)
        synced = await self._reading.sync(caller, payment_id)
        if not synced.completion_due:
            return synced.payment
        try:
            await self.complete(caller.tenant_id, payment_id)
        except ObolError as error:
            # What was read stands; the completion is recovery's and the next event's to try again.
            _log.warning("completion put off", payment_id=payment_id, reason=error.reason)
        return await self._store.get_payment(caller.tenant_id, payment_id) or synced.payment

    async def complete(self, tenant_id: str, payment_id: str) -> None:
        """Complete what the payer has approved, in the gateway's own name; nothing where that is done or under way.

        Raises ObolError where it provably was not sent, or is lost in a restore: whoever saw that it is due comes
        again, under the same key, or leaves it for a person to see.
        """
        base = await self._store.load(tenant_id, payment_id)
        if base is None:
            return
        wish = completion_of(base, self._clock.now_us())
        if wish is None:
            return
        try:
            await self._run_on(wish, payment_id, plan_complete, None)
        except Precondition as overtaken:
            # Only that it is done: whatever else forbids it leaves an approved payment that nobody completes.
            if overtaken.reason is not Reason.PAYMENT_NOT_CONFIRMABLE:
                raise
            _log.info("completion not needed", payment_id=payment_id, reason=overtaken.reason)

    async def cancel_abandoned(self, tenant_id: str, payment_id: str) -> None:
        """Cancel a payment whose action nobody finished, in the gateway's own name; a refusal is recovery's to see."""
        payment = await self._store.get_payment(tenant_id, payment_id)
        if payment is None:
            return
        caller = Caller(tenant_id, payment.organization_id, "system:expiry", payment.correlation_id)
        key = f"{SYSTEM_KEY_PREFIX}expiry:{payment_id}:{payment.version}"
        await self._cancel_as(caller, key, payment_id, "abandoned")

    async def cancel_declined(self, tenant_id: str, payment_id: str, operation_id: str) -> None:
        """Cancel the object of an account that a failover leaves, once, whoever asks how often."""
        payment = await self._store.get_payment(tenant_id, payment_id)
        if payment is not None:
            caller = Caller(tenant_id, payment.organization_id, "system:failover", payment.correlation_id)
            await self._cancel_as(caller, failover_key(operation_id), payment_id, "declined")

    async def _cancel_as(self, caller: Caller, key: str, payment_id: str, reason: str) -> None:
        """A cancellation in the gateway's own name, under a key that no caller can send."""
        request = CancelPayment(key, payment_id, reason=reason)
        wish = replace(
            self._wish(caller, "CancelPayment", CommandKind.CANCEL, replace(request, idempotency_key="own")),
            idempotency_key=request.idempotency_key,
        )
        await self._run_on(wish, payment_id, lambda w, base, a, i: plan_cancel(w, request, base, a, i), None)

    def _wish(self, caller: Caller, rpc: str, kind: CommandKind, request: CommandRequest) -> Wish:
        if request.idempotency_key.startswith(SYSTEM_KEY_PREFIX):
            raise InvalidRequest(
                Reason.IDEMPOTENCY_KEY_INVALID,
                f"idempotency_key must not begin with {SYSTEM_KEY_PREFIX!r}, which is the gateway's own",
                field="idempotency_key",
            )
        return Wish(caller, rpc, kind, request.idempotency_key, request_hash(request), self._clock.now_us())

    async def _run_on(self, wish: Wish, payment_id: str, planner: Planner, deadline_s: float | None) -> CommandReply:
        async def plan() -> Plan:
            base = await self._store.load(wish.caller.tenant_id, payment_id)
            if base is None:
                raise no_payment(payment_id)
            return planner(wish, base, self._account_of(base), identity_of(wish, payment_id))

        return await self._run(wish, plan, planner, deadline_s)

    async def _run(
        self,
        wish: Wish,
        plan: Callable[[], Awaitable[Plan]],
        planner: Planner,
        deadline_s: float | None,
        itinerary: Itinerary | None = None,
    ) -> CommandReply:
        key = (wish.caller.tenant_id, wish.rpc, wish.idempotency_key)
        patience = Patience(deadline_s, self._settings)
        reopen: Reopen | None = None
        is_unlooked = self._was_restored
        for _ in range(CLAIM_TRIES_MAX):
            try:
                planned = await plan() if reopen is None else await self._plan_again(wish, reopen, planner)
                check_not_lost(planned)
                # The first call of a create whose account rules did not choose asks only where its claim says so.
                if itinerary is not None and (is_unlooked or reopen is not None or itinerary.chosen_by_rules):
                    waits = reopen is not None or itinerary.may_be_elsewhere
                    planned = await as_known(self._store, self._accounts, wish, planned, waits=waits)
                check_room(planned)
                self._check_deadline(patience.left_s())
                self._modes.check(planned.account, new_payment=wish.kind is CommandKind.CREATE)
                admission = await admit(planned.account, self._wait_s(itinerary))
            except ObolError as refusal:
                if itinerary is not None and itinerary.refused(refusal):
                    continue
                if await patience.waits_out(refusal):
                    continue
                if reopen is None:
                    found = await self._replays.find(key, wish.request_hash, patience.left_s())
                    if isinstance(found, CommandReply):
                        return found
                    if isinstance(found, Reopen) and _worth_reopening(refusal):
                        reopen = found
                        continue
                self._telemetry.refusal(wish.rpc, refusal.reason)
                raise
            submitted = await self._engine.submit(planned, admission)
            if isinstance(submitted, FailsOver):
                submitted = await self.failover.carry_on(planned.command, submitted.aggregate, patience)
            match submitted:
                case CommandReply() as reply:
                    return reply
                case NothingSent(verdict=verdict, payment=payment):
                    goes_on = itinerary is not None and patience.has_time() and itinerary.not_sent(payment, verdict)
                    if goes_on:
                        self._telemetry.failover(payment.account_id, "NOT_SENT")
                    if not goes_on and not await patience.waits(verdict.retry_after_s):
                        raise not_sent(verdict)
                    reopen = reopen or Reopen(planned.command)  # as its first caller asked, to the byte
                case Claimed(outcome=outcome, holder_payment_id=holder):
                    if outcome is ClaimOutcome.REFUSED:
                        continue
                    if outcome in RESTORED:
                        is_unlooked = planned.is_of_new_payment
                        self._was_restored = self._was_restored or is_unlooked
                        await self._after_restore(wish, planned, outcome)
                        continue
                    # An order may be held by this very key, which another call has just claimed.
                    found = await self._replays.find(key, wish.request_hash, patience.left_s())
                    if isinstance(found, CommandReply):
                        return found
                    if found is None and outcome is ClaimOutcome.ORDER_TAKEN:
                        raise _order_taken(planned, holder)
                    reopen = found
        raise Busy(
            Reason.CONTENTION,
            "the payment is changing too fast to claim; nothing was sent, repeat the call",
            safe_to_retry=True,
            retry_after_s=1.0,
        )

    async def _after_restore(self, wish: Wish, planned: Plan, outcome: ClaimOutcome) -> None:
        """Bring a payment from before a restore up to date, so that it is planned again; or raise the refusal.

        A new payment is planned again as well, and what was lost of it is looked for then.
        """
        try:
            if outcome is not ClaimOutcome.UNREAD_SINCE_RESTORE:
                raise await refusal_told(self._store, planned, outcome)
            if not planned.is_of_new_payment:
                await self._reading.catch_up(wish.caller, planned.command.payment_id)
        except ObolError as refusal:
            self._telemetry.refusal(wish.rpc, refusal.reason)
            raise

    async def _plan_again(self, wish: Wish, reopen: Reopen, planner: Planner) -> Plan:
        """The plan of a NOT_SENT command under its own ids."""
        command = reopen.command
        base = await self._store.load(wish.caller.tenant_id, command.payment_id)
        if base is None:
            raise no_payment(command.payment_id)
        operation = last_operation(command.command_id, base.operations)
        identity = Identity(
            command.command_id,
            operation.operation_id,
            command.payment_id,
            command.refund_id or "",
            reopen=True,
            step=operation.step,
            caller=command.caller,
        )
        return planner(wish, base, self._account_of(base), identity)

    def _wait_s(self, itinerary: Itinerary | None) -> float:
        wait_s = self._settings.admission_wait_s
        # Where another account would be asked next, little is waited for this one.
        return min(wait_s, HURRIED_WAIT_S) if itinerary is not None and itinerary.has_more() else wait_s

    def _account_of(self, base: Aggregate) -> Account:
        account = self._accounts.get(base.payment.account_id)
        if account is None:
            raise no_account(base.payment.account_id)
        return account

    def _check_deadline(self, deadline_s: float | None) -> None:
        if deadline_s is not None and deadline_s < self._settings.deadline_s_min:
            raise DeadlineTooShort(
                Reason.DEADLINE_TOO_SHORT,
                f"the deadline leaves {deadline_s:.3f} s and a provider needs {self._settings.deadline_s_min:.3f} s "
                "at least; nothing was sent, repeat the call with a longer deadline",
                safe_to_retry=True,
            )


def no_payment(payment_id: str) -> NotFound:
    """The error for a payment that is not there, or another tenant's: the two look alike."""
    return NotFound(Reason.PAYMENT_NOT_FOUND, f"there is no payment {payment_id} for this tenant", field="payment_id")


def _order_taken(planned: Plan, holder_payment_id: str) -> Conflict:
    order = planned.payment.terms.order_reference if planned.payment else ""
    return Conflict(
        Reason.ORDER_REFERENCE_TAKEN,
        f"order {order} was declared unique and has payment {holder_payment_id}; read or confirm that one",
        field="order_reference",
        details={"payment_id": holder_payment_id},
    )


def _worth_reopening(refusal: ObolError) -> bool:
    # A NOT_SENT command is tried again only where the refusal came of planning it as a new one.
    return isinstance(refusal, Conflict | Precondition)
