"""Look into a database past the store, and change what the store never would."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
from sqlalchemy import make_url

from store.tables import metadata

UNTIL_S_MAX = 30.0
PAUSE_S = 0.02


async def until(found: Callable[[], Awaitable[object]]) -> None:
    """Return when there is something, as only asking can tell."""
    async with asyncio.timeout(UNTIL_S_MAX):
        while not await found():  # noqa: ASYNC110 nobody else tells
            await asyncio.sleep(PAUSE_S)


async def all_closed(connections: Sequence[asyncpg.Connection]) -> bool:
    """Whether this side knows that there are none of them any more."""
    return all(each.is_closed() for each in connections)


async def connect(url: str) -> Any:
    """A connection of asyncpg's own."""
    parsed = make_url(url)
    host = parsed.query["host"]
    return await asyncpg.connect(host=str(host), user=parsed.username, database=parsed.database)


def connect_sqlite(url: str) -> sqlite3.Connection:
    """A connection of sqlite3's own, which commits each statement."""
    return sqlite3.connect(make_url(url).database or "", isolation_level=None, timeout=5)


async def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    """What `statement` gives."""
    if url.startswith("sqlite"):
        connection = connect_sqlite(url)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()
    driver = await connect(url)
    try:
        return [tuple(row) for row in await driver.fetch(statement)]
    finally:
        await driver.close()


async def value(url: str, statement: str) -> Any:
    """The one value that `statement` gives."""
    ((found,),) = await rows(url, statement)
    return found


async def census(url: str) -> dict[str, int]:
    """How many rows each table has."""
    return {name: await value(url, f"SELECT count(*) FROM {name}") for name in metadata.tables}
