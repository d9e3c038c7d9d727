"""Asking a provider how a payment stands, and applying what it says.

Recovery, callbacks and SyncPayment all read this way: the payment's version first, then the provider's object, and the
object counts only if the version still stands. Otherwise both are read again.
"""

import asyncio
from dataclasses import dataclass

import structlog

from gateway.app.clock import new_id
from gateway.app.learning import Learning
from gateway.app.restored import unread_since_restore
from gateway.app.settings import EngineSettings
from gateway.app.settling import Lesson
from gateway.app.telemetry import Telemetry
from gateway.app.verdicts import mismatch
from gateway.domain.commands import Caller
from gateway.domain.errors import Busy, NotFound, Reason, Unavailable
from gateway.domain.observations import Source
from gateway.domain.payments import Payment
from gateway.domain.providers import Absent, Account, Accounts, AdmissionRefused, Lookup, Unreadable
from gateway.domain.storage import AuditRecord, Store

READ_TRIES_MAX = 8


@dataclass(frozen=True, slots=True)
class Synced:
    """A payment after the provider was asked, and whether the provider waits for us to complete it."""

    payment: Payment
    completion_due: bool = False


_log = structlog.get_logger(__name__)


class Reading:
    """Reads providers' objects through the account's breaker and bulkhead."""

    def __init__(
        self, store: Store, accounts: Accounts, learning: Learning, telemetry: Telemetry, settings: EngineSettings
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._learning = learning
        self._telemetry = telemetry
        self._settings = settings

    async def look(self, account: Account, payment_id: str, provider_payment_id: str | None) -> Lookup:
        """The provider's object by its id, else by our reference. Never raises: a failure is Unreadable."""
        loop = asyncio.get_running_loop()
        timeout_s = self._settings.provider_timeout_s
        try:
            admission = await account.admit(wait_s=self._settings.admission_wait_s)
        except AdmissionRefused as refused:
            return Unreadable(f"not admitted: {refused}", refused.retry_after_s)
        began = loop.time()
        kind = "FETCH" if provider_payment_id else "LOOKUP"
        lookup: Lookup
        try:
            if provider_payment_id:
                lookup = await account.adapter.fetch(provider_payment_id, timeout_s=timeout_s)
            else:
                lookup = await account.adapter.lookup(payment_id, timeout_s=timeout_s)
            admission.report(lookup)
        except Exception as error:  # noqa: BLE001 a reader must survive whatever an adapter breaks with
            _log.exception("adapter raised on a read", provider=account.provider, payment_id=payment_id)
            lookup = Unreadable(f"adapter raised {type(error).__name__}")
        finally:
            admission.release()
        self._telemetry.attempt(account.provider, account.account_id, kind, type(lookup).__name__, loop.time() - began)
        return lookup

    async def sync(self, caller: Caller, payment_id: str) -> Synced:
        """The payment after the provider was asked. Raises NotFound, Unavailable, Busy (it will not hold still)."""
        synced, _ = await self._ask(caller, payment_id)
        return synced

    async def catch_up(self, caller: Caller, payment_id: str) -> None:
        """Ask the provider for a payment from before a restore, and note that its facts are the provider's again.

        Raises as `sync` does, and Unavailable(RESTORE_PENDING) where the answer leaves open how the payment stands.
        """
        # Read before the provider is: a restore that is declared meanwhile asks for a look of its own.
        generation = await self._store.generation()
        _, doubt = await self._ask(caller, payment_id)
        if doubt:
            raise unread_since_restore(payment_id, doubt)
        await self._store.mark_read(caller.tenant_id, payment_id, generation=generation)

    async def _ask(self, caller: Caller, payment_id: str) -> tuple[Synced, str]:
        """The payment after the provider was asked, and why the answer leaves doubt, if it does."""
        for _ in range(READ_TRIES_MAX):
            aggregate = await self._store.load(caller.tenant_id, payment_id)
            if aggregate is None:
                raise NotFound(Reason.PAYMENT_NOT_FOUND, f"there is no payment {payment_id} for this tenant")
            payment = aggregate.payment
            account = self._accounts.get(payment.account_id)
            if account is None:
                raise NotFound(Reason.ACCOUNT_NOT_FOUND, f"account {payment.account_id} is not configured any more")
            lookup = await self.look(account, payment_id, payment.provider_payment_id)
            if isinstance(lookup, Unreadable):
                raise Unavailable(
                    Reason.PROVIDER_UNAVAILABLE,
                    f"account {account.account_id} could not be read ({lookup.failure}); repeat the call",
                    safe_to_retry=True,
                    retry_after_s=1.0,
                )
            if isinstance(lookup, Absent):
                gone = payment.provider_payment_id is not None or not lookup.consistent
                return Synced(payment), "it does not show the payment's object" if gone else ""
            if lookup.snapshot.unmapped:
                return Synced(payment), f"unmapped: {', '.join(lookup.snapshot.unmapped)}"
            lie = mismatch(payment, payment.terms, lookup.snapshot, aggregate.operations)
            lesson = Lesson(
                source=Source.RECOVERY,
                causation_id=f"sync:{caller.correlation_id}",
                snapshot=None if lie else lookup.snapshot,
                contradiction=lie,
                audit=(
                    AuditRecord(
                        audit_id=new_id("aud"),
                        caller=caller,
                        action="SYNC",
                        result="QUARANTINED" if lie else "READ",
                        failure=lie,
                        provider=account.provider,
                        account_id=account.account_id,
                        payment_id=payment_id,
                    ),
                ),
            )
            settled = await self._learning.settle_read(aggregate, lesson)
            if settled is not None:
                return Synced(settled.payment, not lie and lookup.snapshot.completion_due), lie
        raise Busy(
            Reason.CONTENTION,
            "the payment is changing too fast to sync; repeat the call",
            safe_to_retry=True,
            retry_after_s=1.0,
        )
