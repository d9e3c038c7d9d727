"""What a sandbox can be told: where it listens, whose keys it knows, how long things take, how much it holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from simulators.webhooks import DeliveryLimits

DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Account:
    """An account at the provider. `signing_secret` signs its webhooks."""

    id: str
    api_key: str
    signing_secret: str


DEFAULT_ACCOUNTS = (
    Account("acct_main", "sandbox-key-main", "sandbox-signing-main"),
    Account("acct_other", "sandbox-key-other", "sandbox-signing-other"),
)


@dataclass(frozen=True)
class Terms:
    """How the provider does business: how long its slow steps take, and what it charges.

    A seconds field of None means never by itself: only a control moves it on. `trusting`: a refund is not compared with
    what is left, as some providers do; whoever relies on being refused gives back too much.
    """

    processing_seconds: float | None = 1.0
    refund_seconds: float | None = 1.0
    dispute_seconds: float | None = 1.0
    authorization_seconds: float = 7 * DAY_SECONDS
    fee_basis_points: int = 290
    trusting: bool = False


@dataclass(frozen=True)
class Bounds:
    """How much the sandbox holds. Past `payments_max` or `keys_max` it answers 503; the oldest events fall off."""

    body_bytes_max: int = 64 * 1024
    payments_max: int = 2_000_000
    keys_max: int = 4_000_000
    events_max: int = 200_000
    connections_max: int = 4_096


@dataclass(frozen=True)
class SandboxSettings:
    """Everything of one sandbox. `port` 0 takes a free one. `clock` gives unix seconds.

    `webhook_url` may hold `{account}`; without it nothing is delivered. `public_url` is where a customer's
    browser finds the sandbox (its own address unless set). `hang_seconds` is how long a silent connection
    stays open.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8080
    public_url: str | None = None
    accounts: tuple[Account, ...] = DEFAULT_ACCOUNTS
    webhook_url: str | None = None
    seed: int = 0
    hang_seconds: float = 60.0
    drip_seconds: float = 5.0
    huge_bytes: int = 32 * 1024 * 1024
    idempotency_seconds: float = DAY_SECONDS
    terms: Terms = field(default_factory=Terms)
    bounds: Bounds = field(default_factory=Bounds)
    delivery: DeliveryLimits = field(default_factory=DeliveryLimits)
    clock: Callable[[], float] = time.time

    def accounts_by_key(self) -> Mapping[str, Account]:
        """The accounts by API key."""
        return {account.api_key: account for account in self.accounts}
