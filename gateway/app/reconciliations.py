"""Asking for a reconciliation, and reading what came of it: the use cases behind three RPCs of Operations."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.app.clock import new_id
from gateway.app.queries import page_size_of
from gateway.app.reconciliation import audit_of
from gateway.app.requests import check_id, check_idempotency_key
from gateway.app.tokens import page_token_of, position_of
from gateway.domain.commands import Caller
from gateway.domain.errors import Conflict, InvalidRequest, NotFound, Precondition, Reason
from gateway.domain.providers import Accounts, ListsPayments
from gateway.domain.reconciliation import WINDOW_S_MAX, Break, Reconciliation, ReconciliationFilter, Wanted
from gateway.domain.storage import Store


@dataclass(frozen=True, slots=True)
class RunReconciliation:
    """RunReconciliation as asked; window times in unix microseconds, from inclusive."""

    idempotency_key: str
    account_id: str
    window_start_us: int
    window_end_us: int
    dry_run: bool = False

    def __post_init__(self) -> None:
        check_idempotency_key(self.idempotency_key)
        if self.idempotency_key.startswith("system:"):
            raise InvalidRequest(
                Reason.IDEMPOTENCY_KEY_INVALID,
                "idempotency_key must not begin with 'system:', which is the gateway's own",
                field="idempotency_key",
            )
        check_id("account_id", self.account_id)
        if not 0 <= self.window_start_us < self.window_end_us:
            raise InvalidRequest(
                Reason.FIELD_INVALID, "window_end_time: must be after window_start_time", field="window_end_time"
            )
        if self.window_end_us - self.window_start_us > WINDOW_S_MAX * 1_000_000:
            raise InvalidRequest(
                Reason.FIELD_INVALID, "window_end_time: a window has at most 31 days", field="window_end_time"
            )


class Reconciliations:
    """Queues jobs, and reads them; a reconciler of some process carries them out."""

    def __init__(self, store: Store, accounts: Accounts, wanted: asyncio.Event) -> None:
        """`wanted` wakes this process's reconciler."""
        self._store = store
        self._accounts = accounts
        self._wanted = wanted

    async def run(self, caller: Caller, request: RunReconciliation) -> Reconciliation:
        """Queue it, or answer with what the key has. Raises NotFound, Precondition, Conflict."""
        account = self._accounts.get(request.account_id)
        if account is None:
            raise NotFound(
                Reason.ACCOUNT_NOT_FOUND,
                f"no provider account {request.account_id} is configured; see the gateway's `providers` setting",
                field="account_id",
            )
        if not isinstance(account.adapter, ListsPayments):
            raise Precondition(
                Reason.CAPABILITY_MISSING,
                f"account {account.account_id} ({account.provider}) cannot list its payments",
                details={"provider": account.provider, "account_id": account.account_id},
            )
        wanted = Wanted(
            reconciliation_id=new_id("rec"),
            caller=caller,
            idempotency_key=request.idempotency_key,
            account_id=request.account_id,
            window_start_us=request.window_start_us,
            window_end_us=request.window_end_us,
            dry_run=request.dry_run,
        )
        job, is_new = await self._store.want_reconciliation(wanted, audit_of(wanted))
        asked = (request.account_id, request.window_start_us, request.window_end_us, request.dry_run)
        if not is_new and (job.account_id, job.window_start_us, job.window_end_us, job.dry_run) != asked:
            raise Conflict(
                Reason.IDEMPOTENCY_KEY_REUSED,
                "this idempotency_key belongs to another reconciliation; take a new key",
                field="idempotency_key",
                details={"reconciliation_id": job.reconciliation_id},
            )
        self._wanted.set()
        return job

    async def get(
        self, reconciliation_id: str, page_size: int, page_token: str
    ) -> tuple[Reconciliation, Sequence[Break], str]:
        """The job, a page of its breaks in the order in which they were found, and the next page's token."""
        check_id("reconciliation_id", reconciliation_id)
        question = f"breaks {reconciliation_id}"
        limit = page_size_of(page_size)
        position = position_of(question, page_token)
        job = await self._store.get_reconciliation(reconciliation_id)
        if job is None:
            raise NotFound(
                Reason.RECONCILIATION_NOT_FOUND,
                f"there is no reconciliation {reconciliation_id}",
                field="reconciliation_id",
            )
        found = await self._store.list_breaks(reconciliation_id, after_number=int(position or "0"), limit=limit + 1)
        if len(found) <= limit:
            return job, found, ""
        return job, found[:limit], page_token_of(question, str(found[limit - 1].number))

    async def list(
        self, wanted: ReconciliationFilter, page_size: int, page_token: str
    ) -> tuple[Sequence[Reconciliation], str]:
        """A page, newest first, and the next page's token. Raises InvalidRequest."""
        times = f"{wanted.created_from_us} {wanted.created_before_us}"
        states = " ".join(sorted(wanted.states))
        question = f"reconciliations {wanted.account_id!r} [{states}] {times} {wanted.with_breaks_left}"
        limit = page_size_of(page_size)
        before = position_of(question, page_token)
        found = await self._store.list_reconciliations(wanted, before_reconciliation_id=before, limit=limit + 1)
        if len(found) <= limit:
            return found, ""
        return found[:limit], page_token_of(question, found[limit - 1].reconciliation_id)
