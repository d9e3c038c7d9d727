"""Whom the installation is tortured with: each imitation's words for what the run asks of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from simulators.sandbox.outcomes import OUTCOMES
from simulators.stripe.methods import METHODS

RARE = {"card_huge_answer": 0.05, "card_slow_drip": 0.3}


@dataclass(frozen=True)
class Tortured:
    """One provider.

    `tokens` are payment methods with how often each is drawn; `again` those of a confirm. `event_header` has an event's
    id, where a header has it. `payments_path` lists what the provider has recorded, "" where its records say nothing
    of ours but in metadata.
    """

    name: str
    section: str
    api_key: str
    tokens: Mapping[str, float]
    approves: str
    again: tuple[str, ...]
    currencies: tuple[str, ...]
    event_header: str = ""
    payments_path: str = ""

    @property
    def callback_headers(self) -> tuple[str, ...]:
        """How the names of the headers begin that a callback needs."""
        return (f"{self.name}-", "content-t")

    def event_id(self, headers: Mapping[str, str], body: bytes) -> str:
        """Which event a callback tells."""
        return headers.get(self.event_header, "") if self.event_header else str(json.loads(body).get("id", ""))


SANDBOX = Tortured(
    name="sandbox",
    section='api_key = "sandbox-key-main"\nwebhook_secrets = ["sandbox-signing-main"]',
    api_key="sandbox-key-main",
    tokens=MappingProxyType(
        {token: {"card_huge_answer": 0.05, "card_slow_drip": 0.3}.get(token, 1.0) for token in OUTCOMES}
    ),
    approves="card_ok",
    again=("card_ok", "card_ok", "card_answer_lost", "card_declined", "card_requires_action"),
    currencies=("EUR", "JPY", "KWD"),
    event_header="Sandbox-Event-Id",
    payments_path="/v1/payments",
)

STRIPE = Tortured(
    name="stripe",
    section='api_key = "sk_test_simulated"\nwebhook_secrets = ["whsec_simulated"]\noptions = { multicapture = "true" }',
    api_key="sk_test_simulated",
    tokens=MappingProxyType(dict.fromkeys(METHODS, 1.0)),
    approves="pm_card_visa",
    again=("pm_card_visa", "pm_card_visa", "pm_card_chargeDeclined", "pm_card_threeDSecure2Required"),
    # Amounts in three decimals would have to be drawn in tens.
    currencies=("EUR", "JPY", "USD"),
)

TORTURED: Mapping[str, Tortured] = {each.name: each for each in (SANDBOX, STRIPE)}
"""By name."""
