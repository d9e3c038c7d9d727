"""The other side of the wire: which test tokens a provider has, and what its customers and its staff can be made to do.

A scene says what it wants to happen ("a card that the bank refuses"); the table here says how each provider is told so.
A further provider is one more class with these methods, and one more line in PROVIDERS.
"""

import http.client
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlencode, urlsplit

from gateway.demo.figures import Effect, read_effects
from gateway.demo.installation import Installation

ANSWER_S_MAX = 10.0


@dataclass(frozen=True, slots=True)
class TestMethods:
    """A provider's payment methods for tests, by what they do."""

    approved: str
    needs_action: str
    declined: str


class ProviderSide(Protocol):
    """What a scene needs of a provider, beyond the gateway."""

    name: str
    methods: TestMethods

    def approve(self, url: str) -> str:
        """The customer follows the redirect and approves; where the provider then sends the browser."""
        ...

    def sent_back(self, return_url: str, provider_payment_id: str) -> str:
        """Where a customer who approved is sent, by what the provider documents of the return URL."""
        ...

    def dispute(self, provider_payment_id: str, amount_minor: int) -> None:
        """The customer's bank asks for its money back."""
        ...

    def lose_next_answer(self) -> str:
        """Let the next charge be booked and its answer be lost; the payment method to ask for it with."""
        ...

    def callbacks_lost(self) -> AbstractContextManager[None]:
        """While this lasts no callback is sent."""
        ...

    def callbacks_pending(self) -> int:
        """How many callbacks are on their way."""
        ...

    def effects(self) -> tuple[Effect, ...]:
        """All that moved on its books so far."""
        ...


class UnexpectedAnswer(Exception):
    """The provider's side answered in a way that the play does not know."""


class ControlledSide:
    """What every imitation has: a page for its customer, controls under /control, and its effect log."""

    def __init__(self, installed: Installation) -> None:
        self._installed = installed

    def approve(self, url: str) -> str:
        """Open the page as a browser does, and press the button."""
        _ask("GET", url, "", {}, http.HTTPStatus.OK)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = _ask("POST", url, urlencode({"outcome": "approve"}), form, http.HTTPStatus.SEE_OTHER)
        return answer.location

    def sent_back(self, return_url: str, provider_payment_id: str) -> str:
        """The URL as it is."""
        return return_url

    def dispute(self, provider_payment_id: str, amount_minor: int) -> None:
        """By the control that opens one."""
        self._control("POST", f"payments/{provider_payment_id}/dispute", {"amount": amount_minor})

    @contextmanager
    def callbacks_lost(self) -> Iterator[None]:
        """Delivery is switched off, and on again; what would have been sent meanwhile is gone."""
        self._control("POST", "webhooks", {"mode": "off"})
        try:
            yield
        finally:
            self._control("POST", "webhooks", {"mode": "normal"})

    def callbacks_pending(self) -> int:
        """As its courier counts them."""
        return int(json.loads(self._control("GET", "webhooks", None))["pending"])

    def effects(self) -> tuple[Effect, ...]:
        """From the file itself: what is on its disk, not what it answers."""
        return read_effects(self._installed.effect_log)

    def _control(self, method: str, path: str, body: Mapping[str, object] | None) -> str:
        url = f"{self._installed.provider_url}/control/{path}"
        return _ask(method, url, "" if body is None else json.dumps(body), {}, http.HTTPStatus.OK).body


class SandboxSide(ControlledSide):
    """The sandbox, whose payment methods say what goes wrong."""

    name = "sandbox"
    methods = TestMethods(
        approved="card_ok", needs_action="card_requires_action", declined="card_declined_insufficient_funds"
    )

    def lose_next_answer(self) -> str:
        return "card_answer_lost"


class StripeSide(ControlledSide):
    """Stripe's imitation, by the test payment methods that Stripe publishes; what goes wrong is a fault."""

    name = "stripe"
    methods = TestMethods(
        approved="pm_card_visa",
        needs_action="pm_card_threeDSecure2Required",
        declined="pm_card_visa_chargeDeclinedInsufficientFunds",
    )

    def lose_next_answer(self) -> str:
        self._control("POST", "faults", {"next": [{"fault": "lost_after", "match": "create"}]})
        return self.methods.approved


class PayPalSide(ControlledSide):
    """PayPal's imitation: vaulted wallets pay by themselves, and a payer without one approves on PayPal's page."""

    name = "paypal"
    methods = TestMethods(approved="wallet_ok", needs_action="paypal", declined="card:card_insufficient_funds")

    def sent_back(self, return_url: str, provider_payment_id: str) -> str:
        """With the order's id beside it."""
        return f"{return_url}?token={provider_payment_id}"

    def lose_next_answer(self) -> str:
        self._control("POST", "faults", {"next": [{"fault": "lost_after", "match": "create"}]})
        return self.methods.approved


PROVIDERS: Mapping[str, Callable[[Installation], ProviderSide]] = {
    SandboxSide.name: SandboxSide,
    StripeSide.name: StripeSide,
    PayPalSide.name: PayPalSide,
}
"""Whom the demo can play against."""


@dataclass(frozen=True, slots=True)
class _Answer:
    body: str
    location: str


def _ask(method: str, url: str, body: str, headers: Mapping[str, str], wanted: http.HTTPStatus) -> _Answer:
    """One request, and no redirect followed: where it leads belongs to the merchant."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=ANSWER_S_MAX)
    try:
        connection.request(method, parts.path, body.encode(), dict(headers))
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    finally:
        connection.close()
    if answer.status != wanted:
        raise UnexpectedAnswer(f"{method} {parts.path} answered {answer.status}, not {wanted.value}: {text[:500]}")
    return _Answer(text, answer.getheader("Location", ""))
