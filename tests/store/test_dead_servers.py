"""Whatever a driver, its wrapper and its event loop raise over a server that is gone, it is Unavailable: no defect.

Torture met an INTERNAL where asyncpg had heard its server's farewell and not yet closed: it then raises an error of its
own, inside a look-alike of SQLAlchemy's, inside SQLAlchemy's own.
"""

import asyncio
import inspect
import socket
from collections.abc import Awaitable
from typing import Any

import asyncpg
import pytest
import structlog
import uvloop
from sqlalchemy import event, exc, make_url, text
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_connection, dialect

from gateway.domain.errors import Internal, Unavailable
from store.failures import Contended, translated
from store.feed import Feed
from store.postgresql_database import PostgresqlDatabase

DBAPI: Any = dialect.import_dbapi()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it so

DRIVERS = sorted(
    (
        each
        for _, each in inspect.getmembers(asyncpg.exceptions, inspect.isclass)
        if issubclass(each, Exception) and not issubclass(each, Warning)
    ),
    key=lambda each: each.__name__,
)
GONE_CLASSES = ("08", "53", "57", "58")
"""SQLSTATE: connection, resources, operator intervention, system."""


def is_of_a_dead_server(kind: type[Exception]) -> bool:
    """Whether the driver raises it of its own, or the server's word for it is of a class that is about itself."""
    if issubclass(kind, asyncpg.InterfaceError | asyncpg.InternalClientError):
        return True
    return (getattr(kind, "sqlstate", None) or "").startswith(GONE_CLASSES)


def as_sqlalchemy_passes_it_on(error: Exception) -> Exception:
    """`error` within the dialect's look-alike within SQLAlchemy's own, as an execute raises them."""
    try:
        AsyncAdapt_asyncpg_connection._handle_exception_no_connection(DBAPI, error)
    except Exception as adapted:  # noqa: BLE001  whatever it is: that is what is asked
        passed: Exception = exc.DBAPIError.instance("SELECT 1", {}, adapted, DBAPI.Error)
        passed.__cause__ = adapted
        return passed
    raise AssertionError("it always raises")


def test_every_word_of_a_dead_server_is_unavailable() -> None:
    """Each of asyncpg's exceptions, bare as the hot path meets it and wrapped as every other does."""
    dead = [kind for kind in DRIVERS if is_of_a_dead_server(kind)]
    assert len(dead) >= 30
    for kind in dead:
        for met in (kind("x"), as_sqlalchemy_passes_it_on(kind("x"))):
            assert type(translated(met)) is Unavailable, (kind, type(met))


def test_every_exception_of_the_driver_becomes_ours() -> None:
    """None passes through as it is, whatever it is about."""
    for kind in DRIVERS:
        for met in (kind("x"), as_sqlalchemy_passes_it_on(kind("x"))):
            if isinstance(met, asyncpg.PostgresError | asyncpg.InternalClientError | exc.SQLAlchemyError):
                assert type(translated(met)) in (Unavailable, Contended, Internal), (kind, type(met))


@pytest.mark.parametrize(
    "kind",
    [ConnectionResetError, BrokenPipeError, ConnectionRefusedError, FileNotFoundError, TimeoutError, EOFError],
)
def test_what_a_socket_says_is_unavailable(kind: type[Exception]) -> None:
    """Bare, and raised from within the driver's word for it."""
    assert type(translated(kind("x"))) is Unavailable
    lost = asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
    lost.__cause__ = kind("x")
    assert type(translated(lost)) is Unavailable
    assert type(translated(as_sqlalchemy_passes_it_on(lost))) is Unavailable


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(asyncpg.InvalidCachedStatementError, Contended), (asyncpg.OutdatedSchemaCacheError, Unavailable)],
)
def test_what_a_migration_outdated_is_done_again_only_before_it_ran(
    kind: type[Exception], expected: type[Exception]
) -> None:
    """A plan is refused before it does anything; an answer that cannot be read may be of what has committed."""
    assert type(translated(kind("x"))) is expected
    assert type(translated(as_sqlalchemy_passes_it_on(kind("x")))) is expected


def test_a_connection_that_the_pool_gave_up_is_unavailable() -> None:
    """Whatever the driver called it, SQLAlchemy saw that the connection is gone; else it is a defect."""
    for invalidated, expected in ((True, Unavailable), (False, Internal)):
        passed = exc.DBAPIError("SELECT 1", {}, RuntimeError("x"), connection_invalidated=invalidated)
        assert type(translated(passed)) is expected


def test_uvloops_word_for_a_closed_transport_is_unavailable() -> None:
    """A write after a stream's end, by one who did not hear of it, on the loop that the gateway runs on."""

    async def write_too_late() -> BaseException:
        ours, theirs = socket.socketpair()
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
        theirs.close()
        transport.abort()
        await asyncio.sleep(0)
        try:
            transport.write(b"x")
        except RuntimeError as raised:
            return raised
        raise AssertionError("uvloop takes it in silence now: the row for it may go")

    assert type(translated(uvloop.run(write_too_late()))) is Unavailable
    assert type(translated(RuntimeError("a defect of ours"))) is RuntimeError


async def test_a_server_that_hangs_up_on_everybody_is_unavailable(postgresql: str) -> None:
    """Where the second connection is dead as well, the pool would call it its caller's fault."""
    database = PostgresqlDatabase(
        make_url(postgresql), pool_size=2, checkout_timeout_s=1, statement_timeout_s=2, connect_timeout_s=2
    )

    async def ask() -> int:
        return await database.read(lambda connection: connection.execute(text("SELECT 1")).scalar_one())

    assert await ask() == 1

    def hang_up(connection: Any, _record: Any) -> None:
        connection.driver_connection.terminate()

    pool = database.units.engine.sync_engine
    idle: Any = await database.units.engine.raw_connection()
    idle.driver_connection.terminate()
    idle.close()
    event.listen(pool, "connect", hang_up)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await ask()
    event.remove(pool, "connect", hang_up)
    assert await ask() == 1
    await database.close()


async def test_a_feed_outlives_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    """What asks for the log's end once met what is no error of ours: who waits is woken all the same."""
    monkeypatch.setattr("store.feed.RECONNECT_S", 0.0)
    monkeypatch.setattr("store.feed.POLL_S", 0.0)
    answers = iter((KeyError("a defect"), 7))

    async def ask() -> int:
        answer = next(answers, 7)
        if isinstance(answer, Exception):
            raise answer
        return answer

    feed = Feed(ask)
    feed.start()
    with structlog.testing.capture_logs() as logs:
        await waited(feed.wait(6, timeout_s=30.0))
    assert [each["event"] for each in logs] == ["feed interrupted"]
    assert feed._last == 7
    await feed.close()


async def waited(waiting: Awaitable[None]) -> None:
    """Its end, well before its own patience."""
    async with asyncio.timeout(10.0):
        await waiting
