"""`obol providers ...`: what a person asks about the configured accounts."""

import asyncio

from gateway.config import Settings
from gateway.domain.setup_checks import ChecksSetup, SetupCheck
from gateway.main import accounts_settings
from providers.account import ProviderAccount
from providers.registry import build_accounts

CHECK_S_MAX = 20.0


def check(settings: Settings, account_id: str = "") -> bool:
    """Print how each account (or the named one) is set up at its provider; whether everything is right.

    Raises RegistryError for a configuration that cannot be used.
    """
    return asyncio.run(_check(settings, account_id))


async def _check(settings: Settings, account_id: str) -> bool:
    accounts = build_accounts(accounts_settings(settings))
    try:
        found = [await _check_one(each) for each in accounts.all() if account_id in ("", each.account_id)]
        return bool(found) and all(found)
    finally:
        await accounts.close()


async def _check_one(account: ProviderAccount) -> bool:
    adapter = account.adapter
    if isinstance(adapter, ChecksSetup):
        path = f"/webhooks/{account.provider}/{account.account_id}"
        checks = await adapter.check_setup(callback_path=path, timeout_s=CHECK_S_MAX)
    else:
        checks = [SetupCheck("set-up", "not looked at: this provider's adapter cannot say")]
    for each in checks:
        verdict, mend = ("PROBLEM", f"; {each.problem}") if each.problem else ("ok", "")
        print(f"{account.account_id} {account.provider}: {verdict:<7} {each.subject}: {each.seen}{mend}")
    return not any(each.problem for each in checks)
