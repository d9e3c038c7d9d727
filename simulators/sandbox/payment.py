"""The payment: what the provider's books know about it, as values, and the JSON that a caller sees.

Amounts are in minor units of the payment's currency, times in unix seconds. `key`, `attempt_key`, `due` and
`hidden` stay inside: the idempotency keys behind movements, what will happen by itself, and whether a control
has made the API deny the payment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

CaptureMode = Literal["automatic", "manual"]
PaymentStatus = Literal[
    "requires_confirmation",
    "requires_payment_method",
    "requires_action",
    "processing",
    "authorized",
    "partially_captured",
    "captured",
    "cancelled",
    "expired",
]
AttemptStatus = Literal["requires_action", "processing", "failed", "succeeded"]
AuthorizationStatus = Literal["pending", "succeeded", "failed", "released", "expired"]
CaptureStatus = Literal["pending", "succeeded", "failed", "reversed"]
RefundStatus = Literal["pending", "succeeded", "failed", "reversed"]
DisputeStatus = Literal["inquiry", "inquiry_closed", "open", "won", "lost"]

# Rendered apart or kept inside.
_PAYMENT_INSIDE = ("attempt_key", "due", "hidden")


@dataclass(frozen=True)
class Authorization:
    """A hold on the customer's money. `amount_capturable` is what is left of it; 0 once it is closed.

    `amount` and `expires` are as it was first given; `Payment.adjustments` say what became of them.
    """

    id: str
    status: AuthorizationStatus
    amount: int
    amount_capturable: int
    expires: int
    metadata: Mapping[str, str]
    key: str | None


@dataclass(frozen=True)
class Adjustment:
    """The hold, raised to `amount` as its new total, or the same and valid anew until `expires`."""

    id: str
    amount: int
    expires: int
    metadata: Mapping[str, str]
    created: int
    key: str | None


@dataclass(frozen=True)
class Capture:
    """Money taken. `final` closed the rest of the authorization."""

    id: str
    amount: int
    status: CaptureStatus
    final: bool
    metadata: Mapping[str, str]
    created: int
    key: str | None


@dataclass(frozen=True)
class Refund:
    """Money given back. Without a key and metadata it was made in the provider's dashboard."""

    id: str
    amount: int
    status: RefundStatus
    reason: str | None
    metadata: Mapping[str, str]
    created: int
    key: str | None


@dataclass(frozen=True)
class Dispute:
    """Money that the customer's bank asks back, or only asks about (an inquiry)."""

    id: str
    amount: int
    status: DisputeStatus
    reason: str
    created: int


@dataclass(frozen=True)
class Fee:
    """What the provider keeps of a capture."""

    id: str
    amount: int


@dataclass(frozen=True)
class NextAction:
    """What the customer must do first."""

    type: Literal["redirect"]
    url: str
    client_secret: str


@dataclass(frozen=True)
class Decline:
    """Why attempt number `attempt` failed."""

    code: str
    message: str
    advice: str
    attempt: int


@dataclass(frozen=True)
class Attempt:
    """One try to confirm, counted from 1. `operation` is metadata.obol_operation of the request that made it.

    `risk_level` is None where the method's risk was not looked at.
    """

    number: int
    status: AttemptStatus
    operation: str | None
    decline: Decline | None = None
    risk_level: str | None = None


@dataclass(frozen=True)
class Due:
    """Something that happens by itself at `at` (unix seconds), to the movement `target`."""

    at: float
    action: Literal["settle", "refund", "dispute", "expire"]
    target: str


@dataclass(frozen=True)
class Payment:
    """One payment, at one version."""

    id: str
    account: str
    amount: int
    currency: str
    capture: CaptureMode
    status: PaymentStatus
    payment_method: str | None
    customer: str | None
    description: str | None
    statement_descriptor: str | None
    return_url: str | None
    metadata: Mapping[str, str]
    created: int
    updated: int
    version: int = 1
    attempt: int = 0
    attempt_metadata: Mapping[str, str] | None = None
    attempts: tuple[Attempt, ...] = ()
    authorization: Authorization | None = None
    adjustments: tuple[Adjustment, ...] = ()
    captures: tuple[Capture, ...] = ()
    refunds: tuple[Refund, ...] = ()
    disputes: tuple[Dispute, ...] = ()
    fees: tuple[Fee, ...] = ()
    next_action: NextAction | None = None
    last_decline: Decline | None = None
    cancellation_reason: str | None = None
    cancellation_metadata: Mapping[str, str] | None = None
    attempt_key: str | None = None
    due: tuple[Due, ...] = ()
    hidden: bool = False

    @property
    def captured(self) -> int:
        """What was taken and not reversed."""
        return sum(capture.amount for capture in self.captures if capture.status == "succeeded")

    @property
    def refundable(self) -> int:
        """What was taken, less refunds made or under way, less disputes that hold or took money."""
        refunded = sum(refund.amount for refund in self.refunds if refund.status in ("pending", "succeeded"))
        disputed = sum(dispute.amount for dispute in self.disputes if dispute.status in ("open", "lost"))
        return self.captured - refunded - disputed


def shown_payment(payment: Payment) -> dict[str, Any]:
    """The payment as a caller sees it."""
    shown = {"object": "payment", **vars(payment)}
    for inside in _PAYMENT_INSIDE:
        del shown[inside]
    for name in ("authorization", "next_action", "last_decline"):
        if shown[name] is not None:
            shown[name] = _shown(shown[name])
    for name in ("adjustments", "captures", "refunds", "disputes", "fees"):
        shown[name] = [_shown(movement) for movement in shown[name]]
    shown["attempts"] = [
        {**vars(attempt), "decline": attempt.decline and vars(attempt.decline)} for attempt in payment.attempts
    ]
    return shown


def shown_refund(payment: Payment, refund: Refund) -> dict[str, Any]:
    """A refund on its own, as a caller sees it."""
    about = {
        "object": "refund",
        "payment": payment.id,
        "account": payment.account,
        "currency": payment.currency,
    }
    return {**about, **_shown(refund)}


def recorded_payment(payment: Payment) -> str:
    """The payment as a JSON text for the journal, with what stays inside."""
    return json.dumps(payment, default=vars)


def restored_payment(record: dict[str, Any]) -> Payment:
    """The payment from its journal record."""
    held = record["authorization"]
    action, decline = record["next_action"], record["last_decline"]
    rebuilt = {
        "authorization": held and Authorization(**held),
        "adjustments": tuple(Adjustment(**adjustment) for adjustment in record.get("adjustments", ())),
        "captures": tuple(Capture(**capture) for capture in record["captures"]),
        "refunds": tuple(Refund(**refund) for refund in record["refunds"]),
        "disputes": tuple(Dispute(**dispute) for dispute in record["disputes"]),
        "fees": tuple(Fee(**fee) for fee in record["fees"]),
        "next_action": action and NextAction(**action),
        "last_decline": decline and Decline(**decline),
        "attempts": tuple(_restored_attempt(attempt) for attempt in record["attempts"]),
        "due": tuple(Due(**due) for due in record["due"]),
    }
    return Payment(**{**record, **rebuilt})


def _restored_attempt(record: dict[str, Any]) -> Attempt:
    return Attempt(**{**record, "decline": record["decline"] and Decline(**record["decline"])})


def _shown(movement: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(movement).items() if name != "key"}
