"""The port to payment providers: what an adapter is asked, and the values it answers with.

An adapter implements `ProviderAdapter` and, for each thing that it can do, that capability's protocol: implementing is
the opt-in. `prepare_*` builds the exact request and sends nothing; `execute` sends exactly that, once, and classifies
what came back; `fetch` and `lookup` read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from gateway.domain.adjustments import AdjustmentTerms
from gateway.domain.commands import Caller, PreparedRequest
from gateway.domain.declines import Decline
from gateway.domain.movements import Facts
from gateway.domain.payments import NextAction, Payment, PaymentTerms


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider account can do, as data. Amounts in minor units, windows in seconds.

    `absence_is_consistent`: a lookup by our reference sees every earlier write, so that not found means not there.
    Where it is False, or there is no lookup, absence concludes nothing. `key_window_s`: for how long the provider
    documents to keep a key; what is unknown is sent again inside it, under its key, and never outside (0: never).
    `finds_by_reference`: there is such a lookup; without one an object whose id was lost is found by its events alone.
    `unpaid_kept_s`: an object that waits for its payer, and is completed by us alone, may be gone after so long, where
    the provider drops such ones; None where it keeps them. `adjustment`: None where authorizations stay as they are.
    `flight_s_max`: the longest that a request can be on its way before it takes effect.
    """

    provider: str
    currencies: frozenset[str]
    capture_methods: frozenset[str]
    confirmation_methods: frozenset[str]
    partial_capture: bool
    multiple_capture: bool
    refunds: bool
    partial_refund: bool
    key_window_s: int
    absence_is_consistent: bool
    flight_s_max: int
    amount_minor_max: int | None = None
    finds_by_reference: bool = True
    unpaid_kept_s: int | None = None
    adjustment: AdjustmentTerms | None = None


@dataclass(frozen=True, slots=True)
class OperationReference:
    """What a provider's write is known by on our side; all of it goes into the provider's metadata.

    `idempotency_key` is the provider's key for this write.
    """

    operation_id: str
    command_id: str
    payment_id: str
    caller: Caller
    idempotency_key: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A provider's payment object as read at one moment, normalized.

    `facts` carry our operation ids where the provider's metadata has them. `amount_minor` and `currency` are the
    object's own, less what adjustments of ours added. `payment_id`, `tenant_id`, `operation_id` (of the create) and
    `order_reference` are ours from its metadata, empty where it has none. `unmapped` names every value that the mapping
    table did not know: with any, the outcome is UNKNOWN. `completion_due`: the payer has done their part, and the
    provider waits for us to complete the payment (`Completes`).
    """

    account_id: str
    provider_payment_id: str
    amount_minor: int
    currency: str
    facts: Facts
    payment_id: str = ""
    tenant_id: str = ""
    next_action: NextAction | None = None
    decline: Decline | None = None
    provider_time_us: int | None = None
    unmapped: tuple[str, ...] = ()
    operation_id: str = ""
    order_reference: str = ""
    completion_due: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """The provider carried the operation out, or is doing so; `snapshot` shows its object afterwards.

    `result_id` is the provider's id of what the operation made (capture, refund), if it made one.
    """

    snapshot: Snapshot
    result_id: str | None = None


@dataclass(frozen=True, slots=True)
class Declined:
    """A definite no to this operation, on its first send. `snapshot` where the answer carried the object.

    `of_key`: the provider documents that it keeps this answer under the idempotency key and gives it to every send with
    it. Then it is definite on a resend as well: had an earlier send taken effect, that would be the answer.
    """

    decline: Decline
    snapshot: Snapshot | None = None
    of_key: bool = False


@dataclass(frozen=True, slots=True)
class NotSent:
    """Provably never reached the provider (the connection was never made)."""

    failure: str


@dataclass(frozen=True, slots=True)
class NotExecuted:
    """Reached the provider, which documents that it did nothing: credentials, permission, rate limit.

    Not a decline; on a resend it says nothing about the first send.
    """

    failure: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Anything else: the provider may or may not have acted. `failure` says what was seen, bounded and redacted.

    `contradicts`: it answered about something else than was asked (amount, currency, account, object). `key_known`: it
    has seen this idempotency key with another request, so that something of this command reached it before.
    """

    failure: str
    contradicts: bool = False
    key_known: bool = False


Outcome = Answered | Declined | NotSent | NotExecuted | Ambiguous


@dataclass(frozen=True, slots=True)
class Found:
    """The provider's object is there."""

    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Absent:
    """The provider has no such object; `consistent` says that the read cannot have missed an earlier write."""

    consistent: bool


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The lookup itself failed; nothing is known. `retry_after_s` where nothing was asked yet, and when it can be."""

    failure: str
    retry_after_s: float | None = None


Lookup = Found | Absent | Unreadable


class AccountHealth(StrEnum):
    """What an account's breaker thinks of it."""

    CLOSED = "CLOSED"
    HALF_OPEN = "HALF_OPEN"
    OPEN = "OPEN"


@runtime_checkable
class ProviderAdapter(Protocol):
    """One provider account. Methods that talk raise nothing but CancelledError: every failure is a value."""

    @property
    def account_id(self) -> str: ...

    @property
    def capabilities(self) -> Capabilities: ...

    async def execute(self, prepared: PreparedRequest, *, send_before: float, timeout_s: float) -> Outcome:
        """Send `prepared` once. Nothing is sent after `send_before` (the event loop's clock): then it is NotSent."""
        ...

    async def fetch(self, provider_payment_id: str, *, timeout_s: float) -> Lookup:
        """Read the provider's object by its id."""
        ...

    async def lookup(self, payment_id: str, *, timeout_s: float) -> Lookup:
        """Find the provider's object by our reference, its id being lost; `Absent(False)` where it cannot be."""
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...


@runtime_checkable
class TakesPayments(Protocol):
    """Creates payments."""

    def prepare_create(self, reference: OperationReference, terms: PaymentTerms) -> PreparedRequest: ...


@runtime_checkable
class Confirms(Protocol):
    """Confirms a payment that was created without, or whose last try failed."""

    def prepare_confirm(
        self, reference: OperationReference, payment: Payment, *, payment_method: str, return_url: str
    ) -> PreparedRequest: ...


@runtime_checkable
class Completes(Protocol):
    """Completes a payment that its payer has approved, where the provider leaves that to us (`completion_due`)."""

    def prepare_complete(self, reference: OperationReference, payment: Payment) -> PreparedRequest: ...


@runtime_checkable
class Captures(Protocol):
    """Captures what was authorized."""

    def prepare_capture(
        self, reference: OperationReference, payment: Payment, *, amount_minor: int, final: bool
    ) -> PreparedRequest: ...


@runtime_checkable
class Cancels(Protocol):
    """Cancels what was not captured."""

    def prepare_cancel(self, reference: OperationReference, payment: Payment, *, reason: str) -> PreparedRequest: ...


@runtime_checkable
class Refunds(Protocol):
    """Gives captured money back."""

    def prepare_refund(
        self, reference: OperationReference, payment: Payment, *, amount_minor: int, reason: str
    ) -> PreparedRequest: ...


@dataclass(frozen=True, slots=True)
class CallbackHint:
    """What a verified callback says it is about; a hint, never a fact.

    `provider_payment_id` is the object to fetch, None where the event is of no payment. `payment_id` and `tenant_id`
    are ours from the event's metadata, for a payment whose provider id we do not know yet.
    """

    event_id: str
    event_type: str
    provider_payment_id: str | None
    payment_id: str = ""
    tenant_id: str = ""
    provider_time_us: int | None = None
    known_type: bool = True


@runtime_checkable
class ReadsCallbacks(Protocol):
    """Understands the provider's callbacks, which the sidecar has verified."""

    def interpret(self, body: bytes, headers: Mapping[str, str]) -> CallbackHint:
        """Raises ValueError where the body is none of the provider's events."""
        ...


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """One entry of a provider's event list: the same body that a callback would have brought."""

    event_id: str
    event_type: str
    body: bytes
    created_time_us: int


@runtime_checkable
class ListsEvents(Protocol):
    """Has an event list, from which missed callbacks are fetched."""

    async def list_events(self, *, after_event_id: str, limit: int, timeout_s: float) -> Sequence[ProviderEvent]: ...


@runtime_checkable
class ListsPayments(Protocol):
    """Lists its own records of a window of creation times, page by token: in any order, even twice, none left out."""

    async def list_payments(
        self, *, created_from_us: int, created_before_us: int, page_token: str, limit: int, timeout_s: float
    ) -> tuple[Sequence[Snapshot], str]: ...


class AdmissionRefused(Exception):
    """The account takes no more commands now: its breaker is open, or its bulkhead is full. Nothing was sent.

    `limited`: its rate limit says so, and waiting `retry_after_s` seconds gives a turn.
    """

    def __init__(self, message: str, *, saturated: bool, retry_after_s: float, limited: bool = False) -> None:
        super().__init__(message)
        self.saturated = saturated
        self.retry_after_s = retry_after_s
        self.limited = limited


class Admission(Protocol):
    """Leave to make one call. One outcome is reported at most; `release` without one is neutral."""

    def report(self, outcome: Outcome | Lookup) -> None:
        """Tell the breaker what came back: only the account's health counts, a decline is a healthy answer."""
        ...

    def release(self) -> None:
        """Give the place in the bulkhead back; called once, whatever happened."""
        ...


class Account(Protocol):
    """One configured provider account, as the engine sees it: its adapter behind its breaker and its bulkhead."""

    @property
    def account_id(self) -> str: ...

    @property
    def provider(self) -> str: ...

    @property
    def adapter(self) -> ProviderAdapter: ...

    @property
    def health(self) -> AccountHealth: ...

    async def admit(self, *, wait_s: float) -> Admission:
        """Wait at most `wait_s` for a place. Raises AdmissionRefused."""
        ...


@dataclass(frozen=True, slots=True)
class AccountLoad:
    """What an account has to do in this process, and the rate that it allows itself (0: no limit)."""

    calls_in_flight: int = 0
    calls_waiting: int = 0
    rate_per_s: float = 0.0
    rate_burst: int = 0


@runtime_checkable
class ShowsLoad(Protocol):
    """An account that tells operators of its load."""

    @property
    def load(self) -> AccountLoad: ...


class Accounts(Protocol):
    """The configured accounts."""

    def get(self, account_id: str) -> Account | None: ...

    def route(self, *, provider: str, account_id: str) -> Account | None:
        """The named account, else the named provider's default, else the default; None where there is none such."""
        ...

    def all(self) -> Sequence[Account]: ...
