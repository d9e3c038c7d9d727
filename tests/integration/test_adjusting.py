"""Adjusting an authorization end to end: the new total is held once, a refusal is definite, UNKNOWN keeps it busy."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.verification import verify
from obol.v1 import billing_observation_pb2 as watching
from obol.v1 import observation_pb2, payment_pb2
from obol.v1 import payment_gateway_pb2 as pb
from tests.databases import sqlite_url
from tests.integration.house import Command, House, State, eventually, money, refused
from tests.integration.operators import (
    EXECUTED,
    NOT_EXECUTED,
    Operator,
    outlast_flight,
    quiet_house,
    sync,
)

MANUAL = payment_pb2.CAPTURE_METHOD_MANUAL
ADJUST = payment_pb2.COMMAND_KIND_ADJUST


@pytest.fixture
async def house(database_url: str, tmp_path: Path) -> AsyncIterator[House]:
    """A gateway whose recovery sleeps; the invariants hold over both books when the test is over."""
    async with quiet_house(database_url, tmp_path) as opened:
        yield opened
    report = await verify(database_url, effect_log=opened.sandbox_dir / "effects.jsonl", healed=True)
    assert report.violations == []


@pytest.fixture
async def quick(tmp_path: Path) -> AsyncIterator[House]:
    """The same on SQLite alone, for what no database could make different."""
    url = sqlite_url(tmp_path)
    async with quiet_house(url, tmp_path) as opened:
        yield opened
    report = await verify(url, effect_log=opened.sandbox_dir / "effects.jsonl", healed=True)
    assert report.violations == []


async def adjust(house: House, payment_id: str, key: str, total: int | None, currency: str = "EUR") -> Any:
    """AdjustAuthorization."""
    asked: dict[str, Any] = {} if total is None else {"amount": money(total, currency)}
    request = pb.AdjustAuthorizationRequest(idempotency_key=key, payment_id=payment_id, **asked)
    return (await house.payments.AdjustAuthorization(request, metadata=house.metadata, timeout=60)).payment


async def capture(house: House, payment_id: str, key: str) -> Any:
    """CapturePayment of all that is capturable."""
    request = pb.CapturePaymentRequest(idempotency_key=key, payment_id=payment_id)
    return (await house.payments.CapturePayment(request, metadata=house.metadata, timeout=60)).payment


async def concluded(house: House) -> list[Any]:
    """Observations of adjustments that have ended; on PostgreSQL they are numbered a moment after the settle."""
    request = watching.ListObservationsRequest()
    listed = await house.observations.ListObservations(request, metadata=house.metadata, timeout=60)
    kind = observation_pb2.OBSERVATION_KIND_COMMAND_CONCLUDED
    return [each for each in listed.observations if (each.kind, each.command.kind) == (kind, ADJUST)]


async def test_an_authorization_is_raised_and_captured(house: House) -> None:
    """The new total is authorized and capturable, once; told with the command's end; and taken whole."""
    held = await house.create(capture_method=MANUAL)
    raised = await adjust(house, held.payment_id, "a1", 1_500)
    assert raised.state == State.PAYMENT_STATE_AUTHORIZED
    assert (raised.amount.amount_minor, raised.money.authorized.amount_minor) == (1_000, 1_500)
    assert raised.money.capturable.amount_minor == 1_500
    assert (raised.latest_command.kind, raised.latest_command.state) == (ADJUST, Command.COMMAND_STATE_SUCCEEDED)
    told = (await eventually(lambda: concluded(house), bool))[0]
    assert told.subject_amount.amount_minor == 1_500
    assert told.money.authorized.amount_minor == 1_500
    again = await adjust(house, held.payment_id, "a1", 1_500)
    assert again == raised
    assert (await refused(adjust(house, held.payment_id, "a1", 1_600))).reason == "IDEMPOTENCY_KEY_REUSED"
    assert [effect["amount"] for effect in house.effects(kind="authorization")] == [1_000, 1_500]
    taken = await capture(house, held.payment_id, "c")
    assert (taken.state, taken.money.captured.amount_minor) == (State.PAYMENT_STATE_CAPTURED, 1_500)
    error = await refused(adjust(house, held.payment_id, "a2", 2_000))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PAYMENT_NOT_ADJUSTABLE")
    entries = await Operator(house, "ann").timeline(held.payment_id)
    assert any(each.summary.startswith("ADJUST of 1500 EUR") for each in entries)


async def test_nothing_is_lowered_and_a_decline_harms_nothing(quick: House) -> None:
    """Less is refused before it is sent; the same total is valid anew; a decline is FAILED on an authorized payment."""
    held = await quick.create(capture_method=MANUAL)
    error = await refused(adjust(quick, held.payment_id, "a1", 999))
    assert (error.reason, error.sent, error.details["authorized_minor"]) == ("AMOUNT_BELOW_AUTHORIZED", "NO", "1000")
    assert (await refused(adjust(quick, held.payment_id, "a2", 2_000, "USD"))).fields == ("amount.currency_code",)
    anew = await adjust(quick, held.payment_id, "a3", None)
    assert (anew.latest_command.state, anew.money.capturable.amount_minor) == (Command.COMMAND_STATE_SUCCEEDED, 1_000)
    declined = await adjust(quick, held.payment_id, "a4", 1_603)
    assert (declined.state, declined.money.capturable.amount_minor) == (State.PAYMENT_STATE_AUTHORIZED, 1_000)
    assert declined.latest_command.state == Command.COMMAND_STATE_FAILED
    assert declined.latest_command.decline.reason == payment_pb2.DECLINE_REASON_INSUFFICIENT_FUNDS
    assert not declined.HasField("decline")
    assert (await capture(quick, held.payment_id, "c")).money.captured.amount_minor == 1_000


async def test_an_unknown_adjustment_keeps_the_payment_busy_until_evidence_comes(house: House) -> None:
    """The answer is lost: nothing more may be captured or cancelled; then the provider's object tells."""
    held = await house.create(capture_method=MANUAL)
    unknown = await adjust(house, held.payment_id, "a1", 1_505)
    assert unknown.latest_command.state == Command.COMMAND_STATE_UNKNOWN
    assert (unknown.state, unknown.money.authorized.amount_minor) == (State.PAYMENT_STATE_AUTHORIZED, 1_000)
    for call in (
        capture(house, held.payment_id, "c1"),
        house.payments.CancelPayment(
            pb.CancelPaymentRequest(idempotency_key="x", payment_id=held.payment_id),
            metadata=house.metadata,
            timeout=2,
        ),
        adjust(house, held.payment_id, "a2", 1_600),
    ):
        assert (await refused(call)).reason == "PAYMENT_BUSY"
    seen = await sync(house, held.payment_id)
    assert (seen.latest_command.state, seen.money.capturable.amount_minor) == (
        Command.COMMAND_STATE_SUCCEEDED,
        1_505,
    )
    assert len(house.effects(kind="authorization")) == 2
    assert (await capture(house, held.payment_id, "c2")).money.captured.amount_minor == 1_505


@pytest.mark.parametrize("fault", ["lost_before", "lost_after"])
async def test_two_operators_end_an_unknown_adjustment(quick: House, fault: str) -> None:
    """By the provider's books: executed with the id of what stands there, or never executed; the amounts follow."""
    held = await quick.create(capture_method=MANUAL)
    await quick.control("/control/faults", {"next": [{"fault": fault, "match": "adjust"}]})
    unknown = await adjust(quick, held.payment_id, "a1", 1_500)
    command_id = unknown.latest_command.command_id
    await outlast_flight(quick.database_url)
    shown = (await quick.object(held.provider_reference.provider_payment_id))["adjustments"]
    resolution = EXECUTED if shown else NOT_EXECUTED
    result: dict[str, Any] = {"provider_result_id": shown[-1]["id"]} if shown else {}
    proposed = await Operator(quick, "ann").resolve(command_id, resolution, **result)
    approved = await Operator(quick, "bob").resolve(
        command_id, resolution, approve_proposal_id=proposed.proposal.proposal_id
    )
    assert approved.resolved
    ended = Command.COMMAND_STATE_SUCCEEDED if shown else Command.COMMAND_STATE_FAILED
    assert approved.command.state == ended
    assert approved.payment.money.capturable.amount_minor == (1_500 if shown else 1_000)
