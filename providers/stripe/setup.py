"""Whether an account is set up at Stripe as the gateway needs it: key, version, account, and the webhook endpoint."""

from urllib.parse import urlsplit

from gateway.domain.setup_checks import SetupCheck
from providers.fields import Fields
from providers.http import Received
from providers.strict_json import parse_object
from providers.stripe.answers import error_of
from providers.stripe.callbacks import PAYMENT_EVENTS
from providers.stripe.capabilities import API_VERSION
from providers.stripe.wire import StripeWire

ENDPOINTS_MAX = 100
EVERY_EVENT = "*"


async def check_setup(
    wire: StripeWire, *, merchant_id: str, has_secret: bool, callback_path: str, timeout_s: float
) -> list[SetupCheck]:
    """Each thing that was looked at. A key that is refused ends the looking."""
    exchange = (await wire.read("/v1/account", {}, timeout_s=timeout_s)).exchange
    if not isinstance(exchange, Received) or exchange.status != 200:
        return [SetupCheck("credentials", _seen(exchange), "set api_key to a secret key of this account")]
    try:
        account = Fields(parse_object(exchange.body), "account")
        checks = [*_of_account(account, merchant_id), _of_version(exchange)]
    except ValueError as error:
        return [SetupCheck("credentials", f"unreadable: {error}", "is base_url Stripe's own?")]
    checks.append(
        SetupCheck("signing secret", "set" if has_secret else "none", "" if has_secret else "set webhook_secrets")
    )
    listed = (await wire.read("/v1/webhook_endpoints", {"limit": ENDPOINTS_MAX}, timeout_s=timeout_s)).exchange
    return [*checks, *_of_endpoints(listed, callback_path)]


def _of_account(account: Fields, merchant_id: str) -> list[SetupCheck]:
    found = account.text("id")
    other = bool(merchant_id) and merchant_id != found
    enabled = account.raw.get("charges_enabled") is not False
    return [
        SetupCheck("credentials", found, f"the key is of {found}, not of {merchant_id}" if other else ""),
        SetupCheck(
            "charges",
            "enabled" if enabled else "disabled",
            "" if enabled else "finish the account's onboarding in Stripe's dashboard",
        ),
    ]


def _of_version(exchange: Received) -> SetupCheck:
    version = exchange.headers.get("stripe-version", "")
    right = version == API_VERSION
    return SetupCheck("API version", version or "untold", "" if right else f"asked for {API_VERSION}: upgrade obol")


def _of_endpoints(exchange: object, callback_path: str) -> list[SetupCheck]:
    subject = "webhook endpoint"
    if not isinstance(exchange, Received) or exchange.status != 200:
        return [SetupCheck(subject, _seen(exchange), "let the key read webhook endpoints, or check them by hand")]
    try:
        every = list(Fields(parse_object(exchange.body), "page").objects("data"))
        ours = [each for each in every if urlsplit(each.text("url")).path.rstrip("/").endswith(callback_path)]
        enabled = [each for each in ours if each.text("status") == "enabled"]
        events = {text for each in enabled for text in each.raw.get("enabled_events", ()) if isinstance(text, str)}
    except ValueError as error:
        return [SetupCheck(subject, f"unreadable: {error}", "check it by hand")]
    if not ours:
        return [SetupCheck(subject, "none", f"add one at https://<your sidecar>{callback_path}")]
    if not enabled:
        return [SetupCheck(subject, "disabled", "enable it in Stripe's dashboard")]
    lacking = sorted(PAYMENT_EVENTS - events) if EVERY_EVENT not in events else []
    return [
        SetupCheck(subject, enabled[0].text("url")),
        SetupCheck(
            "webhook events",
            f"{len(PAYMENT_EVENTS) - len(lacking)} of {len(PAYMENT_EVENTS)}",
            f"subscribe it to {', '.join(lacking)}" if lacking else "",
        ),
    ]


def _seen(exchange: object) -> str:
    if not isinstance(exchange, Received):
        return f"no answer: {getattr(exchange, 'failure', 'unknown')}"
    try:
        error = error_of(exchange)
        return f"{exchange.status} {error.optional_text('code') or error.text('type')}"
    except ValueError:
        return str(exchange.status)
