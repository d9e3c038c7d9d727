"""The one writer of an SQLite database: a thread that groups commits.

Callers hand in units; the thread takes what has gathered, begins one transaction, runs each unit in a savepoint of its
own, and commits once. A unit that raises is rolled back to its savepoint and harms nobody else. If the COMMIT fails,
or SQLite gives up the whole transaction (disk full, I/O), every unit of the group fails: none was acknowledged.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Engine

from store.failures import translated, unavailable

GROUP_UNITS_MAX = 128
QUEUE_UNITS_MAX = 10_000


class UndoneError(Exception):
    """Raised in a unit to roll it back and still answer with `outcome`."""

    def __init__(self, outcome: object) -> None:
        super().__init__()
        self.outcome = outcome


class _Job:
    """A unit on its way. `abandoned` is set by a caller that no longer waits, before the thread has begun it."""

    __slots__ = ("abandoned", "failure", "future", "result", "run")

    def __init__(self, run: Callable[[sqlite3.Connection, Connection], Any], future: asyncio.Future[Any]) -> None:
        self.run = run
        self.future = future
        self.abandoned = False
        self.result: Any = None
        self.failure: BaseException | None = None


class Writer:
    """Owns the thread and its connection. `submit` belongs to the event loop that made it."""

    def __init__(self, engine: Engine, *, wait_s_max: float) -> None:
        """`wait_s_max` bounds a caller's wait, from handing in to hearing of the commit."""
        self._engine = engine
        self._wait_s_max = wait_s_max
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._waiting = 0
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="obol-sqlite-writer", daemon=True)
        self._thread.start()

    async def submit(self, run: Callable[[sqlite3.Connection, Connection], Any]) -> Any:
        """The result of `run`, once it is committed. Raises what `run` raised, or Unavailable."""
        if self._closed or self._waiting >= QUEUE_UNITS_MAX:
            raise unavailable(
                "database: the writer is closed" if self._closed else "database: the writer's queue is full"
            )
        job = _Job(run, self._loop.create_future())
        self._waiting += 1
        self._queue.put(job)
        try:
            async with asyncio.timeout(self._wait_s_max):
                return await job.future
        except TimeoutError as late:
            raise unavailable("database: the writer did not answer in time") from late
        finally:
            job.abandoned = True

    async def close(self) -> None:
        """Finish what is queued, then stop."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        try:
            self._commit_groups()
        finally:
            self._closed = True  # whatever ended the thread: who comes now is refused at once

    def _commit_groups(self) -> None:
        with self._engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)
            going = True
            while going:
                jobs, going = self._gathered()
                if jobs:
                    _commit_together(jobs, driver, connection)
                    self._answer(jobs)

    def _gathered(self) -> tuple[list[_Job], bool]:
        """Wait for a unit, then take what has come meanwhile; False once the writer is to stop."""
        jobs: list[_Job] = []
        job = self._queue.get()
        while job is not None:
            jobs.append(job)
            if len(jobs) == GROUP_UNITS_MAX:
                return jobs, True
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                return jobs, True
        return jobs, False

    def _answer(self, jobs: Sequence[_Job]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._deliver, jobs)
        except RuntimeError:  # the loop is gone, and its callers with it
            self._closed = True

    def _deliver(self, jobs: Sequence[_Job]) -> None:
        self._waiting -= len(jobs)
        for job in jobs:
            if job.future.done():
                continue
            if job.failure is None:
                job.future.set_result(job.result)
            else:
                job.future.set_exception(job.failure)


def _commit_together(jobs: Sequence[_Job], driver: sqlite3.Connection, connection: Connection) -> None:
    """Run and commit the group; each job ends with a result or a failure."""
    try:
        driver.execute("BEGIN IMMEDIATE")
        for job in jobs:
            if not job.abandoned:
                _run(job, driver, connection)
        driver.execute("COMMIT")
    except Exception as error:  # noqa: BLE001 - whatever it was, no unit of the group is committed, and each must hear it
        _abort(driver)
        failure = translated(error)
        for job in jobs:
            job.failure = failure


def _run(job: _Job, driver: sqlite3.Connection, connection: Connection) -> None:
    driver.execute("SAVEPOINT unit")
    try:
        job.result = job.run(driver, connection)
    except Exception as error:  # the unit's own failure is its caller's, not the thread's
        if not driver.in_transaction:
            raise  # SQLite gave up the whole transaction, and with it the others' units
        driver.execute("ROLLBACK TO unit")
        if isinstance(error, UndoneError):
            job.result = error.outcome
        else:
            job.failure = translated(error)
    driver.execute("RELEASE unit")


def _abort(driver: sqlite3.Connection) -> None:
    if driver.in_transaction:
        try:
            driver.execute("ROLLBACK")
        except sqlite3.Error:
            # The next BEGIN fails as well and says so; closing the file is all that is left to do.
            driver.interrupt()
