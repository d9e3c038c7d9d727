"""What happens when the database cannot: nothing half done, one error for it, and work goes on when it is back."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable

import asyncpg
import pytest
from sqlalchemy import Connection, exc, make_url, text

from gateway.domain.errors import Internal, Reason, Sent, Unavailable
from gateway.domain.storage import ClaimOutcome
from store import database as unit_of_work
from store import migrate, open_store
from store.failures import Contended, translated
from store.postgresql_database import PostgresqlDatabase
from store.sqlite_database import SqliteDatabase, SteadyClock
from tests.store import making
from tests.store.acting import captured
from tests.store.conftest import ROOMY
from tests.store.looking import census, connect_sqlite, value


def sqlite_error(code: int) -> sqlite3.Error:
    """An error as sqlite3 raises it for a result code."""
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorcode = code
    return error


def wrapped(error: Exception) -> exc.DBAPIError:
    """`error` as SQLAlchemy passes it on."""
    return exc.DBAPIError("SELECT 1", {}, error)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (asyncpg.DeadlockDetectedError("x"), Contended),
        (asyncpg.SerializationError("x"), Contended),
        (asyncpg.QueryCanceledError("x"), Unavailable),
        (asyncpg.LockNotAvailableError("x"), Unavailable),
        (asyncpg.TooManyConnectionsError("x"), Unavailable),
        (asyncpg.DiskFullError("x"), Unavailable),
        (asyncpg.AdminShutdownError("x"), Unavailable),
        (asyncpg.CannotConnectNowError("x"), Unavailable),
        (asyncpg.ConnectionDoesNotExistError("x"), Unavailable),
        (asyncpg.ReadOnlySQLTransactionError("x"), Unavailable),
        (asyncpg.InterfaceError("connection is closed"), Unavailable),
        (asyncpg.CheckViolationError("x"), Internal),
        (asyncpg.UndefinedTableError("x"), Internal),
        (sqlite_error(sqlite3.SQLITE_BUSY), Unavailable),
        (sqlite_error(sqlite3.SQLITE_BUSY_SNAPSHOT), Unavailable),
        (sqlite_error(sqlite3.SQLITE_FULL), Unavailable),
        (sqlite_error(sqlite3.SQLITE_IOERR_FSYNC), Unavailable),
        (sqlite_error(sqlite3.SQLITE_READONLY), Unavailable),
        (sqlite_error(sqlite3.SQLITE_CORRUPT), Unavailable),
        (sqlite_error(sqlite3.SQLITE_CONSTRAINT_CHECK), Internal),
        (ConnectionRefusedError("x"), Unavailable),
        (TimeoutError("x"), Unavailable),
        (exc.TimeoutError("QueuePool limit"), Unavailable),
        (exc.ArgumentError("x"), Internal),
    ],
    ids=lambda case: getattr(case, "__name__", None) or type(case).__name__,
)
def test_every_database_error_is_one_of_ours(raised: Exception, expected: type[Exception]) -> None:
    """Lost, locked, full and late are Unavailable, a race is tried again, the rest is a defect."""
    assert type(translated(raised)) is expected
    if isinstance(raised, asyncpg.PostgresError | sqlite3.Error):
        assert type(translated(wrapped(raised))) is expected


def test_unavailable_says_what_a_caller_may_do() -> None:
    """It is safe to come again under the same key, after a while; the provider has seen nothing."""
    error = translated(TimeoutError())
    assert isinstance(error, Unavailable)
    assert (error.reason, error.sent, error.safe_to_retry) == (Reason.DATABASE_UNAVAILABLE, Sent.NO, True)
    assert error.retry_after_s is not None


def test_what_no_database_raised_passes_through() -> None:
    """An error of the unit's own is the unit's own."""
    error = KeyError("x")
    assert translated(error) is error


async def a_database(url: str) -> PostgresqlDatabase | SqliteDatabase:
    """A unit of work on `url`, with limits that a machine which stands still for seconds does not reach."""
    parsed = make_url(url)
    if url.startswith("sqlite"):
        await migrate.upgrade(url)
        return SqliteDatabase(
            parsed,
            clock_us=SteadyClock(),
            pool_size=2,
            checkout_timeout_s=30,
            busy_timeout_s=0.3,
            wait_s_max=60,
        )
    return PostgresqlDatabase(parsed, **ROOMY, jitter=lambda: 0.0)


def note(connection: Connection, name: str = "noted") -> None:
    """Write one row."""
    connection.execute(text("INSERT INTO counters (name, value) VALUES (:name, 1)"), {"name": name})


HELD_S_MAX = 30.0
NOTED = "SELECT count(*) FROM counters WHERE name LIKE 'noted%'"


async def in_one_group(
    database: PostgresqlDatabase | SqliteDatabase, *units: Callable[[Connection], None]
) -> list[BaseException | None]:
    """What comes of `units` that gather while the writer is held up by another one, and share a commit then."""
    begun, go_on = threading.Event(), threading.Event()

    def hold_up(_: Connection) -> None:
        begun.set()
        assert go_on.wait(HELD_S_MAX)

    holding = asyncio.create_task(database.write(hold_up))
    assert await asyncio.to_thread(begun.wait, HELD_S_MAX)
    gathered = asyncio.gather(*(database.write(unit) for unit in units), return_exceptions=True)
    await asyncio.sleep(0.02)  # a turn of the loop, in which they are handed in
    go_on.set()
    outcomes = await gathered
    await holding
    return outcomes


async def test_a_unit_that_raises_leaves_nothing(url: str) -> None:
    """Work is committed where the unit returned, and only there."""
    database = await a_database(url)

    def fail(connection: Connection) -> None:
        note(connection)
        raise LookupError("changed its mind")

    with pytest.raises(LookupError):
        await database.write(fail)
    assert await value(url, NOTED) == 0
    await database.write(note)
    assert await value(url, NOTED) == 1
    await database.close()


async def test_a_reader_cannot_write(sqlite: str) -> None:
    """On SQLite what reads is refused a write: there is one writer."""
    database = await a_database(sqlite)
    with pytest.raises(Unavailable):
        await database.read(note)
    await database.close()


async def test_what_is_committed_survives_a_power_failure(sqlite: str) -> None:
    """The writer syncs each commit, keeps a write-ahead log, and holds foreign keys."""
    database = await a_database(sqlite)
    assert isinstance(database, SqliteDatabase)

    def pragmas(driver: sqlite3.Connection) -> list[object]:
        names = ("synchronous", "journal_mode", "foreign_keys")
        return [driver.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert await database.write_hot(pragmas) == [2, "wal", 1]
    await database.close()


async def test_a_failed_unit_harms_nobody_in_its_group(sqlite: str) -> None:
    """Units that share a commit stand and fall alone: a savepoint each."""
    database = await a_database(sqlite)

    def fail(connection: Connection) -> None:
        note(connection, "noted-never")
        raise LookupError

    outcomes = await in_one_group(database, note, fail, lambda connection: note(connection, "noted-2"))
    assert [type(outcome) for outcome in outcomes] == [type(None), LookupError, type(None)]
    assert await value(sqlite, NOTED) == 2
    await database.close()


async def test_a_failed_commit_fails_every_unit_of_its_group(sqlite: str) -> None:
    """Nobody is told that something is kept while it is not."""
    database = await a_database(sqlite)

    def poison(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        connection.execute(
            text("INSERT INTO movements VALUES ('t', '?', 'a', 'FEE', 'm', 1, 'USD', 'FAILED', NULL, NULL, '', NULL)")
        )

    outcomes = await in_one_group(database, note, poison, lambda connection: note(connection, "noted-2"))
    assert all(isinstance(outcome, Internal) for outcome in outcomes)
    assert await value(sqlite, NOTED) == 0
    await database.write(note)
    await database.close()


async def test_a_full_disk_loses_nothing_that_was_acknowledged(sqlite: str) -> None:
    """Claims fail as Unavailable while the disk is full, and go on once there is room; those that were told stay."""
    store = await open_store(sqlite)
    writer = store._database  # type: ignore[attr-defined]  # the file's limit belongs to the writer's connection
    pages = await value(sqlite, "PRAGMA page_count")
    await writer.write(lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 40}"))
    claims = [making.create_claim() for _ in range(400)]
    outcomes = await asyncio.gather(*(store.claim(claim) for claim in claims), return_exceptions=True)
    failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert failed
    assert all(isinstance(failure, Unavailable) for failure in failed)
    acknowledged = [
        claim
        for claim, outcome in zip(claims, outcomes, strict=True)
        if not isinstance(outcome, BaseException) and outcome.outcome is ClaimOutcome.CLAIMED
    ]
    await writer.write(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 1073741823"))
    counted = await census(sqlite)
    assert counted["payments"] == counted["operations"] == counted["history"] == len(acknowledged)
    assert (await store.claim(making.create_claim())).outcome is ClaimOutcome.CLAIMED
    await store.close()


async def test_a_database_locked_by_another_process_is_unavailable_until_it_is_free(sqlite: str) -> None:
    """Whoever holds the file longer than the busy timeout makes writes fail and reads go on."""
    store = await open_store(sqlite, busy_timeout_s=0.2)
    payment = await captured(store)
    other = connect_sqlite(sqlite)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked"):
        await store.claim(making.create_claim())
    assert await store.get_payment(making.TENANT, payment.payment_id) is not None
    other.execute("ROLLBACK")
    other.close()
    assert (await store.claim(making.create_claim())).outcome is ClaimOutcome.CLAIMED
    await store.close()


async def test_a_full_queue_refuses_at_once(sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer's queue is bounded: what does not fit is Unavailable, not memory."""
    monkeypatch.setattr("store.sqlite_writer.QUEUE_UNITS_MAX", 2)
    database = await a_database(sqlite)
    tasks = [asyncio.create_task(database.write(lambda _: time.sleep(0.05))) for _ in range(3)]
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), type(None), Unavailable]
    await database.close()


async def test_a_store_needs_a_file_and_a_known_engine() -> None:
    """Nothing is kept in memory, and nothing else than the two engines is opened."""
    for url in ("sqlite+aiosqlite://", "sqlite+aiosqlite:///:memory:", "mysql+aiomysql://x/y"):
        with pytest.raises(ValueError, match=r"store"):
            await open_store(url)


async def test_a_lost_race_is_run_again_a_bounded_number_of_times(postgresql: str) -> None:
    """A serialization failure was not committed, so the unit runs again; one that always loses is Unavailable."""
    database = await a_database(postgresql)
    tries = 0

    def lose(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        note(connection)
        if tries < 3:
            connection.exec_driver_sql("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")

    await database.write(lose)
    assert tries == 3
    assert await value(postgresql, NOTED) == 1
    tries = -1_000
    await database.write(lambda connection: connection.execute(text("DELETE FROM counters")))
    with pytest.raises(Unavailable):
        await database.write(lose)
    assert tries == unit_of_work.TRIES_MAX - 1_000
    await database.close()


async def test_a_lost_commit_is_never_run_again(postgresql: str) -> None:
    """Whether it took effect is not known: the unit ran once, and the caller hears Unavailable."""
    database = await a_database(postgresql)
    runs = 0

    def lose(connection: Connection) -> None:
        nonlocal runs
        runs += 1
        note(connection)
        connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(Unavailable):
        await database.write(lose)
    assert runs == 1
    await database.close()


async def test_a_database_that_is_not_there_is_unavailable() -> None:
    """No server behind the address is the same answer as a lost one."""
    with pytest.raises(Unavailable):
        await open_store("postgresql+asyncpg://postgres@/nothing?host=/nowhere")
