"""Builds the configured accounts, and finds the one that a request goes to.

A provider kind is built in, or comes from an installed distribution through the entry-point group `obol.providers`. Its
module is imported when an account of it is configured, and not before: an SDK that nobody uses is never loaded.
"""

import asyncio
import importlib
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from gateway.domain.providers import ProviderAdapter
from providers.account import ProviderAccount
from providers.breaker import AccountBreaker
from providers.bulkhead import Bulkhead
from providers.settings import AccountsSettings, ProviderAccountSettings, ProviderHooks

ENTRY_POINT_GROUP = "obol.providers"

BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        "paypal": "providers.paypal.adapter:build",
        "sandbox": "providers.sandbox.adapter:build",
        "stripe": "providers.stripe.adapter:build",
    }
)
"""Provider kind to `module:function`; the function is an AdapterBuilder."""

AdapterBuilder = Callable[[ProviderAccountSettings, ProviderHooks], ProviderAdapter]

_ACCOUNT_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\Z")


class RegistryError(ValueError):
    """The configuration names what does not exist, or contradicts itself. The message names the account."""


class AccountRegistry:
    """Implements `gateway.domain.providers.Accounts`."""

    def __init__(self, accounts: Sequence[ProviderAccount], *, defaults: Mapping[str, str], default: str) -> None:
        self._accounts = {account.account_id: account for account in accounts}
        self._defaults = dict(defaults)
        self._default = default

    def get(self, account_id: str) -> ProviderAccount | None:
        return self._accounts.get(account_id)

    def route(self, *, provider: str, account_id: str) -> ProviderAccount | None:
        """The named account (None unless it is the named provider's), else the provider's default, else the default."""
        if account_id:
            account = self._accounts.get(account_id)
            return account if account is not None and provider in ("", account.provider) else None
        return self._accounts.get(self._defaults.get(provider, "") if provider else self._default)

    def all(self) -> Sequence[ProviderAccount]:
        return tuple(self._accounts.values())

    async def close(self) -> None:
        """Close every adapter; one that fails to close does not keep the others open."""
        results = await asyncio.gather(*(each.adapter.close() for each in self.all()), return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                logging.getLogger(__name__).error("an adapter did not close", exc_info=result)


def build_accounts(
    settings: AccountsSettings, hooks: ProviderHooks | None = None, *, clock: Callable[[], float] = time.monotonic
) -> AccountRegistry:
    """The accounts as configured. Opens no connection. Raises RegistryError. `clock` is monotonic, in seconds."""
    listening = hooks or ProviderHooks()
    _check(settings)
    builders = {kind: adapter_builder(kind) for kind in {each.provider for each in settings.accounts}}
    accounts = [_account(each, builders[each.provider], listening, clock) for each in settings.accounts]
    return AccountRegistry(accounts, defaults=_defaults(settings), default=settings.default_account_id)


def provider_kinds() -> tuple[str, ...]:
    """The kinds that can be configured; imports none of them."""
    return tuple(sorted({*BUILT_IN, *_installed()}))


def adapter_builder(kind: str) -> AdapterBuilder:
    """Import a provider kind. Raises RegistryError where there is none, or two."""
    installed = _installed().get(kind)
    if kind in BUILT_IN:
        if installed is not None:
            raise RegistryError(f"provider {kind!r} is built in, and {installed.value} claims its name")
        module, _, name = BUILT_IN[kind].partition(":")
        builder: AdapterBuilder = getattr(importlib.import_module(module), name)
        return builder
    if installed is None:
        raise RegistryError(f"there is no provider {kind!r}; known are {', '.join(provider_kinds())}")
    loaded: AdapterBuilder = installed.load()
    return loaded


def _installed() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name in found and found[point.name].value != point.value:
            raise RegistryError(f"two distributions claim provider {point.name!r}")
        found[point.name] = point
    return found


def _account(
    settings: ProviderAccountSettings, builder: AdapterBuilder, hooks: ProviderHooks, clock: Callable[[], float]
) -> ProviderAccount:
    try:
        adapter = builder(settings, hooks)
    except ValueError as error:
        raise RegistryError(f"account {settings.account_id}: {error}") from error
    breaker = AccountBreaker(settings.breaker, clock=clock, changed=partial(hooks.health_changed, settings.account_id))
    return ProviderAccount(
        settings.provider,
        adapter,
        breaker,
        Bulkhead(settings.bulkhead),
        clock=clock,
        rate_limited_s_max=settings.rate_limited_s_max,
        rate=settings.rate,
    )


def _check(settings: AccountsSettings) -> None:
    ids = [account.account_id for account in settings.accounts]
    for account_id in ids:
        if not _ACCOUNT_ID.match(account_id):
            raise RegistryError(f"account id {account_id!r} must be lower case letters, digits, - and _, at most 63")
        if ids.count(account_id) > 1:
            raise RegistryError(f"account {account_id} is configured twice")
    if settings.default_account_id and settings.default_account_id not in ids:
        raise RegistryError(f"the default account {settings.default_account_id!r} is not configured")


def _defaults(settings: AccountsSettings) -> dict[str, str]:
    """Each provider's default: the one that says so, else its only account."""
    defaults: dict[str, str] = {}
    for provider in {account.provider for account in settings.accounts}:
        own = [account for account in settings.accounts if account.provider == provider]
        chosen = [account.account_id for account in own if account.default]
        if len(chosen) > 1:
            raise RegistryError(f"provider {provider!r} has {len(chosen)} default accounts")
        if chosen or len(own) == 1:
            defaults[provider] = chosen[0] if chosen else own[0].account_id
    return defaults
