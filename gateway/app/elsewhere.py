"""What a restore leaves open of a create: whether it went on at an account that this database does not know of.

A create keeps its operation when it is reopened at another account, and its command when it fails over. Neither is to
be seen at the account where the backup has it. So nothing is concluded there, and nothing sent, before every account
was looked at, nor while the provider's books anywhere name what this database has lost.
"""

from collections.abc import Iterable

from gateway.domain.payments import Payment
from gateway.domain.storage import Store

PENDING = "a restore of the database waits for its reconciliation"
LOST = "it went on elsewhere in the time that a restore lost: see `obol lost`"


async def awaited(store: Store, account_ids: Iterable[str]) -> str:
    """The first of these accounts that a restore still waits for; empty where none is. One look without a restore."""
    if await store.generation():
        for account_id in sorted(set(account_ids)):
            if await store.restore_pending(account_id):
                return account_id
    return ""


async def gone_elsewhere(store: Store, payment: Payment, account_ids: Iterable[str]) -> str:
    """Why the payment may hold money that this database does not know of; empty where nothing leaves it open.

    `account_ids` are where it may have gone beside the candidates of its route: to every account that there is, as the
    rules may have been others in the time that was lost. What two operators hold for undone leaves nothing open. Two
    looks where there was no restore, and after one a further look for each account.
    """
    candidates = payment.route.candidates if payment.route is not None else ()
    if await awaited(store, {payment.account_id, *candidates, *account_ids}):
        return PENDING
    # After that: what a reconciliation finds is noted before its account is cleared.
    return LOST if await store.has_lost(payment.tenant_id, payment.payment_id) else ""
