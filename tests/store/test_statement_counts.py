"""Round trips and commits decide what a payment costs: they are counted here, so that none slips in."""

from collections import Counter

from gateway.domain.commands import CommandKind
from gateway.domain.storage import CallbackChange, CallbackState, SettleOutcome, Store
from store import open_store
from tests.store import making
from tests.store.acting import captured
from tests.store.counting import counted
from tests.store.looking import rows


async def pay(store: Store) -> None:
    """Claim and settle one payment."""
    claim = making.create_claim()
    settlement = making.settlement_of(claim, await store.claim(claim))
    assert await store.settle(settlement) is SettleOutcome.APPLIED


async def test_on_postgresql_a_payment_is_two_statements_and_two_commits(postgresql: str) -> None:
    """Claim is one round trip, settle is another, and each is its own transaction."""
    store = await open_store(postgresql, pool_size=1)
    await pay(store)
    async with counted(store) as seen:
        await pay(store)
    assert [sent.verb for sent in seen] == ["WITH", "WITH"]
    transactions = await rows(
        postgresql,
        "SELECT p.payment_id, count(DISTINCT x.xmin::text) FROM payments p JOIN ("
        + " UNION ALL ".join(
            f"SELECT xmin, payment_id FROM {table}"
            for table in ("payments", "commands", "operations", "movements", "history", "observations", "audit")
        )
        + ") x ON x.payment_id = p.payment_id GROUP BY p.payment_id",
    )
    assert [count for _, count in transactions] == [2, 2]
    await store.close()


async def test_on_postgresql_a_refund_a_read_and_a_callback_are_one_statement_each(postgresql: str) -> None:
    """So are a claim on an existing payment, each hot read, a take of what is due, and each step of a callback."""
    store = await open_store(postgresql, pool_size=1)
    payment = await captured(store)
    claim = making.claim_on(payment, CommandKind.REFUND, amount_minor=1)
    callback = making.callback()
    calls = (
        lambda: store.claim(claim),
        lambda: store.get_payment(making.TENANT, payment.payment_id),
        lambda: store.load(making.TENANT, payment.payment_id),
        lambda: store.find_command(making.TENANT, "x", "y"),
        lambda: store.receive_callback(callback, making.audit()),
        lambda: store.take_callbacks(limit=10, lease_s=1),
        lambda: store.change_callback(CallbackChange(callback.callback_id, 1, CallbackState.APPLIED), [making.audit()]),
        lambda: store.take_due(limit=10, lease_s=1),
        store.log_end,
        lambda: store.read_observations(making.TENANT, after_sequence=0, limit=10),
    )
    for call in calls:
        async with counted(store) as seen:
            await call()
        assert len(seen) == 1, seen
    await store.close()


async def test_on_sqlite_a_payment_is_thirteen_writes_and_two_commits(sqlite: str) -> None:
    """Claim writes 4 rows and settle 9 (two movements), each in a savepoint of one commit; nothing is read."""
    store = await open_store(sqlite)
    await pay(store)
    async with counted(store) as seen:
        await pay(store)
    verbs = Counter(sent.verb for sent in seen)
    assert verbs == {"BEGIN": 2, "SAVEPOINT": 2, "INSERT": 10, "UPDATE": 3, "RELEASE": 2, "COMMIT": 2}
    await store.close()
