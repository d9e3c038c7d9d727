"""Whom the installation is tortured with: each imitation's words for what the run asks of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from simulators.paypal.methods import CARDS, FUNDINGS, WALLETS
from simulators.sandbox.outcomes import OUTCOMES
from simulators.stripe.methods import METHODS

APPROVE, REFUSE = {"outcome": "approve"}, {"outcome": "refuse"}


@dataclass(frozen=True)
class Tortured:
    """One provider.

    `section` are the settings of an account there; `{url}` is where the imitation is, `{books}` the directory of its
    books. `other` are those of a second account there, "" where there is none, and `other_key` its key: a rule sends
    a share of the payments to that one first, and on to the first one where it did not get them or declined softly.
    `tokens` are payment methods with how often each is drawn; `again` those of a confirm, none where it has no such
    thing. `verbs` are the last words of the paths that are written to, for the killer. On `page` the payer says one
    of `says`. `key_header` has a write's key, in small letters, and `unkeyed` are writes that move nothing and have
    none. `event_header` has an event's id, where a header has it. `payments_path` lists what the provider has
    recorded, "" where its records say nothing of ours but in metadata. `ends_pending` is the control by which what
    pends comes to its end, "" where it does so by itself. `adjusts`: what it answers to an adjustment, or shows of it,
    ends it; at PayPal a person does, where a resend was refused (ADR 0018). `settings` go over those of every run, with
    a reason each.
    """

    name: str
    section: str
    api_key: str
    tokens: Mapping[str, float]
    approves: str
    again: tuple[str, ...]
    currencies: tuple[str, ...]
    verbs: tuple[str, ...]
    other: str = ""
    other_key: str = ""
    page: str = "/customer"
    says: tuple[Mapping[str, str], ...] = (APPROVE, APPROVE, REFUSE)
    ends_pending: str = ""
    adjusts: bool = True
    settings: Mapping[str, str] = field(default_factory=dict)
    key_header: str = "idempotency-key"
    unkeyed: tuple[str, ...] = ()
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
    verbs=("payments", "confirm", "capture", "adjust", "cancel", "refunds"),
    other='api_key = "sandbox-key-other"\nwebhook_secrets = ["sandbox-signing-other"]',
    other_key="sandbox-key-other",
    event_header="Sandbox-Event-Id",
    payments_path="/v1/payments",
)

STRIPE = Tortured(
    name="stripe",
    section="""\
api_key = "sk_test_simulated"
webhook_secrets = ["whsec_simulated"]
options = {{ multicapture = "true", incremental_authorization = "true" }}""",
    api_key="sk_test_simulated",
    tokens=MappingProxyType(dict.fromkeys(METHODS, 1.0)),
    approves="pm_card_visa",
    again=("pm_card_visa", "pm_card_visa", "pm_card_chargeDeclined", "pm_card_threeDSecure2Required"),
    # Amounts in three decimals would have to be drawn in tens.
    currencies=("EUR", "JPY", "USD"),
    # Our references, before a confirm: under a key of the SDK's.
    unkeyed=(r"POST /v1/payment_intents/\w+ ",),
    verbs=("payment_intents", "confirm", "capture", "increment_authorization", "cancel", "refunds"),
    other="""\
api_key = "sk_test_other"
webhook_secrets = ["whsec_other"]
options = {{ multicapture = "true", incremental_authorization = "true" }}""",
    other_key="sk_test_other",
)

PAYPAL = Tortured(
    name="paypal",
    section="""\
api_key = "paypal-secret-simulated"
webhook_secrets = ["4JH86294SJM97924G"]
options = {{ client_id = "paypal-client-simulated", roots_file = "{books}/root.pem", certificate_origin = "{url}" }}""",
    api_key="",
    tokens=MappingProxyType(
        {
            **dict.fromkeys(WALLETS, 1.0),
            **{f"card:{card}": 1.0 for card in CARDS},
            "agreement:B-1": 1.0,
            "wallet_of_nobody": 0.5,
            # The payer's approval, and the completion that follows, is what PayPal has more of than the others.
            "paypal": 6.0,
        }
    ),
    approves="wallet_ok",
    again=(),
    currencies=("EUR", "JPY", "USD"),
    verbs=("orders", "capture", "authorize", "void", "refund"),
    page="/checkoutnow",
    says=(
        {**APPROVE, "funding": "ok"},
        {**APPROVE, "funding": "ok"},
        *({**APPROVE, "funding": funding} for funding in FUNDINGS),
        {"outcome": "cancel"},
    ),
    ends_pending="/control/pending",
    adjusts=False,
    key_header="paypal-request-id",
    unkeyed=(r"POST /v1/oauth2/token ",),
    settings=MappingProxyType(
        {
            # PayPal finds nothing by our reference: what got lost ends by being sent again while its key is good, hours
            # there. With the seconds of the others a storm would leave for a person what two minutes more had ended.
            "OBOL_ENGINE__RESEND_AGE_S_MAX": "600",
        }
    ),
)

TORTURED: Mapping[str, Tortured] = {each.name: each for each in (SANDBOX, STRIPE, PAYPAL)}
"""By name."""
