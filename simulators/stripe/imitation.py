"""One imitation: its books, keys, faults and courier, put together, and the steps that it takes by itself."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping

from simulators.faults import FaultPlan
from simulators.journal import Journal
from simulators.stripe import charges, intents
from simulators.stripe.books import Books, Scope, Step
from simulators.stripe.idempotency import Keys
from simulators.stripe.methods import method_for
from simulators.stripe.objects import Object, minted
from simulators.stripe.refusals import Refusal
from simulators.stripe.settings import StripeSettings
from simulators.webhooks import Courier, Delivery
from simulators.wire import Wire

# The clock is a port and may be moved by a test, so the agenda looks at it again after this long.
AGENDA_LOOK_SECONDS = 0.05


def signed_headers(secret: str, now: float, body: bytes) -> Mapping[str, str]:
    """The headers of one delivery attempt at `now` (unix seconds). https://docs.stripe.com/webhooks/signature"""
    told = int(now)
    digest = hmac.new(secret.encode(), f"{told}.".encode() + body, hashlib.sha256).hexdigest()
    return {"Content-Type": "application/json; charset=utf-8", "Stripe-Signature": f"t={told},v1={digest}"}


class Imitation:
    """What the routes work with. `open(url)` restores the books and starts; `close()` ends it."""

    def __init__(self, settings: StripeSettings) -> None:
        self.settings = settings
        self.accounts = settings.accounts_by_key()
        self.faults = FaultPlan(settings.seed)
        self.keys = Keys(settings.idempotency_seconds, settings.bounds.keys_max)
        self.courier = Courier(settings.delivery, settings.seed)
        self.journal = Journal(settings.data_dir, settings.clock)
        self.books = Books(self.journal, self.keys, settings.bounds, self.announce)
        self.wire = Wire(settings.hang_seconds, settings.drip_seconds, settings.huge_bytes)
        self._secrets = {account.id: account.signing_secret for account in settings.accounts}
        self._customer_url = ""
        self._agenda: asyncio.Task[None] | None = None

    def open(self, url: str) -> None:
        """Restore the books and start to work. `url` is where this is reached. Raises DirectoryBusy."""
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

    def step(self, scope: Scope, key: str | None = None) -> Step:
        """A step that begins now."""
        settings = self.settings
        request = minted("req") if key is not None else None
        return Step(self.books, scope, settings.clock(), settings.terms, self._customer_url, key, request)

    def announce(self, scope: Scope, told: Object) -> None:
        """Queue an event for its platform's webhook, if there is one."""
        if self.settings.webhook_url is None or scope.account not in self._secrets:
            return
        secret, clock = self._secrets[scope.account], self.settings.clock
        self.courier.offer(
            Delivery(
                self.settings.webhook_url.replace("{account}", scope.account),
                lambda: json.dumps(told).encode(),
                lambda body: signed_headers(secret, clock(), body),
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
            for scope, due, action in self.books.due(self.settings.clock()):
                self._take(scope, due, action)
            # However much is due, those who ask come between.
            await asyncio.sleep(0)

    def _take(self, scope: Scope, due: Object, action: str) -> None:
        step = self.step(scope)
        reached = step.load(due["object"], due["id"])
        # The entry goes with the step, or what it does nothing about would be due for ever.
        reached["_due"] = None
        try:
            ACTIONS[action](step, reached)
        except Refusal:
            # Overtaken: it has moved on since this was noted.
            return
        except intents.Declined:
            # The step stands: that is how the attempt ended.
            self.books.book(step, None)
            return
        self.books.book(step, None)


def _settle(step: Step, taken: Object) -> None:
    method = method_for(taken["payment_method"])
    intent = step.load("payment_intent", taken["payment_intent"])
    intents.settled(step, intent, succeeded=method.settled == "succeeded")


def _end_refund(step: Step, made: Object) -> None:
    method = method_for(step.load("charge", made["charge"])["payment_method"])
    charges.refund_moved(step, made, "succeeded" if method.refund == "pends" else "failed")


def _dispute(step: Step, taken: Object) -> None:
    method = method_for(taken["payment_method"])
    status = "warning_needs_response" if method.inquiry else "needs_response"
    charges.disputed(step, taken, None, status, method.disputed or "general")


def _expire(step: Step, intent: Object) -> None:
    intents.cancel(step, intent, "automatic", expired=True)


ACTIONS: dict[str, Callable[[Step, Object], None]] = {
    "settle": _settle,
    "refund": _end_refund,
    "dispute": _dispute,
    "expire": _expire,
}
