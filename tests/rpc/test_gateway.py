"""The whole way, servicer to sandbox and back: what a caller sends and gets."""

import urllib.request
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from obol.v1 import billing_observation_pb2 as observing
from obol.v1 import money_pb2, payment_pb2
from obol.v1 import payment_gateway_pb2 as pb
from obol.v1 import provider_callbacks_pb2 as callbacks
from tests.rpc.conftest import Gateway
from tests.rpc.serving import CONTEXT, told


def create(key: str, **fields: Any) -> pb.CreatePaymentRequest:
    """A request to pay 19.99 EUR, unless `fields` say otherwise."""
    amount = money_pb2.Money(amount_minor=1999, currency_code="EUR")
    return pb.CreatePaymentRequest(idempotency_key=key, **{"amount": amount, "payment_method": "card_ok", **fields})


async def test_every_rpc_of_a_payments_life_works(gateway: Gateway) -> None:
    """Create by hand, confirm, capture, refund, and every way to read it back."""
    rpc, options = gateway.payments, {"metadata": CONTEXT, "timeout": 10}
    manual: dict[str, Any] = {
        "capture_method": payment_pb2.CAPTURE_METHOD_MANUAL,
        "confirmation_method": payment_pb2.CONFIRMATION_METHOD_MANUAL,
        "order_reference": "order-1",
        "metadata": {"b": "2", "a": "1"},
        "expire_after": Duration(seconds=3600),
    }
    made = (await rpc.CreatePayment(create("k1", **manual), **options)).payment
    assert (made.state, made.amount.amount_minor) == (payment_pb2.PAYMENT_STATE_CREATED, 1999)
    assert made.latest_command.kind == payment_pb2.COMMAND_KIND_CREATE
    assert made.expire_time.seconds - made.create_time.seconds == 3600
    which = made.payment_id
    await rpc.ConfirmPayment(pb.ConfirmPaymentRequest(idempotency_key="k2", payment_id=which), **options)
    captured = await rpc.CapturePayment(pb.CapturePaymentRequest(idempotency_key="k3", payment_id=which), **options)
    assert captured.payment.state == payment_pb2.PAYMENT_STATE_CAPTURED
    part = money_pb2.Money(amount_minor=500, currency_code="EUR")
    refunded = await rpc.RefundPayment(
        pb.RefundPaymentRequest(idempotency_key="k4", payment_id=which, amount=part, reason="broken"), **options
    )
    assert (refunded.refund.amount, refunded.refund.reason) == (part, "broken")
    assert refunded.payment.money.refundable.amount_minor == 1499
    synced = await rpc.SyncPayment(pb.SyncPaymentRequest(payment_id=which), **options)
    reads = [
        pb.GetPaymentRequest(payment_id=which),
        pb.GetPaymentRequest(order_reference="order-1"),
        pb.GetPaymentRequest(provider_reference=synced.payment.provider_reference),
    ]
    for read in reads:
        assert (await rpc.GetPayment(read, **options)).payment == synced.payment
    listed = await rpc.ListPayments(
        pb.ListPaymentsRequest(states=[synced.payment.state], create_time_from=Timestamp(seconds=1)), **options
    )
    assert [payment.payment_id for payment in listed.payments] == [which]
    got = await rpc.GetRefund(pb.GetRefundRequest(refund_id=refunded.refund.refund_id), **options)
    assert got.refund.refund_id == refunded.refund.refund_id
    refunds = await rpc.ListRefunds(pb.ListRefundsRequest(payment_id=which), **options)
    assert [refund.refund_id for refund in refunds.refunds] == [refunded.refund.refund_id]
    timeline = await rpc.GetPaymentTimeline(pb.GetPaymentTimelineRequest(payment_id=which), **options)
    assert timeline.entries[0].transitions[0].entity == "PAYMENT"
    another = (await rpc.CreatePayment(create("k5", **manual), **options)).payment.payment_id
    cancelled = await rpc.CancelPayment(pb.CancelPaymentRequest(idempotency_key="k6", payment_id=another), **options)
    assert cancelled.payment.state == payment_pb2.PAYMENT_STATE_CANCELLED


async def test_a_repeated_create_gets_the_same_bytes_and_is_marked(gateway: Gateway) -> None:
    """Same key and request: the same reply, byte for byte, with obol-replayed; another request is refused."""
    method: Any = gateway.channel.unary_unary("/obol.v1.PaymentGateway/CreatePayment")
    replies, marks = [], []
    for _ in range(3):
        call = method(create("k1", metadata={"b": "2", "a": "1"}).SerializeToString(), metadata=CONTEXT, timeout=10)
        replies.append(await call)
        marks.append(dict(await call.initial_metadata()).get("obol-replayed"))
    assert replies[0] == replies[1] == replies[2]
    assert marks == [None, "true", "true"]
    assert pb.CreatePaymentResponse.FromString(replies[0]).payment.state == payment_pb2.PAYMENT_STATE_CAPTURED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await method(create("k1").SerializeToString(), metadata=CONTEXT, timeout=10)
    assert told(caught.value).info.reason == "IDEMPOTENCY_KEY_REUSED"


async def test_a_decline_is_a_reply(gateway: Gateway) -> None:
    """A declined card answers OK, with the reason in the payment and in the command."""
    made = (
        await gateway.payments.CreatePayment(create("k1", payment_method="card_declined"), metadata=CONTEXT, timeout=10)
    ).payment
    assert made.state == payment_pb2.PAYMENT_STATE_FAILED
    assert made.latest_command.state == payment_pb2.COMMAND_STATE_FAILED
    assert made.latest_command.decline.reason != payment_pb2.DECLINE_REASON_UNSPECIFIED


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"amount": None}, "amount"),
        ({"amount": money_pb2.Money(amount_minor=0, currency_code="EUR")}, "amount.amount_minor"),
        ({"amount": money_pb2.Money(amount_minor=1, currency_code="XXZ" * 100_000)}, "amount"),
        ({"capture_method": 99}, "capture_method"),
        ({"confirmation_method": 99}, "confirmation_method"),
        ({"expire_after": Duration(seconds=90, nanos=1)}, "expire_after"),
        ({"expire_after": Duration(seconds=-90)}, "expire_after"),
        ({"payment_method": "4242 4242 4242 4242"}, "payment_method"),
    ],
)
async def test_a_request_that_no_payment_can_hold_names_its_field(
    gateway: Gateway, fields: dict[str, Any], field: str
) -> None:
    """An unset amount, an unknown enum value or a broken duration is INVALID_ARGUMENT, and never a default."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.payments.CreatePayment(create("k1", **fields), metadata=CONTEXT, timeout=10)
    error = told(caught.value)
    assert (error.code, error.info.reason, error.fields) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "FIELD_INVALID",
        [field],
    )


@pytest.mark.parametrize(
    ("rpc", "request_", "reason", "field"),
    [
        ("GetPayment", pb.GetPaymentRequest(), "FIELD_INVALID", ["reference"]),
        ("GetPayment", pb.GetPaymentRequest(payment_id="pay_none"), "PAYMENT_NOT_FOUND", ["payment_id"]),
        ("ListPayments", pb.ListPaymentsRequest.FromString(b"\x30\x4d"), "FIELD_INVALID", ["states"]),
        ("ListPayments", pb.ListPaymentsRequest(page_size=201), "FIELD_INVALID", ["page_size"]),
        ("ListPayments", pb.ListPaymentsRequest(page_token="x"), "PAGE_TOKEN_INVALID", ["page_token"]),
        (
            "ListPayments",
            pb.ListPaymentsRequest(create_time_from=Timestamp(seconds=1, nanos=-1)),
            "FIELD_INVALID",
            ["create_time_from"],
        ),
        (
            "ListPayments",
            pb.ListPaymentsRequest(create_time_before=Timestamp(seconds=2**60)),
            "FIELD_INVALID",
            ["create_time_before"],
        ),
    ],
)
async def test_a_read_that_cannot_be_answered_says_why(
    gateway: Gateway, rpc: str, request_: Any, reason: str, field: list[str]
) -> None:
    """A read's errors carry their reason and field like a command's."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(gateway.payments, rpc)(request_, metadata=CONTEXT, timeout=10)
    error = told(caught.value)
    assert (error.info.reason, error.fields) == (reason, field)


async def test_another_tenant_sees_nothing(gateway: Gateway) -> None:
    """A payment of one tenant is NOT_FOUND for another, by every reference."""
    made = (await gateway.payments.CreatePayment(create("k1"), metadata=CONTEXT, timeout=10)).payment
    other = [("obol-tenant", "t2"), *CONTEXT[1:]]
    for read in (
        pb.GetPaymentRequest(payment_id=made.payment_id),
        pb.GetPaymentRequest(provider_reference=made.provider_reference),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gateway.payments.GetPayment(read, metadata=other, timeout=10)
        assert told(caught.value).info.reason == "PAYMENT_NOT_FOUND"


async def test_billing_watches_lists_accepts_and_rejects(gateway: Gateway) -> None:
    """Observations arrive on the stream, in a list and by id; a named consumer decides each once."""
    for key in ("k1", "k2"):
        await gateway.payments.CreatePayment(create(key), metadata=CONTEXT, timeout=10)
    rpc, options = gateway.observations, {"metadata": CONTEXT, "timeout": 10}
    listed = (await rpc.ListObservations(observing.ListObservationsRequest(), **options)).observations
    stream = rpc.WatchObservations(observing.WatchObservationsRequest(consumer="billing"), **options)
    seen: list[Any] = []
    async for event in stream:
        if event.WhichOneof("event") == "heartbeat":
            assert event.heartbeat.time.seconds > 0
        else:
            seen.append(event.observation)
        if len(seen) == len(listed):
            break
    stream.cancel()
    assert seen == list(listed)
    got = await rpc.GetObservation(observing.GetObservationRequest(observation_id=seen[0].observation_id), **options)
    assert got.observation == seen[0]
    assert seen[0].money.captured.currency_code == "EUR"
    after = await rpc.ListObservations(observing.ListObservationsRequest(cursor=seen[0].cursor), **options)
    assert list(after.observations) == seen[1:]
    accept = observing.AcceptObservationsRequest(consumer="billing", observation_ids=[seen[0].observation_id])
    assert [(await rpc.AcceptObservations(accept, **options)).accepted_count for _ in range(2)] == [1, 0]
    reject = observing.RejectObservationsRequest(
        consumer="billing",
        rejections=[observing.Rejection(observation_id=seen[1].observation_id, reason="not ours")],
    )
    assert (await rpc.RejectObservations(reject, **options)).rejected_count == 1
    standing = await rpc.GetConsumer(observing.GetConsumerRequest(consumer="billing"), **options)
    assert (standing.accepted_count, standing.rejected_count) == (1, 1)
    assert standing.undecided_count == len(seen) - 2
    assert standing.HasField("oldest_undecided_time") == (len(seen) > 2)
    assert standing.decided_cursor == seen[1].cursor


async def test_a_callback_is_kept_once(gateway: Gateway) -> None:
    """The same event again is a duplicate; an account that is not configured is NOT_FOUND."""
    options: dict[str, Any] = {"metadata": [("obol-actor", "sidecar")], "timeout": 10}
    event: dict[str, Any] = {"provider": "sandbox", "event_id": "evt_1", "event_type": "x", "body": b"{}"}
    request = callbacks.DeliverCallbackRequest(account_id="acct_main", receive_time=Timestamp(seconds=1), **event)
    first = await gateway.callbacks.DeliverCallback(request, **options)
    again = await gateway.callbacks.DeliverCallback(request, **options)
    assert (first.callback_id[:4], first.duplicate) == ("cbk_", False)
    assert (again.callback_id, again.duplicate) == ("", True)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.callbacks.DeliverCallback(callbacks.DeliverCallbackRequest(account_id="no", **event), **options)
    assert told(caught.value).info.reason == "ACCOUNT_NOT_FOUND"


async def test_the_exposition_has_the_names_that_operators_look_for(gateway: Gateway) -> None:
    """After a payment, a decline and a replay, each has been counted under its name."""
    for key, method in (("k1", "card_ok"), ("k1", "card_ok"), ("k2", "card_declined")):
        await gateway.payments.CreatePayment(create(key, payment_method=method), metadata=CONTEXT, timeout=10)
    import asyncio

    url = f"http://127.0.0.1:{gateway.where.metrics_port}/metrics"
    text = (await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).read())).decode()
    for line in (
        'obol_payment_attempts_total{account_id="acct_main",kind="CREATE",provider="sandbox"} 2.0',
        'obol_payment_successes_total{kind="CREATE",provider="sandbox"} 1.0',
        'obol_payment_failures_total{kind="CREATE",provider="sandbox",reason=',
        'obol_rpc_latency_seconds_count{rpc="PaymentGateway/CreatePayment"} 3.0',
        'obol_idempotency_replays_total{rpc="CreatePayment"} 1.0',
        'obol_breaker_state{account_id="acct_main"} 0.0',
        "obol_unresolved_age_seconds 0.0",
        "obol_observations_undecided 0.0",
        'obol_unresolved_operations{state="UNKNOWN"} 0.0',
        "obol_provider_latency_seconds_bucket",
    ):
        assert line in text
