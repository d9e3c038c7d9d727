"""Whom an installation can run against: how `obol` serves each imitation, and how an account is configured for it.

A further provider is one more `Imitation`, and one more line in IMITATIONS. Every imitation keeps an effect log in the
same form, and answers GET /control/webhooks when it serves.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Imitation:
    """One provider's other side.

    `serve` are the arguments of the `obol` command that serves it, to which `--port N` is added. `account` are the
    settings of an account at it, without `provider` and `base_url`; `options` its options, in which `{url}` is where
    the imitation is and `{books}` the directory of its books. Its effect log lies there, in `directory` below the data
    directory.
    """

    provider: str
    serve: tuple[str, ...]
    directory: str
    account: Mapping[str, str | bool | tuple[str, ...]]
    options: Mapping[str, str] = field(default_factory=dict)


SANDBOX = Imitation(
    provider="sandbox",
    serve=("sandbox",),
    directory="sandbox",
    account={"api_key": "sandbox-key-main", "webhook_secrets": ("sandbox-signing-main",), "default": True},
)

STRIPE = Imitation(
    provider="stripe",
    serve=("simulator", "stripe"),
    directory="stripe",
    account={"api_key": "sk_test_simulated", "webhook_secrets": ("whsec_simulated",), "default": True},
    options={"multicapture": "true"},
)

PAYPAL = Imitation(
    provider="paypal",
    serve=("simulator", "paypal"),
    directory="paypal",
    # An event is signed for a webhook's id, by a certificate that only the imitation's own root vouches for.
    account={"api_key": "paypal-secret-simulated", "webhook_secrets": ("4JH86294SJM97924G",), "default": True},
    options={
        "client_id": "paypal-client-simulated",
        "roots_file": "{books}/root.pem",
        "certificate_origin": "{url}",
    },
)

IMITATIONS: Mapping[str, Imitation] = {each.provider: each for each in (SANDBOX, STRIPE, PAYPAL)}
"""By provider."""
