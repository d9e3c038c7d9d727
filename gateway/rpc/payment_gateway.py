"""`obol.v1.PaymentGateway`: translates, and nothing else. The order is the contract's."""

from gateway.app.commands import Commands
from gateway.app.queries import Queries
from gateway.app.replies import CommandReply
from gateway.app.requests import (
    AdjustAuthorization,
    CancelPayment,
    CapturePayment,
    ConfirmPayment,
    CreatePayment,
    RefundPayment,
)
from gateway.domain.payments import Payment
from gateway.domain.storage import HistoryEntry, PaymentFilter
from gateway.rpc.context import Call
from gateway.rpc.reading import (
    CAPTURE_METHODS_READ,
    CONFIRMATION_METHODS_READ,
    PAYMENT_STATES_READ,
    invalid,
    member_of,
    required_money,
    time_us_of,
    whole_seconds_of,
)
from gateway.rpc.routes import route_to_proto
from gateway.rpc.translate import payment_to_proto, refund_to_proto, source_to_proto, time_to_proto
from obol.v1 import payment_gateway_pb2 as pb
from obol.v1 import payment_pb2


class PaymentGateway:
    """Payment commands and queries over the use cases."""

    def __init__(self, commands: Commands, queries: Queries) -> None:
        self._commands = commands
        self._queries = queries

    async def CreatePayment(self, request: pb.CreatePaymentRequest, call: Call) -> CommandReply:
        return await self._commands.create(call.caller, _create(request), call.deadline_s)

    async def ConfirmPayment(self, request: pb.ConfirmPaymentRequest, call: Call) -> CommandReply:
        wish = ConfirmPayment(
            idempotency_key=request.idempotency_key,
            payment_id=request.payment_id,
            payment_method=request.payment_method,
            return_url=request.return_url,
        )
        return await self._commands.confirm(call.caller, wish, call.deadline_s)

    async def CapturePayment(self, request: pb.CapturePaymentRequest, call: Call) -> CommandReply:
        given = request.HasField("amount")
        wish = CapturePayment(
            idempotency_key=request.idempotency_key,
            payment_id=request.payment_id,
            amount_minor=request.amount.amount_minor if given else None,
            currency=request.amount.currency_code,
            final=request.final_capture if request.HasField("final_capture") else True,
        )
        return await self._commands.capture(call.caller, wish, call.deadline_s)

    async def AdjustAuthorization(self, request: pb.AdjustAuthorizationRequest, call: Call) -> CommandReply:
        given = request.HasField("amount")
        wish = AdjustAuthorization(
            idempotency_key=request.idempotency_key,
            payment_id=request.payment_id,
            amount_minor=request.amount.amount_minor if given else None,
            currency=request.amount.currency_code,
        )
        return await self._commands.adjust(call.caller, wish, call.deadline_s)

    async def CancelPayment(self, request: pb.CancelPaymentRequest, call: Call) -> CommandReply:
        wish = CancelPayment(
            idempotency_key=request.idempotency_key, payment_id=request.payment_id, reason=request.reason
        )
        return await self._commands.cancel(call.caller, wish, call.deadline_s)

    async def GetPayment(self, request: pb.GetPaymentRequest, call: Call) -> pb.GetPaymentResponse:
        return pb.GetPaymentResponse(payment=payment_to_proto(await self._payment(request, call)))

    async def ListPayments(self, request: pb.ListPaymentsRequest, call: Call) -> pb.ListPaymentsResponse:
        payments, token = await self._queries.list_payments(
            call.caller, _filter(request), request.page_size, request.page_token
        )
        return pb.ListPaymentsResponse(payments=map(payment_to_proto, payments), next_page_token=token)

    async def SyncPayment(self, request: pb.SyncPaymentRequest, call: Call) -> pb.SyncPaymentResponse:
        payment = await self._commands.sync(call.caller, request.payment_id, call.deadline_s)
        return pb.SyncPaymentResponse(payment=payment_to_proto(payment))

    async def RefundPayment(self, request: pb.RefundPaymentRequest, call: Call) -> CommandReply:
        given = request.HasField("amount")
        wish = RefundPayment(
            idempotency_key=request.idempotency_key,
            payment_id=request.payment_id,
            amount_minor=request.amount.amount_minor if given else None,
            currency=request.amount.currency_code,
            reason=request.reason,
        )
        return await self._commands.refund(call.caller, wish, call.deadline_s)

    async def GetRefund(self, request: pb.GetRefundRequest, call: Call) -> pb.GetRefundResponse:
        refund = await self._queries.get_refund(call.caller, request.refund_id)
        return pb.GetRefundResponse(refund=refund_to_proto(refund))

    async def ListRefunds(self, request: pb.ListRefundsRequest, call: Call) -> pb.ListRefundsResponse:
        refunds, token = await self._queries.list_refunds(
            call.caller, request.payment_id, request.page_size, request.page_token
        )
        return pb.ListRefundsResponse(refunds=map(refund_to_proto, refunds), next_page_token=token)

    async def GetPaymentTimeline(
        self, request: pb.GetPaymentTimelineRequest, call: Call
    ) -> pb.GetPaymentTimelineResponse:
        entries, token = await self._queries.timeline(
            call.caller, request.payment_id, request.page_size, request.page_token
        )
        payment = await self._queries.get_payment(call.caller, request.payment_id)
        return pb.GetPaymentTimelineResponse(
            entries=map(_entry, entries),
            next_page_token=token,
            route=None if payment.route is None else route_to_proto(payment.route),
        )

    async def _payment(self, request: pb.GetPaymentRequest, call: Call) -> Payment:
        match request.WhichOneof("reference"):
            case "payment_id":
                return await self._queries.get_payment(call.caller, request.payment_id)
            case "order_reference":
                return await self._queries.get_payment_by_order(call.caller, request.order_reference)
            case "provider_reference":
                reference = request.provider_reference
                return await self._queries.get_payment_by_provider(
                    call.caller, reference.account_id, reference.provider_payment_id
                )
            case None:
                raise invalid("reference", "one of payment_id, order_reference and provider_reference is required")


def _create(request: pb.CreatePaymentRequest) -> CreatePayment:
    amount_minor, currency = required_money(request.amount, given=request.HasField("amount"))
    expires = request.HasField("expire_after")
    return CreatePayment(
        idempotency_key=request.idempotency_key,
        amount_minor=amount_minor,
        currency=currency,
        capture_method=member_of(CAPTURE_METHODS_READ, request.capture_method, "capture_method"),
        confirmation_method=member_of(CONFIRMATION_METHODS_READ, request.confirmation_method, "confirmation_method"),
        payment_method=request.payment_method,
        customer_reference=request.customer_reference,
        description=request.description,
        statement_descriptor=request.statement_descriptor,
        return_url=request.return_url,
        metadata=dict(request.metadata),
        provider=request.provider_preference.provider,
        account_id=request.provider_preference.account_id,
        order_reference=request.order_reference,
        order_reference_unique=request.order_reference_unique,
        expire_after_s=whole_seconds_of(request.expire_after, "expire_after") if expires else None,
        connected_account=request.connected_account,
        payer_country=request.payer_country,
    )


def _filter(request: pb.ListPaymentsRequest) -> PaymentFilter:
    since, until = request.HasField("create_time_from"), request.HasField("create_time_before")
    return PaymentFilter(
        order_reference=request.order_reference,
        customer_reference=request.customer_reference,
        account_id=request.account_id,
        # A set in a fixed order: a page token is bound to the filter, not to the order in which states were named.
        states=tuple(sorted({member_of(PAYMENT_STATES_READ, state, "states") for state in request.states})),
        created_from_us=time_us_of(request.create_time_from, "create_time_from") if since else None,
        created_before_us=time_us_of(request.create_time_before, "create_time_before") if until else None,
    )


def _entry(entry: HistoryEntry) -> pb.TimelineEntry:
    return pb.TimelineEntry(
        version=entry.version,
        record_time=time_to_proto(entry.recorded_time_us),
        source=source_to_proto(entry.source),
        causation_id=entry.causation_id,
        transitions=[
            payment_pb2.Transition(
                entity=each.entity.value,
                entity_id=each.entity_id,
                state_before=each.before,
                state_after=each.after,
            )
            for each in entry.transitions
        ],
    )
