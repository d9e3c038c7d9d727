"""Every hot query walks an index and touches only its rows, however many payments there are."""

import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.commands import CommandKind
from gateway.domain.movements import MovementKind
from gateway.domain.operating import AuditFilter, CallbackFilter, Place, UnresolvedFilter
from gateway.domain.reconciliation import JobState, Phase, Reconciliation
from gateway.domain.states import LIVE_COMMAND_STATES, PaymentState
from gateway.domain.storage import CallbackState, Decision, PaymentFilter, Store
from store import open_store
from store.postgresql_database import PLANNED_ONCE, connect_arguments
from tests.store import making
from tests.store.acting import captured, claimed
from tests.store.counting import Sent, counted
from tests.store.looking import connect, connect_sqlite, rows

PAYMENTS = 5_000
ROWS_TOUCHED_MAX = 200
"""A query here returns 20 rows at most; joins and bounded batches touch a few more, never a table."""

OWN_INDEXES = {
    "callbacks by state": "ix_callbacks_state",
    "callbacks by rare account": "ix_callbacks_account",
    "callbacks by payment": "ix_callbacks_payment",
    "list_unresolved": "ix_payments_stuck",
    "audit of operators": "ix_audit_operators",
}
"""Lists that another index would serve as well while it is all one state, and not when it is not."""

LARGE = {"payments", "commands", "operations", "o", "p", "c", "movements", "observations", "callbacks", "audit"}

SEED = (
    "INSERT INTO payments SELECT {payment} FROM payments p, {series} WHERE p.payment_id = '{id}'",
    "INSERT INTO commands SELECT {command} FROM commands c, {series} WHERE c.payment_id = '{id}'",
    "INSERT INTO operations SELECT {operation} FROM operations o, {series} WHERE o.payment_id = '{id}'",
    "INSERT INTO movements SELECT {movement} FROM movements m, {series} WHERE m.payment_id = '{id}'",
    "INSERT INTO observations SELECT {observation} FROM observations b, {series} WHERE b.payment_id = '{id}'",
    "INSERT INTO observation_log SELECT 100 + n, 'tenant-a', 'obs-' || n, 1 FROM {series}",
    "INSERT INTO callbacks SELECT 'cb-' || n, 'p', 'a', 'e-' || n, 't', {empty}, '{{}}', '', 1, 'APPLIED', '', '', '', "
    "1, 1, NULL, 1 FROM {series}",
    "INSERT INTO audit SELECT {audit} FROM audit a, {series} WHERE a.payment_id = '{id}'",
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
        "audit": replaced("audit", "a", payment_id="'pay-' || n", audit_id="'aud_00000000' || n"),
    }
    for statement in SEED:
        await rows(url, statement.format(**values))
    await rows(url, "ANALYZE")
    await claimed(store)
    await store.number_observations()
    return store


def _job() -> Reconciliation:
    """A job over every payment there is."""
    return Reconciliation(
        reconciliation_id="rec_1",
        caller=making.CALLER,
        idempotency_key="key",
        account_id=making.ACCOUNT,
        window_start_us=0,
        window_end_us=2**52,
        dry_run=False,
        state=JobState.RUNNING,
        phase=Phase.OURS,
        position="",
        epoch=1,
        postponed=0,
        generation=0,
        created_time_us=1,
        begun_time_us=1,
        ended_time_us=None,
        provider_count=0,
        foreign_count=0,
        payment_count=0,
        sums={},
    )


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
    yield "log_end", store.log_end
    yield "turns", store.turns
    yield "list_lost", lambda: store.list_lost("", after=("", ""), limit=10, with_settled=False)
    yield "get_lost", lambda: store.get_lost(tenant, one)
    yield "lost_by", lambda: store.lost_by(tenant, "op-1", "order-1")
    yield "decide", lambda: store.decide(making.CALLER, "billing", [Decision("obs-77", True)], making.audit())
    job = _job()
    yield "take_reconciliation", lambda: store.take_reconciliation(lease_s=1)
    yield "list_window", lambda: store.list_window(job, after=("", ""), limit=10, stuck_s=1)
    yield "list_window further", lambda: store.list_window(job, after=(tenant, "pay-77"), limit=10, stuck_s=1)
    yield "get_payments", lambda: store.get_payments([(tenant, f"pay-{number}") for number in range(70, 80)])
    yield "has_contradiction", lambda: store.has_contradiction(tenant, one, "x")
    yield "note_breaks", lambda: store.note_breaks(job, [])
    yield "standings", store.standings
    yield "take_event_cursor", lambda: store.take_event_cursor([making.ACCOUNT], lease_s=1, first_s=1, poll_s=1)
    yield "unknown_events", lambda: store.unknown_events("sandbox", making.ACCOUNT, ["e-1", "e-2"])
    yield "restore_pending", lambda: store.restore_pending(making.ACCOUNT)
    yield "expire_keys", lambda: store.expire_keys(older_than_s=1e6, limit=10)


def operators_calls(store: Store) -> Iterator[tuple[str, Callable[[], Awaitable[Any]]]]:
    """Each list and look of the operators by name."""
    tenant, one = making.TENANT, "pay-77"
    everything = UnresolvedFilter(
        dict.fromkeys(LIVE_COMMAND_STATES, 0.0),
        dict.fromkeys((PaymentState.AUTHORIZED, PaymentState.PROCESSING, PaymentState.REQUIRES_ACTION), 0.0),
    )

    def callbacks(wanted: CallbackFilter) -> Callable[[], Awaitable[Any]]:
        return lambda: store.list_callbacks(wanted, before_callback_id="cb-9", limit=10)

    def unresolved(wanted: UnresolvedFilter) -> Callable[[], Awaitable[Any]]:
        return lambda: store.list_unresolved(wanted, after=Place(), limit=10)

    def audited(wanted: AuditFilter) -> Callable[[], Awaitable[Any]]:
        return lambda: store.list_audit(wanted, position="", limit=10)

    yield "list_callbacks", callbacks(CallbackFilter())
    yield "callbacks by state", callbacks(CallbackFilter(state=CallbackState.QUARANTINED))
    yield "callbacks by account", callbacks(CallbackFilter(account_id="a"))
    yield "callbacks by rare account", callbacks(CallbackFilter(account_id="rare"))
    yield "callbacks by payment", callbacks(CallbackFilter(payment_id=one))
    yield "find_callback", lambda: store.find_callback("cb-77")
    yield "list_unresolved", unresolved(everything)
    yield "unresolved of tenant", unresolved(replace(everything, tenant_id="rare"))
    yield "raise_alarms", lambda: store.raise_alarms(lambda _: making.audit(), older_than_s=1e6, limit=10)
    yield "get_command", lambda: store.get_command(tenant, "cmd-77")
    yield "movement_holder", lambda: store.movement_holder(tenant, making.ACCOUNT, MovementKind.CAPTURE, "none")
    yield "latest_proposal", lambda: store.latest_proposal(tenant, "cmd-77")
    yield "get_proposal", lambda: store.get_proposal(tenant, "prp-77")
    yield "payment_file", lambda: store.payment_file(tenant, one, limit=10)
    yield "list_audit", audited(AuditFilter(tenant_id=tenant))
    yield "audit of payment", audited(AuditFilter(tenant_id=tenant, payment_id=one))
    yield "audit of operators", audited(AuditFilter(operators_only=True))


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
    for name, call in (*hot_calls(store), *operators_calls(store)):
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
    strict = {name for name, _ in operators_calls(store)}
    scans: dict[str, list[str]] = {}
    walked: dict[str, str] = {}
    for name, call in (*hot_calls(store), *operators_calls(store)):
        seen.clear()
        async with counted(store) as written:
            await call()
        for sql in (*seen, *(sent.statement for sent in written)):
            if sql.split(None, 1)[0] in ("SELECT", "UPDATE", "WITH"):
                unbound: Any = [None] * sql.count("?") if "?" in sql else {}
                steps = [row[3] for row in planner.execute(f"EXPLAIN QUERY PLAN {sql}", unbound)]
                # An operators' list is a search in an index; only their own acts are walked as they stand there.
                walks = "ix_audit_operators" if name in strict else "INDEX"
                found = [step for step in steps if step.startswith("SCAN") and walks not in step]
                large = [step for step in found if step.split()[1] in LARGE]
                if large:
                    scans.setdefault(name, []).extend(large)
                walked.setdefault(name, "")
                walked[name] += "".join(steps)
    assert scans == {}
    assert {name for name, index in OWN_INDEXES.items() if index not in walked[name]} == set()
    planner.close()
    await store.close()
