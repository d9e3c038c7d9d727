"""Observations: claims with provenance that the gateway makes to Billing, appended and never changed."""

from dataclasses import dataclass
from enum import StrEnum

from gateway.domain.commands import CommandKind
from gateway.domain.declines import Decline
from gateway.domain.risk import RiskSignal
from gateway.domain.states import CommandState, DisputeState, PaymentState


class ObservationKind(StrEnum):
    """What was seen. One settle appends one observation for each kind of thing that changed."""

    PAYMENT_CHANGED = "PAYMENT_CHANGED"
    COMMAND_CONCLUDED = "COMMAND_CONCLUDED"
    COMMAND_REVERSED = "COMMAND_REVERSED"
    REFUND_CHANGED = "REFUND_CHANGED"
    DISPUTE_CHANGED = "DISPUTE_CHANGED"
    CONTRADICTION = "CONTRADICTION"


class Source(StrEnum):
    """How it was seen."""

    API_REPLY = "API_REPLY"
    CALLBACK = "CALLBACK"
    RECOVERY = "RECOVERY"
    RECONCILIATION = "RECONCILIATION"
    MANUAL = "MANUAL"


@dataclass(frozen=True, slots=True)
class Observation:
    """One claim. `version` is the payment's, taken under its row lock; (payment, version, ordinal) is unique.

    The amounts are the payment's sums after the change. `causation_id` is the operation, the callback or the operator's
    act that led to it. `sequence` is its place in the log, 0 until it is numbered. `risk` is the payment's after the
    change, where the provider told one.
    """

    observation_id: str
    tenant_id: str
    organization_id: str
    payment_id: str
    version: int
    ordinal: int
    kind: ObservationKind
    source: Source
    causation_id: str
    correlation_id: str
    payment_state: PaymentState
    dispute_state: DisputeState
    currency: str
    amount_minor: int
    authorized_minor: int
    captured_minor: int
    refunded_minor: int
    disputed_minor: int
    fee_minor: int
    provider: str
    account_id: str
    observed_time_us: int
    provider_time_us: int | None = None
    provider_payment_id: str | None = None
    command_id: str | None = None
    command_kind: CommandKind | None = None
    command_state: CommandState | None = None
    refund_id: str | None = None
    subject_amount_minor: int | None = None
    order_reference: str = ""
    decline: Decline | None = None
    detail: str = ""
    sequence: int = 0
    risk: RiskSignal | None = None
