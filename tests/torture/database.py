"""The database under torture: read past the gateways, and made to fail where it is a server."""

import asyncio
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from tests import databases


class Database(Protocol):
    """One run's database."""

    url: str
    """Empty for the installation's own."""

    async def rows(self, query: str) -> Sequence[tuple[Any, ...]]:
        """What a SELECT finds, as of one moment."""
        ...

    async def keep_watch(self, triggers: Mapping[str, Sequence[str]]) -> None:
        """Let a witness's triggers of the engine keep what they see; the schema is there."""
        ...

    async def suffer(self, chance: random.Random) -> str:
        """Fail in some way, and be well again; which way, "" for none."""
        ...


class SqliteFile:
    """The file in the site's directory."""

    url = ""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def rows(self, query: str) -> Sequence[tuple[Any, ...]]:
        """What a SELECT finds."""
        return await asyncio.to_thread(self._rows, query)

    async def keep_watch(self, triggers: Mapping[str, Sequence[str]]) -> None:
        """Beside the gateway, which has migrated the file."""
        with closing(sqlite3.connect(self._path, timeout=10.0, isolation_level=None)) as connection:
            for statement in triggers["sqlite"]:
                connection.execute(statement)

    async def suffer(self, chance: random.Random) -> str:
        """Somebody else holds the write lock for a while."""
        if not self._path.exists():
            return ""
        await asyncio.to_thread(self._hold, chance.random() * 1.5)
        return "write lock held"

    def _rows(self, query: str) -> Sequence[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=10.0)) as connection:
            return connection.execute(query).fetchall()

    def _hold(self, seconds: float) -> None:
        with closing(sqlite3.connect(self._path, timeout=10.0, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return
            time.sleep(seconds)
            connection.execute("ROLLBACK")


class PostgresqlDatabase:
    """A database of its own on this process's own server, or the one at `url` there."""

    def __init__(self, url: str = "") -> None:
        self.url = url or databases.postgresql_url()
        self._name = self.url.partition("@/")[2].partition("?")[0]
        for statement in _SLOW_COMMITS:
            databases.administer(statement, self._name)

    async def rows(self, query: str) -> Sequence[tuple[Any, ...]]:
        """What a SELECT finds."""
        import asyncpg

        host = self.url.partition("host=")[2]
        connection = await asyncpg.connect(host=host, user="postgres", database=self._name)
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    async def keep_watch(self, triggers: Mapping[str, Sequence[str]]) -> None:
        """As the superuser, who owns the tables."""
        for statement in triggers["postgresql"]:
            databases.administer(statement, self._name)

    async def suffer(self, chance: random.Random) -> str:
        """Backends terminated, rows held, or the server killed and recovered."""
        drawn = chance.random()
        if drawn < 0.5:
            share = chance.choice((0.2, 0.5, 1.0))
            return await self._run(
                "backends terminated",
                f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{self._name}' "
                f"AND pid <> pg_backend_pid() AND random() < {share}",
            )
        if drawn < 0.85:
            return await self._run(
                "rows held",
                "BEGIN; SELECT payment_id FROM payments ORDER BY created_time_us DESC LIMIT 3 FOR UPDATE; "
                f"SELECT pg_sleep({chance.random() * 1.5}); COMMIT",
            )
        mode = chance.choice(("immediate", "fast"))
        await asyncio.to_thread(restart, mode)
        return f"server restarted ({mode})"

    async def _run(self, name: str, statement: str) -> str:
        try:
            await asyncio.to_thread(databases.administer, statement, self._name)
        except subprocess.CalledProcessError:
            return f"{name} (failed)"
        return name


_SLOW_COMMITS = (
    "CREATE OR REPLACE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "IF random() < 0.04 THEN PERFORM pg_sleep(0.4 * random()); END IF; RETURN NULL; END $$",
    "DROP TRIGGER IF EXISTS slowly ON observations; "
    "CREATE CONSTRAINT TRIGGER slowly AFTER INSERT ON observations DEFERRABLE INITIALLY DEFERRED "
    "FOR EACH ROW EXECUTE FUNCTION slowly()",
)
"""Now and then a settle takes its time at COMMIT, all written and nothing to be seen: later ones come before it."""

# In a process of its own and not as `user=`, which would fork one that has gRPC's threads.
_AS_USER = (
    "import os, pwd, sys; "
    "who = pwd.getpwnam(sys.argv[1]) if sys.argv[1] else None; "
    "who and (os.setgroups([]), os.setgid(who.pw_gid), os.setuid(who.pw_uid)); "
    "os.execv(sys.argv[2], sys.argv[2:])"
)


def restart(mode: str) -> None:
    """Stop this process's PostgreSQL ("immediate": as a power failure would) and start it again."""
    server = databases.postgresql_server()
    # pg_ctl refuses to run as root; the server has a user of its own there.
    user = server.system_user or ""
    restart = [str(server.bin_path / "pg_ctl"), "restart", "-D", str(server.pgdata), "-m", mode, "-w", "-t", "60"]
    subprocess.run(
        [sys.executable, "-I", "-S", "-c", _AS_USER, user, *restart],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        cwd="/",
    )
