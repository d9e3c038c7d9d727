"""Re-authorizing at PayPal, end to end: what a lost answer leaves open ends by the same request id, or by a person."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.verification import verify
from obol.v1 import payment_gateway_pb2 as pb
from obol.v1 import payment_pb2
from tests.databases import sqlite_url
from tests.integration.house import QUICK, caller, eventually, money, refused
from tests.paypal.house import Command, PayPalHouse, State, open_paypal_house
from tests.paypal.test_payments import counted, order_of, sound

MANUAL = payment_pb2.CAPTURE_METHOD_MANUAL
NEVER_RESENDS = replace(QUICK, resend_age_s_max=0.0)
TOLD = "kind = 'ADJUST' AND failure LIKE 'too old to resend%'"


async def adjust(house: PayPalHouse, payment_id: str, total: int) -> Any:
    """AdjustAuthorization under one key."""
    request = pb.AdjustAuthorizationRequest(idempotency_key="a", payment_id=payment_id, amount=money(total))
    return (await house.payments.AdjustAuthorization(request, metadata=caller("t1"), timeout=10)).payment


def capture(house: PayPalHouse, payment_id: str) -> Any:
    """CapturePayment of all that is capturable."""
    request = pb.CapturePaymentRequest(idempotency_key="c", payment_id=payment_id)
    return house.payments.CapturePayment(request, metadata=caller("t1"), timeout=10)


async def test_a_lost_answer_is_learned_by_the_same_request_id(tmp_path: Path) -> None:
    """Sent again under its id, PayPal answers with the authorization that it made: ours, once; the capture is of it."""
    url = sqlite_url(tmp_path)
    async with open_paypal_house(url, tmp_path, honor_seconds=0.0) as house:
        held = await house.create(capture_method=MANUAL, payment_method="wallet_ok")
        await house.control("faults", {"next": [{"fault": "lost_after", "match": "adjust"}]})
        assert (await adjust(house, held.payment_id, 2_300)).latest_command.state == Command.COMMAND_STATE_UNKNOWN
        succeeded = Command.COMMAND_STATE_SUCCEEDED
        raised = await house.until(held.payment_id, lambda p: p.latest_command.state == succeeded)
        assert raised.money.authorized.amount_minor == raised.money.capturable.amount_minor == 2_300
        assert [each["amount"] for each in house.effects(kind="authorization")] == [2_000, 2_300]
        taken = (await capture(house, held.payment_id)).payment
        assert (taken.state, taken.money.captured.amount_minor) == (State.PAYMENT_STATE_CAPTURED, 2_300)
    await sound(url, tmp_path)


async def test_an_authorization_that_anybody_may_have_made_is_no_evidence(tmp_path: Path) -> None:
    """Too old to send again: the order shows one of the asked total, and PayPal keeps no reference: a person."""
    url = sqlite_url(tmp_path)
    async with open_paypal_house(url, tmp_path, engine=NEVER_RESENDS, honor_seconds=0.0) as house:
        held = await house.create(capture_method=MANUAL, payment_method="wallet_ok")
        await house.control("faults", {"next": [{"fault": "lost_after", "match": "adjust"}]})
        await adjust(house, held.payment_id, 2_300)
        await eventually(lambda: counted(url, "operations", TOLD), bool)
        seen = await house.sync(held.payment_id)
        assert seen.latest_command.state == Command.COMMAND_STATE_UNKNOWN
        assert seen.money.authorized.amount_minor == 2_300
        assert (await refused(capture(house, held.payment_id))).reason == "PAYMENT_BUSY"
        payments = (await order_of(house, held))["purchase_units"][0]["payments"]
        assert [each["status"] for each in payments["authorizations"]] == ["VOIDED", "CREATED"]
    report = await verify(url, effect_log=tmp_path / "paypal" / "effects.jsonl")
    assert report.violations == []


async def test_a_refused_reauthorization_leaves_the_first_one(tmp_path: Path) -> None:
    """Within the honor period PayPal says no: FAILED, and what is held is captured as it was."""
    url = sqlite_url(tmp_path)
    async with open_paypal_house(url, tmp_path) as house:
        held = await house.create(capture_method=MANUAL, payment_method="wallet_ok")
        declined = await adjust(house, held.payment_id, 2_300)
        assert (declined.state, declined.latest_command.state) == (
            State.PAYMENT_STATE_AUTHORIZED,
            Command.COMMAND_STATE_FAILED,
        )
        taken = (await capture(house, held.payment_id)).payment
        assert taken.money.captured.amount_minor == 2_000
    await sound(url, tmp_path)
