"""What the store keeps of lost payments: found once, settled by two, and free for a new command only when undone."""

import asyncio
from dataclasses import replace

import pytest

from gateway.domain.commands import CommandKind
from gateway.domain.errors import Internal
from gateway.domain.lost import PROPOSAL_AGE_S_MAX, LostOutcome
from gateway.domain.storage import ClaimOutcome, Store
from tests.store import making
from tests.store.acting import captured, lost, said_by, said_of

STANDS, UNDONE = LostOutcome.STANDS, LostOutcome.UNDONE


async def claim_of(store: Store, order: str, operation_id: str = "") -> ClaimOutcome:
    """What a create that declares this order unique comes to."""
    claim = making.create_claim(making.payment(terms=making.terms(order_reference=order, order_reference_unique=True)))
    if operation_id:
        claim = replace(claim, operation=replace(claim.operation, operation_id=operation_id))
    return (await store.claim(claim)).outcome


async def test_an_order_is_free_only_once_it_is_undone(store: Store) -> None:
    """STANDS keeps it, UNDONE frees it; the lost operation itself is refused for ever."""
    found = await lost(store, order="o-1")
    (operation_id,) = found.operation_ids
    assert await claim_of(store, "o-1") is ClaimOutcome.LOST_IN_RESTORE
    assert await said_of(store, found, STANDS)
    assert await claim_of(store, "o-1") is ClaimOutcome.LOST_IN_RESTORE
    assert await store.has_lost(making.TENANT, "pay_lost")
    assert await said_of(store, found, UNDONE)
    assert not await store.has_lost(making.TENANT, "pay_lost")
    assert await claim_of(store, "o-1", operation_id) is ClaimOutcome.LOST_IN_RESTORE
    assert await claim_of(store, "o-1") is ClaimOutcome.CLAIMED
    by_operation = await store.lost_by(making.TENANT, operation_id, "")
    assert by_operation is not None
    assert by_operation.settlement is not None
    assert by_operation.settlement.proposal.order_reference == "o-1", "what it was is still told"
    assert await store.lost_by(making.TENANT, "op_other", "o-1") is None


async def test_of_two_approvals_one_is_written(store: Store, beside: Store) -> None:
    """The same proposal approved twice at once is settled once, and both are told so."""
    found = await lost(store)
    first = await said_of(store, found, STANDS)
    assert first is not None
    again = [each.settle_lost(first.proposal, making.CALLER, "me too", making.audit()) for each in (store, beside)]
    assert [each and each.actor for each in await asyncio.gather(*again)] == ["bob", "bob"]


async def test_nobody_approves_alone(store: Store) -> None:
    """The database itself refuses an approval by its proposer."""
    with pytest.raises(Internal):
        await said_of(store, await lost(store), UNDONE, actor="ann", approver="ann")


async def test_an_overtaken_or_old_proposal_settles_nothing(store: Store) -> None:
    """A later proposal, a week, and more that is found each end it; more that is found asks for a new word as well."""
    found = await lost(store)
    overtaken, latest = [await said_by(store, found, outcome) for outcome in (UNDONE, STANDS)]
    old = replace(latest, proposed_time_us=latest.proposed_time_us - (PROPOSAL_AGE_S_MAX + 1) * 1_000_000)
    for each in (overtaken, old):
        assert await store.settle_lost(each, making.CALLER, "late", making.audit()) is None
    assert await store.settle_lost(latest, making.CALLER, "in time", making.audit())
    unapproved = await said_by(store, found, UNDONE)
    more = await lost(store, key="more")
    assert more.settlement is None, "what was said was said of less"
    assert len(more.operation_ids) == 2
    assert await store.settle_lost(unapproved, making.CALLER, "late", making.audit()) is None
    assert await said_of(store, more, UNDONE)


async def test_lost_payments_are_listed_page_by_page(store: Store) -> None:
    """Every one once, in order, of one tenant or of all, settled ones only when asked for."""
    for number in range(5):
        await lost(store, f"pay_{number}", key=f"k{number}")
    third = await store.get_lost(making.TENANT, "pay_3")
    assert third is not None
    await said_of(store, third, STANDS)
    for with_settled, wanted in ((False, ["pay_0", "pay_1", "pay_2", "pay_4"]), (True, [f"pay_{n}" for n in range(5)])):
        seen: list[str] = []
        after = ("", "")
        while page := await store.list_lost("", after=after, limit=2, with_settled=with_settled):
            seen += [each.payment_id for each in page]
            after = (page[-1].tenant_id, page[-1].payment_id)
        assert seen == wanted
    assert not await store.list_lost("another", after=("", ""), limit=9, with_settled=True)


async def test_a_further_command_of_a_payment_that_was_lost_is_refused(store: Store) -> None:
    """A refund that the provider's books show is not claimed again on the payment that the backup knows."""
    payment = await captured(store)
    (operation_id,) = (await lost(store, payment.payment_id)).operation_ids
    refund = making.claim_on(payment, CommandKind.REFUND, amount_minor=1)
    again = replace(refund, operation=replace(refund.operation, operation_id=operation_id))
    assert (await store.claim(again)).outcome is ClaimOutcome.LOST_IN_RESTORE
    assert (await store.claim(refund)).outcome is ClaimOutcome.CLAIMED
