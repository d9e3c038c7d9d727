"""Indexes of big tables, built beside the gateways that run: PostgreSQL's CONCURRENTLY, which no transaction can hold.

A migration that makes an index in its transaction keeps every payment waiting until it is built. So it only says so,
here, with the number of its revision (docs/operations.md), and `obol migrate` builds it when the schema is there:
outside of any transaction, as often as it takes. A build that was interrupted leaves an INVALID index, which is none to
any query: it is taken away and begun again. Nothing but speed may depend on such an index being there; a unique one
carries a promise, and belongs into a migration.

SQLite, whose one process migrates before it serves, builds them within the migration.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

BUILD_TIMEOUT_S = 24 * 3600.0
"""For one index: as long as the table is big, and in nobody's way meanwhile."""

BUILD_LOCK = 6_242_661_002
"""Whoever builds holds this advisory lock; another number than the migrations', whose holder has a transaction."""

TURN_S = 0.5


@dataclass(frozen=True, slots=True)
class Beside:
    """An index, as `CREATE INDEX name ON what`; `revision` is the migration that asked for it."""

    revision: str
    name: str
    what: str


INDEXES: tuple[Beside, ...] = ()
"""Every index that is built so, oldest first. Its table describes it as well (`store.tables`)."""


def build_within(connection: Connection, indexes: Sequence[Beside]) -> None:
    """SQLite: in the migration's own transaction."""
    for index in indexes:
        connection.execute(text(f"CREATE INDEX IF NOT EXISTS {index.name} ON {index.what}"))


async def build_beside(connection: AsyncConnection, indexes: Sequence[Beside]) -> None:
    """PostgreSQL: those that are missing or were not finished. `connection` commits each statement by itself.

    Two at once: the second comes when the first is done, and asks anew. It asks again and again instead of waiting for
    the lock: a statement that waits holds a snapshot, and CONCURRENTLY waits for every snapshot that is older than it.
    """
    if not indexes:
        return
    await connection.execute(text("SET lock_timeout = 0"))
    await connection.execute(text("SET statement_timeout = 0"))
    while not await connection.scalar(text(f"SELECT pg_try_advisory_lock({BUILD_LOCK})")):  # noqa: ASYNC110 nobody tells
        await asyncio.sleep(TURN_S)
    try:
        for index in indexes:
            is_valid = await connection.scalar(
                text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"), {"name": index.name}
            )
            if is_valid is False:
                await connection.execute(text(f"DROP INDEX CONCURRENTLY {index.name}"))
            if not is_valid:
                await connection.execute(text(f"CREATE INDEX CONCURRENTLY {index.name} ON {index.what}"))
    finally:
        await connection.execute(text(f"SELECT pg_advisory_unlock({BUILD_LOCK})"))
