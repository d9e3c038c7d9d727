"""What the imitation can be told: where it listens, whose keys it knows, how long things take, how much it holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from simulators.webhooks import DeliveryLimits

DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Account:
    """A platform account. `signing_secret` signs its webhooks; `connected` are accounts that it may act for."""

    id: str
    api_key: str
    signing_secret: str
    connected: tuple[str, ...] = ()


DEFAULT_ACCOUNTS = (
    Account("acct_main", "sk_test_simulated", "whsec_simulated", ("acct_connected",)),
    Account("acct_other", "sk_test_other", "whsec_other"),
)


@dataclass(frozen=True)
class Terms:
    """How long slow steps take, in seconds. None means never by itself: only a control moves it on.

    `search_seconds` is how far the search lags behind the books. `trusting`: a refund is not compared with what is left
    of the charge, as Stripe's is: what a caller asks for too much is then seen on the books.
    """

    processing_seconds: float | None = 1.0
    refund_seconds: float | None = 1.0
    dispute_seconds: float | None = 1.0
    authorization_seconds: float = 7 * DAY_SECONDS
    search_seconds: float = 60.0
    trusting: bool = False


@dataclass(frozen=True)
class Bounds:
    """How much is held. Past `objects_max` or `keys_max` it answers 503; the oldest events fall off."""

    body_bytes_max: int = 64 * 1024
    objects_max: int = 2_000_000
    keys_max: int = 4_000_000
    events_max: int = 200_000
    connections_max: int = 4_096


@dataclass(frozen=True)
class Heard:
    """One exchange as it was meant, before a fault spoils it on the wire. `body` is the request's, `answer` JSON.

    `status` 0 and no answer where there was none to hold to anything: a fault came first, or it is a replay.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    status: int
    answer: str


@dataclass(frozen=True)
class StripeSettings:
    """Everything of one imitation. `port` 0 takes a free one. `clock` gives unix seconds.

    `webhook_url` may hold `{account}`; without it nothing is delivered. `public_url` is where a customer's browser
    finds the imitation (its own address unless set). `hang_seconds` is how long a silent connection stays open.
    `heard` is told of every exchange, for tests that hold both sides to the provider's own document; unless it is set,
    what SIMULATORS_HEARD says (`simulators/hearing.py`).
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 12_111
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
    heard: Callable[[Heard], None] | None = None

    def accounts_by_key(self) -> Mapping[str, Account]:
        """The accounts by API key."""
        return {account.api_key: account for account in self.accounts}
