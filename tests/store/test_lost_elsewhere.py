"""What the store refuses of an operation that a restore took back to another account than it had gone to."""

import asyncio
from dataclasses import replace

from sqlalchemy import literal
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.domain.commands import CommandKind
from gateway.domain.lost import LostOutcome
from gateway.domain.reconciliation import Break, BreakType
from gateway.domain.storage import ClaimOutcome, Store
from store import open_store
from store.breaks import note_breaks
from tests.store import making
from tests.store.acting import authorized, captured, lost, not_sent, said_by, unknown
from tests.store.test_oversight import declared, taken

C = ClaimOutcome


async def found_lost(store: Store, payment_id: str, operation_id: str, account_id: str = making.ACCOUNT) -> None:
    """A reconciliation of the account finds the operation there."""
    job = await taken(store, making.fresh("key"), account_id=account_id)
    names = (BreakType.DUPLICATE, making.TENANT, payment_id, making.fresh("obj"), "", "")
    found = Break(*names, operation_ids=(operation_id,))
    assert await store.note_breaks(job, [found])
    assert await store.end_reconciliation(job, failure="", quiet_s=0.0)


async def test_an_operation_is_known_where_it_is(store: Store) -> None:
    """What this database has at another account is lost at this one, and is not claimed again; here it is not lost."""
    elsewhere, here = making.create_claim(), making.create_claim()
    elsewhere = replace(elsewhere, operation=replace(elsewhere.operation, account_id="second"))
    for claim, outcome in ((elsewhere, C.LOST_IN_RESTORE), (here, C.CLAIMED)):
        payment = await not_sent(store, claim)
        await found_lost(store, payment.payment_id, claim.operation.operation_id)
        assert await store.has_lost(making.TENANT, payment.payment_id) == (outcome is C.LOST_IN_RESTORE)
        # Twice where it is refused: a store that has met a restore once asks in the claim's own statement.
        for _ in range(2 if outcome is C.LOST_IN_RESTORE else 1):
            assert (await store.claim(replace(claim, reopen=True))).outcome is outcome


async def test_a_create_is_not_claimed_again_for_an_order_that_was_paid(store: Store) -> None:
    """Another key paid its order in the lost time."""
    terms = making.terms(order_reference="o-1", order_reference_unique=True)
    claim = making.create_claim(making.payment(terms=terms))
    await not_sent(store, claim)
    await lost(store, order="o-1")
    for _ in range(2):
        assert (await store.claim(replace(claim, reopen=True))).outcome is C.LOST_IN_RESTORE


async def test_a_create_whose_later_step_is_lost_is_not_claimed_again(store: Store) -> None:
    """It went on at another account in the lost time, which no list of its own account shows."""
    claim = making.create_claim()
    payment = await not_sent(store, claim)
    await found_lost(store, payment.payment_id, "op_later", account_id="second")
    for _ in range(2):
        assert (await store.claim(replace(claim, reopen=True))).outcome is C.LOST_IN_RESTORE


async def test_a_refund_is_claimed_again_whatever_else_of_its_payment_is_lost(store: Store) -> None:
    """Only a create may have gone to another account."""
    claim = making.claim_on(await captured(store), CommandKind.REFUND, amount_minor=1)
    payment = await not_sent(store, claim)
    await found_lost(store, payment.payment_id, "op_lost")
    assert (await store.claim(replace(claim, reopen=True))).outcome is C.CLAIMED


async def test_a_new_payment_is_claimed_as_of_the_restores_that_were_asked_about(store: Store) -> None:
    """One that was declared since may have lost a later step of it, and its caller has to look again."""
    await declared(store)
    await store.release_account(making.ACCOUNT, actor="operator", reason="test")
    for _ in range(2):
        for known, outcome in ((0, C.UNREAD_SINCE_RESTORE), (1, C.CLAIMED)):
            claim = replace(making.create_claim(), restores_known=known)
            assert (await store.claim(claim)).outcome is outcome


async def test_no_resend_of_a_create_that_went_on(store: Store) -> None:
    """Neither where its own operation is lost elsewhere nor where a later step of its payment is."""
    for later in (False, True):
        claim = await unknown(store)
        (operation,) = (await store.take_due(limit=1, lease_s=60.0)).operations
        lost_id = "op_later" if later else operation.operation_id
        await found_lost(store, claim.command.payment_id, lost_id, account_id="second")
        assert await store.start_resend(operation, lease_s=60.0, send_window_s=10.0) is None


async def test_what_is_lost_of_a_payment_holds_no_capture_back(store: Store) -> None:
    """Only a create may have gone to another account."""
    payment = await authorized(store)
    await found_lost(store, payment.payment_id, "op_lost")
    claim = making.claim_on(payment, CommandKind.CAPTURE, amount_minor=1)
    assert (await store.claim(claim)).outcome is C.CLAIMED


async def test_a_word_waits_for_what_is_being_found(postgresql: str) -> None:
    """A reconciliation has found more and not committed: the approval comes after it, and was of less."""
    store = await open_store(postgresql)
    proposal = await said_by(store, await lost(store), LostOutcome.UNDONE)
    job = await taken(store, "more")
    more = Break(*(BreakType.MISSING_HERE, making.TENANT, "pay_lost", "obj2", "", ""), operation_ids=("op_more",))
    engine = create_async_engine(postgresql)
    async with engine.begin() as connection:
        later = literal(proposal.proposed_time_us + 1)
        await connection.run_sync(lambda sync: note_breaks(sync, later, job, [more]))
        approved = asyncio.create_task(store.settle_lost(proposal, making.CALLER, "seen", making.audit()))
        done, _ = await asyncio.wait([approved], timeout=0.3)
        assert not done
    assert await approved is None
    await engine.dispose()
    await store.close()
