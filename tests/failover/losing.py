"""A database of payments that are routed, put back to where they were while their providers went on."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pytest

from gateway.app.reconciliation import want
from gateway.app.runtime import Runtime
from gateway.app.settings import ReconciliationSettings
from gateway.domain.reconciliation import JobState
from gateway.domain.routing import RoutingRule
from gateway.domain.storage import Aggregate
from store import open_store
from tests.crash.rig import outlive_leases, resolve
from tests.failover.rig import CALLER, NOWHERE, NthInterruption, Scene, rule, scene_at, wish
from tests.integration.restoring import LONG_AGO, Place
from tests.store.looking import rows

LIVE = "WHERE next_attempt_us IS NOT NULL"
RECONCILING = ReconciliationSettings(poll_s=0.01, pause_s=0.0)
Done = TypeVar("Done")
Act = Callable[[Scene], Awaitable[None]]


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

    async def recover(self, *, aged_s: float = 0.0) -> Aggregate:
        """Let recovery look once at everything that is live."""
        await outlive_leases(self.scene.url)
        aged_us = int(aged_s * 1_000_000)
        earlier = f"claimed_time_us = claimed_time_us - {aged_us}, last_send_us = last_send_us - {aged_us}"
        await self.scene.execute(f"UPDATE operations SET next_attempt_us = 1, lease_until_us = NULL, {earlier} {LIVE}")
        await self.runtime.recovery.run_once()
        return await self.scene.aggregate(self.payment_id)

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

    async def declined(scene: Scene) -> None:
        stop = NthInterruption(3, "claim.before", crash=True)
        with pytest.raises(BaseException):  # noqa: B017, PT011 the process dies
            await scene.runtime(rule(), interruption=stop).commands.create(CALLER, wish(method), 5)

    async def goes_on(scene: Scene) -> None:
        await scene.make_due()
        await scene.runtime(rule()).commands.failover.run_once()

    async with forgotten(folder, engine, declined, goes_on) as lost:
        yield lost


@asynccontextmanager
async def forgotten(
    folder: Path, engine: str, before: Act, in_lost_time: Act, *rules: RoutingRule
) -> AsyncIterator[Lost]:
    """What happened `before` is in the backup, what happened `in_lost_time` only at the providers."""
    async with scene_at(folder, engine) as scene:
        await before(scene)
        payment_id = (await scene.only()).payment.payment_id
        restore, backup_time = await swapped(scene, folder, lambda place: place.back_up()), datetime.now(UTC)
        await in_lost_time(scene)
        await swapped(scene, folder, lambda _: restore())
        await scene.store.raise_generation(
            backup_time_us=us(backup_time), stopped_time_us=us(backup_time - LONG_AGO), actor="operator", reason="test"
        )
        await scene.store.release_account(NOWHERE, actor="operator", reason="nobody answers")
        runtime = scene.runtime(*(rules or (rule(),)), reconciliation=RECONCILING)
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
