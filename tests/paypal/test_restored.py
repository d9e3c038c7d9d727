"""A database that has lost an order at PayPal: neither its key nor a fresh one pays it again."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gateway.app.settings import ReconciliationSettings
from gateway.cli.restore import declare, standing
from tests.databases import sqlite_url
from tests.integration.house import eventually, refused
from tests.paypal.house import ACCOUNT, State, open_paypal_house

ORDER: dict[str, Any] = {"order_reference": "order-9", "order_reference_unique": True}
QUICK_RECONCILIATION = ReconciliationSettings(poll_s=0.05, pause_s=0.0)


async def test_what_was_lost_is_paid_by_neither_its_key_nor_a_fresh_one(tmp_path: Path) -> None:
    """The transaction search leads to the order, and that one says which of ours it is and what was ordered."""
    url = sqlite_url(tmp_path)
    async with open_paypal_house(url, tmp_path, webhooks=False) as house:
        lost = await house.create("lost", payment_method="wallet_ok", **ORDER)
        assert lost.state == State.PAYMENT_STATE_CAPTURED
    # The backup is from before everything.
    url, now = sqlite_url(tmp_path), datetime.now(UTC)
    await declare(
        url,
        [ACCOUNT],
        backup_time=now - timedelta(minutes=5),
        stopped_time=now - timedelta(hours=1),
        actor="operator",
        reason="the disk was lost",
    )
    async with open_paypal_house(
        url, tmp_path, reconciliation=QUICK_RECONCILIATION, webhooks=False, reporting_lag_s=0
    ) as house:
        await eventually(lambda: standing(url, [ACCOUNT]), lambda accounts: not accounts[0].pending)
        for repeated in (
            house.create("lost", payment_method="wallet_ok"),
            house.create("fresh", payment_method="wallet_ok", **ORDER),
        ):
            error = await refused(repeated)
            assert (error.reason, error.sent) == ("LOST_IN_RESTORE", "YES")
            assert error.details["lost_payment_id"] == lost.payment_id
        assert len(house.effects(kind="capture")) == 1
