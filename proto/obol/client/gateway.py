"""The synchronous clients: one method for each RPC, the request in, the response out, errors typed."""

from collections.abc import Iterator
from typing import Protocol, TypeVar, Unpack

import grpc

from obol.client.calls import COMMAND_TIMEOUT_S, DECISION_TIMEOUT_S, READ_TIMEOUT_S, CallOptions, envelope
from obol.client.context import Caller, Operator
from obol.client.errors import error_from
from obol.v1 import billing_observation_pb2 as observing
from obol.v1 import payment_gateway_pb2 as paying
from obol.v1.billing_observation_pb2_grpc import BillingObservationStub
from obol.v1.payment_gateway_pb2_grpc import PaymentGatewayStub

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class PaymentGatewayClient:
    """Payments, for billing and order services. Thread-safe; the channel stays its maker's to close.

    Every method raises GatewayError. A command (one with an idempotency_key) that got no answer raises OutcomeUnknown:
    repeat it with the same key, or let `repeat_until_answered` do so.
    """

    def __init__(self, channel: grpc.Channel, caller: Caller | None = None) -> None:
        self._stub = PaymentGatewayStub(channel)
        self._caller = caller

    def create_payment(
        self, request: paying.CreatePaymentRequest, /, **options: Unpack[CallOptions]
    ) -> paying.CreatePaymentResponse:
        """Make a payment at a provider."""
        return self._command(self._stub.CreatePayment, request, options)

    def confirm_payment(
        self, request: paying.ConfirmPaymentRequest, /, **options: Unpack[CallOptions]
    ) -> paying.ConfirmPaymentResponse:
        """Confirm a payment, or try it with another method."""
        return self._command(self._stub.ConfirmPayment, request, options)

    def capture_payment(
        self, request: paying.CapturePaymentRequest, /, **options: Unpack[CallOptions]
    ) -> paying.CapturePaymentResponse:
        """Capture what was authorized, whole or in part."""
        return self._command(self._stub.CapturePayment, request, options)

    def adjust_authorization(
        self, request: paying.AdjustAuthorizationRequest, /, **options: Unpack[CallOptions]
    ) -> paying.AdjustAuthorizationResponse:
        """Raise what is authorized, or make it valid anew."""
        return self._command(self._stub.AdjustAuthorization, request, options)

    def cancel_payment(
        self, request: paying.CancelPaymentRequest, /, **options: Unpack[CallOptions]
    ) -> paying.CancelPaymentResponse:
        """Cancel a payment of which nothing is captured."""
        return self._command(self._stub.CancelPayment, request, options)

    def refund_payment(
        self, request: paying.RefundPaymentRequest, /, **options: Unpack[CallOptions]
    ) -> paying.RefundPaymentResponse:
        """Give captured money back, whole or in part."""
        return self._command(self._stub.RefundPayment, request, options)

    def sync_payment(
        self, request: paying.SyncPaymentRequest, /, **options: Unpack[CallOptions]
    ) -> paying.SyncPaymentResponse:
        """Ask the provider how the payment stands; idempotent by nature."""
        return self._query(self._stub.SyncPayment, request, options, COMMAND_TIMEOUT_S)

    def get_payment(
        self, request: paying.GetPaymentRequest, /, **options: Unpack[CallOptions]
    ) -> paying.GetPaymentResponse:
        """Read a payment."""
        return self._query(self._stub.GetPayment, request, options, READ_TIMEOUT_S)

    def list_payments(
        self, request: paying.ListPaymentsRequest, /, **options: Unpack[CallOptions]
    ) -> paying.ListPaymentsResponse:
        """Read a page of payments, newest first."""
        return self._query(self._stub.ListPayments, request, options, READ_TIMEOUT_S)

    def get_refund(
        self, request: paying.GetRefundRequest, /, **options: Unpack[CallOptions]
    ) -> paying.GetRefundResponse:
        """Read a refund."""
        return self._query(self._stub.GetRefund, request, options, READ_TIMEOUT_S)

    def list_refunds(
        self, request: paying.ListRefundsRequest, /, **options: Unpack[CallOptions]
    ) -> paying.ListRefundsResponse:
        """Read a page of refunds, newest first."""
        return self._query(self._stub.ListRefunds, request, options, READ_TIMEOUT_S)

    def get_payment_timeline(
        self, request: paying.GetPaymentTimelineRequest, /, **options: Unpack[CallOptions]
    ) -> paying.GetPaymentTimelineResponse:
        """Read how a payment came to be what it is."""
        return self._query(self._stub.GetPaymentTimeline, request, options, READ_TIMEOUT_S)

    def _command(
        self, method: "grpc.UnaryUnaryMultiCallable[Request, Reply]", request: Request, options: CallOptions
    ) -> Reply:
        return answer(method, request, self._caller, options, COMMAND_TIMEOUT_S, command=True)

    def _query(
        self,
        method: "grpc.UnaryUnaryMultiCallable[Request, Reply]",
        request: Request,
        options: CallOptions,
        timeout_s: float,
    ) -> Reply:
        return answer(method, request, self._caller, options, timeout_s, command=False)


class BillingObservationClient:
    """Observations, for billing. Thread-safe; the channel stays its maker's to close. Every method raises GatewayError.

    To follow them durably use an ObservationConsumer over this.
    """

    def __init__(self, channel: grpc.Channel, caller: Caller | None = None) -> None:
        self._stub = BillingObservationStub(channel)
        self._caller = caller

    def watch_observations(
        self, request: observing.WatchObservationsRequest, /, **options: Unpack[CallOptions]
    ) -> "Watch":
        """Follow observations after a cursor, without a deadline unless `timeout_s`; iterate it, then cancel it."""
        call = envelope(self._caller, options, 0.0)
        stream = self._stub.WatchObservations(request, timeout=options.get("timeout_s"), metadata=call.metadata)
        return Watch(stream, call.correlation_id)

    def list_observations(
        self, request: observing.ListObservationsRequest, /, **options: Unpack[CallOptions]
    ) -> observing.ListObservationsResponse:
        """Read a page of observations after a cursor."""
        return self._query(self._stub.ListObservations, request, options, READ_TIMEOUT_S)

    def get_observation(
        self, request: observing.GetObservationRequest, /, **options: Unpack[CallOptions]
    ) -> observing.GetObservationResponse:
        """Read one observation."""
        return self._query(self._stub.GetObservation, request, options, READ_TIMEOUT_S)

    def accept_observations(
        self, request: observing.AcceptObservationsRequest, /, **options: Unpack[CallOptions]
    ) -> observing.AcceptObservationsResponse:
        """Take observations as facts; idempotent by nature."""
        return self._query(self._stub.AcceptObservations, request, options, DECISION_TIMEOUT_S)

    def reject_observations(
        self, request: observing.RejectObservationsRequest, /, **options: Unpack[CallOptions]
    ) -> observing.RejectObservationsResponse:
        """Refuse observations, each with a reason; idempotent by nature."""
        return self._query(self._stub.RejectObservations, request, options, DECISION_TIMEOUT_S)

    def get_consumer(
        self, request: observing.GetConsumerRequest, /, **options: Unpack[CallOptions]
    ) -> observing.GetConsumerResponse:
        """Read where a consumer stands."""
        return self._query(self._stub.GetConsumer, request, options, READ_TIMEOUT_S)

    def _query(
        self,
        method: "grpc.UnaryUnaryMultiCallable[Request, Reply]",
        request: Request,
        options: CallOptions,
        timeout_s: float,
    ) -> Reply:
        return answer(method, request, self._caller, options, timeout_s, command=False)


class _Stream(Protocol):
    """The call object of a stream, as far as it is used here."""

    def __iter__(self) -> Iterator[observing.WatchObservationsResponse]: ...

    def cancel(self) -> object: ...


class Watch:
    """A stream of observations and heartbeats. Iterating raises GatewayError; one thread iterates, any may cancel."""

    def __init__(self, stream: _Stream, correlation_id: str) -> None:
        self._stream = stream
        self._correlation_id = correlation_id

    def __iter__(self) -> Iterator[observing.WatchObservationsResponse]:
        try:
            yield from self._stream
        except grpc.RpcError as error:
            raise error_from(error, command=False, correlation_id=self._correlation_id) from error

    def cancel(self) -> None:
        """End the stream; the iterating thread gets an Unavailable."""
        self._stream.cancel()


def answer(
    method: "grpc.UnaryUnaryMultiCallable[Request, Reply]",
    request: Request,
    caller: Caller | Operator | None,
    options: CallOptions,
    timeout_s: float,
    *,
    command: bool,
) -> Reply:
    """The reply of one unary call. Raises GatewayError."""
    sent = envelope(caller, options, timeout_s)
    try:
        reply, call = method.with_call(request, timeout=sent.timeout_s, metadata=sent.metadata)
    except grpc.RpcError as error:
        raise error_from(error, command=command, correlation_id=sent.correlation_id) from error
    sent.opened(call.initial_metadata())
    return reply
