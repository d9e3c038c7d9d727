"""A gateway before Stripe's imitation, over gRPC and SQLite: what Stripe does otherwise than the sandbox."""

import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from pydantic import SecretStr

from gateway.config import Settings
from gateway.config_sections import DatabaseSection, GrpcSection, MetricsSection, ProviderSection
from gateway.main import serving
from gateway.rpc.address import unix
from gateway.verification import verify
from obol.v1 import money_pb2, payment_gateway_pb2, payment_gateway_pb2_grpc, payment_pb2
from simulators.stripe.server import running
from simulators.stripe.settings import StripeSettings, Terms
from tests.databases import sqlite_url
from tests.integration.house import QUICK, caller

State = payment_pb2.PaymentState
Reason = payment_pb2.DeclineReason
BY_CONTROL = Terms(processing_seconds=None, refund_seconds=None, dispute_seconds=None)


@dataclass
class Shop:
    """A caller, and the payer's and Stripe's side."""

    payments: "payment_gateway_pb2_grpc.PaymentGatewayAsyncStub"
    session: aiohttp.ClientSession
    url: str

    async def call(self, rpc: str, request: Any) -> Any:
        return await getattr(self.payments, rpc)(request, metadata=caller("t1"), timeout=60)

    async def create(self, key: str, method: str, **asked: Any) -> Any:
        amount = money_pb2.Money(amount_minor=1_000, currency_code="EUR")
        request = payment_gateway_pb2.CreatePaymentRequest(
            idempotency_key=key, amount=amount, payment_method=method, **asked
        )
        return (await self.call("CreatePayment", request)).payment

    async def adjusted(self, key: str, payment_id: str, total: int) -> Any:
        amount = money_pb2.Money(amount_minor=total, currency_code="EUR")
        request = payment_gateway_pb2.AdjustAuthorizationRequest(
            idempotency_key=key, payment_id=payment_id, amount=amount
        )
        return (await self.call("AdjustAuthorization", request)).payment

    async def synced(self, payment_id: str) -> Any:
        request = payment_gateway_pb2.SyncPaymentRequest(payment_id=payment_id)
        return (await self.call("SyncPayment", request)).payment

    async def told(self, path: str, body: dict[str, Any]) -> Any:
        async with self.session.post(f"{self.url}/{path}", json=body) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """The invariants hold over both sides' books when it is over."""
    directory, database_url = tmp_path / "stripe", sqlite_url(tmp_path)
    stripe = running(StripeSettings(directory, port=0, terms=BY_CONTROL))
    # A Unix socket's path is short by law; a test's folder is not.
    with tempfile.TemporaryDirectory(prefix="obol-") as short:
        address = unix(Path(short) / "g", "grpc.unix_socket")
        async with stripe as url:
            account = ProviderSection(
                provider="stripe",
                base_url=url,
                api_key=SecretStr("sk_test_simulated"),
                options={"incremental_authorization": "true"},
            )
            settings = Settings(
                data_dir=tmp_path,
                database=DatabaseSection(url=SecretStr(database_url)),
                grpc=GrpcSection(unix_socket=Path(short) / "g"),
                metrics=MetricsSection(enabled=False),
                providers={"acct_main": account},
                engine=QUICK,
            )
            async with (
                serving(settings, address),
                grpc.aio.insecure_channel(address.target) as channel,
                aiohttp.ClientSession() as session,
            ):
                yield Shop(payment_gateway_pb2_grpc.PaymentGatewayStub(channel), session, url)
    report = await verify(database_url, effect_log=directory / "effects.jsonl", healed=True)
    assert report.violations == []


async def test_another_card_after_a_decline_has_one_charge_of_its_own(shop: Shop) -> None:
    """Declined with a reason, confirmed with another card, captured once; each command has its own answer."""
    declined = await shop.create("k1", "pm_card_visa_chargeDeclinedStolenCard")
    assert (declined.state, declined.decline.reason) == (
        State.PAYMENT_STATE_FAILED,
        Reason.DECLINE_REASON_LOST_OR_STOLEN,
    )
    request = payment_gateway_pb2.ConfirmPaymentRequest(
        idempotency_key="k2", payment_id=declined.payment_id, payment_method="pm_card_visa"
    )
    paid = (await shop.call("ConfirmPayment", request)).payment
    assert (paid.state, paid.money.captured.amount_minor) == (State.PAYMENT_STATE_CAPTURED, 1_000)
    assert paid.latest_command.state == payment_pb2.CommandState.COMMAND_STATE_SUCCEEDED
    assert paid.risk.level == payment_pb2.RiskLevel.RISK_LEVEL_NORMAL, "Radar's word on the second charge"


async def test_the_risk_of_what_radar_blocks_follows_its_decline(shop: Shop) -> None:
    """The answer to a decline does not tell it, and the next look does; the payment stays FAILED."""
    blocked = await shop.create("k1", "pm_card_radarBlock")
    assert (blocked.state, blocked.decline.reason) == (
        State.PAYMENT_STATE_FAILED,
        Reason.DECLINE_REASON_SUSPECTED_FRAUD,
    )
    seen = await shop.synced(blocked.payment_id)
    assert (seen.state, seen.risk.level) == (State.PAYMENT_STATE_FAILED, payment_pb2.RiskLevel.RISK_LEVEL_HIGHEST)


async def test_a_payer_who_fails_3d_secure_may_try_another_card(shop: Shop) -> None:
    """No charge was made: the first attempt failed all the same, and the second is not mistaken for it."""
    asked = await shop.create("k1", "pm_card_threeDSecure2Required", return_url="https://shop.example/back")
    assert asked.state == State.PAYMENT_STATE_REQUIRES_ACTION
    place = asked.provider_reference.provider_payment_id
    await shop.told(f"customer/{place}", {"outcome": "refuse"})
    failed = await shop.synced(asked.payment_id)
    assert (failed.state, failed.decline.reason) == (
        State.PAYMENT_STATE_FAILED,
        Reason.DECLINE_REASON_AUTHENTICATION_FAILED,
    )
    request = payment_gateway_pb2.ConfirmPaymentRequest(
        idempotency_key="k2", payment_id=asked.payment_id, payment_method="pm_card_visa"
    )
    assert (await shop.call("ConfirmPayment", request)).payment.state == State.PAYMENT_STATE_CAPTURED


async def test_a_refund_that_fails_after_all_is_told(shop: Shop) -> None:
    """Succeeded, and sent back by the bank a while later: the money is the merchant's again, and may be refunded."""
    paid = await shop.create("k1", "pm_card_refundFail")
    request = payment_gateway_pb2.RefundPaymentRequest(
        idempotency_key="k2", payment_id=paid.payment_id, reason="requested_by_customer"
    )
    refund = await shop.call("RefundPayment", request)
    assert refund.payment.state == State.PAYMENT_STATE_REFUNDED
    await shop.told(f"control/refunds/{refund.refund.provider_refund_id}", {"status": "failed"})
    after = await shop.synced(paid.payment_id)
    assert (after.state, after.money.refunded.amount_minor) == (State.PAYMENT_STATE_CAPTURED, 0)


async def test_a_part_captured_releases_the_rest_and_refunds_no_more(shop: Shop) -> None:
    """What Stripe shows as a refund of the rest is none: the part is captured, and can be given back once."""
    held = await shop.create("k1", "pm_card_visa", capture_method=payment_pb2.CaptureMethod.CAPTURE_METHOD_MANUAL)
    part = payment_gateway_pb2.CapturePaymentRequest(
        idempotency_key="k2",
        payment_id=held.payment_id,
        amount=money_pb2.Money(amount_minor=400, currency_code="EUR"),
        final_capture=True,
    )
    taken = (await shop.call("CapturePayment", part)).payment
    assert (taken.state, taken.money.captured.amount_minor, taken.money.refunded.amount_minor) == (
        State.PAYMENT_STATE_CAPTURED,
        400,
        0,
    )
    whole = payment_gateway_pb2.RefundPaymentRequest(idempotency_key="k3", payment_id=held.payment_id)
    back = (await shop.call("RefundPayment", whole)).payment
    assert (back.state, back.money.refunded.amount_minor) == (State.PAYMENT_STATE_REFUNDED, 400)
    assert (await shop.synced(held.payment_id)).state == State.PAYMENT_STATE_REFUNDED


async def test_an_amount_that_stripe_cannot_take_is_the_callers_fault(shop: Shop) -> None:
    """KWD in thousandths: the field is named, and nothing was sent."""
    amount = money_pb2.Money(amount_minor=5_124, currency_code="KWD")
    request = payment_gateway_pb2.CreatePaymentRequest(
        idempotency_key="k1", amount=amount, payment_method="pm_card_visa"
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await shop.call("CreatePayment", request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_increment_is_held_captured_and_told_apart(shop: Shop) -> None:
    """Two increments raise one authorization; a declined one is FAILED, and leaves the payment as it was."""
    held = await shop.create("k1", "pm_card_visa", capture_method=payment_pb2.CaptureMethod.CAPTURE_METHOD_MANUAL)
    for key, total in (("a1", 1_200), ("a2", 1_500)):
        raised = await shop.adjusted(key, held.payment_id, total)
        assert raised.latest_command.state == payment_pb2.CommandState.COMMAND_STATE_SUCCEEDED
        assert raised.money.authorized.amount_minor == raised.money.capturable.amount_minor == total
    assert (await shop.synced(held.payment_id)).money.authorized.amount_minor == 1_500
    part = payment_gateway_pb2.CapturePaymentRequest(
        idempotency_key="c", payment_id=held.payment_id, amount=money_pb2.Money(amount_minor=1_100, currency_code="EUR")
    )
    taken = (await shop.call("CapturePayment", part)).payment
    assert (taken.state, taken.money.captured.amount_minor) == (State.PAYMENT_STATE_CAPTURED, 1_100)
    seen = await shop.synced(held.payment_id)
    assert (seen.money.capturable.amount_minor, seen.money.refunded.amount_minor) == (0, 0)

    other = await shop.create(
        "k2", "pm_card_incrementDeclined", capture_method=payment_pb2.CaptureMethod.CAPTURE_METHOD_MANUAL
    )
    declined = await shop.adjusted("a3", other.payment_id, 1_500)
    assert (declined.state, declined.latest_command.state) == (
        State.PAYMENT_STATE_AUTHORIZED,
        payment_pb2.CommandState.COMMAND_STATE_FAILED,
    )
    assert declined.latest_command.decline.reason == Reason.DECLINE_REASON_INSUFFICIENT_FUNDS
    assert declined.money.capturable.amount_minor == 1_000


async def test_a_lost_answer_to_an_increment_is_found_by_our_own_entry(shop: Shop) -> None:
    """Booked, and the answer lost: the PaymentIntent's amount and our entry in it end the UNKNOWN; nothing twice."""
    held = await shop.create("k1", "pm_card_visa", capture_method=payment_pb2.CaptureMethod.CAPTURE_METHOD_MANUAL)
    await shop.told("control/faults", {"next": [{"fault": "lost_after", "match": "adjust"}]})
    unknown = await shop.adjusted("a1", held.payment_id, 1_500)
    assert unknown.latest_command.state == payment_pb2.CommandState.COMMAND_STATE_UNKNOWN
    seen = await shop.synced(held.payment_id)
    assert seen.latest_command.state == payment_pb2.CommandState.COMMAND_STATE_SUCCEEDED
    assert (await shop.adjusted("a1", held.payment_id, 1_500)).money.authorized.amount_minor == 1_500
