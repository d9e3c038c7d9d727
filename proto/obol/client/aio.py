"""The asyncio clients: one method for each RPC, the request in, the response out, errors typed."""

from collections.abc import AsyncIterator
from typing import TypeVar, Unpack

import grpc
from grpc import aio

from obol.client.calls import COMMAND_TIMEOUT_S, DECISION_TIMEOUT_S, READ_TIMEOUT_S, CallOptions, envelope
from obol.client.context import Caller, Operator
from obol.client.errors import error_from
from obol.v1 import billing_observation_pb2 as observing
from obol.v1 import payment_gateway_pb2 as paying
from obol.v1.billing_observation_pb2_grpc import BillingObservationStub
from obol.v1.payment_gateway_pb2_grpc import PaymentGatewayStub

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class AioPaymentGatewayClient:
    """Payments, for billing and order services. Belongs to one event loop; the channel stays its maker's to close.

    Every method raises GatewayError. A command (one with an idempotency_key) that got no answer raises OutcomeUnknown:
    repeat it with the same key, or let `aio_repeat_until_answered` do so. A cancelled task raises CancelledError and
    leaves the outcome as open.
    """

    def __init__(self, channel: aio.Channel, caller: Caller | None = None) -> None:
        self._stub = PaymentGatewayStub(channel)
        self._caller = caller

    async def create_payment(
        self, request: paying.CreatePaymentRequest, /, **options: Unpack[CallOptions]
    ) -> paying.CreatePaymentResponse:
        """Make a payment at a provider."""
        return await self._command(self._stub.CreatePayment, request, options)

    async def confirm_payment(
        self, request: paying.ConfirmPaymentRequest, /, **options: Unpack[CallOptions]
    ) -> paying.ConfirmPaymentResponse:
        """Confirm a payment, or try it with another method."""
        return await self._command(self._stub.ConfirmPayment, request, options)

    async def capture_payment(
        self, request: paying.CapturePaymentRequest, /, **options: Unpack[CallOptions]
    ) -> paying.CapturePaymentResponse:
        """Capture what was authorized, whole or in part."""
        return await self._command(self._stub.CapturePayment, request, options)

    async def adjust_authorization(
        self, request: paying.AdjustAuthorizationRequest, /, **options: Unpack[CallOptions]
    ) -> paying.AdjustAuthorizationResponse:
        """Raise what is authorized, or make it valid anew."""
        return await self._command(self._stub.AdjustAuthorization, request, options)

    async def cancel_payment(
        self, request: paying.CancelPaymentRequest, /, **options: Unpack[CallOptions]
    ) -> paying.CancelPaymentResponse:
        """Cancel a payment of which nothing is captured."""
        return await self._command(self._stub.CancelPayment, request, options)

    async def refund_payment(
        self, request: paying.RefundPaymentRequest, /, **options: Unpack[CallOptions]
    ) -> paying.RefundPaymentResponse:
        """Give captured money back, whole or in part."""
        return await self._command(self._stub.RefundPayment, request, options)

    async def sync_payment(
        self, request: paying.SyncPaymentRequest, /, **options: Unpack[CallOptions]
    ) -> paying.SyncPaymentResponse:
        """Ask the provider how the payment stands; idempotent by nature."""
        return await self._query(self._stub.SyncPayment, request, options, COMMAND_TIMEOUT_S)

    async def get_payment(
        self, request: paying.GetPaymentRequest, /, **options: Unpack[CallOptions]
    ) -> paying.GetPaymentResponse:
        """Read a payment."""
        return await self._query(self._stub.GetPayment, request, options, READ_TIMEOUT_S)

    async def list_payments(
        self, request: paying.ListPaymentsRequest, /, **options: Unpack[CallOptions]
    ) -> paying.ListPaymentsResponse:
        """Read a page of payments, newest first."""
        return await self._query(self._stub.ListPayments, request, options, READ_TIMEOUT_S)

    async def get_refund(
        self, request: paying.GetRefundRequest, /, **options: Unpack[CallOptions]
    ) -> paying.GetRefundResponse:
        """Read a refund."""
        return await self._query(self._stub.GetRefund, request, options, READ_TIMEOUT_S)

    async def list_refunds(
        self, request: paying.ListRefundsRequest, /, **options: Unpack[CallOptions]
    ) -> paying.ListRefundsResponse:
        """Read a page of refunds, newest first."""
        return await self._query(self._stub.ListRefunds, request, options, READ_TIMEOUT_S)

    async def get_payment_timeline(
        self, request: paying.GetPaymentTimelineRequest, /, **options: Unpack[CallOptions]
    ) -> paying.GetPaymentTimelineResponse:
        """Read how a payment came to be what it is."""
        return await self._query(self._stub.GetPaymentTimeline, request, options, READ_TIMEOUT_S)

    async def _command(
        self, method: aio.UnaryUnaryMultiCallable[Request, Reply], request: Request, options: CallOptions
    ) -> Reply:
        return await answer(method, request, self._caller, options, COMMAND_TIMEOUT_S, command=True)

    async def _query(
        self,
        method: aio.UnaryUnaryMultiCallable[Request, Reply],
        request: Request,
        options: CallOptions,
        timeout_s: float,
    ) -> Reply:
        return await answer(method, request, self._caller, options, timeout_s, command=False)


class AioBillingObservationClient:
    """Observations, for billing. Belongs to one event loop; the channel stays its maker's to close.

    To follow them durably use an AioObservationConsumer over this. Every method raises GatewayError.
    """

    def __init__(self, channel: aio.Channel, caller: Caller | None = None) -> None:
        self._stub = BillingObservationStub(channel)
        self._caller = caller

    def watch_observations(
        self, request: observing.WatchObservationsRequest, /, **options: Unpack[CallOptions]
    ) -> "AioWatch":
        """Follow observations after a cursor, without a deadline unless `timeout_s`; iterate it, then cancel it."""
        call = envelope(self._caller, options, 0.0)
        stream = self._stub.WatchObservations(request, timeout=options.get("timeout_s"), metadata=call.metadata)
        return AioWatch(stream, call.correlation_id)

    async def list_observations(
        self, request: observing.ListObservationsRequest, /, **options: Unpack[CallOptions]
    ) -> observing.ListObservationsResponse:
        """Read a page of observations after a cursor."""
        return await self._query(self._stub.ListObservations, request, options, READ_TIMEOUT_S)

    async def get_observation(
        self, request: observing.GetObservationRequest, /, **options: Unpack[CallOptions]
    ) -> observing.GetObservationResponse:
        """Read one observation."""
        return await self._query(self._stub.GetObservation, request, options, READ_TIMEOUT_S)

    async def accept_observations(
        self, request: observing.AcceptObservationsRequest, /, **options: Unpack[CallOptions]
    ) -> observing.AcceptObservationsResponse:
        """Take observations as facts; idempotent by nature."""
        return await self._query(self._stub.AcceptObservations, request, options, DECISION_TIMEOUT_S)

    async def reject_observations(
        self, request: observing.RejectObservationsRequest, /, **options: Unpack[CallOptions]
    ) -> observing.RejectObservationsResponse:
        """Refuse observations, each with a reason; idempotent by nature."""
        return await self._query(self._stub.RejectObservations, request, options, DECISION_TIMEOUT_S)

    async def get_consumer(
        self, request: observing.GetConsumerRequest, /, **options: Unpack[CallOptions]
    ) -> observing.GetConsumerResponse:
        """Read where a consumer stands."""
        return await self._query(self._stub.GetConsumer, request, options, READ_TIMEOUT_S)

    async def _query(
        self,
        method: aio.UnaryUnaryMultiCallable[Request, Reply],
        request: Request,
        options: CallOptions,
        timeout_s: float,
    ) -> Reply:
        return await answer(method, request, self._caller, options, timeout_s, command=False)


class AioWatch:
    """A stream of observations and heartbeats. Reading raises GatewayError; cancelling a read ends the stream."""

    def __init__(
        self,
        stream: aio.UnaryStreamCall[observing.WatchObservationsRequest, observing.WatchObservationsResponse],
        correlation_id: str,
    ) -> None:
        self._stream = stream
        self._correlation_id = correlation_id

    async def read(self) -> observing.WatchObservationsResponse | None:
        """The next message; None when the server has ended the stream."""
        try:
            message = await self._stream.read()
        except grpc.RpcError as error:
            raise error_from(error, command=False, correlation_id=self._correlation_id) from error
        return message if isinstance(message, observing.WatchObservationsResponse) else None

    async def __aiter__(self) -> AsyncIterator[observing.WatchObservationsResponse]:
        while (message := await self.read()) is not None:
            yield message

    def cancel(self) -> None:
        """End the stream."""
        self._stream.cancel()


async def answer(
    method: aio.UnaryUnaryMultiCallable[Request, Reply],
    request: Request,
    caller: Caller | Operator | None,
    options: CallOptions,
    timeout_s: float,
    *,
    command: bool,
) -> Reply:
    """The reply of one unary call. Raises GatewayError."""
    sent = envelope(caller, options, timeout_s)
    call = method(request, timeout=sent.timeout_s, metadata=sent.metadata)
    try:
        reply = await call
    except grpc.RpcError as error:
        raise error_from(error, command=command, correlation_id=sent.correlation_id) from error
    sent.opened(await call.initial_metadata())
    return reply
