"""The bulkhead: bounded, fair, and never a place lost."""

import asyncio
import time

import pytest

from providers.bulkhead import Bulkhead, BulkheadFull, BulkheadLimits, Place


async def queued(bulkhead: Bulkhead, count: int, wait_s: float = 5.0) -> list[asyncio.Task[Place]]:
    """`count` callers that wait, in order."""
    tasks = []
    for _ in range(count):
        tasks.append(asyncio.create_task(bulkhead.enter(wait_s=wait_s)))
        await asyncio.sleep(0)
    return tasks


async def test_so_many_at_a_time() -> None:
    """No more callers are inside than there are places."""
    bulkhead = Bulkhead(BulkheadLimits(calls_max=3, waiting_max=100))
    inside, most = 0, 0

    async def call() -> None:
        nonlocal inside, most
        place = await bulkhead.enter(wait_s=5.0)
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.001)
        inside -= 1
        place.leave()

    await asyncio.gather(*(call() for _ in range(50)))
    assert (most, bulkhead.taken, bulkhead.waiting) == (3, 0, 0)


async def test_the_queue_is_bounded() -> None:
    """A caller that finds the queue full is refused at once."""
    bulkhead = Bulkhead(BulkheadLimits(calls_max=1, waiting_max=2))
    place = await bulkhead.enter(wait_s=0)
    tasks = await queued(bulkhead, 2)
    with pytest.raises(BulkheadFull):
        await asyncio.wait_for(bulkhead.enter(wait_s=60.0), 0.1)
    place.leave()
    (await tasks[0]).leave()
    (await tasks[1]).leave()


async def test_the_wait_ends() -> None:
    """A caller waits no longer than it said, and leaves nothing in the queue."""
    bulkhead = Bulkhead(BulkheadLimits(calls_max=1, waiting_max=2))
    place = await bulkhead.enter(wait_s=0)
    with pytest.raises(BulkheadFull):
        await bulkhead.enter(wait_s=0.01)
    assert bulkhead.waiting == 0
    place.leave()
    assert bulkhead.taken == 0


async def test_places_go_in_the_order_of_arrival() -> None:
    """Who came first enters first, and a newcomer does not overtake."""
    bulkhead = Bulkhead(BulkheadLimits(calls_max=1, waiting_max=10))
    place = await bulkhead.enter(wait_s=0)
    tasks = await queued(bulkhead, 3)
    place.leave()
    with pytest.raises(BulkheadFull):
        await bulkhead.enter(wait_s=0)
    for task in tasks:
        (await task).leave()
    assert bulkhead.taken == 0


async def test_a_cancelled_waiter_leaves_the_queue() -> None:
    """Cancelling a waiter neither takes a place nor blocks those behind it."""
    bulkhead = Bulkhead(BulkheadLimits(calls_max=1, waiting_max=10))
    place = await bulkhead.enter(wait_s=0)
    tasks = await queued(bulkhead, 3)
    tasks[0].cancel()
    await asyncio.wait([tasks[0]])
    place.leave()
    (await tasks[1]).leave()
    (await tasks[2]).leave()
    assert (bulkhead.taken, bulkhead.waiting) == (0, 0)


async def test_a_waiter_cancelled_while_a_place_comes_passes_it_on() -> None:
    """A place handed to a waiter that is cancelled in the same moment goes to the next."""
    bulkhead = Bulkhead(BulkheadLimits(calls_max=1, waiting_max=10))
    place = await bulkhead.enter(wait_s=0)
    tasks = await queued(bulkhead, 2)
    place.leave()
    tasks[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    (await asyncio.wait_for(tasks[1], 1.0)).leave()
    assert bulkhead.taken == 0


async def test_a_waiter_cancelled_before_its_place_comes_does_not_take_it() -> None:
    """A place is not handed to a waiter whose cancellation is under way."""
    bulkhead = Bulkhead(BulkheadLimits(calls_max=1, waiting_max=10))
    place = await bulkhead.enter(wait_s=0)
    tasks = await queued(bulkhead, 2)
    tasks[0].cancel()
    place.leave()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    (await asyncio.wait_for(tasks[1], 1.0)).leave()
    assert bulkhead.taken == 0


async def test_a_place_that_comes_as_the_wait_ends_is_kept() -> None:
    """Handed over in the very turn of the loop in which the wait ends: the place is taken, not lost."""
    bulkhead = Bulkhead(BulkheadLimits(calls_max=1, waiting_max=10))
    place = await bulkhead.enter(wait_s=0)
    (task,) = await queued(bulkhead, 1, wait_s=0.02)
    asyncio.get_running_loop().call_later(0.01, place.leave)
    time.sleep(0.05)  # noqa: ASYNC251  the loop stands still, so that both timers come due in one turn
    (await task).leave()
    assert (bulkhead.taken, bulkhead.waiting) == (0, 0)


async def test_no_place_is_lost_in_a_crowd() -> None:
    """However places and deadlines cross, at the end every place is free."""
    bulkhead = Bulkhead(BulkheadLimits(calls_max=2, waiting_max=200))

    async def call(held_s: float) -> None:
        try:
            place = await bulkhead.enter(wait_s=0.002)
        except BulkheadFull:
            return
        await asyncio.sleep(held_s)
        place.leave()

    for _ in range(20):
        await asyncio.gather(*(call(0.002) for _ in range(20)))
    assert (bulkhead.taken, bulkhead.waiting) == (0, 0)


async def test_leaving_twice_frees_one_place() -> None:
    """A place is given back once."""
    bulkhead = Bulkhead(BulkheadLimits(calls_max=2, waiting_max=1))
    first = await bulkhead.enter(wait_s=0)
    await bulkhead.enter(wait_s=0)
    first.leave()
    first.leave()
    assert bulkhead.taken == 1
