"""The registry: configured accounts, found as the port says, with no provider loaded that nobody configured."""

import pickle
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.domain.providers import AccountHealth, Accounts
from providers import registry
from providers.registry import BUILT_IN, RegistryError, build_accounts, provider_kinds
from providers.secret import Secret
from providers.settings import AccountsSettings, ProviderAccountSettings, ProviderHooks

PLANTED = "planted-credential-91"


def account(account_id: str, **changed: Any) -> ProviderAccountSettings:
    told: dict[str, Any] = {
        "account_id": account_id,
        "provider": "sandbox",
        "base_url": "http://127.0.0.1:1",
        "api_key": Secret(PLANTED),
        "webhook_secrets": (Secret(PLANTED),),
    }
    return ProviderAccountSettings(**{**told, **changed})


class Other:
    """An adapter of another distribution; `close` fails."""

    def __init__(self, settings: ProviderAccountSettings) -> None:
        self.account_id = settings.account_id
        self.closed = False

    async def close(self) -> None:
        self.closed = True
        raise RuntimeError("did not close")


def build_other(settings: ProviderAccountSettings, hooks: ProviderHooks) -> Other:
    return Other(settings)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """What is installed under the entry-point group."""
    points = [EntryPoint("other", f"{__name__}:build_other", registry.ENTRY_POINT_GROUP)]
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or SimpleNamespace(build_other=build_other))
    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints(points))
    return points


def routed(accounts: Accounts, provider: str = "", account_id: str = "") -> str | None:
    found = accounts.route(provider=provider, account_id=account_id)
    return None if found is None else found.account_id


def test_the_named_account_wins_if_it_is_the_named_providers(installed: list[EntryPoint]) -> None:
    """A name goes to its account, and to none where the provider is another's."""
    accounts = build_accounts(
        AccountsSettings((account("eu"), account("us"), account("far", provider="other")), default_account_id="eu")
    )
    assert routed(accounts, account_id="us") == "us"
    assert routed(accounts, "sandbox", "us") == "us"
    assert routed(accounts, "other", "us") is None
    assert routed(accounts, account_id="nowhere") is None


def test_without_an_account_the_default_is_taken(installed: list[EntryPoint]) -> None:
    """The provider's default where it is named, else the default of all; none where there is none."""
    accounts = build_accounts(
        AccountsSettings(
            (account("eu"), account("us", default=True), account("far", provider="other")), default_account_id="far"
        )
    )
    assert routed(accounts, "sandbox") == "us"
    assert routed(accounts, "other") == "far"
    assert routed(accounts) == "far"
    assert routed(accounts, "nobody") is None
    ambiguous = build_accounts(AccountsSettings((account("eu"), account("us"))))
    assert routed(ambiguous, "sandbox") is None
    assert routed(ambiguous) is None


@pytest.mark.parametrize(
    "settings",
    [
        AccountsSettings((account("eu"), account("eu"))),
        AccountsSettings((account("eu"),), default_account_id="us"),
        AccountsSettings((account("eu", default=True), account("us", default=True))),
        AccountsSettings((account("eu", provider="nobody"),)),
        AccountsSettings((account("EU us"),)),
        AccountsSettings((account("eu", base_url="http://provider.example"),)),
        AccountsSettings((account("eu", api_key=Secret("")),)),
    ],
    ids=["twice", "no such default", "two defaults", "no such provider", "bad id", "plain http", "no key"],
)
def test_a_configuration_that_cannot_be_right_is_refused(settings: AccountsSettings) -> None:
    """An error at start, which names the account and no credential."""
    with pytest.raises(RegistryError) as refused:
        build_accounts(settings)
    assert PLANTED not in str(refused.value)


def test_an_installed_provider_is_found_by_its_name(installed: list[EntryPoint]) -> None:
    """A provider of another distribution takes part without a change here."""
    assert provider_kinds() == tuple(sorted({"other", *BUILT_IN}))
    assert routed(build_accounts(AccountsSettings((account("far", provider="other"),))), "other") == "far"


def test_nobody_takes_a_built_in_name(installed: list[EntryPoint]) -> None:
    """A distribution that claims a built-in provider's name is refused, as are two that claim one name."""
    installed.append(EntryPoint("sandbox", "evil:build", registry.ENTRY_POINT_GROUP))
    with pytest.raises(RegistryError, match="built in"):
        build_accounts(AccountsSettings((account("eu"),)))
    installed[:] = [EntryPoint("other", f"{each}:build", registry.ENTRY_POINT_GROUP) for each in ("a", "b")]
    with pytest.raises(RegistryError, match="two distributions"):
        build_accounts(AccountsSettings((account("far", provider="other"),)))


async def test_closing_closes_all(installed: list[EntryPoint]) -> None:
    """An adapter that fails to close does not keep the others open."""
    accounts = build_accounts(AccountsSettings((account("far", provider="other"), account("eu"))))
    await accounts.close()
    far = accounts.get("far")
    assert far is not None
    assert isinstance(far.adapter, Other)
    assert far.adapter.closed


async def test_health_changes_are_told_with_the_account() -> None:
    """The hook hears which account tripped."""
    told: list[tuple[str, AccountHealth, AccountHealth]] = []
    hooks = ProviderHooks(health_changed=lambda *change: told.append(change))
    accounts = build_accounts(AccountsSettings((account("eu"),)), hooks)
    eu = accounts.get("eu")
    assert eu is not None
    from gateway.domain.providers import Unreadable

    for _ in range(account("eu").breaker.consecutive_failures_max):
        admission = await eu.admit(wait_s=0.0)
        admission.report(Unreadable("status 500"))
        admission.release()
    assert told == [("eu", AccountHealth.CLOSED, AccountHealth.OPEN)]


def test_a_credential_shows_nowhere() -> None:
    """Neither repr nor str nor format nor a copy as a dict shows it, and it cannot be pickled."""
    settings = account("eu")
    for shown in (
        repr(settings),
        str(settings.api_key),
        f"{settings.api_key}",
        f"{settings.api_key:>20}",
        repr(deepcopy(settings.api_key)),
    ):
        assert PLANTED not in shown
    with pytest.raises(TypeError):
        pickle.dumps(settings.api_key)
    assert replace(settings, default=True).api_key.reveal() == PLANTED


def test_no_provider_is_loaded_before_it_is_configured() -> None:
    """Importing the registry imports no adapter and no SDK."""
    program = (
        "import sys, providers.registry as registry; registry.provider_kinds();"
        "loaded = {'providers.sandbox.adapter', 'stripe'} & set(sys.modules); sys.exit(repr(loaded) if loaded else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
