"""A restore loses a failover's last step: what the provider carried out is taken up, and nothing is done once more."""

from pathlib import Path
from typing import Any

import pytest

from gateway.app.leaving import failing_over
from gateway.domain.commands import CommandKind
from gateway.domain.lost import LostOutcome
from gateway.domain.modes import ProviderMode
from gateway.domain.states import CommandState, PaymentState
from tests.crash.rig import blinded
from tests.failover.losing import RECONCILING, lost_step
from tests.failover.rig import CALLER, MAIN, ORDER, OTHER, THIRD, rule, tried, wish
from tests.store.acting import said_of

DECLINED = wish("card_declined_at_main")


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_a_step_that_was_lost_is_taken_up_and_not_taken_again(tmp_path: Path, engine: str) -> None:
    """The provider's list shows it: the payment moves to that account, and ends there as it ended, once."""
    async with lost_step(tmp_path, engine) as lost:
        assert lost.scene.effects() == [(OTHER, "capture")]
        await lost.look_at(*ORDER)
        aggregate = await lost.go_on()
        assert (aggregate.payment.state, aggregate.payment.account_id) == (PaymentState.CAPTURED, OTHER)
        assert tried(aggregate.payment) == [(MAIN, "DECLINED"), (OTHER, "CHOSEN")]
        assert lost.scene.effects() == [(OTHER, "capture")]
        reply = await lost.runtime.commands.create(CALLER, DECLINED, 10)
        assert reply.replayed


async def test_a_lost_step_keeps_the_payment_from_every_other_account(tmp_path: Path) -> None:
    """The account where it went takes nothing now: it does not go to a third one, and no timer ends it as declined."""
    async with lost_step(tmp_path, "sqlite") as lost:
        await lost.look_at(MAIN, THIRD)
        await lost.runtime.modes.set(CALLER, OTHER, ProviderMode.MAINTENANCE, "down")
        for _ in range(2):
            aggregate = await lost.go_on()
            assert aggregate.payment.account_id == MAIN, "nobody has looked at the third one's books yet"
            await lost.let_minutes_pass()
        await lost.look_at(OTHER)
        aggregate = await lost.go_on()
        assert (aggregate.payment.state, aggregate.payment.account_id) == (PaymentState.CAPTURED, OTHER)
        assert lost.scene.effects() == [(OTHER, "capture")]


async def test_a_lost_step_that_two_operators_hold_for_undone_ends_the_failover(tmp_path: Path) -> None:
    """The payment is not busy for ever: it ends with the decline that it had, and is sent nowhere."""
    async with lost_step(tmp_path, "sqlite") as lost:
        await lost.look_at(*ORDER)
        found = await lost.scene.store.get_lost(CALLER.tenant_id, lost.payment_id)
        assert found is not None
        assert await said_of(lost.scene.store, found, LostOutcome.UNDONE)
        aggregate = await lost.go_on()
        # What a failover ends as that found no account left: the declined object is cancelled.
        assert (aggregate.payment.state, aggregate.payment.account_id) == (PaymentState.CANCELLED, MAIN)
        (create,) = [each for each in aggregate.commands if each.kind is CommandKind.CREATE]
        assert create.state is CommandState.FAILED
        assert not failing_over(aggregate.payment)
        assert lost.scene.effects() == [(OTHER, "capture")], "what was undone was undone by hand"
        assert (await lost.runtime.commands.create(CALLER, DECLINED, 10)).replayed


class TakesNoNew:
    """The real adapter of an account that takes no payments any more."""

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter

    def __getattr__(self, name: str) -> Any:
        if name == "prepare_create":
            raise AttributeError(name)
        return getattr(self._adapter, name)


async def test_a_lost_step_is_taken_up_at_an_account_that_would_not_take_it_now(tmp_path: Path) -> None:
    """Nothing is sent by that: what the account can take now says nothing of what it has."""
    async with lost_step(tmp_path, "sqlite") as lost:
        accounts = blinded(lost.scene.accounts, TakesNoNew)
        lost.runtime = lost.scene.runtime(rule(), accounts=accounts, reconciliation=RECONCILING)
        await lost.look_at(*ORDER)
        aggregate = await lost.go_on()
        assert (aggregate.payment.state, aggregate.payment.account_id) == (PaymentState.CAPTURED, OTHER)
        assert lost.scene.effects() == [(OTHER, "capture")]
