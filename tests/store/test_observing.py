"""What the log promises: each observation once, without a gap, a payment's in order, and a tenant's own only."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from gateway.domain.commands import Caller
from gateway.domain.observations import Observation, Source
from gateway.domain.payments import Payment
from gateway.domain.storage import Settlement, SettleOutcome, Store
from store import open_store, sequencing
from store.postgresql_database import connect_arguments
from store.sequencing import BATCH_MAX
from tests.store import making
from tests.store.acting import captured, claimed
from tests.store.looking import connect, rows, value


async def log(store: Store, tenant_id: str = making.TENANT) -> Sequence[Observation]:
    """Number what there is, and read it all."""
    while await store.number_observations():
        pass
    return await store.read_observations(tenant_id, after_sequence=0, limit=10_000)


async def tell(store: Store, payment: Payment, count: int = 1) -> Payment:
    """Settle the payment once more, with `count` observations; the payment afterwards."""
    after = replace(payment, version=payment.version + 1)
    settlement = Settlement(
        payment=after,
        expected_version=payment.version,
        source=Source.CALLBACK,
        causation_id="cb",
        transitions=(),
        observations=tuple(making.observation(after, after.version, ordinal) for ordinal in range(count)),
    )
    assert await store.settle(settlement) is SettleOutcome.APPLIED
    return after


async def test_an_observation_is_read_back_as_it_was_told(store: Store) -> None:
    """Every field comes back, with the place in the log."""
    claim, got = await claimed(store)
    settlement = making.settlement_of(claim, got)
    await store.settle(settlement)
    (told,) = settlement.observations
    assert await log(store) == [replace(told, sequence=1)]
    assert await store.get_observation(making.TENANT, told.observation_id) == replace(told, sequence=1)
    assert (await store.log_end()).last_sequence == 1


async def test_the_log_has_neither_gap_nor_double_nor_a_payment_out_of_order(store: Store, beside: Store) -> None:
    """Payments that settle side by side while two sequencers run are numbered 1 to n, each in its own order."""

    async def live(own: Store) -> None:
        payment = await captured(own)
        for _ in range(5):
            payment = await tell(own, payment, count=2)

    async def sequence(own: Store, done: asyncio.Event) -> None:
        while not done.is_set():
            await own.number_observations()
            await asyncio.sleep(0.002)

    done = asyncio.Event()
    sequencers = [asyncio.create_task(sequence(own, done)) for own in (store, beside)]
    await asyncio.gather(*(live((store, beside)[i % 2]) for i in range(12)))
    done.set()
    await asyncio.gather(*sequencers)
    entries = await log(store)
    assert [entry.sequence for entry in entries] == list(range(1, 12 * 11 + 1))
    assert len({entry.observation_id for entry in entries}) == len(entries)
    for payment_id in {entry.payment_id for entry in entries}:
        own = [(entry.version, entry.ordinal) for entry in entries if entry.payment_id == payment_id]
        assert own == sorted(own)


async def test_a_transaction_that_commits_late_is_numbered_late(postgresql: str) -> None:
    """While one settle is held open others are numbered; it comes after them, and nothing is skipped."""
    store = await open_store(postgresql)
    first, second = await captured(store), await captured(store)
    assert len(await log(store)) == 2
    holder = await connect(postgresql)
    transaction = holder.transaction()
    await transaction.start()
    late = making.observation(first, 3)
    await holder.execute("UPDATE payments SET version = 3 WHERE payment_id = $1", first.payment_id)
    await holder.execute(
        "INSERT INTO observations SELECT (jsonb_populate_record(o, $1::jsonb)).* FROM observations o LIMIT 1",
        f'{{"observation_id": "{late.observation_id}", "payment_id": "{first.payment_id}", "version": 3}}',
    )
    await holder.execute(
        "INSERT INTO observation_outbox VALUES ($1, $2, 3, 0, $3)",
        making.TENANT,
        first.payment_id,
        late.observation_id,
    )
    for _ in range(3):
        second = await tell(store, second)
    seen = [(entry.sequence, entry.payment_id) for entry in await log(store)]
    assert [number for number, _ in seen] == [1, 2, 3, 4, 5]
    await transaction.commit()
    await tell(store, replace(first, version=3))
    after = await store.read_observations(making.TENANT, after_sequence=5, limit=10)
    assert after == []
    entries = await log(store)
    assert [entry.sequence for entry in entries] == [1, 2, 3, 4, 5, 6, 7]
    assert [(e.payment_id, e.version) for e in entries[5:]] == [(first.payment_id, 3), (first.payment_id, 4)]
    await holder.close()
    await store.close()


async def test_a_run_of_the_sequencer_is_bounded(postgresql: str) -> None:
    """A long outbox is numbered in batches of BATCH_MAX."""
    store = await open_store(postgresql)
    await rows(
        postgresql,
        "INSERT INTO observation_outbox SELECT 't', 'p' || g, 1, 0, 'o' || g FROM generate_series(1, 1500) g",
    )
    assert [await store.number_observations() for _ in range(3)] == [BATCH_MAX, 500, 0]
    assert await value(postgresql, "SELECT count(*) FROM observation_outbox") == 0
    assert await value(postgresql, "SELECT value FROM counters WHERE name = 'observations'") == 1500
    await store.close()


async def test_reading_goes_on_from_any_place(store: Store) -> None:
    """A page starts after the given number and is bounded; it can be of one payment."""
    one, two = await captured(store), await captured(store)
    one = await tell(store, one, count=3)
    entries = await log(store)
    assert [e.sequence for e in await store.read_observations(making.TENANT, after_sequence=2, limit=2)] == [3, 4]
    own = await store.read_observations(making.TENANT, after_sequence=0, limit=99, payment_id=one.payment_id)
    assert own == [entry for entry in entries if entry.payment_id == one.payment_id]
    assert two.payment_id not in {entry.payment_id for entry in own}


async def test_a_tenant_reads_its_own_observations_only(store: Store) -> None:
    """Another tenant's log is empty, and an observation's id opens nothing."""
    await captured(store)
    (entry,) = await log(store)
    assert await store.read_observations("tenant-b", after_sequence=0, limit=10) == []
    assert await store.get_observation("tenant-b", entry.observation_id) is None


async def test_waiting_ends_when_something_is_there(store: Store, beside: Store) -> None:
    """A waiter of another replica wakes for a commit long before its own limit."""
    payment = await captured(store)
    await log(store)
    last = (await store.log_end()).last_sequence
    waiting = [asyncio.create_task(beside.wait_for_observations(last, timeout_s=20)) for _ in range(50)]
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in waiting)
    started = time.monotonic()
    await tell(store, payment)
    await log(store)
    await asyncio.gather(*waiting)
    assert time.monotonic() - started < 5


async def test_a_notification_wakes_before_any_poll(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On PostgreSQL another replica's NOTIFY is enough, and a lost listening connection is made again."""
    monkeypatch.setattr("store.feed.POLL_S", 60)
    monkeypatch.setattr("store.feed.RECONNECT_S", 0.05)
    store, beside = await open_store(postgresql), await open_store(postgresql)
    payment = await captured(store)
    await log(store)
    await beside.wait_for_observations(0, timeout_s=5)
    for _ in range(2):
        last = (await store.log_end()).last_sequence
        waiting = asyncio.create_task(beside.wait_for_observations(last, timeout_s=20))
        await asyncio.sleep(0.3)
        payment = await tell(store, payment)
        await log(store)
        await asyncio.wait_for(waiting, 5)
        # The second time over a new connection: every listener is cut off.
        await rows(postgresql, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
        await asyncio.sleep(0.5)
    await store.close()
    await beside.close()


async def test_waiting_ends_at_its_limit(store: Store) -> None:
    """With nothing new a waiter returns after its timeout; with something there already, at once."""
    started = time.monotonic()
    await store.wait_for_observations(0, timeout_s=0.2)
    assert 0.15 < time.monotonic() - started < 2
    await captured(store)
    await log(store)
    started = time.monotonic()
    await store.wait_for_observations(0, timeout_s=20)
    assert time.monotonic() - started < 5


async def test_another_tenants_callers_share_one_log(store: Store) -> None:
    """Sequences are global, so a tenant's own can have gaps, and never repeats."""
    other = Caller("tenant-b", "organization-1", "orders", "c")
    await captured(store)
    claim = making.create_claim(caller=other)
    await store.settle(making.settlement_of(claim, await store.claim(claim)))
    await log(store)
    await captured(store)
    assert [entry.sequence for entry in await log(store)] == [1, 3]
    assert [entry.sequence for entry in await log(store, "tenant-b")] == [2]


async def test_a_backlog_is_taken_away_row_by_row(postgresql: str) -> None:
    """A full batch compares no row with every other: what a backlog costs grows with it, and not with its square."""
    store = await open_store(postgresql)
    await captured(store)
    await rows(
        postgresql,
        "INSERT INTO observation_outbox SELECT tenant_id, payment_id, n, 0, 'obs-' || n "
        f"FROM observation_outbox, generate_series(100, {99 + BATCH_MAX}) n",
    )
    driver = await connect(postgresql)
    for name, setting in connect_arguments(60, 5)["server_settings"].items():
        if name.startswith(("enable", "jit")):
            await driver.execute(f"SET {name} = {setting}")
    transaction = driver.transaction()
    await transaction.start()
    plan = str(await driver.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {sequencing.NUMBER}"))
    await transaction.rollback()
    await driver.close()
    assert '"Rows Removed by Join Filter"' not in plan
    assert '"Seq Scan"' not in plan
    assert await store.number_observations() == BATCH_MAX
    assert await store.number_observations() == 1
    await store.close()
