"""Work in the background has places, and no provider account more than its share of them."""

import asyncio

from gateway.app.places import Places


async def test_a_hanging_account_leaves_room_for_the_others() -> None:
    """It fills its own share and is left out; another account's work is taken, and done."""
    places, never, done = Places(8), asyncio.Event(), []

    async def finish(name: str) -> None:
        done.append(name)

    assert places.room == 4
    for _ in range(places.room):
        places.start("hanging", _wait(never))
    assert places.full_accounts == ("hanging",)
    assert places.room == 4
    for number in range(places.room):
        await places.start("well", finish(str(number)))
    assert done == ["0", "1", "2", "3"]
    never.set()
    await places.rest(1)
    assert not places.full_accounts


async def test_no_take_brings_an_account_over_its_share() -> None:
    """What may be taken at once fits, whoever it is of."""
    places, never = Places(8), asyncio.Event()
    for _ in range(3):
        places.start("busy", _wait(never))
    assert places.room == 1
    places.start("busy", _wait(never))
    for _ in range(places.room):
        places.start("other", _wait(never))
    assert places.room == 0
    waiting = asyncio.ensure_future(places.some())
    await asyncio.sleep(0)
    assert not waiting.done()
    never.set()
    await waiting
    await places.rest(1)


async def test_what_does_not_end_is_cancelled() -> None:
    """A drain waits, and not for ever."""
    places = Places(2)
    task = places.start("hanging", _wait(asyncio.Event()))
    await places.rest(0.01)
    assert task.cancelled()


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
