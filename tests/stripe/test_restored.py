"""A database that has lost payments at Stripe: wherever and however made, nobody is charged for them again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.restore import declare, standing
from obol.v1 import payment_gateway_pb2 as pb
from obol.v1 import payment_pb2
from tests.crash.rig import change
from tests.databases import sqlite_url
from tests.integration.house import eventually, refused
from tests.store.looking import rows
from tests.stripe.house import ACCOUNT, OURS, StripeHouse, house_before, stripe_in

State = payment_pb2.PaymentState
MANUAL = payment_pb2.CONFIRMATION_METHOD_MANUAL
ORDER: dict[str, Any] = {"order_reference": "order-9", "order_reference_unique": True}


@asynccontextmanager
async def after_a_loss(folder: Path, **asked: Any) -> AsyncIterator[tuple[StripeHouse, Any]]:
    """A house on a database that has lost the payment of `order-9`, once it was reconciled; and that payment."""
    async with stripe_in(folder) as stripe:
        async with house_before(stripe, sqlite_url(folder), folder, connected=(OURS,)) as house:
            lost = await house.create("lost", **ORDER, **asked)
            if asked.get("confirmation_method") == MANUAL:
                request = pb.ConfirmPaymentRequest(payment_id=lost.payment_id, idempotency_key="confirmed")
                lost = (await house.call("ConfirmPayment", request)).payment
            assert lost.state == State.PAYMENT_STATE_CAPTURED
        # The backup is from before everything.
        url, now = sqlite_url(folder), datetime.now(UTC)
        await declare(
            url,
            [ACCOUNT],
            backup_time=now - timedelta(minutes=5),
            stopped_time=now - timedelta(hours=1),
            actor="operator",
            reason="the disk was lost",
        )
        async with house_before(stripe, url, folder, connected=(OURS,)) as house:
            await eventually(lambda: standing(url, [ACCOUNT]), lambda accounts: not accounts[0].pending)
            yield house, lost
        assert [(each["kind"], each["amount"]) for each in stripe.effects()] == [("capture", 1_000)]


@pytest.mark.parametrize(
    "asked",
    [{}, {"connected_account": OURS}, {"confirmation_method": MANUAL}],
    ids=["at the platform", "at a connected account", "confirmed later"],
)
async def test_what_was_lost_is_paid_by_neither_its_key_nor_a_fresh_one(asked: dict[str, Any], tmp_path: Path) -> None:
    """Its key is refused, and so is whoever pays its unique order anew: the list shows it, its create and its order."""
    async with after_a_loss(tmp_path, **asked) as (house, lost):
        found = await rows(
            house.database_url,
            "SELECT type, payment_id, provider_payment_id, order_reference FROM reconciliation_breaks",
        )
        there = lost.provider_reference.provider_payment_id
        assert [tuple(each) for each in found] == [("MISSING_HERE", lost.payment_id, there, "order-9")]
        # Each alone would do: its key by the create's own operation, whoever pays the order by its reference.
        repeated, anew = house.create("lost", **asked), house.create("fresh", **ORDER)
        for error in await asyncio.gather(refused(repeated), refused(anew)):
            assert (error.reason, error.sent) == ("LOST_IN_RESTORE", "YES")


async def test_without_a_declaration_a_known_key_is_never_concluded_absent(tmp_path: Path) -> None:
    """Stripe says that the key is another request's: that one's payment has another id, and no look finds ours."""
    async with stripe_in(tmp_path) as stripe:
        async with house_before(stripe, sqlite_url(tmp_path), tmp_path) as house:
            await house.create("lost")
        async with house_before(stripe, sqlite_url(tmp_path), tmp_path) as house:
            again = await house.create("lost")
            assert again.state == State.PAYMENT_STATE_UNKNOWN
            # Past every send and every flight, with a look at once.
            await change(
                house.database_url,
                "UPDATE operations SET claimed_time_us = claimed_time_us - 2000000000, "
                "last_send_us = last_send_us - 2000000000, next_attempt_us = 1",
            )
            looked = "SELECT failure FROM operations WHERE failure NOT LIKE '400%'"
            found = await eventually(lambda: rows(house.database_url, looked), bool)
            assert found[0][0] == "the provider shows no trace of it yet"
            assert (await house.get(again.payment_id)).state == State.PAYMENT_STATE_UNKNOWN
        assert [each["kind"] for each in stripe.effects()] == ["capture"]
