"""What reconciliation, event cursors and restores ask of the store, on both engines."""

import asyncio
from dataclasses import replace
from typing import Any

from gateway.domain.commands import Caller, CommandKind
from gateway.domain.reconciliation import Break, BreakType, JobState, Phase, Reconciliation, Step, Wanted
from gateway.domain.storage import ClaimOutcome, Store
from tests.store import making
from tests.store.acting import captured, unknown
from tests.store.looking import rows

ACCOUNT = making.ACCOUNT
OPERATOR = Caller("", "", "operator", "corr")
DAY_US = 24 * 3_600 * 1_000_000


def wanted(key: str, account_id: str = ACCOUNT, **changes: Any) -> Wanted:
    """A job of the day around the payments that `making` makes."""
    base = Wanted(
        making.fresh("rec"), OPERATOR, key, account_id, making.CREATED_US - DAY_US, making.CREATED_US + DAY_US
    )
    return replace(base, **changes)


async def taken(store: Store, key: str, **changes: Any) -> Reconciliation:
    """A job under our lease."""
    await store.want_reconciliation(wanted(key, **changes), making.audit())
    job = await store.take_reconciliation(lease_s=60.0)
    assert job is not None
    return job


async def declared(store: Store) -> None:
    """A restore whose backup is from before everything."""
    await store.raise_generation(backup_time_us=0, stopped_time_us=0, actor="operator", reason="test")


async def test_an_account_has_one_job_under_way(store: Store, beside: Store) -> None:
    """Of two jobs of one account one is taken, of another account's beside it; the second when the first has ended."""
    for key, account_id in (("one", ACCOUNT), ("two", ACCOUNT), ("other", "another")):
        await store.want_reconciliation(wanted(key, account_id), making.audit())
    got = await asyncio.gather(*(each.take_reconciliation(lease_s=60.0) for each in (store, beside, store, beside)))
    assert sorted(job.idempotency_key for job in got if job) == ["one", "other"]
    one = next(job for job in got if job and job.idempotency_key == "one")
    assert (one.state, one.epoch, one.phase) == (JobState.RUNNING, 1, Phase.THEIRS)
    assert await store.end_reconciliation(one, failure="", quiet_s=0.0)
    two = await beside.take_reconciliation(lease_s=60.0)
    assert two is not None
    assert two.idempotency_key == "two"


async def test_a_stale_epoch_changes_nothing_of_a_job(store: Store, url: str) -> None:
    """Once somebody else has taken it, its former holder neither counts, nor notes, nor pauses, nor ends it."""
    stale = await taken(store, "one")
    await rows(url, "UPDATE reconciliations SET lease_until_us = 1, next_attempt_us = 1")
    fresh = await store.take_reconciliation(lease_s=60.0)
    assert fresh is not None
    assert fresh.epoch == stale.epoch + 1
    found = Break(BreakType.STATE, "t", "pay", "obj", "a", "b")
    assert not await store.note_breaks(stale, [found])
    assert await store.take_step(stale, Step(Phase.OURS, "x", provider_count=9), lease_s=60.0) is None
    assert not await store.pause_reconciliation(stale, next_attempt_s=0.0, postponed=True)
    assert not await store.end_reconciliation(stale, failure="late", quiet_s=0.0)
    assert await store.get_reconciliation(stale.reconciliation_id) == fresh


async def test_a_break_is_kept_once_in_the_order_of_finding(store: Store) -> None:
    """Noted again it is the same one; it is mended with its payment's page, and only where a merge mends it."""
    job = await taken(store, "one")
    mends = Break(BreakType.STATE, "t", "pay_1", "obj", "a", "b", mends=True)
    stays = Break(BreakType.AMOUNT, "t", "pay_1", "obj", "a", "b", operation_ids=("op_1", "op_2"))
    assert await store.note_breaks(job, [mends, stays])
    assert await store.note_breaks(job, [stays, mends])
    step = Step(Phase.OURS, "", seen=(("obj", "t", "pay_1"),), clean=(("t", "pay_1"),))
    after = await store.take_step(job, step, lease_s=60.0)
    assert after is not None
    assert (after.break_count, after.mended_count) == (2, 1)
    found = await store.list_breaks(job.reconciliation_id, after_number=0, limit=10)
    assert found == [replace(mends, number=1, mended=True), replace(stays, number=2)]
    assert await store.list_breaks(job.reconciliation_id, after_number=1, limit=10) == found[1:]


async def test_a_window_is_walked_through_all_tenants(store: Store) -> None:
    """Payments of the account and the window, tenant by tenant, page by page, with what the list showed of each."""
    made = []
    for tenant in ("tenant-a", "tenant-b", "tenant-z"):
        caller = replace(making.CALLER, tenant_id=tenant)
        for number in range(3):
            payment = making.payment(caller, created_time_us=making.CREATED_US + number)
            claim = (
                making.create_claim(payment, caller=caller) if tenant != making.TENANT else making.create_claim(payment)
            )
            assert (await store.claim(claim)).outcome is ClaimOutcome.CLAIMED
            made.append((tenant, payment.payment_id))
    early = making.create_claim(making.payment(created_time_us=making.CREATED_US - 2 * DAY_US))
    elsewhere = making.create_claim(making.payment(account_id="another"))
    for claim in (early, elsewhere):
        assert (await store.claim(claim)).outcome is ClaimOutcome.CLAIMED
    job = await taken(store, "one")
    walked: list[tuple[str, str]] = []
    after = ("", "")
    while page := await store.list_window(job, after=after, limit=2, stuck_s=1.0):
        assert len(page) <= 2
        walked += [(record.tenant_id, record.payment_id) for record in page]
        assert all(record.seen_as is None for record in page)
        after = walked[-1]
    assert walked == sorted(made)
    found = await store.get_payments([*made, ("tenant-a", "pay_none")])
    assert set(found) == set(made)


async def test_a_stuck_payment_is_told_by_its_age(store: Store, url: str) -> None:
    """An operation that is unknown for longer than is normal."""
    claim = await unknown(store, next_attempt_s=1_000.0)
    job = await taken(store, "one")

    async def is_stuck() -> list[bool]:
        return [each.is_stuck for each in await store.list_window(job, after=("", ""), limit=9, stuck_s=600.0)]

    assert await is_stuck() == [False]
    await rows(url, "UPDATE operations SET claimed_time_us = claimed_time_us - 700000000")
    assert await is_stuck() == [True]
    assert claim.payment is not None


async def test_a_declared_restore_holds_every_claim_back_but_no_stored_reply(store: Store, beside: Store) -> None:
    """New payment, refund and repeat, also in a store that was open before; a taken key is still a taken key."""
    payment = await captured(store)
    claim = making.create_claim()
    assert (await store.claim(claim)).outcome is ClaimOutcome.CLAIMED
    await declared(beside)
    refund = making.claim_on(payment, CommandKind.REFUND, amount_minor=1)
    for held in (making.create_claim(), refund):
        assert (await store.claim(held)).outcome is ClaimOutcome.RESTORE_PENDING
    repeated = making.create_claim()
    repeated = replace(repeated, command=replace(repeated.command, idempotency_key=claim.command.idempotency_key))
    assert (await store.claim(repeated)).outcome is ClaimOutcome.KEY_TAKEN
    assert await store.restore_pending(ACCOUNT)
    assert await store.release_account(ACCOUNT, actor="operator", reason="test") == 1
    assert not await store.restore_pending(ACCOUNT)
    assert (await store.claim(making.create_claim())).outcome is ClaimOutcome.CLAIMED


async def test_a_payment_from_before_a_restore_is_claimed_on_only_after_it_was_read(store: Store) -> None:
    """The provider's books are looked at first, for each restore anew; a payment made long after needs no look."""
    payment = await captured(store)
    await declared(store)
    await store.release_account(ACCOUNT, actor="operator", reason="test")
    refund = making.claim_on(payment, CommandKind.REFUND, amount_minor=1)
    assert (await store.claim(refund)).outcome is ClaimOutcome.UNREAD_SINCE_RESTORE
    await store.mark_read(making.TENANT, payment.payment_id, generation=0)
    assert (await store.claim(refund)).outcome is ClaimOutcome.UNREAD_SINCE_RESTORE
    for _ in range(2):
        await store.mark_read(making.TENANT, payment.payment_id, generation=await store.generation())
    assert (await store.claim(refund)).outcome is ClaimOutcome.CLAIMED
    await declared(store)
    await store.release_account(ACCOUNT, actor="operator", reason="test")
    another = making.claim_on(payment, CommandKind.REFUND, amount_minor=1)
    assert (await store.claim(another)).outcome is ClaimOutcome.UNREAD_SINCE_RESTORE


async def test_what_was_lost_is_refused_by_operation_and_by_order(store: Store) -> None:
    """The same operation again, or another one for an order that was paid and is declared unique; nothing else."""
    lost = making.create_claim(making.payment(terms=making.terms(order_reference="o-1", order_reference_unique=True)))
    job = await taken(store, "one")
    found = Break(
        BreakType.MISSING_HERE,
        making.TENANT,
        "pay_lost",
        "obj",
        "",
        "",
        order_reference="o-1",
        operation_ids=(lost.operation.operation_id,),
        holds_order=True,
    )
    assert await store.note_breaks(job, [found])
    assert (await store.claim(lost)).outcome is ClaimOutcome.LOST_IN_RESTORE
    same_order = making.create_claim(making.payment(terms=lost.payment.terms)) if lost.payment else lost
    assert (await store.claim(same_order)).outcome is ClaimOutcome.LOST_IN_RESTORE
    not_unique = making.create_claim(making.payment(terms=making.terms(order_reference="o-1")))
    assert (await store.claim(not_unique)).outcome is ClaimOutcome.CLAIMED


async def test_a_dry_run_and_a_known_operation_lose_nothing(store: Store) -> None:
    """What this database has a command for is not lost, and a dry run notes nothing that a claim would ask for."""
    claim = making.create_claim()
    await store.claim(claim)
    for key, operation_id, dry_run in (("a", claim.operation.operation_id, False), ("b", "op_lost", True)):
        job = await taken(store, key, dry_run=dry_run)
        found = Break(BreakType.MISSING_HERE, making.TENANT, "p", "o", "", "", operation_ids=(operation_id,))
        assert await store.note_breaks(job, [found])
        await store.end_reconciliation(job, failure="", quiet_s=0.0)
    fresh = making.create_claim()
    fresh = replace(fresh, operation=replace(fresh.operation, operation_id="op_lost"))
    assert (await store.claim(fresh)).outcome is ClaimOutcome.CLAIMED


async def test_no_resend_starts_while_a_restore_waits_nor_of_what_is_older(store: Store, url: str) -> None:
    """Refused by the statement that would start it: while anything waits, and what may be from before by some clock."""
    await unknown(store)
    (operation,) = (await store.take_due(limit=1, lease_s=60.0)).operations
    await declared(store)
    assert await store.start_resend(operation, lease_s=60.0, send_window_s=10.0) is None
    await store.release_account(ACCOUNT, actor="operator", reason="test")
    for since_s, starts in ((0, False), (599, False), (601, True)):
        await rows(url, f"UPDATE operations SET claimed_time_us = raised_time_us + {since_s}000000 FROM restores")
        assert await store.declared_since(operation.claimed_time_us + since_s * 1_000_000) is not starts
        assert (await store.start_resend(operation, lease_s=60.0, send_window_s=10.0) is not None) is starts


async def test_one_command_claimed_by_many_at_once_is_claimed_once(store: Store, beside: Store) -> None:
    """The same key means the same ids: whichever unique index notices first, the others find the key taken."""
    claim = making.create_claim()
    copies = [
        replace(claim, payment=making.payment(), command=claim.command, operation=claim.operation) for _ in range(12)
    ]
    claims = [
        replace(
            copy,
            command=replace(copy.command, payment_id=copy.payment.payment_id if copy.payment else ""),
            operation=replace(copy.operation, payment_id=copy.payment.payment_id if copy.payment else ""),
        )
        for copy in copies
    ]
    got = await asyncio.gather(*((store, beside)[number % 2].claim(each) for number, each in enumerate(claims)))
    outcomes = sorted(each.outcome for each in got)
    assert outcomes == [ClaimOutcome.CLAIMED] + [ClaimOutcome.KEY_TAKEN] * 11


async def test_an_event_cursor_has_one_holder(store: Store, beside: Store, url: str) -> None:
    """Begun once, due after its pause, held by one at a time, moved on only by its holder."""
    ask: dict[str, Any] = {"lease_s": 60.0, "first_s": 0.0, "poll_s": 0.0}
    for each in await asyncio.gather(*(s.take_event_cursor([ACCOUNT], **ask) for s in (store, beside))):
        assert each is None or each.epoch == 1
    await rows(url, "UPDATE event_cursors SET lease_until_us = NULL, next_attempt_us = 1")
    got = await asyncio.gather(*(s.take_event_cursor([ACCOUNT], **ask) for s in (store, beside, store, beside)))
    (cursor,) = [each for each in got if each is not None]
    stale = replace(cursor, epoch=cursor.epoch - 1)
    move: dict[str, Any] = {"after_event_id": "e9", "last_event_time_us": 9, "next_attempt_s": 0.0}
    assert not await store.move_event_cursor(stale, **move)
    assert await store.move_event_cursor(cursor, **move)
    again = await beside.take_event_cursor([ACCOUNT], **ask)
    assert again is not None
    assert (again.after_event_id, again.last_event_time_us) == ("e9", 9)
    callback = making.callback()
    await store.receive_callback(callback, making.audit())
    asked = [callback.event_id, "e-none"]
    assert await store.unknown_events(callback.provider, callback.account_id, asked) == ["e-none"]
