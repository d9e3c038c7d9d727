"""A young database: the planner hears of its tables in time, and plans that were made before it are made anew."""

from typing import Any

import pytest

from gateway.domain.storage import Store
from store import open_store
from store import postgresql_statements as statements
from store.statistics import HOT_TABLES
from store.tables import metadata
from tests.store import making
from tests.store.acting import captured
from tests.store.looking import rows, value

PAYMENTS = 60
ANALYSED = "SELECT count(*) FROM pg_stats WHERE tablename = 'commands'"


async def test_a_young_table_is_analysed_and_a_hot_connection_plans_anew(postgresql: str) -> None:
    """The plan that a connection has kept from its first minute reads a tenant's rows; after it, the payment's own."""
    store = await open_store(postgresql, pool_size=1)
    database: Any = store._database  # type: ignore[attr-defined]  # the connection that keeps the plan
    paid = [await captured(store) for _ in range(PAYMENTS)]

    async def plan() -> str:
        explain = f"EXPLAIN EXECUTE kept ('{making.TENANT}', '{paid[0].payment_id}')"
        return "\n".join(row[0] for row in await database.fetch(explain, ()))

    await database.fetch(f"PREPARE kept AS {statements.LOAD}", ())
    young = await plan()
    await store.refresh_statistics()
    grown = await plan()
    assert young != grown
    for name in ("ix_commands_payment", "ix_operations_payment", "pk_movements"):
        assert name in grown
    assert await value(postgresql, ANALYSED) > 0
    await store.close()


async def test_a_table_that_is_known_or_empty_is_left_alone(postgresql: str) -> None:
    """A second call analyses nothing, and neither does a call on an empty database."""
    store = await open_store(postgresql)
    await store.refresh_statistics()
    assert await value(postgresql, ANALYSED) == 0
    await captured(store)
    await store.refresh_statistics()
    seen = "SELECT xmin::text::bigint FROM pg_statistic WHERE starelid = 'payments'::regclass LIMIT 1"
    first = await value(postgresql, seen)
    await store.refresh_statistics()
    assert await value(postgresql, seen) == first
    await store.close()


async def test_without_the_right_nothing_happens(postgresql: str) -> None:
    """Where the tables are another role's, a call is silent and changes nothing."""
    store = await open_store(postgresql)
    await captured(store)
    owner = f"obol_owner_{postgresql.partition('@/')[2].partition('?')[0]}"
    database: Any = store._database  # type: ignore[attr-defined]  # the connections that lose the right
    await rows(postgresql, f"CREATE ROLE {owner}")
    try:
        await rows(postgresql, f"GRANT pg_read_all_data TO {owner}")
        async with database.units.engine.connect() as connection:
            await connection.exec_driver_sql(f"SET ROLE {owner}")
            await connection.commit()
        await store.refresh_statistics()
        assert await value(postgresql, ANALYSED) == 0
    finally:
        await store.close()
        await rows(postgresql, f"DROP OWNED BY {owner}")
        await rows(postgresql, f"DROP ROLE {owner}")


async def test_on_either_engine_a_call_is_harmless(store: Store) -> None:
    """Whatever an engine makes of it, payments go on."""
    await store.refresh_statistics()
    await captured(store)
    await store.refresh_statistics()


@pytest.mark.parametrize("table", HOT_TABLES)
def test_every_hot_table_is_a_table(table: str) -> None:
    """None was renamed behind the list's back."""
    assert table in metadata.tables
