"""The hot path's own connections: what is in doubt is never used again, and what is lost is replaced."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy import make_url

from gateway.domain.errors import Internal, Unavailable
from store.connections import Connections
from store.postgresql_database import PostgresqlDatabase, connect_arguments
from tests.store.conftest import ROOMY
from tests.store.looking import all_closed, connect, until

PID = "SELECT pg_backend_pid() AS pid"
ASLEEP = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'"


@pytest.fixture
async def database(postgresql: str) -> AsyncIterator[PostgresqlDatabase]:
    """A database with one hot connection."""
    one = PostgresqlDatabase(make_url(postgresql), **ROOMY | {"pool_size": 1})
    yield one
    await one.close()


async def backend(database: PostgresqlDatabase) -> int:
    """The process behind the one connection."""
    return int((await database.fetch(PID, ()))[0]["pid"])


async def test_a_connection_is_used_again_after_an_answer_and_after_a_refusal(database: PostgresqlDatabase) -> None:
    """One that answered, even with an error, is in a known state."""
    first = await backend(database)
    with pytest.raises(Internal):
        await database.fetch("SELECT 1/0", ())
    assert await backend(database) == first


async def test_a_connection_whose_call_was_cancelled_is_never_used_again(
    database: PostgresqlDatabase, postgresql: str
) -> None:
    """Nobody knows what is still to come over it."""
    first = await backend(database)
    call = asyncio.create_task(database.fetch("SELECT pg_sleep(30)", ()))
    looking = await connect(postgresql)
    await until(lambda: looking.fetchval(ASLEEP, first))
    await looking.close()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await backend(database) != first


async def test_a_connection_whose_call_was_late_is_never_used_again(database: PostgresqlDatabase) -> None:
    """The statement timeout is Unavailable, and the next call has another connection."""
    first = await backend(database)
    # Short for this connection alone: the others are none the worse where the machine stands still.
    await database.fetch("SELECT set_config('statement_timeout', '300', false)", ())
    with pytest.raises(Unavailable, match="statement timeout"):
        await database.fetch("SELECT pg_sleep(30)", ())
    assert await backend(database) != first


async def test_a_transaction_that_was_left_open_is_not_inherited(database: PostgresqlDatabase) -> None:
    """Whoever raises, or forgets to commit, in a conversation leaves nothing and no lock behind."""
    first = await backend(database)

    async def forget(connection: asyncpg.Connection) -> None:
        await connection.execute("BEGIN; UPDATE counters SET value = 77")

    await database.converse(forget)
    assert await backend(database) != first
    assert (await database.fetch("SELECT value FROM counters FOR UPDATE", ()))[0]["value"] == 0


async def test_a_connection_that_the_server_ended_is_replaced(
    opened: list[asyncpg.Connection], database: PostgresqlDatabase, postgresql: str
) -> None:
    """The next call succeeds over a new one."""
    first = await backend(database)
    old = opened[:]
    driver = await connect(postgresql)
    assert await driver.fetchval("SELECT pg_terminate_backend($1, 30000)", first)
    await driver.close()
    await until(lambda: all_closed(old))
    assert await backend(database) != first


async def test_who_finds_no_connection_is_told_in_time(postgresql: str) -> None:
    """The pool is bounded, and so is the wait for it; a place that comes free is used."""
    database = PostgresqlDatabase(make_url(postgresql), **ROOMY | {"pool_size": 1, "checkout_timeout_s": 0.3})
    async with database.hot.take():
        with pytest.raises(Unavailable, match="no connection was free"):
            await asyncio.wait_for(backend(database), 20)
    assert await backend(database) > 0
    await database.close()


async def test_a_closed_pool_opens_nothing(postgresql: str) -> None:
    """After close a call is Unavailable, and a connection that comes back is cut off."""
    pool = Connections(make_url(postgresql), 2, connect_arguments(60, 30), checkout_timeout_s=0.3)
    async with pool.take() as used:
        await pool.close()
    assert used.is_closed()
    with pytest.raises(Unavailable, match="closed"):
        await pool.fetch(PID, ())
