"""Several captures of one authorization at PayPal, and refunds, each of one capture that has enough left."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from obol.v1 import payment_gateway_pb2 as pb
from obol.v1 import payment_pb2
from tests.databases import sqlite_url
from tests.integration.house import caller, money, refused
from tests.paypal.house import PayPalHouse, State, open_paypal_house
from tests.paypal.test_payments import sound

MANUAL = payment_pb2.CAPTURE_METHOD_MANUAL


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[PayPalHouse]:
    """A gateway and PayPal; the invariants hold over both books when it is over."""
    url = sqlite_url(tmp_path)
    async with open_paypal_house(url, tmp_path) as opened:
        yield opened
    await sound(url, tmp_path)


async def capture(house: PayPalHouse, payment_id: str, amount: int, *, final: bool) -> Any:
    """CapturePayment."""
    request = pb.CapturePaymentRequest(
        idempotency_key=f"c{amount}", payment_id=payment_id, amount=money(amount), final_capture=final
    )
    return (await house.payments.CapturePayment(request, metadata=caller("t1"), timeout=10)).payment


def refund(house: PayPalHouse, payment_id: str, key: str, amount: int | None) -> Any:
    """RefundPayment."""
    asked: dict[str, Any] = {} if amount is None else {"amount": money(amount)}
    request = pb.RefundPaymentRequest(idempotency_key=key, payment_id=payment_id, **asked)
    return house.payments.RefundPayment(request, metadata=caller("t1"), timeout=10)


async def test_parts_are_captured_and_refunded_each_from_one_that_has_enough(house: PayPalHouse) -> None:
    """700, 500 and 800 of 2,000; what no one capture has left is refused with the most of one, unsent."""
    held = await house.create(capture_method=MANUAL, payment_method="wallet_ok")
    part = await capture(house, held.payment_id, 700, final=False)
    assert (part.state, part.money.capturable.amount_minor) == (State.PAYMENT_STATE_PARTIALLY_CAPTURED, 1_300)
    await capture(house, held.payment_id, 500, final=False)
    whole = await capture(house, held.payment_id, 800, final=True)
    assert (whole.state, whole.money.refundable.amount_minor) == (State.PAYMENT_STATE_CAPTURED, 2_000)

    await refund(house, held.payment_id, "r1", 600)  # of the 700
    error = await refused(refund(house, held.payment_id, "r2", 801))
    assert (error.reason, error.details["available_minor"], error.sent) == ("AMOUNT_EXCEEDS_REFUNDABLE", "800", "NO")
    assert (await refused(refund(house, held.payment_id, "all", None))).reason == "AMOUNT_EXCEEDS_REFUNDABLE"
    for key, amount in (("r3", 500), ("r4", 800), ("r5", 100)):
        await refund(house, held.payment_id, key, amount)
    done = await house.get(held.payment_id)
    assert (done.state, done.money.refunded.amount_minor) == (State.PAYMENT_STATE_REFUNDED, 2_000)
    assert [each["amount"] for each in house.effects(kind="capture")] == [700, 500, 800]
    assert [each["amount"] for each in house.effects(kind="refund")] == [600, 500, 800, 100]


async def test_a_final_part_lets_the_rest_go(house: PayPalHouse) -> None:
    """After a part that was not final, one that is: what was not taken is released."""
    held = await house.create(capture_method=MANUAL, payment_method="wallet_ok")
    await capture(house, held.payment_id, 700, final=False)
    closed = await capture(house, held.payment_id, 500, final=True)
    assert (closed.state, closed.money.capturable.amount_minor) == (State.PAYMENT_STATE_CAPTURED, 0)
    assert closed.money.captured.amount_minor == 1_200
