"""When the gateway completes what a payer approved: one completion at a time, each under a number of its own."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.app.completing import COMPLETIONS_MAX, completion_of
from gateway.domain.commands import CommandKind
from gateway.domain.states import FINAL_COMMAND_STATES, CommandState, PaymentState
from gateway.domain.storage import Aggregate


def approved(*completions: CommandState, state: PaymentState = PaymentState.REQUIRES_ACTION) -> Aggregate:
    """A payment in `state` that was completed before, to these ends: as much of it as is asked about."""
    payment = SimpleNamespace(state=state, tenant_id="t1", payment_id="pay_1", organization_id="o", correlation_id="c")
    commands = [SimpleNamespace(kind=CommandKind.CREATE, state=CommandState.REQUIRES_ACTION)]
    commands += [SimpleNamespace(kind=CommandKind.COMPLETE, state=each) for each in completions]
    return cast(Aggregate, cast(Any, SimpleNamespace(payment=payment, commands=commands)))


def key_of(*completions: CommandState, state: PaymentState = PaymentState.REQUIRES_ACTION) -> str | None:
    """The key of the next completion, if there is to be one."""
    wish = completion_of(approved(*completions, state=state), 1)
    return None if wish is None else wish.idempotency_key


@pytest.mark.parametrize("state", sorted(set(CommandState) - FINAL_COMMAND_STATES - {CommandState.NOT_SENT}))
def test_nothing_is_completed_while_a_completion_is_open(state: CommandState) -> None:
    """Another key now would be another charge, should the first one have arrived."""
    assert key_of(state) is None
    assert key_of(CommandState.FAILED, state) is None


def test_each_completion_has_the_number_after_those_that_ended() -> None:
    """Whoever sees it due makes the same key; one that was never sent is made again under its own."""
    assert key_of() == key_of(CommandState.NOT_SENT) == "system:complete:pay_1:1"
    assert key_of(CommandState.FAILED) == "system:complete:pay_1:2"
    assert key_of(CommandState.FAILED, CommandState.NOT_SENT) == "system:complete:pay_1:2"


def test_completions_end() -> None:
    """After so many declines a payment waits for a person, and one that waits for no payer is never completed."""
    assert key_of(*[CommandState.FAILED] * (COMPLETIONS_MAX - 1)) == f"system:complete:pay_1:{COMPLETIONS_MAX}"
    assert key_of(*[CommandState.FAILED] * COMPLETIONS_MAX) is None
    assert [key_of(state=state) for state in PaymentState if state is not PaymentState.REQUIRES_ACTION] == [None] * (
        len(PaymentState) - 1
    )
