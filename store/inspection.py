"""Reading a whole database for the invariants: in pages, each of one moment, and never in the gateway's way.

Begins no writing transaction. On SQLite a page is one deferred transaction, on PostgreSQL one of REPEATABLE READ, READ
ONLY; both are short, so that neither the WAL nor the vacuum waits for a reader.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    String,
    Table,
    Text,
    and_,
    event,
    exists,
    func,
    make_url,
    or_,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from gateway.domain.dossier import Dossier, Invariant, Violation
from store.leakage import page_of_leaks
from store.records import history_from, observation_from, refund_from
from store.rows import command_from, operation_from, payment_from
from store.sqlite_database import reading, set_pragmas
from store.tables import (
    callbacks,
    commands,
    history,
    metadata,
    movements,
    observation_log,
    observation_outbox,
    observations,
    operations,
    payments,
    refunds,
)

PAGE_PAYMENTS = 200
ROWS_SHOWN_MAX = 20

Key = tuple[str, str]


class Inspection:
    """A read-only look at one database. Open with `inspect`."""

    def __init__(self, engine: AsyncEngine, *, is_sqlite: bool) -> None:
        self._engine = engine
        self._is_sqlite = is_sqlite

    async def dossiers(self) -> AsyncIterator[Sequence[Dossier]]:
        """Every payment, page by page, in the order of (tenant, payment)."""
        after: Key = ("", "")
        while True:
            async with self._moment() as connection:
                page = await connection.run_sync(lambda sync, start=after: _page(sync, start))
            if not page:
                return
            yield page
            after = (page[-1].payment.tenant_id, page[-1].payment.payment_id)

    async def log(self) -> Sequence[Violation]:
        """I8, I9 and I13 as far as they are about whole tables."""
        async with self._moment() as connection:
            found: list[Violation] = await connection.run_sync(lambda sync: list(_whole_tables(sync)))
            return found

    async def known_operations(self, operation_ids: Sequence[str]) -> set[str]:
        """Those of `operation_ids` that were ever claimed."""
        async with self._moment() as connection:
            query = select(operations.c.operation_id).where(operations.c.operation_id.in_(operation_ids))
            return set((await connection.execute(query)).scalars())

    async def holding(self, needles: Sequence[str]) -> Sequence[Violation]:
        """I14: rows whose text holds one of `needles`, a planted card number or secret."""
        found: list[Violation] = []
        async with self._moment() as connection:
            for table in metadata.sorted_tables:
                found.extend(await connection.run_sync(lambda sync, each=table: list(_holding(sync, each, needles))))
        return found

    async def leaks(self) -> AsyncIterator[Violation]:
        """I14: rows that hold what looks like a card number, a credential or a client secret; every table, by pages."""
        for table in metadata.sorted_tables:
            after: Sequence[Any] | None = None
            while True:
                async with self._moment() as connection:
                    found, after = await connection.run_sync(
                        lambda sync, each=table, start=after: page_of_leaks(sync, each, start)
                    )
                for violation in found:
                    yield violation
                if after is None:
                    break

    async def close(self) -> None:
        """Give back the connections."""
        await self._engine.dispose()

    @asynccontextmanager
    async def _moment(self) -> AsyncIterator[Any]:
        async with self._engine.connect() as connection:
            if self._is_sqlite:
                await connection.run_sync(reading)
            try:
                yield connection
            finally:
                if self._is_sqlite:
                    await connection.exec_driver_sql("ROLLBACK")


def inspect(url: str) -> Inspection:
    """A look at the database at `url`, which must exist."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_async_engine(url, isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=0)
        event.listen(
            engine.sync_engine,
            "connect",
            lambda driver, _: set_pragmas(driver, busy_timeout_s=5.0, read_only=True),
        )
        return Inspection(engine, is_sqlite=True)
    engine = create_async_engine(
        url,
        pool_size=1,
        max_overflow=0,
        isolation_level="REPEATABLE READ",
        connect_args={"server_settings": {"default_transaction_read_only": "on", "application_name": "obol verify"}},
    )
    return Inspection(engine, is_sqlite=False)


def _page(connection: Connection, after: Key) -> list[Dossier]:
    place = tuple_(payments.c.tenant_id, payments.c.payment_id)
    query = (
        select(payments)
        .where(place > tuple_(*after))
        .order_by(payments.c.tenant_id, payments.c.payment_id)
        .limit(PAGE_PAYMENTS)
    )
    rows = connection.execute(query).mappings().all()
    keys = [(row["tenant_id"], row["payment_id"]) for row in rows]
    if not keys:
        return []
    related = {
        table.name: _related(connection, table, keys) for table in (movements, commands, operations, refunds, history)
    }
    seen = _observed(connection, keys)
    return [
        Dossier(
            payment=payment_from(row, related["movements"].get(key, ())),
            commands=tuple(map(command_from, related["commands"].get(key, ()))),
            operations=tuple(map(operation_from, related["operations"].get(key, ()))),
            refunds=tuple(map(refund_from, related["refunds"].get(key, ()))),
            history=tuple(sorted(map(history_from, related["history"].get(key, ())), key=lambda entry: entry.version)),
            observations=tuple(
                sorted(map(observation_from, seen.get(key, ())), key=lambda each: (each.version, each.ordinal))
            ),
        )
        for key, row in zip(keys, rows, strict=True)
    ]


def _among(table: Table, keys: Sequence[Key]) -> ColumnElement[bool]:
    """Rows of these payments. By tenant: SQLite would scan the table for a list of pairs, once for each page."""
    by_tenant: dict[str, list[str]] = {}
    for tenant_id, payment_id in keys:
        by_tenant.setdefault(tenant_id, []).append(payment_id)
    return or_(
        *(
            and_(table.c.tenant_id == tenant_id, table.c.payment_id.in_(payment_ids))
            for tenant_id, payment_ids in by_tenant.items()
        )
    )


def _related(connection: Connection, table: Table, keys: Sequence[Key]) -> Mapping[Key, list[Any]]:
    query = select(table).where(_among(table, keys))
    return _grouped(connection.execute(query).mappings())


def _observed(connection: Connection, keys: Sequence[Key]) -> Mapping[Key, list[Any]]:
    joined = observations.outerjoin(
        observation_log,
        and_(
            observation_log.c.tenant_id == observations.c.tenant_id,
            observation_log.c.observation_id == observations.c.observation_id,
        ),
    )
    sequence = func.coalesce(observation_log.c.sequence, 0).label("sequence")
    query = select(observations, sequence).select_from(joined).where(_among(observations, keys))
    return _grouped(connection.execute(query).mappings())


def _grouped(rows: Iterable[Any]) -> Mapping[Key, list[Any]]:
    grouped: dict[Key, list[Any]] = {}
    for row in rows:
        grouped.setdefault((row["tenant_id"], row["payment_id"]), []).append(row)
    return grouped


def _whole_tables(connection: Connection) -> Iterable[Violation]:
    last = connection.scalar(select(func.max(observation_log.c.sequence))) or 0
    numbered = connection.scalar(select(func.count()).select_from(observation_log)) or 0
    if last != numbered:
        yield Violation(Invariant.I9, "observation_log", f"has {numbered} rows, and its last sequence is {last}: a gap")
    logged = exists().where(
        observation_log.c.tenant_id == observations.c.tenant_id,
        observation_log.c.observation_id == observations.c.observation_id,
    )
    waiting = exists().where(
        *(
            observation_outbox.c[name] == observations.c[name]
            for name in ("tenant_id", "payment_id", "version", "ordinal")
        )
    )
    lost = select(observations.c.tenant_id, observations.c.payment_id, observations.c.observation_id)
    for row in connection.execute(lost.where(~logged, ~waiting).limit(ROWS_SHOWN_MAX)):
        message = "is in no log and not waiting for its number: no consumer will see it"
        yield Violation(Invariant.I9, f"observations {row.observation_id}", message, row.tenant_id, row.payment_id)
    live = callbacks.c.state.in_(("RECEIVED", "WAITING"))
    stuck = select(callbacks.c.callback_id).where(
        live, callbacks.c.next_attempt_us.is_(None), callbacks.c.lease_until_us.is_(None)
    )
    for row in connection.execute(stuck.limit(ROWS_SHOWN_MAX)):
        yield Violation(Invariant.I8, f"callbacks {row.callback_id}", "is live, and nobody will look at it")
    applied = select(callbacks.c.callback_id, callbacks.c.tenant_id, callbacks.c.payment_id).where(
        callbacks.c.state == "APPLIED",
        callbacks.c.note == "",
        ~exists().where(
            history.c.tenant_id == callbacks.c.tenant_id,
            history.c.payment_id == callbacks.c.payment_id,
            history.c.causation_id == callbacks.c.callback_id,
        ),
    )
    for row in connection.execute(applied.limit(ROWS_SHOWN_MAX)):
        message = "is APPLIED, and no version of its payment came of it"
        yield Violation(Invariant.I8, f"callbacks {row.callback_id}", message, row.tenant_id, row.payment_id)
    yield from _foreign(connection)


def _foreign(connection: Connection) -> Iterable[Violation]:
    """Rows whose payment belongs to another tenant than they say (I13)."""
    for table in (commands, operations, movements, refunds, history, observations):
        own = exists().where(payments.c.tenant_id == table.c.tenant_id, payments.c.payment_id == table.c.payment_id)
        query = select(table.c.tenant_id, table.c.payment_id).where(~own).limit(ROWS_SHOWN_MAX)
        for row in connection.execute(query):
            message = "has no payment of its tenant"
            yield Violation(Invariant.I13, f"{table.name} of {row.payment_id}", message, row.tenant_id, row.payment_id)


def _holding(connection: Connection, table: Table, needles: Sequence[str]) -> Iterable[Violation]:
    texts = [column for column in table.c if isinstance(column.type, String | Text)]
    if not texts:
        return
    for number, needle in enumerate(needles, start=1):
        matches = or_(*(column.contains(needle, autoescape=True) for column in texts))
        count = connection.scalar(select(func.count()).select_from(table).where(matches)) or 0
        if count:
            yield Violation(Invariant.I14, table.name, f"{count} rows hold planted text number {number}")
