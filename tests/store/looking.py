"""Look into a database past the store, and change what the store never would."""

import sqlite3
from typing import Any

import asyncpg
from sqlalchemy import make_url

from store.tables import metadata


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
