"""One imitation: its books, tokens, faults and courier, put together."""

from __future__ import annotations

import functools
import secrets
import string

from simulators.faults import FaultPlan
from simulators.journal import Journal
from simulators.paypal.books import Books
from simulators.paypal.certificates import Chain, chain_in
from simulators.paypal.events import Event, event_body, signed_headers
from simulators.paypal.request_ids import RequestIds
from simulators.paypal.settings import PayPalSettings
from simulators.paypal.steps import Moment
from simulators.paypal.tokens import Tokens
from simulators.webhooks import Courier, Delivery
from simulators.wire import Wire

CERTIFICATE_PATH = "/v1/notifications/certs/CERT-imitated-1"
_ALPHABET = string.ascii_uppercase + string.digits


class Imitation:
    """What the routes work with. `open(url)` restores the books and starts; `close()` ends it."""

    def __init__(self, settings: PayPalSettings) -> None:
        self.settings = settings
        terms, bounds = settings.terms, settings.bounds
        self.faults = FaultPlan(settings.seed)
        self.request_ids = RequestIds(terms.orders_key_seconds, terms.payments_key_seconds, bounds.keys_max)
        self.tokens = Tokens(settings.merchant, terms.token_seconds, bounds.tokens_max, settings.clock)
        self.courier = Courier(settings.delivery, settings.seed)
        self.journal = Journal(settings.data_dir, settings.clock)
        self.books = Books(settings, self.journal, self.request_ids, minted_event, self.announce)
        self.wire = Wire(settings.hang_seconds, settings.drip_seconds, settings.huge_bytes)
        self.chain: Chain = chain_in(settings.data_dir)
        self.url = ""

    def open(self, url: str) -> None:
        """Restore the books and start to work. `url` is where the imitation is reached. Raises DirectoryBusy."""
        self.url = self.settings.public_url or url
        self.journal.open(self.books.restore)
        self.courier.start()

    async def close(self) -> None:
        """Stop, with everything booked on disk. What waits on a fault is let go."""
        self.faults.heal()
        await self.courier.close()
        await self.journal.close()

    def moment(self) -> Moment:
        """Now, under this imitation's terms."""
        settings = self.settings
        merchant = settings.merchant
        return Moment(settings.clock(), settings.terms, merchant.merchant_id, merchant.account, self.url, minted)

    def announce(self, event: Event) -> None:
        """Queue an event for the webhook, if there is one."""
        if self.settings.delivered_to is None:
            return
        webhook_id, clock, chain = self.settings.merchant.webhook_id, self.settings.clock, self.chain
        self.courier.offer(
            Delivery(
                self.settings.delivered_to,
                functools.partial(event_body, event, self.url),
                lambda body: signed_headers(chain, webhook_id, clock(), body, self.url + CERTIFICATE_PATH),
            )
        )


def minted() -> str:
    """A new id as PayPal's are: 17 capitals and digits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(17))


def minted_event() -> str:
    """A new event's id."""
    return f"WH-{minted()}-{minted()}"
