"""PayPal end to end in one process, on both databases: approval, completion, declines, refunds, disputes, and crashes.

Each test ends with the invariants over the database and the imitation's effect log, and with every exchange validated
against PayPal's own documents.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.verification import verify
from obol.v1 import payment_gateway_pb2 as pb
from obol.v1 import payment_pb2
from tests.databases import postgresql_url, sqlite_url
from tests.integration.house import QUICK, caller, eventually, money, refused
from tests.paypal.house import MERCHANT, Command, Kind, PayPalHouse, State, open_paypal_house

MANUAL = payment_pb2.CAPTURE_METHOD_MANUAL


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh database of each kind."""
    return sqlite_url(tmp_path) if request.param == "sqlite" else postgresql_url()


@pytest.fixture
async def house(database_url: str, tmp_path: Path) -> AsyncIterator[PayPalHouse]:
    """A gateway, PayPal and the sidecar."""
    async with open_paypal_house(database_url, tmp_path) as opened:
        yield opened
    await sound(database_url, tmp_path)


@pytest.fixture
async def quick(tmp_path: Path) -> AsyncIterator[PayPalHouse]:
    """The same on SQLite alone, for what no database could make different."""
    url = sqlite_url(tmp_path)
    async with open_paypal_house(url, tmp_path) as opened:
        yield opened
    await sound(url, tmp_path)


async def sound(database_url: str, folder: Path) -> None:
    """The invariants hold over both books."""
    report = await verify(database_url, effect_log=folder / "paypal" / "effects.jsonl")
    assert report.violations == []


async def test_an_approved_order_is_captured_once(house: PayPalHouse) -> None:
    """Create, approve, and the event completes it: one capture under the create's operation, one command of our own."""
    payment = await house.create()
    assert payment.state == State.PAYMENT_STATE_REQUIRES_ACTION
    assert "?token=" in payment.next_action.redirect_url
    await house.approve(payment)
    done = await house.until(payment.payment_id, lambda p: p.state == State.PAYMENT_STATE_CAPTURED)
    assert (done.money.captured.amount_minor, done.money.refundable.amount_minor) == (2_000, 2_000)
    assert not done.HasField("next_action")
    assert (done.latest_command.kind, done.latest_command.state) == (
        Kind.COMMAND_KIND_COMPLETE,
        Command.COMMAND_STATE_SUCCEEDED,
    )
    (effect,) = house.effects()
    assert (effect["kind"], effect["amount"], effect["tenant"]) == ("capture", 2_000, "t1")


async def test_a_caller_who_repeats_the_create_sees_the_money(quick: PayPalHouse) -> None:
    """The create concludes SUCCEEDED with the completion: its stored reply says CAPTURED, and charges nothing more."""
    payment = await quick.create(key="again")
    await quick.approve(payment)
    await quick.until(payment.payment_id, lambda p: p.state == State.PAYMENT_STATE_CAPTURED)
    again = await quick.create(key="again")
    assert (again.payment_id, again.state) == (payment.payment_id, State.PAYMENT_STATE_CAPTURED)
    assert len(quick.effects()) == 1


async def test_a_manual_payment_is_authorized_captured_and_refunded(house: PayPalHouse) -> None:
    """The completion authorizes; a part is captured, which closes the rest; two refunds of one amount are two."""
    payment = await house.create(capture_method=MANUAL)
    await house.approve(payment)
    held = await house.until(payment.payment_id, lambda p: p.state == State.PAYMENT_STATE_AUTHORIZED)
    request = pb.CapturePaymentRequest(
        idempotency_key="c", payment_id=held.payment_id, amount=money(1_500), final_capture=True
    )
    taken = (await house.payments.CapturePayment(request, metadata=caller("t1"), timeout=10)).payment
    assert (taken.state, taken.money.captured.amount_minor) == (State.PAYMENT_STATE_CAPTURED, 1_500)
    for key in ("r1", "r2"):
        refund = pb.RefundPaymentRequest(idempotency_key=key, payment_id=held.payment_id, amount=money(400))
        await house.payments.RefundPayment(refund, metadata=caller("t1"), timeout=10)
    after = await house.get(held.payment_id)
    assert (after.state, after.money.refunded.amount_minor) == (State.PAYMENT_STATE_PARTIALLY_REFUNDED, 800)
    assert [each["kind"] for each in house.effects()] == ["authorization", "capture", "refund", "refund"]
    over = pb.RefundPaymentRequest(idempotency_key="r3", payment_id=held.payment_id, amount=money(800))
    assert (await refused(house.payments.RefundPayment(over, metadata=caller("t1")))).reason == (
        "AMOUNT_EXCEEDS_REFUNDABLE"
    )


async def test_an_authorization_is_voided(quick: PayPalHouse) -> None:
    """Cancelling lets the hold go."""
    payment = await quick.create(capture_method=MANUAL, payment_method="wallet_ok")
    assert payment.state == State.PAYMENT_STATE_AUTHORIZED
    request = pb.CancelPaymentRequest(idempotency_key="x", payment_id=payment.payment_id)
    closed = (await quick.payments.CancelPayment(request, metadata=caller("t1"), timeout=10)).payment
    assert closed.state == State.PAYMENT_STATE_CANCELLED
    assert [each["kind"] for each in quick.effects()] == ["authorization", "void"]


@pytest.mark.parametrize("holds", [False, True])
async def test_a_declined_completion_sends_the_payer_back(house: PayPalHouse, holds: bool) -> None:
    """The completion failed with its decline, the create waits with the link, and a second approval pays, or holds."""
    payment = await (house.create(capture_method=MANUAL) if holds else house.create())
    await house.approve(payment, funding="declined")
    back = await house.until(payment.payment_id, lambda p: p.latest_command.state == Command.COMMAND_STATE_FAILED)
    assert (back.state, back.latest_command.kind) == (
        State.PAYMENT_STATE_REQUIRES_ACTION,
        Kind.COMMAND_KIND_COMPLETE,
    )
    assert back.latest_command.decline.provider_code == ("PAYER_CANNOT_PAY" if holds else "INSTRUMENT_DECLINED")
    assert back.next_action.redirect_url == payment.next_action.redirect_url
    assert house.effects() == []
    await house.approve(back)
    paid = State.PAYMENT_STATE_AUTHORIZED if holds else State.PAYMENT_STATE_CAPTURED
    done = await house.until(payment.payment_id, lambda p: p.state == paid)
    assert done.latest_command.state == Command.COMMAND_STATE_SUCCEEDED
    assert len(house.effects()) == 1


async def test_completions_are_bounded(quick: PayPalHouse) -> None:
    """An order that stays approved and is declined each time is completed five times, and then waits for a person."""
    payment = await quick.create()
    await quick.approve(payment, funding="stuck")
    for _ in range(10):
        await quick.sync(payment.payment_id)
    assert (await quick.get(payment.payment_id)).state == State.PAYMENT_STATE_REQUIRES_ACTION
    assert await counted(quick.database_url, "commands", "kind = 'COMPLETE' AND state = 'FAILED'") == 5
    assert await counted(quick.database_url, "commands", "kind = 'COMPLETE'") == 5
    assert quick.effects() == []


async def test_sync_completes_what_no_event_told(database_url: str, tmp_path: Path) -> None:
    """Without webhooks a SyncPayment finds the approval and completes it, before it answers."""
    # Recovery's own look comes later: where it completes in the same moment, a sync answers that it is under way.
    unhurried = replace(QUICK, pending_check_first_s=60.0, pending_check_s_max=60.0)
    async with open_paypal_house(database_url, tmp_path, engine=unhurried, webhooks=False) as house:
        payment = await house.create()
        await house.approve(payment)
        synced = await house.sync(payment.payment_id)
        assert synced.state == State.PAYMENT_STATE_CAPTURED
        assert len(house.effects()) == 1
    await sound(database_url, tmp_path)


async def test_recovery_completes_what_no_event_told(database_url: str, tmp_path: Path) -> None:
    """Without webhooks and without a sync, recovery's look at the create does."""
    async with open_paypal_house(database_url, tmp_path, webhooks=False) as house:
        payment = await house.create()
        await house.approve(payment)
        await house.until(payment.payment_id, lambda p: p.state == State.PAYMENT_STATE_CAPTURED)
        assert len(house.effects()) == 1
    await sound(database_url, tmp_path)


async def test_many_who_see_it_at_once_complete_it_once(house: PayPalHouse) -> None:
    """Events twice, syncs by ten and recovery side by side: one completion, one capture."""
    await house.control("webhooks", {"duplicates": 3})
    payment = await house.create()
    await house.approve(payment)
    await asyncio.gather(*(house.sync(payment.payment_id) for _ in range(10)), return_exceptions=True)
    await house.until(payment.payment_id, lambda p: p.state == State.PAYMENT_STATE_CAPTURED)
    assert len(house.effects()) == 1


@pytest.mark.parametrize("fault", ["lost_after", "malformed"])
async def test_a_completion_whose_answer_is_lost_is_found(house: PayPalHouse, fault: str) -> None:
    """Unknown until the order is looked at; captured once."""
    payment = await house.create()
    await house.control("faults", {"next": [{"fault": fault, "match": "complete"}]})
    await house.approve(payment)
    done = await house.until(payment.payment_id, lambda p: p.state == State.PAYMENT_STATE_CAPTURED)
    settled = await house.until(payment.payment_id, lambda p: p.latest_command.state == Command.COMMAND_STATE_SUCCEEDED)
    assert settled.latest_command.kind == Kind.COMMAND_KIND_COMPLETE
    assert done.money.captured.amount_minor == 2_000
    assert len(house.effects()) == 1


async def test_an_order_whose_answer_cannot_be_read_is_found_by_its_id(quick: PayPalHouse) -> None:
    """PayPal searches no orders, only transactions, which one that nobody has approved has none of: its id is all."""
    await quick.control("faults", {"next": [{"fault": "unknown_status", "match": "create"}]})
    unread = await quick.create()
    assert unread.state == State.PAYMENT_STATE_UNKNOWN
    waits = await quick.until(unread.payment_id, lambda each: each.state == State.PAYMENT_STATE_REQUIRES_ACTION)
    await quick.approve(waits)
    await quick.until(unread.payment_id, lambda each: each.state == State.PAYMENT_STATE_CAPTURED)
    assert len(quick.effects()) == 1


async def test_a_completion_that_provably_did_nothing_is_tried_again(quick: PayPalHouse) -> None:
    """429 on the completion: nothing was done, and the same command goes out again."""
    payment = await quick.create()
    await quick.control("faults", {"next": [{"fault": "http_429", "match": "complete"}]})
    await quick.approve(payment)
    done = await quick.until(payment.payment_id, lambda p: p.state == State.PAYMENT_STATE_CAPTURED)
    assert done.latest_command.kind == Kind.COMMAND_KIND_COMPLETE
    assert len(quick.effects()) == 1


async def test_an_order_that_nobody_pays_expires(database_url: str, tmp_path: Path) -> None:
    """PayPal drops it; nothing of ours can have moved money there: EXPIRED, without a contradiction."""
    async with open_paypal_house(database_url, tmp_path, webhooks=False, order_seconds=0.0) as house:
        payment = await house.create()
        await asyncio.sleep(1.0)  # nothing is to happen: there is no condition to wait for
        assert (await house.get(payment.payment_id)).state == State.PAYMENT_STATE_REQUIRES_ACTION
        await age(database_url, 4 * 3600)
        gone = await house.until(payment.payment_id, lambda p: p.state == State.PAYMENT_STATE_EXPIRED)
        assert gone.latest_command.state == Command.COMMAND_STATE_FAILED
    await sound(database_url, tmp_path)


async def test_a_pending_capture_is_processing_until_it_comes_through(quick: PayPalHouse) -> None:
    """An eCheck: PROCESSING, and the event that it has cleared makes it CAPTURED."""
    payment = await quick.create(payment_method="wallet_pending")
    assert payment.state == State.PAYMENT_STATE_PROCESSING
    order = await order_of(quick, payment)
    capture_id = order["purchase_units"][0]["payments"]["captures"][0]["id"]
    await quick.control(f"captures/{capture_id}/settle", {"status": "COMPLETED"})
    await quick.until(payment.payment_id, lambda p: p.state == State.PAYMENT_STATE_CAPTURED)
    assert len(quick.effects(kind="capture")) == 1


async def test_a_dispute_opens_and_is_won(quick: PayPalHouse) -> None:
    """CUSTOMER.DISPUTE.*: the dispute's capture leads to its order; open while it lasts, won when it ends so."""
    payment = await quick.create(payment_method="wallet_ok")
    order = await order_of(quick, payment)
    capture_id = order["purchase_units"][0]["payments"]["captures"][0]["id"]
    await quick.control(f"captures/{capture_id}/dispute", {"amount": 2_000})
    opened = await quick.until(payment.payment_id, lambda p: p.dispute_state == payment_pb2.DISPUTE_STATE_OPEN)
    assert opened.money.refundable.amount_minor == 0
    dispute_id = next(e["id"] for e in quick.effects(kind="dispute"))
    await quick.control(f"disputes/{dispute_id}", {"outcome": "RESOLVED_SELLER_FAVOUR"})
    await quick.until(payment.payment_id, lambda p: p.dispute_state == payment_pb2.DISPUTE_STATE_WON)


async def test_a_refund_in_the_dashboard_is_adopted(quick: PayPalHouse) -> None:
    """It inherits our invoice id, and is no refund of ours all the same."""
    payment = await quick.create(payment_method="wallet_ok")
    order = await order_of(quick, payment)
    capture_id = order["purchase_units"][0]["payments"]["captures"][0]["id"]
    await quick.control(f"captures/{capture_id}/refund", {"amount": 500})
    after = await quick.until(payment.payment_id, lambda p: p.money.refunded.amount_minor == 500)
    assert after.state == State.PAYMENT_STATE_PARTIALLY_REFUNDED
    request = pb.ListRefundsRequest(payment_id=payment.payment_id)
    (refund,) = (await quick.payments.ListRefunds(request, metadata=caller("t1"))).refunds
    assert refund.origin == payment_pb2.ORIGIN_PROVIDER


async def test_what_paypal_cannot_take_is_refused_before_anything_is_sent(quick: PayPalHouse) -> None:
    """HUF in fillér, a confirmation left for later, a second capture, a cancel of an open order: errors, no effects."""
    request = pb.CreatePaymentRequest(idempotency_key="h", amount=money(12_345, "HUF"))
    assert (await refused(quick.payments.CreatePayment(request, metadata=caller("t1")))).reason == "FIELD_INVALID"
    later = pb.CreatePaymentRequest(
        idempotency_key="l", amount=money(100), confirmation_method=payment_pb2.CONFIRMATION_METHOD_MANUAL
    )
    assert (await refused(quick.payments.CreatePayment(later, metadata=caller("t1")))).reason == "CAPABILITY_MISSING"
    payment = await quick.create(key="o")
    confirm = pb.ConfirmPaymentRequest(idempotency_key="c", payment_id=payment.payment_id)
    assert (await refused(quick.payments.ConfirmPayment(confirm, metadata=caller("t1")))).reason == (
        "CAPABILITY_MISSING"
    )
    cancel = pb.CancelPaymentRequest(idempotency_key="x", payment_id=payment.payment_id)
    assert (await refused(quick.payments.CancelPayment(cancel, metadata=caller("t1")))).reason == (
        "PAYMENT_NOT_CANCELLABLE"
    )
    assert quick.effects() == []


async def test_a_signed_event_moves_no_fact(quick: PayPalHouse) -> None:
    """A body that says CAPTURED, 9,999 and another's payment, rightly signed: our own object is fetched, and rules."""
    payment = await quick.create()
    order_id = payment.provider_reference.provider_payment_id
    resource = {
        "id": order_id,
        "status": "COMPLETED",
        "custom_id": "pay_another.op_another.cmd_another",
        "amount": {"currency_code": "EUR", "value": "9999.00"},
    }
    event = {"id": "WH-FORGED", "event_type": "CHECKOUT.ORDER.COMPLETED", "resource": resource}
    before = await counted(quick.database_url, "history", "1 = 1")
    assert await quick.deliver(json.dumps(event).encode()) == 200
    await eventually(
        lambda: counted(quick.database_url, "callbacks", "event_id = 'WH-FORGED' AND state = 'APPLIED'"), bool
    )
    assert await counted(quick.database_url, "history", "1 = 1") == before
    after = await quick.get(payment.payment_id)
    assert (after.state, after.money.captured.amount_minor) == (State.PAYMENT_STATE_REQUIRES_ACTION, 0)
    assert await counted(quick.database_url, "observations", "kind = 'CONTRADICTION'") == 0


async def order_of(house: PayPalHouse, payment: Any) -> Any:
    """The order as PayPal shows it to us."""
    basic = base64.b64encode(f"{MERCHANT.client_id}:{MERCHANT.client_secret}".encode()).decode()
    headers = {"Authorization": f"Basic {basic}"}
    async with house.http.post(f"{house.url}/v1/oauth2/token", headers=headers) as got:
        token = (await got.json())["access_token"]
    url = f"{house.url}/v2/checkout/orders/{payment.provider_reference.provider_payment_id}"
    async with house.http.get(url, headers={"Authorization": f"Bearer {token}"}) as answer:
        return await answer.json()


async def counted(database_url: str, table: str, where: str) -> int:
    """How many rows of a table are so."""
    engine = create_async_engine(database_url)
    async with engine.connect() as connection:
        found = (await connection.execute(text(f"SELECT count(*) FROM {table} WHERE {where}"))).scalar_one()
    await engine.dispose()
    return int(found)


async def age(database_url: str, seconds: int) -> None:
    """Let every operation have been claimed so long ago, and be due now."""
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        earlier = {"us": seconds * 1_000_000}
        await connection.execute(text("UPDATE operations SET claimed_time_us = claimed_time_us - :us"), earlier)
    await engine.dispose()
