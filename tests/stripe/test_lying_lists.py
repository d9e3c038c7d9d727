"""Stripe's books are read in parts, and one part may tell other amounts: nothing of that read is believed."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.verification import verify
from obol.v1 import payment_gateway_pb2 as pb
from obol.v1 import payment_pb2
from obol.v1.money_pb2 import Money
from tests.databases import sqlite_url
from tests.integration.house import caller
from tests.store.looking import rows
from tests.stripe.house import StripeHouse, house_before, stripe_in

LYING = {"rates": {"wrong_amount": 1.0}, "seed": 1, "scope": {"method": "GET", "path_prefix": "/v1/charges"}}
CALLER = caller("t1")
State = payment_pb2.PaymentState


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[StripeHouse]:
    """A gateway before Stripe's imitation; in the end their books agree."""
    url = sqlite_url(tmp_path)
    async with stripe_in(tmp_path) as stripe, house_before(stripe, url, tmp_path) as opened:
        yield opened
        report = await verify(url, effect_log=stripe.folder / "effects.jsonl", healed=True)
        assert report.violations == []


async def lies_told(house: StripeHouse) -> set[str]:
    """What was said aloud of contradictions."""
    told = await rows(house.database_url, "SELECT detail FROM observations WHERE kind = 'CONTRADICTION'")
    return {detail for (detail,) in told}


async def amounts(house: StripeHouse, kind: str) -> set[int]:
    """The amounts of what is on record."""
    told = await rows(house.database_url, f"SELECT amount_minor FROM movements WHERE kind = '{kind}'")
    return {amount for (amount,) in told}


async def test_a_list_that_lies_of_a_refund_teaches_nothing(house: StripeHouse) -> None:
    """The payment's own amount is right there, and what a refund of ours gave back is not: the sums stay true."""
    paid = await house.create("k1")
    amount = Money(amount_minor=100, currency_code="EUR")
    request = pb.RefundPaymentRequest(idempotency_key="r1", payment_id=paid.payment_id, amount=amount)
    await house.payments.RefundPayment(request, metadata=CALLER, timeout=20)
    # A disputed charge is read by itself, in a list.
    await house.control(f"payments/{paid.provider_reference.provider_payment_id}/dispute", {"amount": 50})
    await house.control("faults", LYING)
    sync: Any = pb.SyncPaymentRequest(payment_id=paid.payment_id)
    await house.payments.SyncPayment(sync, metadata=CALLER, timeout=20)
    assert await lies_told(house) == {"mismatch: refund of 101, not 100"}
    assert await amounts(house, "REFUND") == {100}
    await house.control("faults", {"rates": {}})
    await house.payments.SyncPayment(sync, metadata=CALLER, timeout=20)
    after = (await house.get(paid.payment_id)).money
    assert (after.refunded.amount_minor, after.disputed.amount_minor) == (100, 50)


async def test_a_lie_behind_a_confirms_answer_is_no_answer(house: StripeHouse) -> None:
    """The attempts before it are read after it, and tell another amount of its own: UNKNOWN, until a look is true."""
    made = await house.create(
        "k1",
        capture_method=payment_pb2.CAPTURE_METHOD_MANUAL,
        confirmation_method=payment_pb2.CONFIRMATION_METHOD_MANUAL,
    )
    await house.control("faults", LYING)
    request = pb.ConfirmPaymentRequest(idempotency_key="c1", payment_id=made.payment_id, payment_method="pm_card_visa")
    told = (await house.payments.ConfirmPayment(request, metadata=CALLER, timeout=20)).payment
    assert told.latest_command.state == payment_pb2.COMMAND_STATE_UNKNOWN
    assert await lies_told(house) == {"mismatch: authorization of 1001, not 1000"}
    assert await amounts(house, "AUTHORIZATION") == set()
    await house.control("faults", {"rates": {}})
    await house.until(made.payment_id, State.PAYMENT_STATE_AUTHORIZED)
    assert await amounts(house, "AUTHORIZATION") == {1_000}
