"""Many callers and a few connections: what died is replaced, who waits too long is told, and nobody starves."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest
from sqlalchemy import Connection, make_url, text

from gateway.domain.commands import CommandKind
from gateway.domain.errors import Unavailable
from gateway.domain.storage import ClaimOutcome, Store
from store import open_store
from store.postgresql_database import PostgresqlDatabase
from tests.store import making
from tests.store.acting import captured
from tests.store.conftest import ROOMY
from tests.store.looking import all_closed, connect, until

LOCKED = "datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'WITH%'"
"""Where pg_stat_activity has a statement of the store's that waits for somebody's row."""
CALLERS = 8
TURNS = 25


async def test_a_backend_that_dies_under_way_is_unavailable_and_then_replaced(postgresql: str) -> None:
    """The call under way fails, nothing of it is kept, and the next one has a new connection."""
    store = await open_store(postgresql, **ROOMY)
    payment = await captured(store)
    holder, killer = await connect(postgresql), await connect(postgresql)
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("SELECT FROM payments FOR UPDATE")
    claim = making.claim_on(payment, CommandKind.REFUND, amount_minor=1)
    waiting = asyncio.create_task(store.claim(claim))
    await until(
        lambda: killer.fetchval(f"SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE {LOCKED}")
    )
    with pytest.raises(Unavailable):
        await waiting
    await transaction.rollback()
    await holder.close()
    await killer.close()
    assert await store.find_command(making.TENANT, claim.command.rpc, claim.command.idempotency_key) is None
    assert (await store.claim(claim)).outcome is ClaimOutcome.CLAIMED
    await store.close()


async def test_idle_connections_that_died_are_noticed_before_they_are_used(
    postgresql: str, opened: list[asyncpg.Connection]
) -> None:
    """After a restart of the database the first calls succeed: a dead connection is never handed out."""
    store = await open_store(postgresql, **ROOMY)
    await asyncio.gather(*(captured(store) for _ in range(8)))
    await store.ping()
    old = opened[:]
    killer = await connect(postgresql)
    await killer.execute(
        "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await killer.close()
    await until(lambda: all_closed(old))
    await asyncio.gather(*(captured(store) for _ in range(8)))
    await store.ping()
    await store.close()


async def test_a_statement_that_waits_too_long_is_unavailable(postgresql: str) -> None:
    """A row that somebody holds costs a caller the statement timeout, no more; the pool is none the worse."""
    beside = await open_store(postgresql, **ROOMY)
    store = await open_store(postgresql, **ROOMY | {"pool_size": 1, "statement_timeout_s": 0.3})
    payment = await captured(beside)
    holder = await connect(postgresql)
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("SELECT FROM payments FOR UPDATE")
    claim, told = making.claim_on(payment, CommandKind.REFUND, amount_minor=1), ""
    async with asyncio.timeout(30):
        # Where the machine stood still, the client may have given up before it heard from the server.
        while "statement timeout" not in told:
            with pytest.raises(Unavailable) as refused:
                await store.claim(claim)
            told = str(refused.value)
    await transaction.rollback()
    await holder.close()
    await until(lambda: answered(lambda: captured(store)))
    await store.close()
    await beside.close()


async def answered(call: Callable[[], Awaitable[object]]) -> bool:
    """Whether the database could, this time."""
    try:
        await call()
    except Unavailable:
        return False
    return True


async def test_an_exhausted_pool_is_unavailable_in_time(postgresql: str) -> None:
    """Who finds no connection within the checkout timeout is told so."""
    store = await open_store(postgresql, **ROOMY | {"pool_size": 1, "checkout_timeout_s": 0.2})
    payment = await captured(store)
    holder, looking = await connect(postgresql), await connect(postgresql)
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("SELECT FROM payments FOR UPDATE")
    first = asyncio.create_task(store.claim(making.claim_on(payment, CommandKind.REFUND, amount_minor=1)))
    await until(lambda: looking.fetchval(f"SELECT pid FROM pg_stat_activity WHERE {LOCKED}"))
    with pytest.raises(Unavailable, match="no connection was free"):
        await asyncio.wait_for(store.get_payment(making.TENANT, payment.payment_id), 20)
    await store.ping()  # lists and operators have places of their own
    await transaction.rollback()
    await holder.close()
    await looking.close()
    assert (await first).outcome is ClaimOutcome.CLAIMED
    assert await store.get_payment(making.TENANT, payment.payment_id) is not None
    await store.close()


@pytest.mark.parametrize("pool", ["hot", "units"])
async def test_a_connection_is_shared_in_the_order_of_asking(postgresql: str, pool: str) -> None:
    """Nobody starves while busy neighbours come again and again (SQLAlchemy's own queue lets them)."""
    places = {"hot": 2, "units": 4}[pool]  # the pool for units is half as large
    database = PostgresqlDatabase(make_url(postgresql), **ROOMY | {"pool_size": places})
    asked: list[tuple[int, int]] = []
    given: list[tuple[int, int]] = []

    async def take_turn(turn: tuple[int, int]) -> None:
        async def talk(connection: asyncpg.Connection) -> None:
            given.append(turn)
            await connection.execute("SELECT 1")

        def read(connection: Connection) -> None:
            given.append(turn)
            connection.execute(text("SELECT 1"))

        asked.append(turn)
        await (database.converse(talk) if pool == "hot" else database.read(read))

    async def busy(caller: int) -> None:
        for turn in range(TURNS):
            await take_turn((caller, turn))

    # Both connections are opened before it counts who was first.
    await asyncio.gather(*(take_turn((caller, -1)) for caller in range(CALLERS)))
    asked.clear()
    given.clear()
    await asyncio.gather(*(busy(caller) for caller in range(CALLERS)))
    assert len(given) == CALLERS * TURNS
    # Of two that go in together either may be the first.
    assert max(abs(given.index(turn) - place) for place, turn in enumerate(asked)) <= 1
    await database.close()


async def test_a_cancelled_call_gives_its_connection_back(store: Store) -> None:
    """However many calls are cancelled wherever they are, the store works on."""
    for delay_s in (0.0, 0.0005, 0.001, 0.002, 0.003, 0.005):
        tasks = [asyncio.create_task(store.claim(making.create_claim())) for _ in range(12)]
        await asyncio.sleep(delay_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(*(captured(store) for _ in range(12)))
