"""A restore loses a failover's last step: what the provider carried out is taken up, and nothing is done once more."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pytest

from gateway.app.leaving import failing_over
from gateway.app.reconciliation import want
from gateway.app.runtime import Runtime
from gateway.app.settings import ReconciliationSettings
from gateway.domain.commands import CommandKind
from gateway.domain.lost import LostOutcome
from gateway.domain.modes import ProviderMode
from gateway.domain.reconciliation import JobState
from gateway.domain.states import CommandState, PaymentState
from gateway.domain.storage import Aggregate
from store import open_store
from tests.crash.rig import outlive_leases, resolve
from tests.failover.rig import (
    CALLER,
    MAIN,
    NOWHERE,
    ORDER,
    OTHER,
    THIRD,
    NthInterruption,
    Scene,
    rule,
    scene_at,
    tried,
    wish,
)
from tests.integration.restoring import LONG_AGO, Place
from tests.store.acting import said_of
from tests.store.looking import rows

Done = TypeVar("Done")
DECLINED = wish("card_declined_at_main")


@dataclass
class Lost:
    """A scene whose database was put back to where a failover was about to take its next step."""

    scene: Scene
    runtime: Runtime
    payment_id: str

    async def look_at(self, *account_ids: str) -> None:
        """Reconcile these accounts, as after a restore."""
        jobs = [await want(self.scene.store, "test", each, 0, None) for each in account_ids]
        for _ in range(50):
            await self.runtime.reconciler.run_once()
            found = [await self.scene.store.get_reconciliation(each.reconciliation_id) for each in jobs]
            if all(each is not None and each.state is JobState.DONE for each in found):
                return
        raise AssertionError(f"never done: {account_ids}")

    async def let_minutes_pass(self) -> None:
        """Longer than a failover may take."""
        ((route,),) = await rows(self.scene.url, "SELECT route FROM payments")
        aged = re.sub(r",[0-9]{16}]", ",1]", route)
        assert ",1]" in aged
        await self.scene.execute(f"UPDATE payments SET route = '{aged}'".replace(":", "\\:"))

    async def go_on(self) -> Aggregate:
        """Let the time pass, and whoever looks next look."""
        for _ in range(3):
            await self.scene.make_due()
            await self.runtime.commands.failover.run_once()
            await outlive_leases(self.scene.url)
            await resolve(self.runtime)
        return await self.scene.aggregate(self.payment_id)


@asynccontextmanager
async def lost_step(folder: Path, engine: str, method: str = "card_declined_at_main") -> AsyncIterator[Lost]:
    """Declined and cancelled at the first account; the next step was taken, and a restore has forgotten it."""
    async with scene_at(folder, engine) as scene:
        stop = NthInterruption(3, "claim.before", crash=True)
        with pytest.raises(BaseException):  # noqa: B017, PT011 the process dies
            await scene.runtime(rule(), interruption=stop).commands.create(CALLER, wish(method), 5)
        payment_id = (await scene.only()).payment.payment_id
        restore, backup_time = await swapped(scene, folder, lambda place: place.back_up()), datetime.now(UTC)
        await scene.make_due()
        await scene.runtime(rule()).commands.failover.run_once()
        await swapped(scene, folder, lambda _: restore())
        await scene.store.raise_generation(
            backup_time_us=us(backup_time), stopped_time_us=us(backup_time - LONG_AGO), actor="operator", reason="test"
        )
        await scene.store.release_account(NOWHERE, actor="operator", reason="nobody answers")
        settings = ReconciliationSettings(poll_s=0.01, pause_s=0.0)
        runtime = scene.runtime(rule(), reconciliation=settings)
        yield Lost(scene, runtime, payment_id)
        await runtime.drain(5)


async def swapped(scene: Scene, folder: Path, work: Callable[[Place], Done]) -> Done:
    """Do it while nobody has the database open."""
    await scene.store.close()
    done = work(Place(scene.url, folder))
    scene.store = await open_store(scene.url)
    return done


def us(time: datetime) -> int:
    """In microseconds."""
    return int(time.timestamp() * 1_000_000)


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
