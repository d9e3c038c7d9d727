"""What a caller is told by a database that was restored from a backup. ADR 0009 has the reasons."""

from dataclasses import replace

from gateway.app.engine import Plan
from gateway.app.identity import LOST_STEPS_MAX, Wish, operation_id_of
from gateway.domain.errors import ObolError, Precondition, Reason, Sent, Unavailable
from gateway.domain.lost import LostOutcome, LostPayment, LostStore
from gateway.domain.providers import Accounts
from gateway.domain.storage import ClaimOutcome, Store

RESTORED = frozenset({ClaimOutcome.RESTORE_PENDING, ClaimOutcome.LOST_IN_RESTORE, ClaimOutcome.UNREAD_SINCE_RESTORE})
"""What a claim comes to only after a restore."""

PENDING_RETRY_S = 30.0


async def as_known(store: Store, accounts: Accounts, wish: Wish, planned: Plan, *, waits: bool) -> Plan:
    """The plan of a create, to be claimed as long as no further restore is declared.

    Raises RESTORE_PENDING while a restore waits for any account's reconciliation, where it `waits` for them: the claim
    asks for its own, but what this database lost may have gone to another one, which the rules do not choose now. And
    LOST_IN_RESTORE where a step of it was found at whichever account: it is the caller's key that names them all.
    """
    generation = await store.generation()
    if not generation:
        return planned
    for account in accounts.all() if waits else ():
        if await store.restore_pending(account.account_id):
            raise refusal_after_restore(planned, ClaimOutcome.RESTORE_PENDING)
    # After that: what a reconciliation finds is noted before its account is cleared, and no clearance is taken back.
    steps = [operation_id_of(wish, step) for step in range(1, LOST_STEPS_MAX + 1)]
    for operation_id in await store.lost_steps(wish.caller.tenant_id, steps):
        step = replace(planned, operation=replace(planned.operation, operation_id=operation_id))
        raise await refusal_told(store, step, ClaimOutcome.LOST_IN_RESTORE)
    return replace(planned, restores_known=generation)


def refusal_after_restore(planned: Plan, outcome: ClaimOutcome, lost: LostPayment | None = None) -> ObolError:
    """The error for a command that a restore holds back; `lost` is the payment that stands in its way, where known."""
    account = planned.account
    details = {
        "provider": account.provider,
        "account_id": account.account_id,
        "operation_id": planned.operation.operation_id,
    }
    if outcome is ClaimOutcome.LOST_IN_RESTORE:
        found, known = _told(planned, lost)
        return Precondition(
            Reason.LOST_IN_RESTORE,
            f"{found} Nothing was sent now.",
            sent=Sent.YES,
            details=details | known,
        )
    return Unavailable(
        Reason.RESTORE_PENDING,
        f"the database was restored from a backup, and account {account.account_id} waits for its reconciliation; "
        "nothing was sent, repeat the call with the same idempotency key",
        safe_to_retry=True,
        retry_after_s=PENDING_RETRY_S,
        details=details,
    )


async def refusal_told(store: LostStore, planned: Plan, outcome: ClaimOutcome) -> ObolError:
    """The same, with what is known of the payment that was lost."""
    if outcome is not ClaimOutcome.LOST_IN_RESTORE:
        return refusal_after_restore(planned, outcome)
    terms = planned.payment.terms if planned.payment is not None else None
    order = terms.order_reference if terms is not None and terms.order_reference_unique else ""
    operation = planned.operation
    lost = await store.lost_by(operation.tenant_id, operation.operation_id, order)
    if lost is None and planned.reopen:
        lost = await store.get_lost(operation.tenant_id, operation.payment_id)
    return refusal_after_restore(planned, outcome, lost)


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


def _told(planned: Plan, lost: LostPayment | None) -> tuple[str, dict[str, str]]:
    """What the provider's books and, where they have said something, two operators say of what was lost."""
    account_id, operation_id = planned.account.account_id, planned.operation.operation_id
    carried_out = "was carried out before the database was restored from a backup that does not know it"
    if lost is None:
        if planned.base is not None:
            payment_id = planned.base.payment.payment_id
            found = f"this command {carried_out}: payment {payment_id} shows what it did, as operation {operation_id}."
            return f"{found} Take no new key for it.", {"payment_id": payment_id}
        found = f"this command {carried_out}: the books of account {account_id} show operation {operation_id}."
        return f"{found} Take no new key: an operator finds it with `obol lost`.", {}
    where = ", ".join(f"{reference} at account {account}" for account, reference in lost.objects)
    is_own = operation_id in lost.operation_ids or planned.operation.payment_id == lost.payment_id
    subject = "this command" if is_own else f"order {lost.order_reference}"
    found = f"{subject} {carried_out}, as payment {lost.payment_id} ({where})."
    known = {"lost_payment_id": lost.payment_id, "provider_payment_id": lost.objects[0][1]}
    if lost.settlement is None:
        return f"{found} Take no new key: an operator finds it with `obol lost`.", known
    outcome = lost.settlement.proposal.outcome
    known["settled"] = outcome
    if outcome is LostOutcome.STANDS:
        return f"{found} It stands, as two operators say: it is paid, and booked outside this gateway.", known
    return f"{found} It was undone since, as two operators say: whoever still wants it takes a new key.", known
