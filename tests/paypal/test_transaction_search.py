"""What PayPal's own records tell: an order whose id was lost, a refund that no event told of; and no leave to ask."""

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.app.settings import EngineSettings, ReconciliationSettings
from obol.v1 import operations_pb2 as ops
from tests.databases import sqlite_url
from tests.integration.house import QUICK, caller, eventually
from tests.paypal.house import ACCOUNT, Command, PayPalHouse, State, open_paypal_house
from tests.paypal.test_payments import age, order_of, sound

NEVER_RESENDS = replace(QUICK, resend_age_s_max=0.0)
QUICK_RECONCILIATION = ReconciliationSettings(
    poll_s=0.05, pause_s=0.0, page=2, pages_per_turn=2, postpone_first_s=0.05, postponed_max=2
)
WINDOW_S = 24 * 3_600


def opened(
    folder: Path, *, engine: EngineSettings = QUICK, reporting_lag_s: int = 0, **more: Any
) -> AbstractAsyncContextManager[PayPalHouse]:
    """A house without events, which believes what the search shows."""
    return open_paypal_house(
        sqlite_url(folder),
        folder,
        engine=engine,
        reconciliation=QUICK_RECONCILIATION,
        webhooks=False,
        reporting_lag_s=reporting_lag_s,
        **more,
    )


async def asked(house: PayPalHouse, end_s: float) -> str:
    """RunReconciliation of the day before `end_s`; the job's id."""
    request = ops.RunReconciliationRequest(idempotency_key="r", account_id=ACCOUNT)
    request.window_start_time.seconds, request.window_end_time.seconds = int(end_s) - WINDOW_S, int(end_s)
    answer = await house.operations.RunReconciliation(request, metadata=caller("t1"), timeout=10)
    return str(answer.reconciliation.reconciliation_id)


async def reconciled(house: PayPalHouse, end_s: float) -> tuple[Any, list[Any]]:
    """A reconciliation of the day before `end_s`, when it is over, and its breaks."""
    wanted = ops.GetReconciliationRequest(reconciliation_id=await asked(house, end_s))
    final = (ops.RECONCILIATION_STATE_DONE, ops.RECONCILIATION_STATE_FAILED)
    found = await eventually(
        lambda: house.operations.GetReconciliation(wanted, metadata=caller("t1"), timeout=10),
        lambda answer: answer.reconciliation.state in final,
    )
    return found.reconciliation, list(found.breaks)


async def test_a_create_whose_answer_and_id_were_lost_ends_by_the_search(tmp_path: Path) -> None:
    """Too old to resend, no event: UNKNOWN while the search does not show it yet, and SUCCEEDED once it does."""
    async with opened(tmp_path, engine=NEVER_RESENDS, reporting_seconds=1.0) as house:
        await house.control("faults", {"next": [{"fault": "lost_after", "match": "create"}]})
        payment = await house.create(payment_method="wallet_ok")
        assert payment.state == State.PAYMENT_STATE_UNKNOWN
        assert not payment.provider_reference.provider_payment_id
        told = await house.until(payment.payment_id, lambda p: p.state != State.PAYMENT_STATE_UNKNOWN)
        assert (told.state, told.latest_command.state) == (
            State.PAYMENT_STATE_CAPTURED,
            Command.COMMAND_STATE_SUCCEEDED,
        )
        (effect,) = house.effects()
        assert told.provider_reference.provider_payment_id == (await order_of(house, told))["id"] != effect["id"]
    await sound(house.database_url, tmp_path)


async def test_a_reconciliation_finds_and_mends_what_no_event_told(tmp_path: Path) -> None:
    """Three payments in two pages, one refunded in the dashboard: one break, merged, and the sums agree."""
    async with opened(tmp_path) as house:
        made = [await house.create(key=f"k{number}", payment_method="wallet_ok") for number in range(3)]
        capture = (await order_of(house, made[1]))["purchase_units"][0]["payments"]["captures"][0]["id"]
        await house.control(f"captures/{capture}/refund", {"amount": 500})
        job, breaks = await reconciled(house, time.time() + 60)
        assert job.state == ops.RECONCILIATION_STATE_DONE, job.failure
        assert [(each.type, each.mended) for each in breaks] == [(ops.BREAK_TYPE_MISSING_HERE, True)]
        assert (job.provider_count, job.payment_count, job.foreign_count) == (3, 3, 0)
        after = await house.get(made[1].payment_id)
        assert after.money.refunded.amount_minor == 500
    await sound(house.database_url, tmp_path)


async def test_without_leave_to_search_a_reconciliation_says_so(tmp_path: Path) -> None:
    """No leave is no empty list: the job fails with what to do, and no payment of ours is called missing."""
    async with opened(tmp_path, reporting=False) as house:
        await house.create(payment_method="wallet_ok")
        job, breaks = await reconciled(house, time.time() + 60)
        assert (job.state, breaks) == (ops.RECONCILIATION_STATE_FAILED, [])
        assert "obol providers check" in job.failure


async def test_an_order_that_was_dropped_unpaid_is_no_break(tmp_path: Path) -> None:
    """Most checkouts that are left end so: PayPal does not know the order any more, as we know, and nobody is told."""
    async with opened(tmp_path, order_seconds=0.0) as house:
        payment = await house.create()
        await age(house.database_url, 4 * 3600)
        await house.until(payment.payment_id, lambda p: p.state == State.PAYMENT_STATE_EXPIRED)
        job, breaks = await reconciled(house, time.time() + 60)
        assert (job.state, breaks) == (ops.RECONCILIATION_STATE_DONE, []), job.failure
        assert (job.provider_count, job.payment_count) == (0, 1)
    await sound(house.database_url, tmp_path)


async def test_a_window_that_may_not_be_complete_waits_and_nobody_else_does(tmp_path: Path) -> None:
    """Not listed before PayPal must show all of it; nothing was asked, so that no breaker takes it for an outage."""
    async with opened(tmp_path, reporting_lag_s=3_600, failures_max=1) as house:
        wanted = ops.GetReconciliationRequest(reconciliation_id=await asked(house, time.time()))
        await eventually(
            lambda: house.operations.GetReconciliation(wanted, metadata=caller("t1"), timeout=10),
            lambda answer: answer.reconciliation.state == ops.RECONCILIATION_STATE_RUNNING,
        )
        await asyncio.sleep(0.3)
        assert (await house.create(payment_method="wallet_ok")).state == State.PAYMENT_STATE_CAPTURED
        found = await house.operations.GetReconciliation(wanted, metadata=caller("t1"), timeout=10)
        assert found.reconciliation.state == ops.RECONCILIATION_STATE_RUNNING
    await sound(house.database_url, tmp_path)
