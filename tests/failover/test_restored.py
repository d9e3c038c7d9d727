"""After a restore rules may choose another account than before: nothing goes until every account was looked at."""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from gateway.domain.errors import Reason, Sent, Unavailable
from tests.crash.rig import Interruption
from tests.failover.rig import CALLER, MAIN, NOWHERE, OTHER, THIRD, Scene, rule, scene_at, wish


@pytest.fixture(params=["sqlite", "postgresql"])
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    """A fresh database and a fresh sandbox."""
    async with scene_at(tmp_path, request.param) as made:
        yield made


async def test_a_routed_create_waits_for_every_account(scene: Scene) -> None:
    """The chosen account is cleared and another is not, where the lost create may have gone: refused, and no effect."""
    await scene.store.raise_generation(backup_time_us=0, stopped_time_us=0, actor="operator", reason="test")
    runtime = scene.runtime(rule(OTHER, MAIN))
    for cleared in (OTHER, NOWHERE, THIRD):
        await scene.store.release_account(cleared, actor="operator", reason="test")
        with pytest.raises(Unavailable) as refused:
            await runtime.commands.create(CALLER, wish(), 10)
        assert (refused.value.reason, refused.value.sent) == (Reason.RESTORE_PENDING, Sent.NO)
    assert scene.effects() == []
    await scene.store.release_account(MAIN, actor="operator", reason="test")
    await runtime.commands.create(CALLER, wish(), 10)
    assert scene.effects() == [(OTHER, "capture")]


async def test_after_a_restore_a_create_is_claimed_once(scene: Scene) -> None:
    """The first that no rule routed finds out that there was one; from then on each asks before its one claim."""
    await scene.store.raise_generation(backup_time_us=0, stopped_time_us=0, actor="operator", reason="test")
    for cleared in (OTHER, NOWHERE, THIRD, MAIN):
        await scene.store.release_account(cleared, actor="operator", reason="test")
    counted = Counted()
    runtime = scene.runtime(interruption=cast(Interruption, counted))
    claims = []
    for number in range(3):
        await runtime.commands.create(CALLER, wish(key=f"key-{number}"), 10)
        claims.append(counted.points["claim.before"])
    assert claims == [2, 3, 4]
    assert scene.effects() == [(MAIN, "capture")] * 3


class Counted:
    """Stands in for an Interruption, interrupts nothing and counts."""

    point = ""

    def __init__(self) -> None:
        self.points: Counter[str] = Counter()

    async def at(self, point: str) -> None:
        self.points[point] += 1
