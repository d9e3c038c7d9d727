"""What the bench's callers ask: requests as a shop's billing service would send them, as bytes for the wire."""

import hashlib
import hmac
import json
import time
import uuid
from dataclasses import dataclass

from obol.v1 import money_pb2, payment_pb2
from obol.v1 import payment_gateway_pb2 as pb

TENANT = "bench"
METADATA = (
    ("obol-tenant", TENANT),
    ("obol-organization", "shop"),
    ("obol-actor", "billing"),
    ("obol-correlation-id", "bench-round"),
)
SIGNING_SECRET = "bench-signing"  # noqa: S105  of a provider that moves no money

CREATE = "/obol.v1.PaymentGateway/CreatePayment"
GET = "/obol.v1.PaymentGateway/GetPayment"
LIST = "/obol.v1.PaymentGateway/ListPayments"
CAPTURE = "/obol.v1.PaymentGateway/CapturePayment"
REFUND = "/obol.v1.PaymentGateway/RefundPayment"
WATCH = "/obol.v1.BillingObservation/WatchObservations"

LIST_PAGE = 50
CAPTURED = payment_pb2.PAYMENT_STATE_CAPTURED

CREATE_REQUEST_BYTES = 297
"""A CreatePaymentRequest as it is made here."""

CREATE_RESPONSE_BYTES = 491
"""The gateway's reply to it; the bench says so where either has changed by a tenth."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A callback's body with the headers that it is sent with."""

    body: bytes
    headers: dict[str, str]


def create(
    account_id: str, *, hold: bool = False, amount_minor: int = 4_990, payment_method: str = "pm_card_visa_4242"
) -> bytes:
    """A CreatePayment with a fresh key and order, captured at once unless it is to `hold`."""
    key = uuid.uuid4().hex
    request = pb.CreatePaymentRequest(
        idempotency_key=f"key_{key}",
        amount=money_pb2.Money(amount_minor=amount_minor, currency_code="EUR"),
        capture_method=payment_pb2.CAPTURE_METHOD_MANUAL if hold else payment_pb2.CAPTURE_METHOD_AUTOMATIC,
        payment_method=payment_method,
        customer_reference=f"cus_{key}",
        description="Subscription, monthly, two seats",
        statement_descriptor="OBOL SHOP",
        return_url="https://shop.example/orders/return",
        metadata={"cart": key, "channel": "web"},
        provider_preference=pb.ProviderPreference(account_id=account_id),
        order_reference=f"ord_{key}",
    )
    return request.SerializeToString()


def capture(payment_id: str, amount_minor: int, *, final: bool) -> bytes:
    """A CapturePayment with a fresh key."""
    return pb.CapturePaymentRequest(
        idempotency_key=f"key_{uuid.uuid4().hex}",
        payment_id=payment_id,
        amount=money_pb2.Money(amount_minor=amount_minor, currency_code="EUR"),
        final_capture=final,
    ).SerializeToString()


def refund(payment_id: str, amount_minor: int) -> bytes:
    """A RefundPayment with a fresh key."""
    return pb.RefundPaymentRequest(
        idempotency_key=f"key_{uuid.uuid4().hex}",
        payment_id=payment_id,
        amount=money_pb2.Money(amount_minor=amount_minor, currency_code="EUR"),
        reason="returned",
    ).SerializeToString()


def get(payment_id: str) -> bytes:
    """A GetPayment."""
    return pb.GetPaymentRequest(payment_id=payment_id).SerializeToString()


def list_page() -> bytes:
    """A ListPayments for a first page of LIST_PAGE, newest first."""
    return pb.ListPaymentsRequest(page_size=LIST_PAGE).SerializeToString()


def created_payment(reply: bytes) -> payment_pb2.Payment:
    """The payment of a CreatePayment's reply."""
    return pb.CreatePaymentResponse.FromString(reply).payment


def callback(payment: payment_pb2.Payment) -> Signed:
    """A signed event about `payment`, with an id that was never used."""
    about = {
        "id": payment.provider_reference.provider_payment_id,
        "object": "payment",
        "amount": payment.amount.amount_minor,
        "currency": payment.amount.currency_code,
        "status": "captured",
        "metadata": {"obol_payment": payment.payment_id, "obol_tenant": TENANT},
    }
    now_s = int(time.time())
    event = {
        "id": f"evt_{uuid.uuid4().hex}",
        "object": "event",
        "type": "payment.captured",
        "created": now_s,
        "livemode": False,
        "account": "merchant",
        "data": {"object": about},
    }
    body = json.dumps(event, separators=(",", ":")).encode()
    signature = hmac.new(SIGNING_SECRET.encode(), f"{now_s}.".encode() + body, hashlib.sha256).hexdigest()
    return Signed(body, {"Content-Type": "application/json", "Sandbox-Signature": f"t={now_s},v1={signature}"})
