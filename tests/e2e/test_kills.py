"""What a caller was promised holds through the death of real processes."""

import http.client
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.demo.figures import Effect, read_effects
from gateway.demo.installation import Installation
from obol.client import OutcomeUnknown, repeat_until_answered
from obol.v1.money_pb2 import Money
from obol.v1.payment_gateway_pb2 import CreatePaymentRequest, GetPaymentRequest
from obol.v1.payment_pb2 import PaymentState
from tests.databases import postgresql_url
from tests.processes import QUICK_RECOVERY, clients, eventually, revive, running

pytestmark = pytest.mark.slow

REQUEST = CreatePaymentRequest(
    idempotency_key="invoice-1",
    amount=Money(amount_minor=4_990, currency_code="EUR"),
    payment_method="card_ok",
    order_reference="order-1",
)


def test_a_charge_survives_the_gateway_that_made_it(installed: Installation) -> None:
    """Killed between the provider's charge and its answer, a gateway finds out after its restart; one charge."""
    with clients(installed) as (payments, _):
        _killed_while_charging(installed)
        revive(installed, installed.gateways[0])
        payment = repeat_until_answered(payments.create_payment, REQUEST).payment
        asked = GetPaymentRequest(payment_id=payment.payment_id)
        eventually(
            lambda: payments.get_payment(asked).payment.state == PaymentState.PAYMENT_STATE_CAPTURED,
            "the payment is captured",
            installed,
        )
    assert [effect.kind for effect in _effects(installed)] == ["CAPTURE"]


def test_another_gateway_ends_what_a_killed_one_left(tmp_path: Path) -> None:
    """On one database, what a dead gateway had begun is resolved by another; its callers reach that one; one charge."""
    with running(tmp_path, gateways=2, database_url=postgresql_url(), settings=QUICK_RECOVERY) as installed:
        _killed_while_charging(installed)
        with clients(installed) as (payments, _):
            payment = repeat_until_answered(payments.create_payment, REQUEST).payment
            asked = GetPaymentRequest(payment_id=payment.payment_id)
            eventually(
                lambda: payments.get_payment(asked).payment.state == PaymentState.PAYMENT_STATE_CAPTURED,
                "the payment is captured",
                installed,
            )
        assert len(_effects(installed)) == 1


def test_callbacks_wait_for_a_gateway_that_is_gone(installed: Installation) -> None:
    """What the provider calls about while no gateway is there comes again, and is applied after the restart."""
    with clients(installed) as (payments, _):
        request = CreatePaymentRequest()
        request.CopyFrom(REQUEST)
        request.payment_method = "card_requires_action"
        payment = payments.create_payment(request).payment
        installed.gateways[0].stop(grace_s=10.0)
        _post(payment.next_action.redirect_url, {"outcome": "approve"})
        eventually(lambda: "503" in installed.sidecar.log.read_text(), "the sidecar has answered 503", installed)
        revive(installed, installed.gateways[0])
        asked = GetPaymentRequest(payment_id=payment.payment_id)
        eventually(
            lambda: payments.get_payment(asked).payment.state == PaymentState.PAYMENT_STATE_CAPTURED,
            "the payment is captured",
            installed,
        )
    assert len(_effects(installed)) == 1


def _killed_while_charging(installed: Installation) -> None:
    """Let the first gateway send a charge whose answer does not come, and kill it as soon as the provider has it."""
    plan = {"next": [{"fault": "timeout_after", "match": "payments"}]}
    _post(f"{installed.sandbox_url}/control/faults", plan)
    with ThreadPoolExecutor(1) as pool, clients(installed, gateway=0) as (payments, _):
        call = pool.submit(payments.create_payment, REQUEST)
        eventually(lambda: _effects(installed), "the provider has charged", installed)
        installed.gateways[0].kill()
        error = call.exception()
    assert isinstance(error, OutcomeUnknown)
    assert error.safe_to_retry


def _effects(installed: Installation) -> tuple[Effect, ...]:
    return read_effects(installed.effect_log)


def _post(url: str, body: Mapping[str, object]) -> None:
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request("POST", f"/{path}", json.dumps(body), {"Content-Type": "application/json"})
    assert connection.getresponse().status == http.HTTPStatus.OK
    connection.close()
