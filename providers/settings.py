"""What a provider account is told: plain values, which `gateway.config` fills in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gateway.domain.providers import AccountHealth
from providers.breaker import BreakerLimits
from providers.bulkhead import BulkheadLimits
from providers.http import WireLimits
from providers.rate import RateLimits
from providers.retry import RetryLimits
from providers.secret import Secret


@dataclass(frozen=True, slots=True)
class ProviderAccountSettings:
    """One account at one provider.

    `account_id` is ours; `merchant_id` is the provider's own id of the account: with it, an answer about another one is
    refused. `webhook_secrets` holds two while one is replaced. `default` makes it its provider's default. `options` are
    the provider's own.
    """

    account_id: str
    provider: str
    base_url: str
    api_key: Secret
    merchant_id: str = ""
    webhook_secrets: tuple[Secret, ...] = ()
    default: bool = False
    wire: WireLimits = field(default_factory=WireLimits)
    breaker: BreakerLimits = field(default_factory=BreakerLimits)
    bulkhead: BulkheadLimits = field(default_factory=BulkheadLimits)
    retry: RetryLimits = field(default_factory=RetryLimits)
    rate: RateLimits = field(default_factory=RateLimits)
    rate_limited_s_max: float = 30.0
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class AccountsSettings:
    """All accounts; `default_account_id` is taken where a request names neither account nor provider ("" for none)."""

    accounts: tuple[ProviderAccountSettings, ...]
    default_account_id: str = ""


def _nobody_listens(*_: object) -> None:
    return None


@dataclass(frozen=True, slots=True)
class ProviderHooks:
    """Where metrics listen.

    `health_changed(account_id, before, after)`; `unmapped(provider, kind, value)` for each value that a mapping table
    did not know (`value` is bounded).
    """

    health_changed: Callable[[str, AccountHealth, AccountHealth], None] = _nobody_listens
    unmapped: Callable[[str, str, str], None] = _nobody_listens
