"""When a proposal holds, and what may be asked: pure rules of a resolution."""

from dataclasses import replace

import pytest

from gateway.app.proposing import Wish, check_result, is_stale
from gateway.domain.commands import CommandKind, Operation
from gateway.domain.errors import InvalidRequest
from gateway.domain.resolutions import PROPOSAL_AGE_S_MAX, Proposal, Resolution
from gateway.domain.states import CommandState
from tests.unit.app.beginnings import captured
from tests.unit.app.test_vouching import lost, proposal

NOW_US = 1_800_000_000_000_000
WEEK_US = PROPOSAL_AGE_S_MAX * 1_000_000


@pytest.fixture
def operation() -> Operation:
    """A refund of unknown outcome, last sent some time ago."""
    desk, _ = captured()
    return replace(lost(desk, CommandKind.REFUND, 40), last_send_us=NOW_US - 1)


def made(operation: Operation, **changes: object) -> Proposal:
    """A proposal for the operation as it stands, at version 7."""
    fresh = replace(proposal(operation), version=7, last_send_us=NOW_US - 1, proposed_time_us=NOW_US)
    return replace(fresh, **changes)  # type: ignore[arg-type]  # fields by name


def test_a_proposal_holds_while_nothing_moves(operation: Operation) -> None:
    """Recovery's looks raise the epoch, count themselves and set times: none of that is a move."""
    looked = replace(operation, epoch=operation.epoch + 9, recoveries=9, lease_until_us=1, failure="still unreadable")
    assert not is_stale(made(operation), looked, 7, NOW_US + WEEK_US)


def test_each_thing_that_moves_makes_it_stale(operation: Operation) -> None:
    """Another version, another send, another state, and a week that went by."""
    of = made(operation)
    assert is_stale(of, operation, 8, NOW_US)
    assert is_stale(of, replace(operation, last_send_us=NOW_US), 7, NOW_US)
    assert is_stale(of, operation, 7, NOW_US + WEEK_US + 1)
    for state in set(CommandState) - {CommandState.UNKNOWN}:
        assert is_stale(of, replace(operation, state=state), 7, NOW_US)


@pytest.mark.parametrize(
    ("kind", "result_id", "movement_id", "at_fault"),
    [
        (CommandKind.REFUND, "", "", "provider_result_id"),
        (CommandKind.CREATE, "", "", "provider_result_id"),
        (CommandKind.CANCEL, "x", "", "provider_result_id"),
        (CommandKind.CAPTURE, "x", "y", "provider_movement_id"),
        (CommandKind.REFUND, "x", "", ""),
        (CommandKind.CANCEL, "", "", ""),
        (CommandKind.CREATE, "x", "y", ""),
    ],
)
def test_the_ids_fit_what_the_operation_does(
    operation: Operation, kind: CommandKind, result_id: str, movement_id: str, at_fault: str
) -> None:
    """A refund names the refund, a cancellation nothing, and only a create or confirm the money that it moved."""
    of = made(operation, provider_result_id=result_id, provider_movement_id=movement_id)
    if not at_fault:
        check_result(of, replace(operation, kind=kind))
        return
    with pytest.raises(InvalidRequest) as raised:
        check_result(of, replace(operation, kind=kind))
    assert raised.value.field == at_fault


def test_an_approval_brings_no_result_of_its_own() -> None:
    """What is approved was proposed."""
    with pytest.raises(InvalidRequest):
        Wish("t", "cmd", Resolution.EXECUTED, "seen", provider_result_id="x", approve_proposal_id="prp")
