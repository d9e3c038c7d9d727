"""Every hot query walks an index and touches only its rows, however many payments there are."""

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from gateway.domain.commands import CommandKind
from gateway.domain.states import PaymentState
from gateway.domain.storage import Decision, PaymentFilter, Store
from store import open_store
from store.postgresql_database import PLANNED_ONCE, connect_arguments
from tests.store import making
from tests.store.acting import captured, claimed
from tests.store.counting import Sent, counted
from tests.store.looking import connect, connect_sqlite, rows

PAYMENTS = 5_000
ROWS_TOUCHED_MAX = 200
"""A query here returns 20 rows at most; joins and bounded batches touch a few more, never a table."""

SEED = (
    "INSERT INTO payments SELECT {payment} FROM payments p, {series} WHERE p.payment_id = '{id}'",
    "INSERT INTO commands SELECT {command} FROM commands c, {series} WHERE c.payment_id = '{id}'",
    "INSERT INTO operations SELECT {operation} FROM operations o, {series} WHERE o.payment_id = '{id}'",
    "INSERT INTO movements SELECT {movement} FROM movements m, {series} WHERE m.payment_id = '{id}'",
    "INSERT INTO observations SELECT {observation} FROM observations b, {series} WHERE b.payment_id = '{id}'",
    "INSERT INTO observation_log SELECT 100 + n, 'tenant-a', 'obs-' || n, 1 FROM {series}",
    "INSERT INTO callbacks SELECT 'cb-' || n, 'p', 'a', 'e-' || n, 't', {empty}, '{{}}', '', 1, 'APPLIED', '', '', '', "
    "1, 1, NULL, 1 FROM {series}",
)


def replaced(table: str, alias: str, **given: str) -> str:
    """Every column of `table`, some of them replaced by an expression over n."""
    from store.tables import metadata

    names = [column.name for column in metadata.tables[table].columns]
    return ", ".join(given.get(name, f"{alias}.{name}") for name in names)


async def seeded(url: str) -> Store:
    """A store with PAYMENTS finished payments in it."""
    store = await open_store(url, pool_size=1)
    payment = await captured(store, order_reference="order-0", customer_reference="customer-0")
    sqlite = url.startswith("sqlite")
    values = {
        "id": payment.payment_id,
        "empty": "x''" if sqlite else "''::bytea",
        "series": (
            f"(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {PAYMENTS}) SELECT n FROM s) s"
            if sqlite
            else f"generate_series(1, {PAYMENTS}) n"
        ),
        "payment": replaced(
            "payments",
            "p",
            payment_id="'pay-' || n",
            provider_payment_id="'prov-' || n",
            order_reference="'order-' || n",
            customer_reference="'customer-' || n",
            created_time_us="n",
        ),
        "command": replaced(
            "commands", "c", payment_id="'pay-' || n", command_id="'cmd-' || n", idempotency_key="'key-' || n"
        ),
        "operation": replaced(
            "operations", "o", payment_id="'pay-' || n", command_id="'cmd-' || n", operation_id="'op-' || n"
        ),
        "movement": replaced(
            "movements", "m", payment_id="'pay-' || n", provider_movement_id="m.provider_movement_id || n"
        ),
        "observation": replaced("observations", "b", payment_id="'pay-' || n", observation_id="'obs-' || n"),
    }
    for statement in SEED:
        await rows(url, statement.format(**values))
    await rows(url, "ANALYZE")
    await claimed(store)
    await store.number_observations()
    return store


def hot_calls(store: Store) -> Iterator[tuple[str, Callable[[], Awaitable[Any]]]]:
    """Each read and take by name."""
    tenant, one = making.TENANT, "pay-77"

    def listing(wanted: PaymentFilter) -> Callable[[], Awaitable[Any]]:
        return lambda: store.list_payments(tenant, wanted, before_payment_id="pay-9", limit=10)

    yield "get_payment", lambda: store.get_payment(tenant, one)
    yield "load", lambda: store.load(tenant, one)
    yield "find_command", lambda: store.find_command(tenant, "CreatePayment", "key-77")
    yield "by order", lambda: store.find_payments(tenant, order_reference="order-77")
    yield "by provider", lambda: store.find_payments(tenant, account_id=making.ACCOUNT, provider_payment_id="prov-77")
    yield "list", listing(PaymentFilter())
    yield "list by order", listing(PaymentFilter(order_reference="order-77"))
    yield "list by customer", listing(PaymentFilter(customer_reference="customer-77"))
    yield "list by state", listing(PaymentFilter(states=(PaymentState.AUTHORIZED,)))
    rare = (PaymentState.AUTHORIZED, PaymentState.CREATED)
    yield "list by states", listing(PaymentFilter(states=rare))
    yield "list by states", listing(PaymentFilter(states=(*rare, PaymentState.CAPTURED)))
    yield "list by time", listing(PaymentFilter(created_from_us=1, created_before_us=2))
    yield "list by account", listing(PaymentFilter(account_id="rare"))
    yield "list refunds", lambda: store.list_refunds(tenant, one, before_refund_id="", limit=10)
    yield "history", lambda: store.history(tenant, one, after_version=0, limit=10)
    yield "take_due", lambda: store.take_due(limit=10, lease_s=1)
    yield "take_callbacks", lambda: store.take_callbacks(limit=10, lease_s=1)
    yield "take_abandoned", lambda: store.take_abandoned(limit=10, retry_s=1)
    yield "unresolved", store.unresolved
    yield "undecided", lambda: store.undecided(older_than_s=1)
    yield "read_observations", lambda: store.read_observations(tenant, after_sequence=90, limit=10)
    yield "read of payment", lambda: store.read_observations(tenant, after_sequence=0, limit=10, payment_id=one)
    yield "get_observation", lambda: store.get_observation(tenant, "obs-77")
    yield "last_sequence", store.last_sequence
    yield "decide", lambda: store.decide(making.CALLER, "billing", [Decision("obs-77", True)], making.audit())
    yield "expire_keys", lambda: store.expire_keys(older_than_s=1e6, limit=10)


def touched(node: dict[str, Any]) -> int:
    """The rows that a plan's scans looked at, kept or not."""
    own = 0
    if "Relation Name" in node and "Scan" in node["Node Type"]:
        kept = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        own = int(kept * node["Actual Loops"])
    return own + sum(touched(child) for child in node.get("Plans", ()))


def literal(argument: Any) -> str:
    """An argument as SQL text, for EXECUTE: only that shows the plan that a connection keeps."""
    if argument is None:
        return "NULL"
    if isinstance(argument, bytes):
        return rf"'\x{argument.hex()}'"
    if isinstance(argument, list):
        return f"'{{{','.join(argument)}}}'"
    return str(argument) if isinstance(argument, int) else "'" + str(argument).replace("'", "''") + "'"


async def unsent(store: Store, call: Awaitable[Any], monkeypatch: pytest.MonkeyPatch) -> Sent:
    """The first statement of a hot call, which is not run."""
    database: Any = store._database  # type: ignore[attr-defined]  # nothing else knows what is sent
    seen: list[Sent] = []

    async def keep(statement: str, parameters: Any) -> list[Any]:
        seen.append(Sent(statement, tuple(parameters)))
        return []

    with monkeypatch.context() as patch:
        patch.setattr(database, "fetch", keep)
        await call
    return seen[0]


async def explained(driver: Any, sent: Sent) -> int:
    """The rows that the statement touches by the plan that its pool keeps; whatever it writes is undone."""
    settings = connect_arguments(60, 5, plans=PLANNED_ONCE if sent.hot else "force_custom_plan")["server_settings"]
    given = f"({', '.join(map(literal, sent.arguments))})" if sent.arguments else ""
    await driver.execute("RESET ALL")
    for name, setting in settings.items():
        if name.startswith(("enable", "jit", "plan")):
            await driver.execute(f"SET {name} = {setting}")
    await driver.execute(f"PREPARE hot AS {sent.statement}")
    transaction = driver.transaction()
    await transaction.start()
    found = await driver.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE hot {given}")
    await transaction.rollback()
    await driver.execute("DEALLOCATE hot")
    (plan,) = json.loads(found) if isinstance(found, str) else found
    return touched(plan["Plan"])


@pytest.mark.slow
async def test_on_postgresql_a_query_touches_only_its_rows(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the settings of the pools, no plan looks at more than a bounded number of rows."""
    store = await seeded(postgresql)
    driver = await connect(postgresql)
    worst: dict[str, int] = {}
    for name, call in hot_calls(store):
        async with counted(store) as seen:
            await call()
        for sent in seen:
            if sent.verb in ("SELECT", "UPDATE", "WITH"):
                worst[name] = max(worst.get(name, 0), await explained(driver, sent))
    payment = await captured(store)
    refund = making.claim_on(payment, CommandKind.REFUND, amount_minor=1)
    create = making.create_claim()
    settlement = making.settlement_of(create, await store.claim(create))
    for name, writing in (
        ("claim", store.claim(refund)),
        ("create", store.claim(making.create_claim())),
        ("settle", store.settle(settlement)),
    ):
        worst[name] = await explained(driver, await unsent(store, writing, monkeypatch))
    assert worst["settle"] > 0
    assert {name: count for name, count in worst.items() if count > ROWS_TOUCHED_MAX} == {}
    await driver.close()
    await store.close()


@pytest.mark.slow
async def test_on_sqlite_no_query_scans_a_table(sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each statement is a search, or walks an index in order."""
    store = await seeded(sqlite)
    seen: list[str] = []
    import aiosqlite

    real = aiosqlite.Connection.execute_fetchall

    async def fetch(self: Any, sql: str, parameters: Any = None) -> Any:
        seen.append(sql)
        return await real(self, sql, parameters)

    monkeypatch.setattr(aiosqlite.Connection, "execute_fetchall", fetch)
    database: Any = store._database  # type: ignore[attr-defined]  # nothing else knows the readers
    from sqlalchemy import event

    def before(_c: Any, _cu: Any, sql: str, *_: Any) -> None:
        seen.append(sql)

    event.listen(database._read_engine.sync_engine, "before_cursor_execute", before)
    planner = connect_sqlite(sqlite)
    scans: dict[str, list[str]] = {}
    for name, call in hot_calls(store):
        seen.clear()
        async with counted(store) as written:
            await call()
        for sql in (*seen, *(sent.statement for sent in written)):
            if sql.split(None, 1)[0] in ("SELECT", "UPDATE", "WITH"):
                unbound: Any = [None] * sql.count("?") if "?" in sql else {}
                steps = [row[3] for row in planner.execute(f"EXPLAIN QUERY PLAN {sql}", unbound)]
                found = [step for step in steps if step.startswith("SCAN") and "INDEX" not in step]
                large = [
                    step for step in found if step.split()[1] in ("payments", "commands", "operations", "o", "p", "c")
                ]
                if large:
                    scans.setdefault(name, []).extend(large)
    assert scans == {}
    planner.close()
    await store.close()
