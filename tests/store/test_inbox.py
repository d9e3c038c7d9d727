"""What the inbox promises: an event is in once, is held by one process at a time, and keeps its bytes."""

import asyncio
from dataclasses import replace

from gateway.domain.storage import CallbackChange, CallbackState, Store
from store import open_store
from tests.store import making
from tests.store.conftest import ROOMY, SEALING
from tests.store.looking import census, connect, rows, value


async def test_an_event_is_received_once(store: Store, beside: Store, url: str) -> None:
    """Of thirty deliveries of one event one is new, with one audit record; another account's event is another."""
    callbacks = [making.callback(event_id="evt_1") for _ in range(30)]
    stores = (store, beside)
    new = await asyncio.gather(
        *(stores[i % 2].receive_callback(one, making.audit()) for i, one in enumerate(callbacks))
    )
    assert sum(new) == 1
    assert await store.receive_callback(making.callback(event_id="evt_1", account_id="other"), making.audit())
    counted = await census(url)
    assert (counted["callbacks"], counted["audit"]) == (2, 2)


async def test_a_callback_keeps_its_bytes(store: Store) -> None:
    """Body and headers are exactly what was received."""
    callback = making.callback(body=bytes(range(256)), headers={"signature": "t=1,v1=\u00e9"})
    await store.receive_callback(callback, making.audit())
    (taken,) = await store.take_callbacks(limit=10, lease_s=30)
    assert taken.callback == callback
    assert (taken.epoch, taken.tries, taken.state) == (1, 1, CallbackState.RECEIVED)


async def test_a_callback_is_held_by_one_process(store: Store, beside: Store) -> None:
    """Twelve callbacks are shared by those who take at once; under a lease none comes twice."""
    for _ in range(12):
        await store.receive_callback(making.callback(), making.audit())
    stores = (store, beside)
    takes = await asyncio.gather(*(stores[i % 2].take_callbacks(limit=4, lease_s=30) for i in range(6)))
    ids = [one.callback.callback_id for taken in takes for one in taken]
    ids += [one.callback.callback_id for one in await store.take_callbacks(limit=99, lease_s=30)]
    assert len(ids) == len(set(ids)) == 12


async def test_nobody_waits_for_a_callback_that_another_is_taking(postgresql: str) -> None:
    """Whoever takes passes over what somebody else's transaction holds, and gets the rest at once."""
    store, holder = await open_store(postgresql, sealing=SEALING, **ROOMY), await connect(postgresql)
    held, free = making.callback(), making.callback()
    for each in (held, free):
        await store.receive_callback(each, making.audit())
    await holder.execute("BEGIN")
    await holder.fetch("SELECT FROM callbacks WHERE callback_id = $1 FOR UPDATE", held.callback_id)
    taken = await asyncio.wait_for(store.take_callbacks(limit=10, lease_s=30), 20)
    assert [one.callback.callback_id for one in taken] == [free.callback_id]
    await holder.close()
    await store.close()


async def test_a_callback_comes_again_after_its_lease_and_its_wait(store: Store, url: str) -> None:
    """A holder that died loses its callback; one that waits for its payment comes when it was told to."""
    await store.receive_callback(making.callback(), making.audit())
    (first,) = await store.take_callbacks(limit=1, lease_s=30)
    assert await store.take_callbacks(limit=1, lease_s=30) == []
    await pass_by(url)
    (second,) = await store.take_callbacks(limit=1, lease_s=30)
    assert (second.epoch, second.tries) == (2, 2)
    stale = CallbackChange(first.callback.callback_id, first.epoch, CallbackState.IGNORED)
    assert not await store.change_callback(stale)
    waiting = replace(stale, expected_epoch=2, state=CallbackState.WAITING, next_attempt_s=30)
    assert await store.change_callback(waiting)
    assert await store.take_callbacks(limit=1, lease_s=30) == []
    await pass_by(url)
    (third,) = await store.take_callbacks(limit=1, lease_s=30)
    assert third.state is CallbackState.WAITING


async def pass_by(url: str) -> None:
    """Half a minute passes for every callback: the rows' times are moved, and nobody waits."""
    await rows(
        url,
        "UPDATE callbacks SET next_attempt_us = next_attempt_us - 31000000, lease_until_us = lease_until_us - 31000000",
    )


async def test_what_became_of_a_callback_is_audited_once(store: Store, url: str) -> None:
    """With the change, by whoever holds it: one that was relieved writes neither."""
    await store.receive_callback(making.callback(), making.audit())
    (taken,) = await store.take_callbacks(limit=1, lease_s=-1.0)
    (again,) = await store.take_callbacks(limit=1, lease_s=30)
    before = await value(url, "SELECT count(*) FROM audit")
    stale = CallbackChange(taken.callback.callback_id, taken.epoch, CallbackState.APPLIED)
    assert not await store.change_callback(stale, audit=[making.audit()])
    assert await value(url, "SELECT count(*) FROM audit") == before
    assert await store.change_callback(replace(stale, expected_epoch=again.epoch), audit=[making.audit()])
    assert await value(url, "SELECT count(*) FROM audit") == before + 1


async def test_a_callback_that_is_done_is_kept_and_left_alone(store: Store, url: str) -> None:
    """IGNORED is final: the row stays, and is never taken."""
    await store.receive_callback(making.callback(), making.audit())
    (taken,) = await store.take_callbacks(limit=1, lease_s=0.0)
    done = CallbackChange(taken.callback.callback_id, taken.epoch, CallbackState.IGNORED, note="not ours")
    assert await store.change_callback(done)
    assert await store.take_callbacks(limit=1, lease_s=0.0) == []
    assert await value(url, "SELECT note FROM callbacks") == "not ours"
