"""Stripe's adapter: one account, with everything that it can do.

A write is prepared to the byte, sent as it was prepared, and classified by the table in `answers`; a read gives the
PaymentIntent whole. Credentials are added while sending and are part of nothing that is kept.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from gateway.domain.commands import PreparedRequest
from gateway.domain.payments import Payment, PaymentTerms
from gateway.domain.providers import (
    Answered,
    CallbackHint,
    Capabilities,
    Lookup,
    NotSent,
    OperationReference,
    Outcome,
    ProviderEvent,
    Snapshot,
)
from gateway.domain.setup_checks import SetupCheck
from providers.fields import Fields
from providers.http import Lost, NeverSent, Received
from providers.retry import Pace, loop_pace, retried
from providers.settings import ProviderAccountSettings, ProviderHooks
from providers.strict_json import parse_object
from providers.stripe import requests
from providers.stripe.answers import outcome_of, pieces_of
from providers.stripe.callbacks import interpret
from providers.stripe.capabilities import BASE_URL, PROVIDER, capabilities
from providers.stripe.mapping import StripeMapping
from providers.stripe.options import StripeOptions
from providers.stripe.reading import StripeReader
from providers.stripe.setup import check_setup
from providers.stripe.wire import StripeWire, Told


def build(settings: ProviderAccountSettings, hooks: ProviderHooks) -> "StripeAdapter":
    """An AdapterBuilder. Raises ValueError for a base URL, a credential or an option that cannot be right."""
    if not settings.api_key:
        raise ValueError("no API key: set api_key to a secret key (sk_...) or a restricted one (rk_...)")
    return StripeAdapter(settings, unmapped=partial(hooks.unmapped, PROVIDER))


class StripeAdapter:
    """A ProviderAdapter that takes, captures, cancels and refunds payments, reads callbacks, lists events and payments.

    `pace` is the port to time and chance, by default the running loop's.
    """

    def __init__(
        self,
        settings: ProviderAccountSettings,
        *,
        unmapped: Callable[[str, str], None],
        pace: Pace | None = None,
    ) -> None:
        options = StripeOptions.of(settings.options)
        base_url = settings.base_url or BASE_URL
        self._settings, self._options, self._pace = settings, options, pace
        self._wire = StripeWire(base_url, settings.api_key, settings.wire, now=pace.now if pace else None)
        self._mapping = StripeMapping(settings.account_id, unmapped)
        self._capabilities = capabilities(
            multicapture=options.multicapture,
            incremental=options.incremental_authorization,
            absence_is_consistent=options.absence_is_consistent,
        )
        self._reader = StripeReader(
            self._wire,
            self._mapping,
            connected=options.connected_accounts,
            consistent=options.absence_is_consistent,
        )

    @property
    def account_id(self) -> str:
        return self._settings.account_id

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def prepare_create(self, reference: OperationReference, terms: PaymentTerms) -> PreparedRequest:
        connected = frozenset(self._options.connected_accounts)
        return requests.create(
            reference,
            terms,
            multicapture=self._options.multicapture,
            incremental=self._options.incremental_authorization,
            connected=connected,
        )

    def prepare_confirm(
        self, reference: OperationReference, payment: Payment, *, payment_method: str, return_url: str
    ) -> PreparedRequest:
        return requests.confirm(reference, payment, payment_method, return_url)

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
        """Send `prepared`, again only what provably did not go out; `timeout_s` is for all attempts together."""
        pace = self._pace or loop_pace()
        deadline = pace.now() + timeout_s
        account = prepared.headers.get(requests.ACCOUNT, "")

        def posting(path: str, body: str, key: str) -> Callable[[], Awaitable[Told]]:
            async def post() -> Told:
                return await self._wire.write(
                    path,
                    body,
                    key=key,
                    version=prepared.api_version,
                    account=account,
                    send_before=send_before,
                    timeout_s=deadline - pace.now(),
                )

            return post

        async def sent(post: Callable[[], Awaitable[Told]]) -> Told:
            return await retried(
                post,
                again=lambda told: isinstance(told.exchange, NeverSent) and not told.exchange.late,
                limits=self._settings.retry,
                send_before=min(send_before, deadline),
                pace=pace,
            )

        tag = prepared.headers.get(requests.TAG)
        if tag:
            intent, _, _ = prepared.path.rpartition("/")
            # No key of ours: the same update again is the same, and a stored 500 must not stand in its way.
            refused = _untagged(await sent(posting(intent, tag, "")), prepared, self._mapping)
            if refused is not None:
                return refused
        told = await sent(posting(prepared.path, prepared.body, prepared.idempotency_key))
        outcome = outcome_of(told, prepared, self._mapping)
        if tag and isinstance(outcome, Answered) and isinstance(told.exchange, Received):
            return await self._whole(outcome, told.exchange, account, deadline - pace.now())
        return outcome

    async def fetch(self, provider_payment_id: str, *, timeout_s: float) -> Lookup:
        """The PaymentIntent by its place (`requests.Place`)."""
        return await self._reader.fetch(provider_payment_id, timeout_s=timeout_s)

    async def lookup(self, payment_id: str, *, timeout_s: float) -> Lookup:
        """The PaymentIntent whose metadata has our id; more than one is no answer that anybody could act on."""
        return await self._reader.lookup(payment_id, timeout_s=timeout_s)

    def interpret(self, body: bytes, headers: Mapping[str, str]) -> CallbackHint:
        """What a verified callback is about. Raises ValueError."""
        return interpret(body, self._options.connected_accounts, own=self._settings.merchant_id)

    async def list_events(self, *, after_event_id: str, limit: int, timeout_s: float) -> Sequence[ProviderEvent]:
        """Events after a known one ("" from the oldest kept, 30 days back), oldest first; the platform's own alone.

        Raises Unavailable, or InvalidRequest CURSOR_INVALID where Stripe keeps no such event any more.
        """
        return await self._reader.events(after_event_id=after_event_id, limit=limit, timeout_s=timeout_s)

    async def list_payments(
        self, *, created_from_us: int, created_before_us: int, page_token: str, limit: int, timeout_s: float
    ) -> tuple[Sequence[Snapshot], str]:
        """Payments created in [from, before), of the platform and of each connected account, a page of one at a time.

        The token is empty on the last page. Raises as above.
        """
        return await self._reader.payments(
            created_from_us=created_from_us,
            created_before_us=created_before_us,
            page_token=page_token,
            limit=limit,
            timeout_s=timeout_s,
        )

    async def check_setup(self, *, callback_path: str, timeout_s: float) -> Sequence[SetupCheck]:
        """Key, version, account and webhook endpoint, as `setup` looks at them."""
        return await check_setup(
            self._wire,
            merchant_id=self._settings.merchant_id,
            has_secret=bool(self._settings.webhook_secrets),
            callback_path=callback_path,
            timeout_s=timeout_s,
        )

    async def close(self) -> None:
        await self._wire.close()

    async def _whole(self, outcome: Answered, received: Received, account: str, timeout_s: float) -> Answered:
        """A confirm's answer with the attempts before it; the answer as it is where they cannot be read now."""
        try:
            intent = pieces_of(Fields(parse_object(received.body), "answer"), account).intent
            pieces = await self._reader.pieces(intent, account, timeout_s=timeout_s)
            return Answered(self._mapping.snapshot(pieces), outcome.result_id)
        except ValueError:
            return outcome


def _untagged(told: Told, prepared: PreparedRequest, mapping: StripeMapping) -> Outcome | None:
    """What is to be said where a confirm's references could not be put on its PaymentIntent; None where they are.

    Nothing of the confirm itself was sent then: what is unknown of the update is harmless, and may be sent again.
    """
    match told.exchange:
        case Received(status=200):
            return None
        case Received(status=status) if status >= 500:
            return NotSent(f"not confirmed: its references could not be put ({status})")
        case Lost(failure=failure):
            return NotSent(f"not confirmed: its references could not be put ({failure})")
        case _:
            return outcome_of(told, prepared, mapping)
