"""A payer's client secret is in nothing that is kept: not in the database, not in a log."""

import logging
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
import structlog

from gateway.domain.dossier import Invariant
from gateway.domain.payments import NextAction
from gateway.logs import set_up
from gateway.verification import verify
from obol.v1 import payment_gateway_pb2 as pb
from store import Sealing, open_store, parse_key
from tests.databases import postgresql_url
from tests.integration.house import SEALING_KEYS, House, State, money, open_house

SEALING = Sealing([parse_key(each.get_secret_value()) for each in SEALING_KEYS])


@pytest.fixture
def logged() -> Iterator[StringIO]:
    """Everything that is logged, as an operator's files would have it; the tests' own set-up afterwards."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = list(root.handlers), root.level
    lines = StringIO()
    set_up("debug", "json", lines)
    structlog.configure(cache_logger_on_first_use=False)
    yield lines
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


async def test_a_client_secret_is_given_out_and_nowhere_kept(
    house: House, database_url: str, tmp_path: Path, logged: StringIO
) -> None:
    """While it is needed the gateway has it; its whole database and all its logs do not show it."""
    request = pb.CreatePaymentRequest(idempotency_key="k", amount=money(700), payment_method="card_requires_action")
    asked = (await house.payments.CreatePayment(request, metadata=house.metadata, timeout=60)).payment
    again = (await house.payments.CreatePayment(request, metadata=house.metadata, timeout=60)).payment
    assert asked.state == State.PAYMENT_STATE_REQUIRES_ACTION
    secret = (await house.object(asked.provider_reference.provider_payment_id))["next_action"]["client_secret"]
    assert secret.startswith("ssec_")
    assert again.next_action == asked.next_action
    store = await open_store(database_url, sealing=SEALING if database_url.startswith("postgresql") else None)
    kept = await store.get_payment("t1", asked.payment_id)
    await store.close()
    assert kept is not None
    assert kept.next_action == NextAction(asked.next_action.redirect_url, secret)
    assert (await house.get(asked.payment_id)).next_action == asked.next_action
    log = tmp_path / "gateway.log"
    log.write_text(logged.getvalue())
    report = await verify(database_url, planted=[secret, secret.removeprefix("ssec_")], texts=[log])
    assert report.by_invariant[Invariant.I14] == 0


async def test_without_a_key_a_secret_is_left_out_and_the_payment_goes_on(tmp_path: Path) -> None:
    """A PostgreSQL without a sealing key: the redirect is given, the secret is not, in no reply and in no row."""
    url = postgresql_url()
    async with open_house(url, tmp_path, sealing_keys=()) as house:
        payment = await house.create(payment_method="card_requires_action")
        assert payment.state == State.PAYMENT_STATE_REQUIRES_ACTION
        assert payment.next_action.redirect_url
        assert not payment.next_action.client_secret
    report = await verify(url, planted=["ssec_"])
    assert report.violations == []
