"""What recovery relies on: leases, epochs, evidence, abandoned actions, tombstones."""

import asyncio
from dataclasses import replace

from gateway.domain.commands import Operation
from gateway.domain.payments import Payment
from gateway.domain.states import CommandState, PaymentState
from gateway.domain.storage import Claim, SettleOutcome, Store
from store import open_store
from store.failures import RETRY_AFTER_S
from tests.store import making
from tests.store.acting import captured, claimed, unknown
from tests.store.looking import census, connect, rows, value


async def test_an_account_that_has_its_share_is_left_out(store: Store) -> None:
    """Neither its operations nor its callbacks are taken; the others' are."""
    for account_id in ("hanging", "well"):
        claim = making.create_claim(making.payment(account_id=account_id), lease_s=-1.0)
        await store.claim(replace(claim, operation=replace(claim.operation, account_id=account_id)))
        await store.receive_callback(making.callback(account_id=account_id), making.audit())
    due = await store.take_due(limit=9, lease_s=30, except_accounts=["hanging"])
    assert [o.account_id for o in due.operations] == ["well"]
    taken = await store.take_callbacks(limit=9, lease_s=30, except_accounts=["hanging", "other"])
    assert [each.callback.account_id for each in taken] == ["well"]
    assert len((await store.take_due(limit=9, lease_s=30)).operations) == 1


async def test_a_claim_whose_process_died_is_found_when_its_lease_ends(store: Store, url: str) -> None:
    """A live operation comes due with its lease, once, under a higher epoch."""
    claim = making.create_claim(lease_s=30, send_window_s=0.1)
    got = await store.claim(claim)
    assert (await store.take_due(limit=10, lease_s=30)).operations == ()
    # Half a minute passes: the row's times are moved, and nobody waits. Both are the lease's.
    earlier = ", ".join(f"{name} = {name} - 30000000" for name in ("lease_until_us", "next_attempt_us"))
    await rows(url, f"UPDATE operations SET {earlier}")
    due = await store.take_due(limit=10, lease_s=30)
    (taken,) = due.operations
    assert taken == replace(
        making.held(claim, got),
        epoch=2,
        recoveries=1,
        lease_until_us=due.now_us + 30_000_000,
        next_attempt_us=due.now_us + 30_000_000,
    )
    assert taken.last_send_us == got.last_send_us, "a take sends nothing"
    assert (await store.take_due(limit=10, lease_s=30)).operations == ()


async def test_what_is_due_is_taken_once_by_many(store: Store, beside: Store) -> None:
    """Two replicas that take side by side share the due operations and never hold one together."""
    claims = [await unknown(store) for _ in range(12)]
    stores = (store, beside)
    takes = await asyncio.gather(*(stores[i % 2].take_due(limit=3, lease_s=30) for i in range(8)))
    taken = [operation.operation_id for due in takes for operation in due.operations]
    assert len(taken) == len(set(taken))
    rest = await store.take_due(limit=100, lease_s=30)
    taken += [operation.operation_id for operation in rest.operations]
    assert sorted(taken) == sorted(claim.operation.operation_id for claim in claims)


async def test_a_take_waits_for_nobody(postgresql: str) -> None:
    """An operation that another transaction holds is skipped, and the rest is taken at once."""
    store = await open_store(postgresql, statement_timeout_s=20)  # nobody waits; else for so long
    held, free = await unknown(store), await unknown(store)
    holder = await connect(postgresql)
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("SELECT FROM operations WHERE operation_id = $1 FOR UPDATE", held.operation.operation_id)
    (taken,) = (await store.take_due(limit=10, lease_s=30)).operations
    assert taken.operation_id == free.operation.operation_id
    await transaction.rollback()
    await holder.close()
    await store.close()


async def test_the_longest_overdue_comes_first(store: Store) -> None:
    """A limit starves nobody: the oldest next attempt is taken first."""
    late, later = await unknown(store), await unknown(store)
    (first,) = (await store.take_due(limit=1, lease_s=30)).operations
    (second,) = (await store.take_due(limit=1, lease_s=30)).operations
    assert [first.operation_id, second.operation_id] == [late.operation.operation_id, later.operation.operation_id]


async def test_a_final_operation_is_never_due(store: Store, url: str) -> None:
    """SUCCEEDED needs no recovery, whatever its times say."""
    await captured(store)
    await rows(url, "UPDATE operations SET next_attempt_us = 1 WHERE 1 = 1")
    assert (await store.take_due(limit=10, lease_s=30)).operations == ()


async def taken(store: Store) -> tuple[Claim, Operation]:
    """An unknown create in the hands of recovery."""
    claim = await unknown(store)
    (operation,) = (await store.take_due(limit=10, lease_s=30)).operations
    return claim, operation


async def test_a_resend_moves_the_last_send_and_the_lease(store: Store) -> None:
    """Before a resend its latest possible moment is written; a lost epoch forbids the resend."""
    claim, operation = await taken(store)
    moved = await store.start_resend(operation, lease_s=50, send_window_s=40)
    assert moved is not None
    assert moved.lease_until_us is not None
    assert operation.lease_until_us is not None
    assert moved.last_send_us == moved.lease_until_us - 10_000_000
    assert moved.lease_until_us > operation.lease_until_us
    aggregate = await store.load(making.TENANT, claim.command.payment_id)
    assert aggregate is not None
    assert aggregate.operations == (moved,)
    stale = replace(operation, epoch=operation.epoch - 1)
    assert await store.start_resend(stale, lease_s=50, send_window_s=40) is None


async def test_a_taken_operation_is_given_back_unchanged(store: Store) -> None:
    """Rescheduling ends the lease, names the failure, and is fenced by the epoch."""
    claim, operation = await taken(store)
    stale = replace(operation, epoch=operation.epoch - 1)
    assert not await store.reschedule(stale, next_attempt_s=0, failure="lost")
    assert await store.reschedule(operation, next_attempt_s=100, failure="provider is away")
    aggregate = await store.load(making.TENANT, claim.command.payment_id)
    assert aggregate is not None
    (after,) = aggregate.operations
    assert after.next_attempt_us is not None
    assert after == replace(
        operation, lease_until_us=None, next_attempt_us=after.next_attempt_us, failure="provider is away"
    )


async def test_evidence_is_kept_and_wakes_recovery(store: Store, url: str) -> None:
    """What a settle that lost its fence had to say stays, and a live operation is due at once."""
    claim = await unknown(store, next_attempt_s=1_000)
    operation = replace(claim.operation, epoch=1)
    await store.append_evidence(operation, '{"status": "succeeded\u0000"}', making.audit())
    assert await rows(url, "SELECT operation_id, epoch, evidence FROM evidence") == [
        (operation.operation_id, 1, '{"status": "succeeded�"}')
    ]
    assert [o.operation_id for o in (await store.take_due(limit=9, lease_s=9)).operations] == [operation.operation_id]


async def test_evidence_about_a_final_operation_wakes_nobody(store: Store, url: str) -> None:
    """The evidence is kept; the operation stays as it is."""
    payment = await captured(store)
    aggregate = await store.load(making.TENANT, payment.payment_id)
    assert aggregate is not None
    await store.append_evidence(aggregate.operations[0], "late", making.audit())
    assert (await census(url))["evidence"] == 1
    assert await value(url, "SELECT next_attempt_us FROM operations") is None


async def needing_action(store: Store, expire_time_us: int | None) -> Payment:
    """A payment whose payer must act until `expire_time_us`."""
    claim, got = await claimed(store, expire_time_us=expire_time_us)
    assert claim.payment is not None
    waiting = replace(claim.payment, state=PaymentState.REQUIRES_ACTION, version=2)
    assert await store.settle(making.settlement_of(claim, got, payment=waiting, movements=())) is SettleOutcome.APPLIED
    return waiting


async def test_an_abandoned_action_is_taken_and_comes_again(store: Store, beside: Store, url: str) -> None:
    """Past its expiry an unfinished action is given to one process, and again after `retry_s`."""
    abandoned = await needing_action(store, 1)
    await needing_action(store, 4_000_000_000_000_000)
    await needing_action(store, None)
    await captured(store, expire_time_us=1)
    taken = await asyncio.gather(*(one.take_abandoned(limit=9, retry_s=30) for one in (store, beside)))
    assert sorted([*taken[0], *taken[1]]) == [(making.TENANT, abandoned.payment_id)]
    assert await store.take_abandoned(limit=9, retry_s=30) == []
    # Half a minute passes for what waits.
    await rows(url, "UPDATE payments SET action_due_us = action_due_us - 30000000 WHERE action_due_us > 30000000")
    assert await store.take_abandoned(limit=9, retry_s=30) == [(making.TENANT, abandoned.payment_id)]


async def test_an_expired_key_leaves_a_tombstone(store: Store, url: str) -> None:
    """Past the window reply and request are gone and the key is kept; an unfinished command never expires."""
    payment = await captured(store)
    open_claim = await unknown(store)
    assert await store.expire_keys(older_than_s=3600, limit=10) == 0
    await rows(url, "UPDATE commands SET final_time_us = final_time_us - 7200000000 WHERE 1 = 1")
    assert await store.expire_keys(older_than_s=3600, limit=10) == 1
    assert await store.expire_keys(older_than_s=3600, limit=10) == 0
    aggregate = await store.load(making.TENANT, payment.payment_id)
    assert aggregate is not None
    (tombstone,) = aggregate.commands
    assert (tombstone.expired, tombstone.reply, tombstone.request_hash) == (True, None, b"")
    assert (await store.find_command(making.TENANT, tombstone.rpc, tombstone.idempotency_key)) == tombstone
    assert aggregate.operations[0].prepared.body == ""
    alive = await store.find_command(making.TENANT, open_claim.command.rpc, open_claim.command.idempotency_key)
    assert alive is not None
    assert not alive.expired


async def test_what_is_unresolved_is_counted(store: Store) -> None:
    """Live operations by state, the age of the oldest unknown, and live callbacks."""
    empty = await store.unresolved()
    assert (dict(empty.live_by_state), empty.oldest_unknown_age_s, empty.callbacks_live) == ({}, 0.0, 0)
    await captured(store)
    await claimed(store)
    await unknown(store)
    await store.receive_callback(making.callback(), making.audit())
    await asyncio.sleep(0.01)
    found = await store.unresolved()
    assert dict(found.live_by_state) == {CommandState.SENDING: 1, CommandState.UNKNOWN: 1}
    assert 0.01 <= found.oldest_unknown_age_s < 60 * RETRY_AFTER_S
    assert found.callbacks_live == 1


async def test_the_audit_trail_grows(store: Store, url: str) -> None:
    """Records are added as they are given, for tenants and for the gateway itself."""
    system = replace(making.CALLER, tenant_id="")
    await store.append_audit([making.audit(detail="a"), making.audit(caller=system, detail="b")])
    assert await rows(url, "SELECT tenant_id, detail FROM audit ORDER BY detail") == [(making.TENANT, "a"), ("", "b")]
