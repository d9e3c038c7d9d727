"""The client kit: a channel, who is asking, keys that dedupe, typed errors, clients, and a durable consumer.

caller = Caller(tenant="acme", organization="acme-eu", actor="billing")
with channel("unix:/run/obol.sock") as gateway:
    client = PaymentGatewayClient(gateway, caller)
    request = CreatePaymentRequest(idempotency_key=key_for("invoice", "in_42", 1), ...)
    payment = repeat_until_answered(client.create_payment, request).payment
"""

from obol.client.aio import AioBillingObservationClient, AioPaymentGatewayClient, AioWatch
from obol.client.aio_consumer import AioObservationConsumer
from obol.client.aio_operations import AioOperationsClient
from obol.client.calls import CallOptions, CallRecord
from obol.client.channel import aio_channel, channel
from obol.client.consumer import ObservationConsumer
from obol.client.context import Caller, Operator
from obol.client.cursors import CursorStore, FileCursorStore
from obol.client.decisions import Accept, ConsumerLimits, Decision, Reject
from obol.client.errors import (
    Busy,
    Conflict,
    DeadlineExceeded,
    Defect,
    Exhausted,
    FieldViolation,
    GatewayError,
    InvalidRequest,
    NotFound,
    NotPermitted,
    OutcomeUnknown,
    Precondition,
    Sent,
    Unavailable,
)
from obol.client.gateway import BillingObservationClient, PaymentGatewayClient, Watch
from obol.client.keys import key_for, new_key
from obol.client.operations import OperationsClient
from obol.client.pace import AioPace, Backoff, Pace
from obol.client.repeat import Limits, aio_repeat_until_answered, repeat_until_answered

__all__ = [
    "Accept",
    "AioBillingObservationClient",
    "AioObservationConsumer",
    "AioOperationsClient",
    "AioPace",
    "AioPaymentGatewayClient",
    "AioWatch",
    "Backoff",
    "BillingObservationClient",
    "Busy",
    "CallOptions",
    "CallRecord",
    "Caller",
    "Conflict",
    "ConsumerLimits",
    "CursorStore",
    "DeadlineExceeded",
    "Decision",
    "Defect",
    "Exhausted",
    "FieldViolation",
    "FileCursorStore",
    "GatewayError",
    "InvalidRequest",
    "Limits",
    "NotFound",
    "NotPermitted",
    "ObservationConsumer",
    "OperationsClient",
    "Operator",
    "OutcomeUnknown",
    "Pace",
    "PaymentGatewayClient",
    "Precondition",
    "Reject",
    "Sent",
    "Unavailable",
    "Watch",
    "aio_channel",
    "aio_repeat_until_answered",
    "channel",
    "key_for",
    "new_key",
    "repeat_until_answered",
]
