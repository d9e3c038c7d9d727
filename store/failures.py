"""The one edge at which a database's errors become ours.

    whatever a driver raises
    ├── Contended      a deadlock, a serialization failure, a plan that a migration outdated: provably not committed,
    │                  tried again by `store`
    ├── Unavailable    lost, locked, full, read-only, out of connections, out of time, or with an answer that the driver
    │                  cannot read: DATABASE_UNAVAILABLE
    └── Internal       anything else is a defect of ours: a CHECK, a key, a statement

A connection that is lost while a COMMIT is under way leaves open whether it took effect: that is Unavailable, never
Contended.
"""

import sqlite3

import asyncpg
from sqlalchemy import exc

from gateway.domain.errors import Internal, ObolError, Reason, Unavailable

RETRY_AFTER_S = 1.0

_CONTENDED = frozenset({"40001", "40P01"})

_UNAVAILABLE_CLASSES = ("08", "53", "57", "58")
"""SQLSTATE classes: connection, insufficient resources, operator intervention (with timeouts), system error."""

_UNAVAILABLE_STATES = frozenset({"25006", "25P03", "40003", "55P03", "3D000", "28000", "28P01", "XX001", "XX002"})
"""Read-only after a failover, idle timeout, completion unknown, lock timeout, no database, no login, corrupt data."""

_UNAVAILABLE_SQLITE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
    }
)
"""Primary result codes; the extended ones keep theirs in the low byte."""


_LOST = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, EOFError, TimeoutError)
"""What a driver raises of its own when its server is gone, between hearing of it and closing."""

_OUTDATED = asyncpg.InvalidCachedStatementError
"""A plan that a migration outdated, refused before it did anything. OutdatedSchemaCacheError is not meant: the driver
raises it of an answer that it cannot read, when a statement of its own transaction has committed."""

_CLOSED_TRANSPORT = "the handler is closed"
"""uvloop's word, in a RuntimeError, for a write to a transport that has met its end."""


class Contended(Exception):
    """Another transaction won, and this one was rolled back: the same work may simply be done again."""


def unavailable(message: str) -> Unavailable:
    """The database cannot answer now. Whether a commit under way took effect is not known."""
    return Unavailable(Reason.DATABASE_UNAVAILABLE, message, safe_to_retry=True, retry_after_s=RETRY_AFTER_S)


def translated(error: BaseException) -> BaseException:
    """What to raise for `error`; itself where no database raised it."""
    if isinstance(error, ObolError | Contended):
        return error
    cause = _driver_error(error)
    if isinstance(cause, _OUTDATED):
        return Contended(str(cause))
    if isinstance(cause, asyncpg.PostgresError):
        return _from_sqlstate(getattr(cause, "sqlstate", None) or "", cause)
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", None)
        known = code is not None and code & 0xFF in _UNAVAILABLE_SQLITE
        return unavailable(f"database: {cause}") if known else _defect(cause)
    if isinstance(cause, exc.TimeoutError):
        return unavailable("database: no connection was free in time")
    if isinstance(cause, _LOST) or (isinstance(cause, RuntimeError) and _CLOSED_TRANSPORT in str(cause)):
        return unavailable(f"database: connection lost ({type(cause).__name__})")
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return unavailable("database: connection lost")
    return _defect(cause) if isinstance(error, exc.SQLAlchemyError) else error


def _driver_error(error: BaseException) -> BaseException:
    """The driver's own exception below SQLAlchemy's wrappers."""
    while isinstance(error, exc.DBAPIError) and error.orig is not None:
        error = error.orig
    # SQLAlchemy's asyncpg adapter raises look-alikes of its own from asyncpg's.
    while (cause := error.__cause__) is not None and not isinstance(error, asyncpg.PostgresError | sqlite3.Error):
        if not isinstance(cause, (asyncpg.PostgresError, sqlite3.Error, *_LOST)):
            break
        error = cause
    return error


def _from_sqlstate(sqlstate: str, error: BaseException) -> BaseException:
    if sqlstate in _CONTENDED:
        return Contended(str(error))
    if sqlstate.startswith(_UNAVAILABLE_CLASSES) or sqlstate in _UNAVAILABLE_STATES:
        return unavailable(f"database: {error} ({sqlstate})")
    return _defect(error)


def _defect(error: BaseException) -> Internal:
    # The driver's text can quote a row: it stays in the chained exception, which only the log sees.
    return Internal(Reason.INTERNAL, f"the store refused a write of ours: {type(error).__name__}")
