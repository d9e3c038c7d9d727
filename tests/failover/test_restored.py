"""After a restore rules may choose another account than before: nothing goes until every account was looked at."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.domain.errors import Reason, Sent, Unavailable
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
