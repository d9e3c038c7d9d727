"""What Stripe did not execute, sent again under its key: the same bytes, or Stripe could refuse our own key to us."""

import asyncio
from pathlib import Path
from typing import Any

from obol.v1 import money_pb2, payment_pb2
from obol.v1 import payment_gateway_pb2 as pb
from tests.databases import sqlite_url
from tests.integration.house import caller, refused
from tests.stripe.house import StripeHouse, house_before, stripe_in

REFUSALS = 4
"""As often as one call sends what a provider asks it to send later: a try, and as many waits as it has patience for."""


async def called(house: StripeHouse, rpc: str, request: Any, correlation: str) -> Any:
    """The RPC, by a caller who gives each call a correlation of its own."""
    metadata = [(name, correlation if name == "obol-correlation-id" else text) for name, text in caller("t1")]
    return await getattr(house.payments, rpc)(request, metadata=metadata, timeout=20)


def create(key: str) -> pb.CreatePaymentRequest:
    """A payment whose money is held."""
    return pb.CreatePaymentRequest(
        idempotency_key=key,
        amount=money_pb2.Money(amount_minor=1_000, currency_code="EUR"),
        payment_method="pm_card_visa",
        capture_method=payment_pb2.CAPTURE_METHOD_MANUAL,
    )


async def test_what_was_not_executed_goes_out_again_to_the_byte(tmp_path: Path) -> None:
    """A create and a capture that met 429, in two contexts and within a call: one key and one body, however often."""
    async with stripe_in(tmp_path) as stripe, house_before(stripe, sqlite_url(tmp_path), tmp_path) as house:
        paid = (await called(house, "CreatePayment", create("held"), "corr-1")).payment
        capture = pb.CapturePaymentRequest(idempotency_key="c", payment_id=paid.payment_id)
        calls = {"CreatePayment": create("later"), "CapturePayment": capture}
        faults = [{"fault": "http_429", "match": verb} for verb in ("create", "capture") for _ in range(REFUSALS + 1)]
        await house.control("faults", {"next": faults})
        before = len(stripe.heard)
        told = await asyncio.gather(*(refused(called(house, rpc, what, "corr-2")) for rpc, what in calls.items()))
        assert [each.sent for each in told] == ["NO", "NO"]
        for rpc, what in calls.items():
            await called(house, rpc, what, "corr-3")
        sent = [each for each in stripe.heard[before:] if each.method == "POST"]
        assert len(sent) == 2 * (REFUSALS + 2)
        assert len({(each.path, each.headers["idempotency-key"], each.body) for each in sent}) == 2
