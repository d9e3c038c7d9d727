"""PayPal's adapter: one merchant account over Orders v2 and Payments v2.

A write is prepared to the byte, sent as it was prepared, and classified by the table in `answers`. Captures of an
authorization, re-authorizations, voids and refunds are answered with what they made; the order that shows it in its
place is read then. The access token is added while sending. A 401 says that nothing was done: the request goes out
once more with a new token, as long as sending is allowed.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from gateway.domain.commands import PreparedRequest
from gateway.domain.movements import Closure, Facts, MovementKind, MovementStatus, ProviderObject
from gateway.domain.payments import Payment, PaymentTerms
from gateway.domain.providers import (
    Ambiguous,
    Answered,
    CallbackHint,
    Capabilities,
    Found,
    Lookup,
    NotSent,
    OperationReference,
    Outcome,
    ProviderEvent,
    Snapshot,
)
from gateway.domain.setup_checks import SetupCheck
from providers.http import Exchange, HttpWire, NeverSent, Received
from providers.paypal import requests
from providers.paypal.answers import Done, read_answer
from providers.paypal.capabilities import CAPABILITIES
from providers.paypal.event_list import EventList
from providers.paypal.events import interpret
from providers.paypal.listing import Listing
from providers.paypal.mapping import PayPalMapping
from providers.paypal.objects import Objects
from providers.paypal.reporting import LAG_S, Reporting
from providers.paypal.setup import check_setup
from providers.paypal.tokens import NoToken, Token, Tokens
from providers.refusals import LATE, not_executed
from providers.retry import Pace, loop_pace, retried
from providers.settings import ProviderAccountSettings, ProviderHooks

SANDBOX_URL, LIVE_URL = "https://api-m.sandbox.paypal.com", "https://api-m.paypal.com"
TOKEN_S_MAX = 10.0
TOKEN_BYTES_MAX = 64 * 1024


def build(settings: ProviderAccountSettings, hooks: ProviderHooks) -> "PayPalAdapter":
    """An AdapterBuilder. Raises ValueError for a base URL or credentials that cannot be right."""
    if not settings.base_url:
        # No key of PayPal's says which it is for.
        raise ValueError(f"base_url must say which money it is: {SANDBOX_URL} or {LIVE_URL}")
    if not settings.api_key or not settings.options.get("client_id"):
        raise ValueError("PayPal takes a client id (options.client_id) and its secret (api_key)")
    return PayPalAdapter(settings, unmapped=partial(hooks.unmapped, CAPABILITIES.provider))


class PayPalAdapter:
    """A ProviderAdapter that takes, completes, captures, cancels, refunds and lists payments, and reads events.

    `pace` is the port to time and chance, by default the running loop's; `wall` gives unix seconds.
    """

    def __init__(
        self,
        settings: ProviderAccountSettings,
        *,
        unmapped: Callable[[str, str], None],
        pace: Pace | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._pace = pace
        now = pace.now if pace else None
        self._wire = HttpWire(settings.base_url, settings.wire, now=now)
        # A wire of its own: a bulkhead full of slow calls must not keep the token away that they need.
        limits = replace(settings.wire, connections_max=1, body_bytes_max=TOKEN_BYTES_MAX)
        self._token_wire = HttpWire(settings.base_url, limits, now=now)
        client_id = settings.options["client_id"]
        self._tokens = Tokens(self._token_wire, client_id, settings.api_key, now=now, timeout_s=TOKEN_S_MAX)
        self._mapping = PayPalMapping(settings.account_id, settings.merchant_id, unmapped)
        self._objects = Objects(self._read, self._mapping)
        self._event_list = EventList(self._read)
        self._reporting = Reporting(self._read, self._mapping)
        lag_s = _lag_s(settings.options)
        self._listing = Listing(self._reporting, self._objects, settings.account_id, lag_s=lag_s, wall=wall)
        self._wall = wall

    @property
    def account_id(self) -> str:
        return self._settings.account_id

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    def prepare_create(self, reference: OperationReference, terms: PaymentTerms) -> PreparedRequest:
        return requests.create(reference, terms)

    def prepare_complete(self, reference: OperationReference, payment: Payment) -> PreparedRequest:
        return requests.complete(reference, payment)

    def prepare_capture(
        self, reference: OperationReference, payment: Payment, *, amount_minor: int, final: bool
    ) -> PreparedRequest:
        return requests.capture(reference, payment, amount_minor, final)

    def prepare_adjust(self, reference: OperationReference, payment: Payment, *, total_minor: int) -> PreparedRequest:
        return requests.adjust(reference, payment, total_minor)

    def prepare_cancel(self, reference: OperationReference, payment: Payment, *, reason: str) -> PreparedRequest:
        return requests.cancel(reference, payment, reason)

    def prepare_refund(
        self, reference: OperationReference, payment: Payment, *, amount_minor: int, reason: str
    ) -> PreparedRequest:
        return requests.refund(reference, payment, amount_minor, reason)

    async def execute(self, prepared: PreparedRequest, *, send_before: float, timeout_s: float) -> Outcome:
        """Send `prepared`, again only what provably did nothing; `timeout_s` is for all attempts together."""
        now = self._clock()
        deadline = now() + timeout_s
        token = await self._tokens.get(timeout_s=min(send_before, deadline) - now())
        if isinstance(token, NoToken):
            return _unsent(token)
        exchange = await self._send(prepared, token, send_before, deadline)
        if isinstance(exchange, Received) and exchange.status == 401:
            # Nothing was done: with another token it is the same first send, which the wire lets out no later either.
            self._tokens.refused(token)
            another = await self._tokens.get(timeout_s=min(send_before, deadline) - now())
            if isinstance(another, Token):
                exchange = await self._send(prepared, another, send_before, deadline)
        read = read_answer(exchange, prepared, self._mapping)
        return await self._with_order(read, deadline - now()) if isinstance(read, Done) else read

    async def fetch(self, provider_payment_id: str, *, timeout_s: float) -> Lookup:
        """The order by its id; or by the capture, refund, authorization or dispute that an event named ("kind:id")."""
        return await self._objects.find(provider_payment_id, timeout_s=timeout_s, now=self._clock())

    async def lookup(self, payment_id: str, *, timeout_s: float) -> Lookup:
        """The order by our reference, where the transaction search shows it; that nothing is found proves nothing."""
        return await self._listing.lookup(payment_id, timeout_s=timeout_s, now=self._clock())

    async def list_payments(
        self, *, created_from_us: int, created_before_us: int, page_token: str, limit: int, timeout_s: float
    ) -> tuple[Sequence[Snapshot], str]:
        """Orders with a transaction in [from, before), a page at a time. Raises Unavailable, InvalidRequest."""
        return await self._listing.payments(
            created_from_us=created_from_us,
            created_before_us=created_before_us,
            page_token=page_token,
            limit=limit,
            timeout_s=timeout_s,
            now=self._clock(),
        )

    def interpret(self, body: bytes, headers: Mapping[str, str]) -> CallbackHint:
        """What a verified callback is about. Raises ValueError."""
        return interpret(body)

    async def list_events(self, *, after_event_id: str, limit: int, timeout_s: float) -> Sequence[ProviderEvent]:
        """Events after a known one ("" from the oldest kept), oldest first. Raises Unavailable, InvalidRequest."""
        return await self._event_list.after(after_event_id, limit=limit, timeout_s=timeout_s, now=self._clock())

    async def check_setup(self, *, callback_path: str, timeout_s: float) -> Sequence[SetupCheck]:
        """Whether the credentials are good, the webhook is there, ours and subscribed, and the search allowed.

        Raises nothing.
        """
        token = await self._tokens.get(timeout_s=timeout_s)
        webhook_ids = [secret.reveal() for secret in self._settings.webhook_secrets]
        checks = await check_setup(self._read, token, webhook_ids, callback_path=callback_path, timeout_s=timeout_s)
        if isinstance(token, Token):
            checks.append(await self._reporting.check(now_s=self._wall(), timeout_s=timeout_s))
        return checks

    async def close(self) -> None:
        """Give back connections."""
        await self._tokens.close()
        await self._token_wire.close()
        await self._wire.close()

    async def _send(self, prepared: PreparedRequest, token: Token, send_before: float, deadline: float) -> Exchange:
        pace = self._pace or loop_pace()
        headers = {**prepared.headers, **_bearer(token), "PayPal-Request-Id": prepared.idempotency_key}

        async def send() -> Exchange:
            return await self._wire.write(
                prepared.method,
                prepared.path,
                headers=headers,
                body=prepared.body.encode(),
                send_before=send_before,
                timeout_s=deadline - pace.now(),
            )

        return await retried(
            send,
            again=lambda result: isinstance(result, NeverSent) and not result.late,
            limits=self._settings.retry,
            send_before=min(send_before, deadline),
            pace=pace,
        )

    async def _read(self, path: str, timeout_s: float) -> Exchange:
        """GET with a token, and once more with a new one where PayPal did not take the first."""
        now = self._clock()
        deadline = now() + timeout_s
        token = await self._tokens.get(timeout_s=timeout_s)
        if isinstance(token, NoToken):
            return NeverSent(token.failure)
        exchange = await self._wire.read(path, headers=_bearer(token), timeout_s=deadline - now())
        if isinstance(exchange, Received) and exchange.status == 401:
            self._tokens.refused(token)
            another = await self._tokens.get(timeout_s=deadline - now())
            if isinstance(another, Token):
                exchange = await self._wire.read(path, headers=_bearer(another), timeout_s=deadline - now())
        return exchange

    async def _with_order(self, done: Done, timeout_s: float) -> Outcome:
        """What was made, in its order. The order's read may lag: what the answer showed is in the snapshot anyway."""
        lookup = await self._objects.find(done.asked.order_id, timeout_s=timeout_s, now=self._clock())
        if not isinstance(lookup, Found):
            return Ambiguous(f"done, and the order is not readable: {getattr(lookup, 'failure', 'absent')}"[:200])
        made = done.movement if done.asked.verb != "cancel" else None
        return Answered(_shown(done, lookup.snapshot), made.provider_movement_id if made else None)

    def _clock(self) -> Callable[[], float]:
        return (self._pace or loop_pace()).now


def _shown(done: Done, snapshot: Snapshot) -> Snapshot:
    facts = Facts() if done.movement is None else Facts(movements=(done.movement,))
    if done.asked.verb == "cancel" and not _taken(snapshot):
        closed = ProviderObject(snapshot.account_id, snapshot.provider_payment_id, Closure.CANCELLED)
        facts = facts.merge(Facts(objects=(closed,)))
    unmapped = tuple(dict.fromkeys((*snapshot.unmapped, *done.unmapped)))
    return replace(snapshot, facts=snapshot.facts.merge(facts), unmapped=unmapped)


def _taken(snapshot: Snapshot) -> bool:
    captures = [each for each in snapshot.facts.movements if each.kind is MovementKind.CAPTURE]
    return any(each.status is not MovementStatus.FAILED for each in captures)


def _lag_s(options: Mapping[str, str]) -> float:
    """`options.reporting_lag_s`, PayPal's own three hours unless told otherwise. Raises ValueError."""
    told = options.get("reporting_lag_s", str(LAG_S))
    if not told.isascii() or not told.isdigit() or int(told) > LAG_S:
        raise ValueError(f"options.reporting_lag_s must be whole seconds, at most PayPal's own {LAG_S}")
    return float(told)


def _bearer(token: Token) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.value.reveal()}"}


def _unsent(token: NoToken) -> Outcome:
    """Without a token nothing of the request has gone out."""
    if token.refusal is None:
        return NotSent(f"{LATE}: {token.failure}" if token.late else token.failure)
    return not_executed(token.refusal, token.failure, retry_after_s=token.retry_after_s)
