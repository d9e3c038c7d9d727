"""What a caller is told by a database that was restored from a backup. ADR 0009 has the reasons."""

from gateway.app.engine import Plan
from gateway.domain.errors import ObolError, Precondition, Reason, Sent, Unavailable
from gateway.domain.storage import ClaimOutcome

RESTORED = frozenset({ClaimOutcome.RESTORE_PENDING, ClaimOutcome.LOST_IN_RESTORE, ClaimOutcome.UNREAD_SINCE_RESTORE})
"""What a claim comes to only after a restore."""

PENDING_RETRY_S = 30.0


def refusal_after_restore(planned: Plan, outcome: ClaimOutcome) -> ObolError:
    """The error for a command that a restore holds back."""
    account = planned.account
    details = {
        "provider": account.provider,
        "account_id": account.account_id,
        "operation_id": planned.operation.operation_id,
    }
    if outcome is ClaimOutcome.LOST_IN_RESTORE:
        return Precondition(
            Reason.LOST_IN_RESTORE,
            "this command was carried out before the database was restored from a backup that does not know it: the "
            f"books of account {account.account_id} show operation {planned.operation.operation_id}. Nothing was sent "
            "now. Do not take a new key: an operator finds it among the breaks of the reconciliation",
            sent=Sent.YES,
            details=details,
        )
    return Unavailable(
        Reason.RESTORE_PENDING,
        f"the database was restored from a backup, and account {account.account_id} waits for its reconciliation; "
        "nothing was sent, repeat the call with the same idempotency key",
        safe_to_retry=True,
        retry_after_s=PENDING_RETRY_S,
        details=details,
    )


def unread_since_restore(payment_id: str, why: str) -> Unavailable:
    """The error for a payment from before a restore that its provider does not show clearly."""
    return Unavailable(
        Reason.RESTORE_PENDING,
        f"payment {payment_id} is from before a restore, and the provider could not be asked how it stands ({why}); "
        "nothing was sent, repeat the call",
        safe_to_retry=True,
        retry_after_s=1.0,
        details={"payment_id": payment_id},
    )
