"""What the imitation can be told: where it listens, whose credentials it knows, how long things take, what it holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from simulators.webhooks import DeliveryLimits

HOUR_SECONDS = 3_600
DAY_SECONDS = 24 * HOUR_SECONDS


@dataclass(frozen=True)
class Merchant:
    """The one merchant account. Deliveries are signed for `webhook_id`; the effect log calls it `account`."""

    client_id: str = "paypal-client-simulated"
    client_secret: str = "paypal-secret-simulated"  # noqa: S105  a made-up one, of an imitation on loopback
    merchant_id: str = "MERCHANTSJM22"
    webhook_id: str = "4JH86294SJM97924G"
    account: str = "acct_main"


@dataclass(frozen=True)
class Terms:
    """How long things last, in seconds, and what is charged.

    An authorization can be re-authorized once `honor_seconds` are over. An order that nobody approves is gone after
    `order_seconds`. Request ids of orders and of payments are kept for their own times. `token_seconds` is the life of
    an access token. `trusting`: a refund is not compared with what is left of the capture, as PayPal's is: what a
    caller asks for too much is then seen on the books. `reporting_seconds` is how late the transaction search shows a
    transaction, PayPal's three hours at most; `reporting_rows_max` how many it gives for one question; `reporting`:
    the app may search at all.
    """

    order_seconds: float = 6 * HOUR_SECONDS
    orders_key_seconds: float = 6 * HOUR_SECONDS
    payments_key_seconds: float = 45 * DAY_SECONDS
    authorization_seconds: float = 29 * DAY_SECONDS
    honor_seconds: float = 3 * DAY_SECONDS
    token_seconds: int = 9 * HOUR_SECONDS
    fee_basis_points: int = 349
    trusting: bool = False
    reporting: bool = True
    reporting_seconds: float = 0.0
    reporting_rows_max: int = 10_000


@dataclass(frozen=True)
class Bounds:
    """How much is held. Past `orders_max` or `keys_max` it answers 503; the oldest events fall off."""

    body_bytes_max: int = 64 * 1024
    orders_max: int = 1_000_000
    keys_max: int = 2_000_000
    events_max: int = 200_000
    tokens_max: int = 1_000
    connections_max: int = 4_096


@dataclass(frozen=True)
class Exchanged:
    """One request to the API and its answer as the books gave it, for whoever validates both.

    `status` 0 and no answer where there was none to hold to anything: a fault came first, or nobody waited.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    status: int
    answer: bytes


@dataclass(frozen=True)
class PayPalSettings:
    """Everything of one imitation. `port` 0 takes a free one. `clock` gives unix seconds.

    Without `webhook_url`, which may hold `{account}`, nothing is delivered. `public_url` is where a payer's browser
    finds the imitation (its own address unless set). `hang_seconds` is how long a silent connection stays open.
    `observed` hears of each exchange; unless it is set, what SIMULATORS_HEARD says (`simulators/hearing.py`).
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 12_112
    public_url: str | None = None
    merchant: Merchant = field(default_factory=Merchant)
    webhook_url: str | None = None
    seed: int = 0
    hang_seconds: float = 60.0
    drip_seconds: float = 5.0
    huge_bytes: int = 32 * 1024 * 1024
    terms: Terms = field(default_factory=Terms)
    bounds: Bounds = field(default_factory=Bounds)
    delivery: DeliveryLimits = field(default_factory=DeliveryLimits)
    clock: Callable[[], float] = time.time
    observed: Callable[[Exchanged], None] | None = None

    @property
    def delivered_to(self) -> str | None:
        """The webhook's URL, as the merchant gave it to PayPal."""
        return None if self.webhook_url is None else self.webhook_url.replace("{account}", self.merchant.account)
