"""Resolving by two operators: what ends an UNKNOWN command for which no evidence comes, on both databases."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from gateway.verification import verify
from obol.v1 import observation_pb2, payment_pb2
from tests.integration.house import Command, House, State, refused
from tests.integration.operators import (
    EXECUTED,
    NOT_EXECUTED,
    Operator,
    arrive,
    execute,
    last_observation,
    lost_refund,
    outlast_flight,
    quiet_house,
    refund,
    sync,
)

PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION

WRONG: list[tuple[dict[str, object], str]] = [
    ({"reason": ""}, "reason"),
    ({"reason": " "}, "reason"),
    ({"reason": "x" * 501}, "reason"),
    ({"reason": "two\nlines"}, "reason"),
    ({"resolution": 0}, "resolution"),
    ({"resolution": 9}, "resolution"),
    ({"command_id": ""}, "command_id"),
    ({"provider_result_id": "re_1"}, "provider_result_id"),
    ({"resolution": EXECUTED, "provider_result_id": ""}, "provider_result_id"),
    ({"resolution": EXECUTED, "provider_result_id": "re_1", "provider_movement_id": "x"}, "provider_movement_id"),
]
"""Fields that can never be right, and the one at fault."""


@pytest.fixture
async def house(database_url: str, tmp_path: Path) -> AsyncIterator[House]:
    """A gateway whose recovery sleeps; the invariants hold over it when the test is over."""
    async with quiet_house(database_url, tmp_path) as opened:
        yield opened
    report = await verify(database_url, effect_log=opened.sandbox_dir / "effects.jsonl")
    assert report.violations == []


@pytest.fixture
def ann(house: House) -> Operator:
    """An operator."""
    return Operator(house, "ann")


@pytest.fixture
def bob(house: House) -> Operator:
    """Another one."""
    return Operator(house, "bob")


async def test_two_operators_end_a_refund_that_never_arrived(house: House, ann: Operator, bob: Operator) -> None:
    """FAILED with a reason that says so: reply, observation, history, audit, reservation; and nothing is sent."""
    lost = await lost_refund(house, "lost_before")
    await outlast_flight(house.database_url)
    proposed = await ann.resolve(lost.command_id, NOT_EXECUTED)
    assert not proposed.resolved
    assert proposed.command.state == Command.COMMAND_STATE_UNKNOWN
    again = await ann.resolve(lost.command_id, NOT_EXECUTED)
    assert again.proposal.proposal_id == proposed.proposal.proposal_id
    approve = {"approve_proposal_id": proposed.proposal.proposal_id, "reason": "I asked them as well"}
    approved = await bob.resolve(lost.command_id, NOT_EXECUTED, **approve)
    assert approved.resolved
    assert approved.command.state == Command.COMMAND_STATE_FAILED
    assert approved.command.decline.reason == payment_pb2.DECLINE_REASON_NEVER_EXECUTED
    assert "operators" in approved.command.decline.provider_message
    assert approved.payment.money.refundable.amount_minor == 1_000
    assert (await bob.resolve(lost.command_id, NOT_EXECUTED, **approve)).resolved

    replay = await refund(house, lost.payment_id, lost.key, 400)
    assert replay.refund.state == Command.COMMAND_STATE_FAILED
    last = await last_observation(house, observation_pb2.OBSERVATION_KIND_COMMAND_CONCLUDED)
    assert (last.command.command_id, last.causation_id) == (lost.command_id, proposed.proposal.proposal_id)
    assert last.source == observation_pb2.OBSERVATION_SOURCE_MANUAL
    assert house.effects(kind="refund") == []
    acts = await ann.acts(tenant_id="t1")
    assert [(action.partition("_")[2], actor) for action, actor, _ in acts] == [("APPROVE", "bob"), ("PROPOSE", "ann")]
    told = [entry.summary for entry in await ann.timeline(lost.payment_id) if entry.kind == "OPERATOR"]
    assert told == [
        "ann proposed NOT_EXECUTED: their support looked",
        "bob approved what ann proposed: I asked them as well",
    ]


async def test_nobody_approves_alone(house: House, ann: Operator, bob: Operator) -> None:
    """The proposer, by whatever spelling of the name, is refused and the attempt is audited; the command stays."""
    lost = await lost_refund(house, "lost_before")
    await outlast_flight(house.database_url)
    proposal_id = (await ann.resolve(lost.command_id, NOT_EXECUTED)).proposal.proposal_id
    for actor in ("ann", "Ann"):
        alone = Operator(house, actor).resolve(lost.command_id, NOT_EXECUTED, approve_proposal_id=proposal_id)
        error = await refused(alone)
        assert (error.code, error.reason) == (PRECONDITION, "APPROVAL_NEEDS_ANOTHER")
    error = await refused(bob.resolve(lost.command_id, EXECUTED, approve_proposal_id=proposal_id))
    assert error.reason == "PROPOSAL_DIFFERS"
    assert [act for act in await ann.acts() if act[2] == "REFUSED"] == [
        ("OPERATOR.RESOLVE_APPROVE", "bob", "REFUSED"),
        ("OPERATOR.RESOLVE_APPROVE", "Ann", "REFUSED"),
        ("OPERATOR.RESOLVE_APPROVE", "ann", "REFUSED"),
    ]
    assert (await house.get(lost.payment_id)).latest_command.state == Command.COMMAND_STATE_UNKNOWN


async def test_what_the_provider_shows_outranks_the_operators(house: House, ann: Operator, bob: Operator) -> None:
    """It took effect: NOT_EXECUTED is refused, and so is a result that it did not make; the true one is approved."""
    lost = await lost_refund(house, "lost_after")
    await outlast_flight(house.database_url)
    for resolution, fields in (
        (NOT_EXECUTED, {}),
        (EXECUTED, {"provider_result_id": "re_invented"}),
    ):
        error = await refused(ann.resolve(lost.command_id, resolution, **fields))
        assert (error.code, error.reason) == (PRECONDITION, "EVIDENCE_CONTRADICTS")
    proposed = await ann.resolve(lost.command_id, EXECUTED, provider_result_id=lost.provider_refund_id)
    approved = await bob.resolve(lost.command_id, EXECUTED, approve_proposal_id=proposed.proposal.proposal_id)
    assert approved.command.state == Command.COMMAND_STATE_SUCCEEDED
    assert approved.payment.state == State.PAYMENT_STATE_PARTIALLY_REFUNDED
    assert len(house.effects(kind="refund")) == 1


async def test_evidence_that_changed_after_the_proposal_is_seen_at_the_approval(
    house: House, ann: Operator, bob: Operator
) -> None:
    """Proposed while the provider showed nothing; by the approval it shows the refund: refused, and still UNKNOWN."""
    lost = await lost_refund(house, "lost_before")
    await outlast_flight(house.database_url)
    proposed = await ann.resolve(lost.command_id, NOT_EXECUTED)
    await arrive(house, lost)
    error = await refused(bob.resolve(lost.command_id, NOT_EXECUTED, approve_proposal_id=proposed.proposal.proposal_id))
    assert error.reason == "EVIDENCE_CONTRADICTS"
    assert (await house.get(lost.payment_id)).latest_command.state == Command.COMMAND_STATE_UNKNOWN
    resolved = await sync(house, lost.payment_id)
    assert resolved.latest_command.state == Command.COMMAND_STATE_SUCCEEDED


async def test_evidence_that_comes_later_raises_what_two_operators_failed(
    house: House, ann: Operator, bob: Operator
) -> None:
    """The request arrives after all: FAILED rises to SUCCEEDED, and Billing hears of a reversal."""
    lost = await lost_refund(house, "lost_before")
    await outlast_flight(house.database_url)
    proposed = await ann.resolve(lost.command_id, NOT_EXECUTED)
    await bob.resolve(lost.command_id, NOT_EXECUTED, approve_proposal_id=proposed.proposal.proposal_id)
    await arrive(house, lost)
    risen = await sync(house, lost.payment_id)
    assert risen.latest_command.state == Command.COMMAND_STATE_SUCCEEDED
    assert risen.state == State.PAYMENT_STATE_PARTIALLY_REFUNDED
    await last_observation(house, observation_pb2.OBSERVATION_KIND_COMMAND_REVERSED)


async def test_a_proposal_is_stale_when_the_payment_has_moved(house: House, ann: Operator, bob: Operator) -> None:
    """Another refund, a later proposal, a resend, a week, an end by evidence: each one, and the approval is refused."""
    lost = await lost_refund(house, "lost_before")
    await outlast_flight(house.database_url)

    async def approve(proposal_id: str) -> str:
        return (await refused(bob.resolve(lost.command_id, NOT_EXECUTED, approve_proposal_id=proposal_id))).reason

    first = (await ann.resolve(lost.command_id, NOT_EXECUTED)).proposal.proposal_id
    await refund(house, lost.payment_id, "another", 100)
    assert await approve(first) == "PROPOSAL_STALE"
    second = (await ann.resolve(lost.command_id, NOT_EXECUTED)).proposal.proposal_id
    (item,) = (await ann.call("ListUnresolved")).items
    assert (item.operation.proposal.proposal_id, item.operation.proposal.stale) == (second, False)
    third = (await ann.resolve(lost.command_id, NOT_EXECUTED, reason="in other words")).proposal.proposal_id
    assert await approve(second) == "PROPOSAL_STALE"
    await execute(house.database_url, "UPDATE operations SET last_send_us = last_send_us - 1 WHERE state = 'UNKNOWN'")
    assert await approve(third) == "PROPOSAL_STALE"
    (item,) = (await ann.call("ListUnresolved")).items
    assert item.operation.proposal.stale
    await sync(house, lost.payment_id)
    fourth = (await ann.resolve(lost.command_id, NOT_EXECUTED)).proposal.proposal_id
    assert (await bob.resolve(lost.command_id, NOT_EXECUTED, approve_proposal_id=fourth)).resolved
    error = await refused(ann.resolve(lost.command_id, NOT_EXECUTED))
    assert (error.code, error.reason) == (PRECONDITION, "COMMAND_NOT_UNKNOWN")


async def test_a_send_that_may_be_in_flight_is_not_held_for_not_executed(house: House, ann: Operator) -> None:
    """Refused with the time to wait, which only time changes."""
    lost = await lost_refund(house, "lost_before")
    error = await refused(ann.resolve(lost.command_id, NOT_EXECUTED))
    assert (error.code, error.reason) == (PRECONDITION, "SEND_MAY_BE_IN_FLIGHT")
    assert error.retry_after_s is not None
    assert 100 < error.retry_after_s < 200


async def test_a_tenant_bounds_what_is_resolved_and_explained(house: House, ann: Operator, bob: Operator) -> None:
    """Under another tenant the command, the payment and the proposal are not there; lists show what was asked for."""
    lost = await lost_refund(house, "lost_before")
    await outlast_flight(house.database_url)
    error = await refused(ann.resolve(lost.command_id, NOT_EXECUTED, tenant_id="t2"))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "COMMAND_NOT_FOUND")
    error = await refused(ann.call("ExplainPayment", tenant_id="t2", payment_id=lost.payment_id))
    assert error.reason == "PAYMENT_NOT_FOUND"
    error = await refused(bob.resolve(lost.command_id, NOT_EXECUTED, approve_proposal_id="prp_none"))
    assert error.reason == "PROPOSAL_NOT_FOUND"
    assert not (await ann.call("ListUnresolved", tenant_id="t2")).items
    assert len((await ann.call("ListUnresolved", tenant_id="t1")).items) == 1
    assert not (await ann.call("ListAuditRecords", tenant_id="t2")).records
    error = await refused(ann.call("ExplainPayment", payment_id=lost.payment_id))
    assert (error.code, error.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("tenant_id",))


async def test_a_resolution_that_can_never_be_right_names_its_field(house: House, ann: Operator) -> None:
    """INVALID_ARGUMENT before anything is asked of the provider."""
    lost = await lost_refund(house, "lost_before")
    for fields, at_fault in WRONG:
        error = await refused(ann.call("ResolveCommand", **{**_complete(lost.command_id), **fields}))
        assert (error.code, error.fields) == (grpc.StatusCode.INVALID_ARGUMENT, (at_fault,))


def _complete(command_id: str) -> dict[str, object]:
    return {"tenant_id": "t1", "command_id": command_id, "resolution": NOT_EXECUTED, "reason": "seen"}
