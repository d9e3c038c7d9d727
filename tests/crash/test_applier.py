"""Callbacks that break what applies them: one never holds up another, and none is lost with the database."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import structlog

from gateway.app.callbacks import Delivery
from gateway.app.runtime import Runtime
from gateway.app.settling import Lesson
from gateway.domain.commands import Caller
from gateway.domain.errors import Reason, Unavailable
from gateway.domain.observations import Source
from gateway.domain.storage import CallbackChange, CallbackState, Store
from providers.registry import AccountRegistry
from store import open_store
from tests.crash.rig import accounts_at, runtime_on
from tests.databases import sqlite_url
from tests.store import making
from tests.store.acting import captured
from tests.store.looking import census

SIDECAR = Caller("", "", "sidecar", "corr")


@dataclass
class Breaking:
    """The real store, whose `load` breaks us and whose `change_callback` is lost, as asked."""

    store: Store
    lost: bool = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def load(self, tenant_id: str, payment_id: str) -> Any:
        """A defect for one payment."""
        if payment_id == "pay_breaks":
            raise RuntimeError("a defect")
        return await self.store.load(tenant_id, payment_id)

    async def change_callback(self, change: CallbackChange, audit: Any = ()) -> bool:
        """As the store's, unless the database is lost."""
        if self.lost:
            raise Unavailable(Reason.DATABASE_UNAVAILABLE, "lost")
        return await self.store.change_callback(change, audit)


@pytest.fixture
async def breaking(tmp_path: Path) -> AsyncIterator[Breaking]:
    """A store that can be broken."""
    opened = await open_store(sqlite_url(tmp_path))
    yield Breaking(opened)
    await opened.close()


@pytest.fixture
async def accounts() -> AsyncIterator[AccountRegistry]:
    """A provider that nobody reaches."""
    found = accounts_at("http://127.0.0.1:9")
    yield found
    await found.close()


async def deliver(runtime: Runtime, event_id: str, payment_id: str) -> str:
    """A callback about our payment."""
    body = (
        f'{{"id": "{event_id}", "type": "payment.updated", "created": 1, "data": {{"object": {{"object": "payment", '
        f'"id": "sp_1", "metadata": {{"obol_payment": "{payment_id}", "obol_tenant": "t1"}}}}}}}}'
    )
    delivery = Delivery("sandbox", "acct_main", event_id, "payment.updated", body.encode(), {}, 0)
    callback_id, _ = await runtime.callbacks.deliver(SIDECAR, delivery)
    return callback_id


@pytest.mark.parametrize("lost", [False, True])
async def test_a_defect_and_a_lost_database_at_once_hold_up_nobody(
    breaking: Breaking, accounts: AccountRegistry, lost: bool
) -> None:
    """The batch ends, the others were looked at, and what broke is taken again when its lease ends."""
    runtime = runtime_on(cast(Store, breaking), accounts)
    breaks = await deliver(runtime, "evt_1", "pay_breaks")
    other = await deliver(runtime, "evt_2", "pay_none")
    breaking.lost = lost
    with structlog.testing.capture_logs() as logs:
        assert await runtime.applier.run_once() == 2
    kept = {each: await breaking.find_callback(each) for each in (breaks, other)}
    states = {each: callback.state for each, callback in kept.items()}
    expected = CallbackState.RECEIVED if lost else CallbackState.WAITING
    assert states == {breaks: expected, other: expected}
    assert any(line["event"] == "callback failed" for line in logs)
    if lost:
        assert [line["event"] for line in logs].count("callback interrupted") == 2


async def test_a_lesson_that_teaches_nothing_is_told_under_the_callbacks_epoch_alone(
    breaking: Breaking, accounts: AccountRegistry, tmp_path: Path
) -> None:
    """Somebody else took the callback over: neither its row nor the audit says anything of us."""
    store = breaking.store
    runtime = runtime_on(store, accounts)
    payment = await captured(store)
    await store.receive_callback(making.callback(), making.audit())
    (ours,) = await store.take_callbacks(limit=1, lease_s=0)
    (theirs,) = await store.take_callbacks(limit=1, lease_s=60)
    aggregate = await store.load(payment.tenant_id, payment.payment_id)
    assert aggregate is not None
    change = CallbackChange(ours.callback.callback_id, ours.epoch, CallbackState.APPLIED)
    lesson = Lesson(Source.CALLBACK, ours.callback.callback_id, callback=change, audit=(making.audit(),))
    url = f"sqlite+aiosqlite:///{next(tmp_path.glob('*.db'))}"
    before = await census(url)
    assert await runtime.inbox._learning.learn(aggregate, lesson) is None
    assert await census(url) == before
    kept = await store.find_callback(ours.callback.callback_id)
    assert kept is not None
    assert (kept.state, kept.epoch) == (CallbackState.RECEIVED, theirs.epoch)
