"""What operators' work relies on in the store: guards that hold whoever asks, and lists that end."""

import asyncio
from dataclasses import replace

import pytest

from gateway.domain.commands import Caller
from gateway.domain.errors import Internal
from gateway.domain.operating import AuditFilter
from gateway.domain.storage import CallbackChange, CallbackState, Store
from store import auditing
from tests.store import making
from tests.store.acting import resolved, unknown
from tests.store.looking import census, rows, value


async def test_the_database_refuses_an_approval_by_its_proposer(store: Store, url: str) -> None:
    """Without any rule of ours before it: nothing of the settlement is written."""
    with pytest.raises(Internal):
        await resolved(store, actor="ann")
    assert await value(url, "SELECT count(*) FROM approvals") == 0
    assert await value(url, "SELECT state FROM commands") == "UNKNOWN"


async def test_an_approval_names_a_proposal_and_its_proposer(store: Store) -> None:
    """Neither an invented proposal nor an invented proposer passes."""
    for changes in ({"proposal_id": "prp_none"}, {"proposed_by": "eve"}):
        with pytest.raises(Internal):
            await resolved(store, **changes)


async def test_an_operation_is_taken_once_and_only_when_nobody_holds_it(store: Store, beside: Store) -> None:
    """Of many takers one gets it, under a higher epoch; recovery finds nothing meanwhile, and no look is counted."""
    claim = await unknown(store)
    takers = (each.take_operation(claim.operation, lease_s=60) for each in (store, beside) * 5)
    held = [operation for operation, _ in await asyncio.gather(*takers) if operation is not None]
    assert [(operation.epoch, operation.recoveries) for operation in held] == [(2, 0)]
    assert (await beside.take_due(limit=5, lease_s=60)).operations == ()
    assert await store.reschedule(held[0], next_attempt_s=0, failure="")
    assert len((await beside.take_due(limit=5, lease_s=60)).operations) == 1
    assert (await store.take_operation(claim.operation, lease_s=60))[0] is None


async def test_a_callback_and_its_audit_are_written_together_or_not_at_all(store: Store, url: str) -> None:
    """Where somebody else took the callback over, neither changes."""
    await store.receive_callback(making.callback(), making.audit())
    (first,) = await store.take_callbacks(limit=1, lease_s=0)
    (second,) = await store.take_callbacks(limit=1, lease_s=60)
    before = await census(url)
    change = CallbackChange(first.callback.callback_id, first.epoch, CallbackState.APPLIED)
    assert not await store.change_callback(change, [making.audit()])
    assert await census(url) == before
    assert await store.change_callback(replace(change, expected_epoch=second.epoch), [making.audit()])
    assert (await census(url))["audit"] == before["audit"] + 1


async def test_a_callback_is_put_back_only_when_it_rests_and_was_not_applied(store: Store, url: str) -> None:
    """Held: not. Resting: once, under a higher epoch. Applied: never again."""
    await store.receive_callback(making.callback(), making.audit())
    (taken,) = await store.take_callbacks(limit=1, lease_s=60)
    callback_id = taken.callback.callback_id
    assert await store.replay_callback(callback_id, making.audit(), lease_s=60) is None
    await store.change_callback(CallbackChange(callback_id, taken.epoch, CallbackState.IGNORED, note="of no payment"))
    replays = (store.replay_callback(callback_id, making.audit(), lease_s=60) for _ in range(5))
    (again,) = [each for each in await asyncio.gather(*replays) if each is not None]
    assert (again.epoch, again.state) == (taken.epoch + 1, CallbackState.RECEIVED)
    assert again.callback == taken.callback
    await store.change_callback(CallbackChange(callback_id, again.epoch, CallbackState.APPLIED))
    before = await census(url)
    assert await store.replay_callback(callback_id, making.audit(), lease_s=60) is None
    assert await census(url) == before


async def test_an_alarm_is_raised_once_by_however_many(store: Store, beside: Store, url: str) -> None:
    """Two processes look again and again at once: each operation has one alarm and one audit record."""
    for _ in range(3):
        await unknown(store)
    before = (await census(url))["audit"]
    looks = (each.raise_alarms(lambda _: making.audit(), older_than_s=0, limit=10) for each in (store, beside) * 4)
    raised = [operation.operation_id for found in await asyncio.gather(*looks) for operation in found]
    assert len(raised) == len(set(raised)) == 3
    assert (await census(url))["audit"] == before + 3
    assert await store.raise_alarms(lambda _: making.audit(), older_than_s=3_600, limit=10) == []


async def test_a_rare_record_is_found_among_many_in_bounded_steps(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page looks at so many records and says where to go on, until the one is found and the end is reached."""
    monkeypatch.setattr(auditing, "WALK_ROWS", 10)
    rare = making.audit(caller=Caller(making.TENANT, "organization-1", "eve", "correlation-1"))
    await store.append_audit([rare, *(making.audit() for _ in range(35))])
    position, pages, found = "", 0, []
    while pages == 0 or position:
        page = await store.list_audit(AuditFilter(tenant_id=making.TENANT, actor="eve"), position=position, limit=5)
        found += [kept.record for kept in page.records]
        position, pages = page.position, pages + 1
    assert found == [rare]
    assert pages == 4


async def test_operators_acts_are_found_across_tenants(store: Store, url: str) -> None:
    """By the beginning of their action alone, newest first."""
    for tenant in ("tenant-a", "", "tenant-b"):
        caller = Caller(tenant, "", "ann", "")
        await store.append_audit([making.audit(caller=caller, action="OPERATOR.CALLBACK_REPLAY"), making.audit()])
    page = await store.list_audit(AuditFilter(operators_only=True), position="", limit=10)
    assert [kept.record.caller.tenant_id for kept in page.records] == ["tenant-b", "", "tenant-a"]
    of_one = await store.list_audit(AuditFilter(operators_only=True, tenant_id="tenant-a"), position="", limit=10)
    assert len(of_one.records) == 1
    assert await rows(url, "SELECT count(*) FROM audit") == [(6,)]
