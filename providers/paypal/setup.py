"""Whether an account is set up at PayPal as the gateway needs it: credentials, and the webhook with its events."""

from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

from gateway.domain.setup_checks import SetupCheck
from providers.fields import Fields, bounded
from providers.http import Exchange, Received
from providers.paypal.events import SUBSCRIBED
from providers.paypal.mapping import listed
from providers.paypal.tokens import NoToken, Token
from providers.strict_json import parse_object

WEBHOOKS_PATH = "/v1/notifications/webhooks"
EVERY_EVENT = "*"

Read = Callable[[str, float], Awaitable[Exchange]]


async def check_setup(
    read: Read, token: Token | NoToken, webhook_ids: Sequence[str], *, callback_path: str, timeout_s: float
) -> list[SetupCheck]:
    """Each thing that was looked at. Credentials that are refused end the looking."""
    if isinstance(token, NoToken):
        mend = "set options.client_id and api_key to those of a REST app of this account"
        return [SetupCheck("credentials", token.failure, mend if token.refusal else "is base_url PayPal's own?")]
    checks = [SetupCheck("credentials", "a token was given"), _of_ids(webhook_ids)]
    exchange = await read(WEBHOOKS_PATH, timeout_s)
    try:
        if not isinstance(exchange, Received):
            return [*checks, SetupCheck("webhook", f"no answer: {exchange.failure}", "check it by hand")]
        if exchange.status != 200:
            return [*checks, SetupCheck("webhook", str(exchange.status), "let the app read webhooks, or look by hand")]
        every = list(listed(Fields(parse_object(exchange.body), "page"), "webhooks"))
        return [*checks, *_of_webhooks(every, webhook_ids, callback_path)]
    except ValueError as error:
        return [*checks, SetupCheck("webhook", f"unreadable: {bounded(str(error), 200)}", "check it by hand")]


def _of_ids(webhook_ids: Sequence[str]) -> SetupCheck:
    mend = "" if webhook_ids else "set webhook_secrets to the webhook's id: deliveries are signed for it"
    return SetupCheck("webhook id", f"{len(webhook_ids)} set" if webhook_ids else "none", mend)


def _of_webhooks(every: list[Fields], webhook_ids: Sequence[str], callback_path: str) -> list[SetupCheck]:
    ours = [each for each in every if urlsplit(each.text("url")).path.rstrip("/").endswith(callback_path)]
    if not ours:
        return [SetupCheck("webhook", "none", f"add one at https://<your sidecar>{callback_path}")]
    known = [each for each in ours if each.text("id") in webhook_ids]
    if not known:
        return [SetupCheck("webhook", ours[0].text("id"), "set webhook_secrets to this id")]
    events = {each.optional_text("name") for webhook in known for each in listed(webhook, "event_types")}
    lacking = [] if EVERY_EVENT in events else [each for each in SUBSCRIBED if each not in events]
    return [
        SetupCheck("webhook", known[0].text("url")),
        SetupCheck(
            "webhook events",
            f"{len(SUBSCRIBED) - len(lacking)} of {len(SUBSCRIBED)}",
            f"subscribe it to {', '.join(lacking)}" if lacking else "",
        ),
    ]
