"""Bad input gets a clear error, and nothing is lost: the code, the ErrorInfo, the field, and the state afterwards."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from obol.v1 import billing_observation_pb2 as watching
from obol.v1 import payment_gateway_pb2 as pb
from obol.v1 import payment_pb2, provider_callbacks_pb2
from tests.integration.house import QUICK, House, State, caller, money, open_house, refused

INVALID = grpc.StatusCode.INVALID_ARGUMENT

BAD_CREATES: dict[str, tuple[dict[str, Any], str, str]] = {
    "missing key": ({"idempotency_key": ""}, "IDEMPOTENCY_KEY_INVALID", "idempotency_key"),
    "key of 256": ({"idempotency_key": "k" * 256}, "IDEMPOTENCY_KEY_INVALID", "idempotency_key"),
    "key with a space": ({"idempotency_key": "a b"}, "IDEMPOTENCY_KEY_INVALID", "idempotency_key"),
    "key of the gateway's own": ({"idempotency_key": "system:x"}, "IDEMPOTENCY_KEY_INVALID", "idempotency_key"),
    "amount missing": ({"amount": None}, "FIELD_INVALID", "amount"),
    "amount zero": ({"amount": money(0)}, "FIELD_INVALID", "amount.amount_minor"),
    "amount negative": ({"amount": money(-1)}, "FIELD_INVALID", "amount"),
    "amount over the bound": ({"amount": money(10**12)}, "FIELD_INVALID", "amount"),
    "yen over the bound": ({"amount": money(10**10, "JPY")}, "FIELD_INVALID", "amount"),
    "unknown currency": ({"amount": money(1, "XXQ")}, "FIELD_INVALID", "amount"),
    "lower-case currency": ({"amount": money(1, "eur")}, "FIELD_INVALID", "amount"),
    "too much metadata": ({"metadata": {f"k{n}": "v" for n in range(21)}}, "FIELD_INVALID", "metadata"),
    "metadata key of 41": ({"metadata": {"k" * 41: "v"}}, "FIELD_INVALID", "metadata"),
    "metadata value of 501": ({"metadata": {"k": "v" * 501}}, "FIELD_INVALID", "metadata[k]"),
    "metadata in our name": ({"metadata": {"obol_payment": "v"}}, "FIELD_INVALID", "metadata"),
    "card number": ({"payment_method": "4242 4242 4242 4242"}, "FIELD_INVALID", "payment_method"),
    "javascript url": ({"return_url": "javascript:alert(1)"}, "FIELD_INVALID", "return_url"),
    "unique without an order": ({"order_reference_unique": True}, "FIELD_INVALID", "order_reference"),
}


@pytest.mark.parametrize("name", BAD_CREATES)
async def test_a_bad_create_names_its_field_and_reaches_nobody(house: House, name: str) -> None:
    """INVALID_ARGUMENT with the field at fault, sent=NO; no payment, no effect."""
    asked, reason, field = BAD_CREATES[name]
    request: dict[str, Any] = {"idempotency_key": "key", "amount": money(1_000), "payment_method": "card_ok"} | asked
    call = house.payments.CreatePayment(pb.CreatePaymentRequest(**request), metadata=house.metadata, timeout=60)
    error = await refused(call)
    assert (error.code, error.reason, error.sent) == (INVALID, reason, "NO")
    assert error.fields == (field,)
    assert "4242" not in error.message
    listed = await house.payments.ListPayments(pb.ListPaymentsRequest(), metadata=house.metadata, timeout=60)
    assert not listed.payments
    assert house.effects() == []


async def test_an_unknown_payment_is_not_found_by_every_command(house: House) -> None:
    """NOT_FOUND, PAYMENT_NOT_FOUND, for each RPC that names a payment."""
    nobody = "pay_00000000000000000000000000000000"
    call: dict[str, Any] = {"metadata": house.metadata, "timeout": 10}
    for rpc in (
        house.payments.GetPayment(pb.GetPaymentRequest(payment_id=nobody), **call),
        house.payments.SyncPayment(pb.SyncPaymentRequest(payment_id=nobody), **call),
        house.payments.ConfirmPayment(pb.ConfirmPaymentRequest(idempotency_key="k", payment_id=nobody), **call),
        house.payments.CapturePayment(pb.CapturePaymentRequest(idempotency_key="k", payment_id=nobody), **call),
        house.payments.CancelPayment(pb.CancelPaymentRequest(idempotency_key="k", payment_id=nobody), **call),
        house.payments.RefundPayment(pb.RefundPaymentRequest(idempotency_key="k", payment_id=nobody), **call),
        house.payments.ListRefunds(pb.ListRefundsRequest(payment_id=nobody), **call),
    ):
        error = await refused(rpc)
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "PAYMENT_NOT_FOUND")


async def test_a_key_with_another_request_is_refused(house: House) -> None:
    """ALREADY_EXISTS, IDEMPOTENCY_KEY_REUSED, naming the payment that has the key; still one effect."""
    payment = await house.create("k", amount=500)
    error = await refused(house.create("k", amount=501))
    assert (error.code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_KEY_REUSED")
    assert error.details["payment_id"] == payment.payment_id
    assert len(house.effects()) == 1


async def test_a_second_payment_for_a_unique_order_is_refused(house: House) -> None:
    """ALREADY_EXISTS, ORDER_REFERENCE_TAKEN, with the payment that holds it; a fresh key does not help."""
    unique: dict[str, Any] = {"order_reference": "order-1", "order_reference_unique": True}
    payment = await house.create("k1", **unique)
    error = await refused(house.create("k2", **unique))
    assert (error.code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "ORDER_REFERENCE_TAKEN")
    assert error.details["payment_id"] == payment.payment_id
    assert (await house.create("k1", **unique)).payment_id == payment.payment_id
    assert len(house.effects()) == 1


async def test_a_unique_order_of_many_callers_is_one_payment(house: House) -> None:
    """Sixteen fresh keys for one order at once: one effect."""
    calls = [house.create(f"k{n}", order_reference="o", order_reference_unique=True) for n in range(16)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(not isinstance(result, BaseException) for result in results) == 1
    assert len(house.effects()) == 1


async def test_an_order_is_free_again_when_its_payment_is_cancelled(house: House) -> None:
    """A cancelled payment gives its order up."""
    unique: dict[str, Any] = {"order_reference": "order-1", "order_reference_unique": True}
    payment = await house.create("k1", capture_method=payment_pb2.CAPTURE_METHOD_MANUAL, **unique)
    await house.payments.CancelPayment(
        pb.CancelPaymentRequest(idempotency_key="x", payment_id=payment.payment_id), metadata=house.metadata, timeout=60
    )
    assert (await house.create("k2", **unique)).state == State.PAYMENT_STATE_CAPTURED


async def test_amounts_beyond_what_is_there_are_refused_before_they_are_sent(house: House) -> None:
    """Capture over authorized and refund over captured name what is available."""
    held = await house.create("k1", capture_method=payment_pb2.CAPTURE_METHOD_MANUAL)
    error = await refused(
        house.payments.CapturePayment(
            pb.CapturePaymentRequest(idempotency_key="c", payment_id=held.payment_id, amount=money(1_001)),
            metadata=house.metadata,
            timeout=60,
        )
    )
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "AMOUNT_EXCEEDS_CAPTURABLE")
    paid = await house.create("k2")
    error = await refused(
        house.payments.RefundPayment(
            pb.RefundPaymentRequest(idempotency_key="r", payment_id=paid.payment_id, amount=money(1_001)),
            metadata=house.metadata,
            timeout=60,
        )
    )
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "AMOUNT_EXCEEDS_REFUNDABLE")
    assert error.details["available_minor"] == "1000"
    error = await refused(
        house.payments.RefundPayment(
            pb.RefundPaymentRequest(idempotency_key="r", payment_id=paid.payment_id, amount=money(1, "USD")),
            metadata=house.metadata,
            timeout=60,
        )
    )
    assert (error.code, error.fields) == (INVALID, ("amount.currency_code",))


async def test_two_captures_at_once_are_one(house: House) -> None:
    """Exclusive: one captures, the other is PAYMENT_BUSY or finds nothing left."""
    payment = await house.create(capture_method=payment_pb2.CAPTURE_METHOD_MANUAL)
    calls = [
        house.payments.CapturePayment(
            pb.CapturePaymentRequest(idempotency_key=f"c{n}", payment_id=payment.payment_id),
            metadata=house.metadata,
            timeout=60,
        )
        for n in range(2)
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    errors = [result for result in results if isinstance(result, grpc.aio.AioRpcError)]
    assert len(errors) == 1
    assert errors[0].code() in (grpc.StatusCode.ABORTED, grpc.StatusCode.FAILED_PRECONDITION)
    assert len(house.effects(kind="capture")) == 1


async def test_a_deadline_too_short_sends_nothing_and_a_replay_outranks_it(database_url: str, tmp_path: Path) -> None:
    """DEADLINE_TOO_SHORT before the claim; the same short deadline still gets a stored reply."""
    request = pb.CreatePaymentRequest(idempotency_key="k", amount=money(100), payment_method="card_ok")
    async with open_house(database_url, tmp_path, engine=replace(QUICK, deadline_s_min=30.0)) as house:
        error = await refused(house.payments.CreatePayment(request, metadata=house.metadata, timeout=20))
        assert (error.code, error.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_TOO_SHORT")
        assert (error.sent, error.safe_to_retry) == ("NO", "true")
        assert house.effects() == []
        first = await house.payments.CreatePayment(request, metadata=house.metadata, timeout=60)
        again = await house.payments.CreatePayment(request, metadata=house.metadata, timeout=20)
    assert again == first


async def test_an_unknown_account_is_not_found(house: House) -> None:
    """NOT_FOUND, ACCOUNT_NOT_FOUND, for a provider or account that is not configured."""
    wish = pb.ProviderPreference(provider="acme")
    error = await refused(house.create(provider_preference=wish))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "ACCOUNT_NOT_FOUND")
    error = await refused(house.create(provider_preference=pb.ProviderPreference(account_id="acct_none")))
    assert error.reason == "ACCOUNT_NOT_FOUND"


async def test_a_cursor_that_was_never_issued_is_refused(house: House) -> None:
    """INVALID_ARGUMENT, CURSOR_INVALID: garbage, another tenant's, or one beyond the end."""
    await house.create()
    response = await house.observations.ListObservations(
        watching.ListObservationsRequest(), metadata=house.metadata, timeout=60
    )
    cursor = response.next_cursor
    attempts = [("garbage", house.metadata), (cursor[:-2] + "AA", house.metadata), (cursor, caller("t2"))]
    for bad, metadata in attempts:
        error = await refused(
            house.observations.ListObservations(
                watching.ListObservationsRequest(cursor=bad), metadata=metadata, timeout=60
            )
        )
        assert (error.code, error.reason) == (INVALID, "CURSOR_INVALID")
        stream = house.observations.WatchObservations(
            watching.WatchObservationsRequest(cursor=bad), metadata=metadata, timeout=60
        )
        error = await refused(stream.read())
        assert (error.code, error.reason) == (INVALID, "CURSOR_INVALID")


async def test_a_page_token_of_another_filter_is_refused(house: House) -> None:
    """INVALID_ARGUMENT, PAGE_TOKEN_INVALID; with its own filter it goes on where it was."""
    for n in range(3):
        await house.create(f"k{n}", customer_reference="c-1")
    asked = pb.ListPaymentsRequest(page_size=2, customer_reference="c-1")
    first = await house.payments.ListPayments(asked, metadata=house.metadata, timeout=60)
    assert len(first.payments) == 2
    asked.page_token = first.next_page_token
    rest = await house.payments.ListPayments(asked, metadata=house.metadata, timeout=60)
    assert len(rest.payments) == 1
    assert not rest.next_page_token
    asked.customer_reference = "c-2"
    error = await refused(house.payments.ListPayments(asked, metadata=house.metadata, timeout=60))
    assert (error.code, error.reason) == (INVALID, "PAGE_TOKEN_INVALID")


async def test_a_callback_of_an_unknown_account_is_not_kept(house: House) -> None:
    """NOT_FOUND, ACCOUNT_NOT_FOUND; and the same for an account of another provider."""
    for provider, account in (("sandbox", "acct_none"), ("stripe", "acct_main")):
        request = provider_callbacks_pb2.DeliverCallbackRequest(
            provider=provider, account_id=account, event_id="e", event_type="t", body=b"{}"
        )
        error = await refused(house.callbacks.DeliverCallback(request, metadata=house.metadata, timeout=60))
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "ACCOUNT_NOT_FOUND")


async def test_a_callback_is_kept_once_however_often_it_comes(house: House) -> None:
    """The second delivery of an event is a duplicate; an unreadable one rests in quarantine and is acknowledged."""
    request = provider_callbacks_pb2.DeliverCallbackRequest(
        provider="sandbox", account_id="acct_main", event_id="evt_1", event_type="t", body=b"not json"
    )
    answers = await asyncio.gather(
        *(house.callbacks.DeliverCallback(request, metadata=house.metadata, timeout=60) for _ in range(20))
    )
    assert sum(not answer.duplicate for answer in answers) == 1
