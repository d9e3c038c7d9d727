"""Consumers that are slow, leave a thousand times, or come back in the middle: each sees the log, and costs a page."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.app.observing import Beat, Observing, Told
from gateway.domain.observations import Observation
from gateway.domain.storage import Store
from obol.v1 import billing_observation_pb2 as watching
from store import open_store
from tests.crash.rig import caller_of
from tests.databases import postgresql_url, sqlite_url
from tests.integration.house import QUICK, House, open_house
from tests.store import making
from tests.store.acting import captured
from tests.store.looking import connect, rows

pytestmark = pytest.mark.slow

PAGE = 20
CALLER = replace(making.CALLER, tenant_id=making.TENANT)


async def test_a_slow_consumer_costs_one_page(tmp_path: Path) -> None:
    """While it does not take what it got, nothing more is read for it, however long the log is."""
    store = await open_store(sqlite_url(tmp_path))
    await asyncio.gather(*(captured(store) for _ in range(3 * PAGE)))
    reads: list[int] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        async def read_observations(self, *args: Any, **kwargs: Any) -> Sequence[Observation]:
            page = await store.read_observations(*args, **kwargs)
            reads.append(len(page))
            return page

    observing = Observing(cast(Store, Counting()), replace(QUICK, watch_page=PAGE))
    stream = cast(AsyncIterator[Any], observing.watch(CALLER, "", ""))
    async with aclosing(cast(Any, stream)):
        assert isinstance(await anext(stream), Beat)
        for _ in range(PAGE):
            assert isinstance(await anext(stream), Told)
            await asyncio.sleep(0)
        assert reads == [PAGE]
        await anext(stream)
        assert reads == [PAGE, PAGE]
    await store.close()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A gateway on PostgreSQL that sends small pages."""
    async with open_house(postgresql_url(), tmp_path, engine=replace(QUICK, watch_page=PAGE)) as opened:
        yield opened


async def test_one_that_does_not_read_holds_up_nobody(house: House) -> None:
    """Eight watchers stop reading, over a log that no buffer holds: another reads it to its end, and payments go on."""
    store = await open_store(house.database_url)
    await asyncio.gather(*(captured_as(store, "t1") for _ in range(150)))
    await store.number_observations()
    stuck = [house.observations.WatchObservations(ASKED, metadata=house.metadata) for _ in range(8)]
    for each in stuck:
        await each.read()
    watch = house.observations.WatchObservations(ASKED, metadata=house.metadata)
    seen = 0
    while seen < 150:
        told: Any = await asyncio.wait_for(watch.read(), 10)
        seen += told.HasField("observation")
    await house.create("beside")
    for each in (*stuck, watch):
        each.cancel()
    await store.close()


WIRED = 150
"""Of the thousand disconnects, those over gRPC; the rest leave the use case behind it, which costs a tenth."""


@dataclass
class Ledger:
    """A consumer that leaves again and again, and what it saw."""

    house: House
    observing: Observing
    cursor: str = ""
    seen: list[str] = field(default_factory=list)

    async def visit(self, reads: int) -> None:
        """Connect after the last cursor, take a sign of life and perhaps one observation, and go without a word."""
        request = watching.WatchObservationsRequest(cursor=self.cursor)
        watch = self.house.observations.WatchObservations(request, metadata=self.house.metadata, timeout=10)
        for _ in range(reads):
            message: Any = await watch.read()
            if message.HasField("observation"):
                self.seen.append(message.observation.observation_id)
            self.cursor = (message.observation if message.HasField("observation") else message.heartbeat).cursor
        watch.cancel()

    async def look_in(self, reads: int) -> None:
        """The same without a wire."""
        stream = self.observing.watch(T1, "", self.cursor)
        async with aclosing(cast(Any, stream)):
            for _ in range(reads):
                each = await anext(stream)
                self.cursor = each.cursor
                if not isinstance(each, Beat):
                    self.seen.append(each.observation.observation_id)


async def test_a_thousand_disconnects_lose_and_double_nothing(house: House) -> None:
    """While payments go on: what was seen over a thousand connections is the log, once and in its order."""
    store = await open_store(house.database_url)
    ledger = Ledger(house, Observing(store, replace(QUICK, watch_page=PAGE)))
    made = 0
    for number in range(1_000):
        if number % 4 == 0:
            await captured_as(store, "t1")
            await store.number_observations()
            made += 1
        going = ledger.visit if number < WIRED else ledger.look_in
        # Another observation is there for one who reads twice: the first message is the sign of life.
        await going(2 if number % 4 == 1 or (number % 7 == 0 and len(ledger.seen) < made) else number % 2)
    while len(ledger.seen) < made:
        await ledger.visit(2)
    log = await rows(house.database_url, "SELECT observation_id FROM observation_log ORDER BY sequence")
    assert ledger.seen == [observation_id for (observation_id,) in log]
    assert len(log) == made == 250
    await store.close()


async def test_what_comes_twice_was_not_acknowledged(house: House) -> None:
    """A named consumer leaves sixty times: it begins after its last word each time, and skips nothing."""
    store = await open_store(house.database_url)
    await pay_on(store, 50)
    await store.number_observations()
    chance, decided = random.Random(3), list[str]()
    request = watching.WatchObservationsRequest(consumer="ledger")
    log = [
        row[0] for row in await rows(house.database_url, "SELECT observation_id FROM observation_log ORDER BY sequence")
    ]
    for _ in range(60):
        watch = house.observations.WatchObservations(request, metadata=house.metadata, timeout=10)
        got: list[str] = []
        while len(got) < min(2, len(log) - len(decided)):
            message: Any = await watch.read()
            if message.HasField("observation"):
                got.append(message.observation.observation_id)
        watch.cancel()
        assert got == log[len(decided) : len(decided) + len(got)]
        accepted = got[: chance.randrange(3)]
        if accepted:
            word = watching.AcceptObservationsRequest(consumer="ledger", observation_ids=accepted)
            await house.observations.AcceptObservations(word, metadata=house.metadata, timeout=10)
            decided += accepted
    assert len(decided) > 40
    await store.close()


async def test_a_transaction_held_open_holds_up_nobody_and_is_not_skipped(house: House) -> None:
    """Begun first and committed last: the others are seen meanwhile, and it comes after them, to whoever follows."""
    store = await open_store(house.database_url)
    claim = making.create_claim(caller=T1)
    settlement = making.settlement_of(claim, await store.claim(claim))
    stranger = await connect(house.database_url)
    transaction = stranger.transaction()
    await transaction.start()
    # The late one has written its observation, and is held before its commit by what it needs next.
    await stranger.execute("SELECT FROM commands WHERE command_id = $1 FOR UPDATE", claim.command.command_id)
    late = asyncio.ensure_future(store.settle(settlement))
    await asyncio.sleep(0.1)
    others = [await captured_as(store, "t1") for _ in range(5)]
    watch = house.observations.WatchObservations(ASKED, metadata=house.metadata, timeout=20)
    seen: list[str] = []
    message: Any
    while len(seen) < len(others):
        message = await watch.read()
        if message.HasField("observation"):
            seen.append(message.observation.payment_id)
    assert not late.done()
    assert sorted(seen) == sorted(others)
    await transaction.rollback()
    await stranger.close()
    await late
    await store.number_observations()
    while len(seen) == len(others):
        message = await watch.read()
        if message.HasField("observation"):
            seen.append(message.observation.payment_id)
    assert seen[-1] == settlement.payment.payment_id
    watch.cancel()
    await store.close()


ASKED = watching.WatchObservationsRequest()
T1 = replace(caller_of("t1"), organization_id="org-1")


async def captured_as(store: Store, tenant_id: str) -> str:
    """A captured payment of a tenant; its id."""
    claim = making.create_claim(caller=replace(T1, tenant_id=tenant_id))
    settlement = making.settlement_of(claim, await store.claim(claim))
    await store.settle(settlement)
    return settlement.payment.payment_id


async def pay_on(store: Store, count: int) -> None:
    """Payments, one after the other, and their numbers in time."""
    for number in range(count):
        await captured_as(store, "t1")
        if number % 10 == 0:
            await store.number_observations()
