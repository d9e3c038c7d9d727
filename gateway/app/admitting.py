"""What a command passes before it is claimed: nothing lost of it, room at its payment, and a place at its account."""

from gateway.app.engine import Plan
from gateway.app.leaving import failing_over, is_of_failover
from gateway.app.restored import refusal_after_restore
from gateway.domain.commands import EXCLUSIVE_KINDS
from gateway.domain.errors import Busy, Exhausted, Precondition, Reason, Unavailable
from gateway.domain.providers import Account, Admission, AdmissionRefused
from gateway.domain.storage import COMMANDS_PER_PAYMENT_MAX, ClaimOutcome


def check_not_lost(planned: Plan) -> None:
    """Refuse what the provider's books show done and this database has no command of: a restore has lost it."""
    if planned.base is None or planned.reopen:
        return
    facts, operation_id = planned.base.payment.facts, planned.operation.operation_id
    named = (*(m.operation_id for m in facts.movements), *(a.operation_id for a in facts.attempts))
    if operation_id in named:
        raise refusal_after_restore(planned, ClaimOutcome.LOST_IN_RESTORE)


def check_room(planned: Plan) -> None:
    """Raise Busy(PAYMENT_BUSY) or Precondition(PAYMENT_FULL) where the payment as it was read takes no such command."""
    if planned.base is None:
        return
    payment = planned.base.payment
    if failing_over(payment) and not is_of_failover(planned.command):
        raise Busy(
            Reason.PAYMENT_BUSY,
            "the payment is on its way to another provider after a decline; repeat the call",
            safe_to_retry=True,
            retry_after_s=1.0,
            details={"payment_id": payment.payment_id},
        )
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


async def admit(account: Account, wait_s: float) -> Admission:
    """A place for one call, waited for at most so long.

    Raises Exhausted(PROVIDER_BUSY), Unavailable(PROVIDER_UNAVAILABLE).
    """
    try:
        return await account.admit(wait_s=wait_s)
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
