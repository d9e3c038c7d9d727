"""The payment and the refund as rows: what was asked, and what the facts make of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.domain.commands import CommandKind
from gateway.domain.declines import Decline
from gateway.domain.derivation import MoneySums
from gateway.domain.movements import Facts, Origin
from gateway.domain.risk import RiskSignal
from gateway.domain.routes import Route
from gateway.domain.states import CommandState, DisputeState, PaymentState


class CaptureMethod(StrEnum):
    """Whether the provider captures when it authorizes, or waits for CapturePayment."""

    AUTOMATIC = "AUTOMATIC"
    MANUAL = "MANUAL"


class ConfirmationMethod(StrEnum):
    """Whether CreatePayment also confirms, or leaves that to ConfirmPayment."""

    AUTOMATIC = "AUTOMATIC"
    MANUAL = "MANUAL"


@dataclass(frozen=True, slots=True)
class NextAction:
    """What the payer must do: visit `redirect_url`, or finish in the browser with `client_secret` (a secret)."""

    redirect_url: str = ""
    client_secret: str = field(default="", repr=False)

    @property
    def holds_secret(self) -> bool:
        """Whether it may not be stored as it is: some providers put the secret into the URL as well."""
        return bool(self.client_secret) or "client_secret" in self.redirect_url


@dataclass(frozen=True, slots=True)
class PaymentTerms:
    """What the caller asked for; never changes after the claim. Times are unix microseconds."""

    amount_minor: int
    currency: str
    capture_method: CaptureMethod
    confirmation_method: ConfirmationMethod
    payment_method: str
    customer_reference: str
    description: str
    statement_descriptor: str
    return_url: str
    metadata: Mapping[str, str]
    order_reference: str
    order_reference_unique: bool
    connected_account: str
    expire_time_us: int | None


@dataclass(frozen=True, slots=True)
class LatestCommand:
    """The command axis in short: the last command that was claimed or settled on the payment."""

    command_id: str
    kind: CommandKind
    state: CommandState
    decline: Decline | None = None


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment with its derived state. `version` rises by one with every write to it.

    `reserved_*` are amounts of captures and refunds that are sent or unknown and have no movement yet.
    `busy_command_id` names the exclusive command under way. `route` says why it is at its account, where rules say so.
    """

    payment_id: str
    tenant_id: str
    organization_id: str
    correlation_id: str
    terms: PaymentTerms
    provider: str
    account_id: str
    facts: Facts
    sums: MoneySums
    state: PaymentState
    dispute_state: DisputeState
    version: int
    created_time_us: int
    updated_time_us: int
    provider_payment_id: str | None = None
    reserved_capture_minor: int = 0
    reserved_refund_minor: int = 0
    busy_command_id: str | None = None
    next_action: NextAction | None = None
    decline: Decline | None = None
    latest_command: LatestCommand | None = None
    route: Route | None = None

    @property
    def risk(self) -> RiskSignal | None:
        """What the provider made of the latest attempt at the payment's account; None where it says nothing.

        What an account thinks that the payment is about to leave is told no more than its decline is.
        """
        left = self.route.left if self.route is not None else ()
        tried = (a for a in self.facts.attempts if a.account_id == self.account_id and a.account_id not in left)
        latest = max(tried, key=lambda attempt: (attempt.ordinal, attempt.key), default=None)
        return latest.risk if latest is not None else None

    @property
    def capturable_minor(self) -> int:
        """What a capture may still take, in minor units."""
        sums = self.sums
        taken = sums.captured_minor + sums.capture_pending_minor + self.reserved_capture_minor
        return max(0, sums.authorized_open_minor - taken)

    @property
    def refundable_minor(self) -> int:
        """Captured less refunds (succeeded, pending, unknown, reserved) less disputes (open, lost), in minor units."""
        sums = self.sums
        return max(0, sums.captured_minor - sums.refunded_minor - self.reserved_refund_minor - sums.disputed_minor)


@dataclass(frozen=True, slots=True)
class Refund:
    """A refund: ours (with a command), or adopted from the provider's side (origin PROVIDER, no command)."""

    refund_id: str
    tenant_id: str
    payment_id: str
    origin: Origin
    amount_minor: int
    currency: str
    state: CommandState
    reason: str
    created_time_us: int
    updated_time_us: int
    command_id: str | None = None
    provider_refund_id: str | None = None
    decline: Decline | None = None
