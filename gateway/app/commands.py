"""The commands: create, confirm, complete, capture, cancel, refund and sync, each one straight line to the engine.

Every command: plan (which needs the payment as it stands), admit, claim, call, settle, reply. A refusal on the way
first looks whether the key was used before, since a stored reply outranks it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import structlog

from gateway.app.clock import Clock
from gateway.app.engine import Engine, Plan
from gateway.app.planning import (
    Identity,
    Wish,
    fresh_identity,
    plan_cancel,
    plan_capture,
    plan_complete,
    plan_confirm,
    plan_create,
    plan_create_again,
    plan_refund,
)
from gateway.app.reading import Reading
from gateway.app.replays import Reopen, Replays
from gateway.app.replies import CommandReply
from gateway.app.requests import (
    CancelPayment,
    CapturePayment,
    CommandRequest,
    CompletePayment,
    ConfirmPayment,
    CreatePayment,
    RefundPayment,
    check_id,
    request_hash,
)
from gateway.app.settings import EngineSettings
from gateway.app.telemetry import Telemetry
from gateway.domain.commands import EXCLUSIVE_KINDS, Caller, CommandKind
from gateway.domain.errors import (
    Busy,
    Conflict,
    DeadlineTooShort,
    Exhausted,
    InvalidRequest,
    NotFound,
    ObolError,
    Precondition,
    Reason,
    Unavailable,
)
from gateway.domain.payments import Payment
from gateway.domain.providers import Account, Accounts, Admission, AdmissionRefused
from gateway.domain.states import FINAL_COMMAND_STATES, CommandState, PaymentState
from gateway.domain.storage import COMMANDS_PER_PAYMENT_MAX, Aggregate, ClaimOutcome, Store

CLAIM_TRIES_MAX = 8
COMPLETIONS_MAX = 5
SYSTEM_KEY_PREFIX = "system:"

Planner = Callable[[Wish, Aggregate, Account, Identity], Plan]

_NOT_SENT = CommandState.NOT_SENT
_log = structlog.get_logger(__name__)


class Commands:
    """The use cases behind the commands of PaymentGateway; every method may be called concurrently."""

    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        engine: Engine,
        replays: Replays,
        reading: Reading,
        telemetry: Telemetry,
        settings: EngineSettings,
        clock: Clock,
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._engine = engine
        self._replays = replays
        self._reading = reading
        self._telemetry = telemetry
        self._settings = settings
        self._clock = clock

    async def create(self, caller: Caller, request: CreatePayment, deadline_s: float | None) -> CommandReply:
        """Make a payment. Raises ObolError as the contract says."""
        wish = self._wish(caller, "CreatePayment", CommandKind.CREATE, request)

        async def plan() -> Plan:
            account = self._accounts.route(provider=request.provider, account_id=request.account_id)
            if account is None:
                raise _no_account(request.provider, request.account_id)
            return plan_create(wish, request, account, fresh_identity())

        return await self._run(wish, plan, plan_create_again, deadline_s)

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
            lambda w, base, a, i: plan_capture(w, _as_recorded(request, base, i), base, a, i),
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
            lambda w, base, a, i: plan_refund(w, _as_recorded(request, base, i), base, a, i),
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

        At most COMPLETIONS_MAX for a payment: after that many declines it waits for a person. Raises ObolError where
        it provably was not sent: whoever saw that it is due comes again, under the same key.
        """
        base = await self._store.load(tenant_id, payment_id)
        if base is None:
            return
        made = [c.state for c in base.commands if c.kind is CommandKind.COMPLETE and c.state is not _NOT_SENT]
        if base.payment.state is not PaymentState.REQUIRES_ACTION or not FINAL_COMMAND_STATES.issuperset(made):
            return
        if len(made) >= COMPLETIONS_MAX:
            _log.error("completions used up", payment_id=payment_id, completions=len(made))
            return
        payment = base.payment
        caller = Caller(tenant_id, payment.organization_id, "system:completion", payment.correlation_id)
        key = f"{SYSTEM_KEY_PREFIX}complete:{payment_id}:{len(made) + 1}"
        request = CompletePayment(key, payment_id)
        wish = Wish(caller, "CompletePayment", CommandKind.COMPLETE, key, request_hash(request), self._clock.now_us())
        try:
            await self._run_on(wish, payment_id, plan_complete, None)
        except Precondition as overtaken:
            _log.info("completion not needed", payment_id=payment_id, reason=overtaken.reason)

    async def cancel_abandoned(self, tenant_id: str, payment_id: str) -> None:
        """Cancel a payment whose action nobody finished, in the gateway's own name; a refusal is recovery's to see."""
        payment = await self._store.get_payment(tenant_id, payment_id)
        if payment is None:
            return
        caller = Caller(tenant_id, payment.organization_id, "system:expiry", payment.correlation_id)
        request = CancelPayment(
            f"{SYSTEM_KEY_PREFIX}expiry:{payment_id}:{payment.version}", payment_id, reason="abandoned"
        )
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
            return planner(wish, base, self._account_of(base), fresh_identity(payment_id))

        return await self._run(wish, plan, planner, deadline_s)

    async def _run(
        self,
        wish: Wish,
        plan: Callable[[], Awaitable[Plan]],
        planner: Planner,
        deadline_s: float | None,
    ) -> CommandReply:
        key = (wish.caller.tenant_id, wish.rpc, wish.idempotency_key)
        reopen: Reopen | None = None
        for _ in range(CLAIM_TRIES_MAX):
            try:
                planned = await plan() if reopen is None else await self._plan_again(wish, reopen, planner)
                self._check_room(planned)
                self._check_deadline(deadline_s)
                admission = await self._admit(planned.account)
            except ObolError as refusal:
                if reopen is None:
                    found = await self._replays.find(key, wish.request_hash, deadline_s)
                    if isinstance(found, CommandReply):
                        return found
                    if isinstance(found, Reopen) and _worth_reopening(refusal):
                        reopen = found
                        continue
                self._telemetry.refusal(wish.rpc, refusal.reason)
                raise
            submitted = await self._engine.submit(planned, admission)
            if isinstance(submitted, CommandReply):
                return submitted
            if submitted.outcome is ClaimOutcome.ORDER_TAKEN:
                # The order may be held by this very key, which another call has just claimed.
                found = await self._replays.find(key, wish.request_hash, deadline_s)
                if isinstance(found, CommandReply):
                    return found
                if found is None:
                    raise _order_taken(planned, submitted.holder_payment_id)
                reopen = found
            elif submitted.outcome is ClaimOutcome.KEY_TAKEN:
                found = await self._replays.find(key, wish.request_hash, deadline_s)
                if isinstance(found, CommandReply):
                    return found
                reopen = found
        raise Busy(
            Reason.CONTENTION,
            "the payment is changing too fast to claim; nothing was sent, repeat the call",
            safe_to_retry=True,
            retry_after_s=1.0,
        )

    async def _plan_again(self, wish: Wish, reopen: Reopen, planner: Planner) -> Plan:
        """The plan of a NOT_SENT command under its own ids."""
        command = reopen.command
        base = await self._store.load(wish.caller.tenant_id, command.payment_id)
        if base is None:
            raise no_payment(command.payment_id)
        operation = next(o for o in base.operations if o.command_id == command.command_id)
        identity = Identity(
            command.command_id, operation.operation_id, command.payment_id, command.refund_id or "", reopen=True
        )
        return planner(wish, base, self._account_of(base), identity)

    def _account_of(self, base: Aggregate) -> Account:
        account = self._accounts.get(base.payment.account_id)
        if account is None:
            raise _no_account(base.payment.provider, base.payment.account_id)
        return account

    def _check_deadline(self, deadline_s: float | None) -> None:
        if deadline_s is not None and deadline_s < self._settings.deadline_s_min:
            raise DeadlineTooShort(
                Reason.DEADLINE_TOO_SHORT,
                f"the deadline leaves {deadline_s:.3f} s and a provider needs {self._settings.deadline_s_min:.3f} s "
                "at least; nothing was sent, repeat the call with a longer deadline",
                safe_to_retry=True,
            )

    def _check_room(self, planned: Plan) -> None:
        if planned.base is None:
            return
        payment = planned.base.payment
        if planned.operation.kind in EXCLUSIVE_KINDS and payment.busy_command_id is not None:
            raise Busy(
                Reason.PAYMENT_BUSY,
                "another confirm, capture or cancel of this payment is under way; repeat the call",
                safe_to_retry=True,
                retry_after_s=1.0,
                details={"payment_id": payment.payment_id, "command_id": payment.busy_command_id},
            )
        if len(planned.base.commands) >= COMMANDS_PER_PAYMENT_MAX:
            raise Precondition(
                Reason.PAYMENT_FULL,
                f"a payment takes at most {COMMANDS_PER_PAYMENT_MAX} commands, and this one has had them",
                details={"payment_id": payment.payment_id},
            )

    async def _admit(self, account: Account) -> Admission:
        try:
            return await account.admit(wait_s=self._settings.admission_wait_s)
        except AdmissionRefused as refused:
            details = {"provider": account.provider, "account_id": account.account_id}
            if refused.saturated:
                raise Exhausted(
                    Reason.PROVIDER_BUSY,
                    f"account {account.account_id} has all the calls in flight that it may have; nothing was sent",
                    safe_to_retry=True,
                    retry_after_s=refused.retry_after_s,
                    details=details,
                ) from refused
            raise Unavailable(
                Reason.PROVIDER_UNAVAILABLE,
                f"account {account.account_id} is failing and is given a pause; nothing was sent",
                safe_to_retry=True,
                retry_after_s=refused.retry_after_s,
                details=details,
            ) from refused


def no_payment(payment_id: str) -> NotFound:
    """The error for a payment that is not there, or another tenant's: the two look alike."""
    return NotFound(Reason.PAYMENT_NOT_FOUND, f"there is no payment {payment_id} for this tenant", field="payment_id")


def _no_account(provider: str, account_id: str) -> NotFound:
    wanted = account_id or provider or "the default"
    return NotFound(
        Reason.ACCOUNT_NOT_FOUND,
        f"no provider account answers to {wanted!r}; see the gateway's `providers` setting",
        field="provider_preference",
    )


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


Amounted = TypeVar("Amounted", CapturePayment, RefundPayment)


def _as_recorded(request: Amounted, base: Aggregate, identity: Identity) -> Amounted:
    """A wish for 'all that is left' that is tried again keeps the amount that was recorded."""
    if not identity.reopen or request.amount_minor is not None:
        return request
    operation = next(o for o in base.operations if o.operation_id == identity.operation_id)
    return replace(request, amount_minor=operation.amount_minor, currency=operation.currency)
