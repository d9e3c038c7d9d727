"""The sandbox's adapter: one account at the sandbox provider, with everything that it can do.

A write is prepared to the byte, sent as it was prepared, and classified by the table in `answers`; a read gives the
payment as it is now. Credentials are added while sending and are part of nothing that is kept.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlencode

from gateway.domain.commands import PreparedRequest
from gateway.domain.errors import InvalidRequest, Reason, Unavailable
from gateway.domain.payments import Payment, PaymentTerms
from gateway.domain.providers import (
    Absent,
    CallbackHint,
    Capabilities,
    Found,
    Lookup,
    OperationReference,
    Outcome,
    ProviderEvent,
    Snapshot,
    Unreadable,
)
from gateway.domain.setup_checks import SetupCheck
from providers.fields import Fields, UnreadableAnswer
from providers.http import Exchange, HttpWire, NeverSent, Received
from providers.retry import Pace, loop_pace, retried
from providers.sandbox import requests
from providers.sandbox.answers import error_code, outcome_of
from providers.sandbox.callbacks import interpret
from providers.sandbox.capabilities import API_VERSION, CAPABILITIES
from providers.sandbox.mapping import SandboxMapping
from providers.settings import ProviderAccountSettings, ProviderHooks
from providers.strict_json import parse_object

PAGE_MAX = 100

T = TypeVar("T")


def build(settings: ProviderAccountSettings, hooks: ProviderHooks) -> "SandboxAdapter":
    """An AdapterBuilder. Raises ValueError for a base URL or a credential that cannot be right."""
    if not settings.api_key:
        raise ValueError("no API key")
    return SandboxAdapter(settings, unmapped=partial(hooks.unmapped, CAPABILITIES.provider))


class SandboxAdapter:
    """A ProviderAdapter that takes, adjusts, captures, cancels and refunds payments, reads callbacks, lists both.

    `pace` is the port to time and chance, by default the running loop's.
    """

    def __init__(
        self,
        settings: ProviderAccountSettings,
        *,
        unmapped: Callable[[str, str], None],
        pace: Pace | None = None,
    ) -> None:
        self._settings = settings
        self._pace = pace
        self._wire = HttpWire(settings.base_url, settings.wire, now=pace.now if pace else None)
        self._mapping = SandboxMapping(settings.account_id, settings.merchant_id, unmapped)

    @property
    def account_id(self) -> str:
        return self._settings.account_id

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    def prepare_create(self, reference: OperationReference, terms: PaymentTerms) -> PreparedRequest:
        return requests.create(reference, terms)

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
        headers = {**prepared.headers, **self._credentials(), "Idempotency-Key": prepared.idempotency_key}

        async def send() -> Exchange:
            return await self._wire.write(
                prepared.method,
                prepared.path,
                headers=headers,
                body=prepared.body.encode(),
                send_before=send_before,
                timeout_s=deadline - pace.now(),
            )

        exchange = await retried(
            send,
            again=lambda result: isinstance(result, NeverSent) and not result.late,
            limits=self._settings.retry,
            send_before=min(send_before, deadline),
            pace=pace,
        )
        return outcome_of(exchange, prepared, self._mapping)

    async def fetch(self, provider_payment_id: str, *, timeout_s: float) -> Lookup:
        """The payment by the sandbox's id."""
        exchange = await self._read(requests.payment_path(provider_payment_id), timeout_s)
        try:
            if isinstance(exchange, Received) and exchange.status == 404:
                return self._absence(exchange)
            snapshot = self._mapping.snapshot(_body(exchange))
        except ValueError as error:
            return Unreadable(str(error))
        return Found(snapshot) if snapshot.provider_payment_id == provider_payment_id else Unreadable("mismatch: id")

    async def lookup(self, payment_id: str, *, timeout_s: float) -> Lookup:
        """The payment whose metadata has our id; more than one is no answer that anybody could act on."""
        query = urlencode({"reference": payment_id, "limit": 2})
        exchange = await self._read(f"{requests.PAYMENTS_PATH}?{query}", timeout_s)
        try:
            found = [self._mapping.snapshot(each.raw) for each in Fields(_body(exchange), "page").objects("data")]
        except ValueError as error:
            return Unreadable(str(error))
        match found:
            case []:
                return Absent(consistent=CAPABILITIES.absence_is_consistent)
            case [snapshot]:
                return Found(snapshot) if snapshot.payment_id == payment_id else Unreadable("mismatch: reference")
            case _:
                return Unreadable("more than one object carries this reference")

    def interpret(self, body: bytes, headers: Mapping[str, str]) -> CallbackHint:
        """What a verified callback is about. Raises ValueError."""
        return interpret(body)

    async def list_events(self, *, after_event_id: str, limit: int, timeout_s: float) -> Sequence[ProviderEvent]:
        """Events after a known one ("" from the oldest kept), oldest first.

        Raises Unavailable, or InvalidRequest CURSOR_INVALID where the sandbox keeps no such event any more.
        """
        query = {"limit": str(_bounded(limit)), **({"after": after_event_id} if after_event_id else {})}
        page = await self._page(f"/{API_VERSION}/events?{urlencode(query)}", timeout_s)
        return _readable(lambda: [_event(each) for each in page.objects("data")])

    async def list_payments(
        self, *, created_from_us: int, created_before_us: int, page_token: str, limit: int, timeout_s: float
    ) -> tuple[Sequence[Snapshot], str]:
        """Payments created in [from, before), oldest first; the token is empty on the last page. Raises as above."""
        query = {
            "created_gte": str(_seconds_up(created_from_us)),
            "created_lt": str(_seconds_up(created_before_us)),
            "limit": str(_bounded(limit)),
            **({"after": page_token} if page_token else {}),
        }
        page = await self._page(f"{requests.PAYMENTS_PATH}?{urlencode(query)}", timeout_s)
        found = _readable(lambda: [self._mapping.snapshot(each.raw) for each in page.objects("data")])
        more = _readable(lambda: page.flag("has_more"))
        return found, found[-1].provider_payment_id if more and found else ""

    async def check_setup(self, *, callback_path: str, timeout_s: float) -> Sequence[SetupCheck]:
        """Whose key this is; where the sandbox calls back is its own command's to say."""
        exchange = await self._read(f"/{API_VERSION}/account", timeout_s)
        try:
            found = Fields(_body(exchange), "account").text("id")
        except ValueError as error:
            return [SetupCheck("credentials", str(error), "is a sandbox at base_url, and api_key one of its own?")]
        wanted = self._settings.merchant_id
        other = f"the key is of {found}, not of {wanted}" if wanted not in ("", found) else ""
        secrets = bool(self._settings.webhook_secrets)
        return [
            SetupCheck("credentials", found, other),
            SetupCheck("signing secret", "set" if secrets else "none", "" if secrets else "set webhook_secrets"),
        ]

    async def close(self) -> None:
        await self._wire.close()

    def _credentials(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._settings.api_key.reveal()}"}

    async def _read(self, path: str, timeout_s: float) -> Exchange:
        return await self._wire.read(path, headers=self._credentials(), timeout_s=timeout_s)

    async def _page(self, path: str, timeout_s: float) -> Fields:
        exchange = await self._read(path, timeout_s)
        if isinstance(exchange, Received) and exchange.status == 400:
            _, _, code = _readable(lambda: error_code(exchange))
            if code == "cursor_unknown":
                raise InvalidRequest(Reason.CURSOR_INVALID, "the provider keeps no such event or payment")
        return _readable(lambda: Fields(_body(exchange), "page"))

    def _absence(self, received: Received) -> Lookup:
        _, _, code = error_code(received)
        # A 404 of something in between says nothing about the books.
        if code != "no_such_payment":
            return Unreadable("404 without the provider's word")
        return Absent(consistent=CAPABILITIES.absence_is_consistent)


def _body(exchange: Exchange) -> dict[str, Any]:
    """The JSON of a good answer to a read. Raises UnreadableAnswer, StrictJsonError."""
    if not isinstance(exchange, Received):
        raise UnreadableAnswer(exchange.failure)
    if exchange.status != 200:
        raise UnreadableAnswer(f"status {exchange.status}")
    return parse_object(exchange.body)


def _event(fields: Fields) -> ProviderEvent:
    body = json.dumps(fields.raw, sort_keys=True, separators=(",", ":")).encode()
    return ProviderEvent(fields.text("id"), fields.text("type"), body, fields.time_us("created"))


def _readable(read: Callable[[], T]) -> T:
    """A list has no value for a failure: it raises Unavailable."""
    try:
        return read()
    except ValueError as error:
        raise Unavailable(Reason.PROVIDER_UNAVAILABLE, f"the provider's list is unreadable: {error}") from None


def _bounded(limit: int) -> int:
    return max(1, min(limit, PAGE_MAX))


def _seconds_up(time_us: int) -> int:
    """The first whole second that is not before `time_us`; the sandbox's times are whole seconds."""
    return -(-time_us // 1_000_000)
