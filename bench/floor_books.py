"""The floor's database side: a claim of three writes and a settle of five, each committed, by the bare driver.

Tables with the keys that any payment needs, and a filler that brings a row to the size of the gateway's own. Nothing
is guarded, derived or numbered: this is what writing those bytes durably costs, and no more.
"""

import asyncio
import sqlite3
from collections.abc import Sequence
from typing import Protocol

import asyncpg

ROW_BYTES = {
    "payments": 700,
    "commands": 300,
    "operations": 800,
    "observations": 450,
    "audit": 250,
}
"""The filler of each row: the gateway's mean row on PostgreSQL, less the floor's keys."""

REPLY_BYTES = 491
POOL_CONNECTIONS = 10

_TABLES = (
    "CREATE TABLE payments (payment_id text PRIMARY KEY, state text NOT NULL, version bigint NOT NULL, "
    "filler text NOT NULL)",
    "CREATE TABLE commands (command_id text PRIMARY KEY, idempotency_key text NOT NULL UNIQUE, "
    "payment_id text NOT NULL, state text NOT NULL, filler text NOT NULL, reply {bytes})",
    "CREATE TABLE operations (operation_id text PRIMARY KEY, payment_id text NOT NULL, state text NOT NULL, "
    "filler text NOT NULL)",
    "CREATE TABLE observations (payment_id text NOT NULL, version bigint NOT NULL, filler text NOT NULL, "
    "PRIMARY KEY (payment_id, version))",
    "CREATE TABLE audit (audit_id text PRIMARY KEY, payment_id text NOT NULL, filler text NOT NULL)",
)
_FILLERS = {name: "x" * size for name, size in ROW_BYTES.items()}
_REPLY = b"r" * REPLY_BYTES


class Books(Protocol):
    """What the floor's server does for a payment. `key` is unique and names every row of it."""

    async def claim(self, key: str) -> None: ...

    async def settle(self, key: str) -> None: ...

    async def close(self) -> None: ...


_CLAIM = """
WITH payment AS (INSERT INTO payments VALUES ($1, 'CREATED', 1, $2)),
command AS (INSERT INTO commands VALUES ($1, $1, $1, 'SENDING', $3, NULL))
INSERT INTO operations VALUES ($1, $1, 'SENDING', $4)
"""
_SETTLE = """
WITH payment AS (UPDATE payments SET state = 'CAPTURED', version = 2 WHERE payment_id = $1),
command AS (UPDATE commands SET state = 'SUCCEEDED', reply = $2 WHERE command_id = $1),
operation AS (UPDATE operations SET state = 'SUCCEEDED' WHERE operation_id = $1),
observation AS (INSERT INTO observations VALUES ($1, 2, $3))
INSERT INTO audit VALUES ($1, $1, $4)
"""


class PostgresqlBooks:
    """asyncpg alone: each statement is a round trip and a commit. asyncpg's own pool would add a RESET to each."""

    def __init__(self, connections: Sequence[asyncpg.Connection]) -> None:
        self._free: asyncio.LifoQueue[asyncpg.Connection] = asyncio.LifoQueue()
        for connection in connections:
            self._free.put_nowait(connection)

    @classmethod
    async def open(cls, host: str, database: str) -> "PostgresqlBooks":
        """Make the tables in an empty database, and as many connections as the gateway has."""
        connections = [
            await asyncpg.connect(host=host, database=database, user="postgres") for _ in range(POOL_CONNECTIONS)
        ]
        for table in _TABLES:
            await connections[0].execute(table.format(bytes="bytea"))
        return cls(connections)

    async def claim(self, key: str) -> None:
        await self._run(_CLAIM, key, _FILLERS["payments"], _FILLERS["commands"], _FILLERS["operations"])

    async def settle(self, key: str) -> None:
        await self._run(_SETTLE, key, _REPLY, _FILLERS["observations"], _FILLERS["audit"])

    async def close(self) -> None:
        while not self._free.empty():
            await self._free.get_nowait().close()

    async def _run(self, statement: str, *values: object) -> None:
        connection = await self._free.get()
        try:
            await connection.execute(statement, *values)
        finally:
            self._free.put_nowait(connection)


class SqliteBooks:
    """sqlite3 alone, in the event loop itself: no thread to hop to, a commit to disk for each transaction."""

    def __init__(self, file: str) -> None:
        self._driver = sqlite3.connect(file, isolation_level=None)
        self._driver.execute("PRAGMA journal_mode = WAL")
        self._driver.execute("PRAGMA synchronous = FULL")
        for table in _TABLES:
            self._driver.execute(table.format(bytes="blob"))

    async def claim(self, key: str) -> None:
        run = self._driver.execute
        run("BEGIN IMMEDIATE")
        run("INSERT INTO payments VALUES (?, 'CREATED', 1, ?)", (key, _FILLERS["payments"]))
        run("INSERT INTO commands VALUES (?, ?, ?, 'SENDING', ?, NULL)", (key, key, key, _FILLERS["commands"]))
        run("INSERT INTO operations VALUES (?, ?, 'SENDING', ?)", (key, key, _FILLERS["operations"]))
        run("COMMIT")

    async def settle(self, key: str) -> None:
        run = self._driver.execute
        run("BEGIN IMMEDIATE")
        run("UPDATE payments SET state = 'CAPTURED', version = 2 WHERE payment_id = ?", (key,))
        run("UPDATE commands SET state = 'SUCCEEDED', reply = ? WHERE command_id = ?", (_REPLY, key))
        run("UPDATE operations SET state = 'SUCCEEDED' WHERE operation_id = ?", (key,))
        run("INSERT INTO observations VALUES (?, 2, ?)", (key, _FILLERS["observations"]))
        run("INSERT INTO audit VALUES (?, ?, ?)", (key, key, _FILLERS["audit"]))
        run("COMMIT")

    async def close(self) -> None:
        self._driver.close()
