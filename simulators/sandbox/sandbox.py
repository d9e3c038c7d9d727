"""One sandbox: its books, keys, faults and courier, put together, and the steps that it takes by itself."""

from __future__ import annotations

import asyncio
import functools
import secrets
from collections.abc import Callable
from dataclasses import replace

from simulators.faults import FaultPlan
from simulators.journal import Journal
from simulators.sandbox.attempts import settled
from simulators.sandbox.books import Books
from simulators.sandbox.changes import Change, Moment
from simulators.sandbox.events import Event, event_body, signed_headers
from simulators.sandbox.idempotency import Keys
from simulators.sandbox.movements import disputed, expired, refund_moved
from simulators.sandbox.outcomes import outcome_for
from simulators.sandbox.payment import Due, Payment
from simulators.sandbox.refusals import Refusal
from simulators.sandbox.settings import SandboxSettings
from simulators.webhooks import Courier, Delivery
from simulators.wire import Wire

# The clock is a port and may be moved by a test, so the agenda looks at it again after this long.
AGENDA_LOOK_SECONDS = 0.05


class Sandbox:
    """What the routes work with. `open(url)` restores the books and starts; `close()` ends it."""

    def __init__(self, settings: SandboxSettings) -> None:
        self.settings = settings
        self.accounts = settings.accounts_by_key()
        self.faults = FaultPlan(settings.seed)
        self.keys = Keys(settings.idempotency_seconds, settings.bounds.keys_max)
        self.courier = Courier(settings.delivery, settings.seed)
        self.journal = Journal(settings.data_dir, settings.clock)
        self.books = Books(self.journal, self.keys, settings.bounds, minted, self.announce)
        self.wire = Wire(settings.hang_seconds, settings.drip_seconds, settings.huge_bytes)
        self._secrets = {account.id: account.signing_secret for account in settings.accounts}
        self._customer_url = ""
        self._agenda: asyncio.Task[None] | None = None

    def open(self, url: str) -> None:
        """Restore the books and start to work. `url` is where the sandbox is reached. Raises DirectoryBusy."""
        self._customer_url = f"{self.settings.public_url or url}/customer/"
        self.journal.open(self.books.restore)
        self.courier.start()
        self._agenda = asyncio.create_task(self._keep_agenda(), name="agenda")

    async def close(self) -> None:
        """Stop, with everything booked on disk. What waits on a fault is let go."""
        self.faults.heal()
        if self._agenda is not None:
            self._agenda.cancel()
            await asyncio.gather(self._agenda, return_exceptions=True)
        await self.courier.close()
        await self.journal.close()

    def moment(self) -> Moment:
        """Now, under this sandbox's terms."""
        return Moment(self.settings.clock(), self.settings.terms, minted, self._customer_url)

    def announce(self, event: Event) -> None:
        """Queue an event for its account's webhook, if there is one."""
        account = event.payment.account
        if self.settings.webhook_url is None or account not in self._secrets:
            return
        secret, clock = self._secrets[account], self.settings.clock
        self.courier.offer(
            Delivery(
                self.settings.webhook_url.replace("{account}", account),
                functools.partial(event_body, event),
                lambda body: signed_headers(event.id, secret, clock(), body),
            )
        )

    async def _keep_agenda(self) -> None:
        while True:
            next_due = self.books.next_due()
            now = self.settings.clock()
            if next_due is None:
                self.books.agenda_grew.clear()
                await self.books.agenda_grew.wait()
            elif next_due > now:
                await asyncio.sleep(min(next_due - now, AGENDA_LOOK_SECONDS))
            for payment, entry in self.books.due(self.settings.clock()):
                try:
                    self.books.book(STEPS[entry.action](payment, self.moment(), entry), None)
                except Refusal:
                    # Overtaken: the payment has moved on since this was noted.
                    continue


def minted(prefix: str) -> str:
    """A new id: the prefix and 96 random bits."""
    return f"{prefix}_{secrets.token_hex(12)}"


def _settle(payment: Payment, moment: Moment, entry: Due) -> Change:
    outcome = outcome_for(payment.payment_method, payment.amount)
    return settled(payment, moment, outcome.settled == "succeeded")


def _end_refund(payment: Payment, moment: Moment, entry: Due) -> Change:
    outcome = outcome_for(payment.payment_method, payment.amount)
    return refund_moved(payment, moment, entry.target, "succeeded" if outcome.refund == "pends" else "reversed")


def _dispute(payment: Payment, moment: Moment, entry: Due) -> Change:
    # The entry goes with the step, or a restart would open the dispute again.
    reached = replace(payment, due=tuple(each for each in payment.due if each != entry))
    return disputed(reached, moment, None, "open", "fraudulent")


def _expire(payment: Payment, moment: Moment, entry: Due) -> Change:
    return expired(payment, moment)


STEPS: dict[str, Callable[[Payment, Moment, Due], Change]] = {
    "settle": _settle,
    "refund": _end_refund,
    "dispute": _dispute,
    "expire": _expire,
}
