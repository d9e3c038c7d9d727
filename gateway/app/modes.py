"""The modes of accounts in this process: read from the database every few seconds, set through it alone.

What a process knows can be MODES_POLL_S old, or older while the database is away; then the last word stands. That is
enough, because a mode only keeps new things from being begun.
"""

from collections.abc import Mapping

from gateway.app.clock import new_id
from gateway.domain.commands import Caller
from gateway.domain.errors import InvalidRequest, NotFound, Reason, Unavailable
from gateway.domain.modes import AccountMode, ProviderMode
from gateway.domain.operating import OPERATOR_ACTION
from gateway.domain.providers import Account, Accounts
from gateway.domain.storage import AuditRecord, Store

MODES_POLL_S = 2.0
REASON_CHARACTERS_MAX = 500
MODE_RETRY_S = 30.0


class Modes:
    """Answers at once, from what was read last."""

    def __init__(self, store: Store, accounts: Accounts) -> None:
        self._store = store
        self._accounts = accounts
        self._known: Mapping[str, AccountMode] = {}
        self._sets = 0

    def of(self, account_id: str) -> AccountMode:
        """The account's mode; ACTIVE where nobody ever set one."""
        return self._known.get(account_id) or AccountMode(account_id)

    async def refresh(self) -> int:
        """Read every mode again; 0, so that the loop pauses. Raises Unavailable."""
        sets = self._sets
        known = {each.account_id: each for each in await self._store.account_modes()}
        # What was read while one was set here may be older than that one: the next look is near.
        if sets == self._sets:
            self._known = known
        return 0

    async def set(
        self, caller: Caller, account_id: str, mode: ProviderMode, reason: str
    ) -> tuple[Account, AccountMode]:
        """Put an account into a mode; both as they are then.

        Raises NotFound(ACCOUNT_NOT_FOUND), InvalidRequest, Unavailable.
        """
        account = self._accounts.get(account_id)
        if account is None:
            raise NotFound(
                Reason.ACCOUNT_NOT_FOUND,
                f"no provider account answers to {account_id!r}; see the gateway's `providers` setting",
                field="account_id",
            )
        if not 1 <= len(reason.strip()) <= REASON_CHARACTERS_MAX:
            raise InvalidRequest(
                Reason.FIELD_INVALID,
                f"reason: say why in 1 to {REASON_CHARACTERS_MAX} characters; the audit keeps it",
                field="reason",
            )
        audit = AuditRecord(
            audit_id=new_id("aud"),
            caller=caller,
            action=f"{OPERATOR_ACTION}SET_PROVIDER_MODE",
            result=mode,
            provider=account.provider,
            account_id=account_id,
            detail=f"{self.of(account_id).mode} -> {mode}: {reason}",
        )
        changed = await self._store.set_account_mode(AccountMode(account_id, mode, reason, caller.actor), audit)
        self._known = {**self._known, account_id: changed}
        self._sets += 1
        return account, changed

    def check(self, account: Account, *, new_payment: bool) -> None:
        """Raise Unavailable where the account's mode forbids what is about to be sent."""
        mode = self.of(account.account_id).mode
        if mode is ProviderMode.ACTIVE or (mode is ProviderMode.DRAINING and not new_payment):
            return
        draining = mode is ProviderMode.DRAINING
        raise Unavailable(
            Reason.PROVIDER_DRAINING if draining else Reason.PROVIDER_IN_MAINTENANCE,
            f"account {account.account_id} is {'draining and takes no new payment' if draining else 'in maintenance'}; "
            "nothing was sent, repeat the call later or name another account",
            safe_to_retry=True,
            retry_after_s=MODE_RETRY_S,
            details={"provider": account.provider, "account_id": account.account_id},
        )
