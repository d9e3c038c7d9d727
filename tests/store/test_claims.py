"""What a claim promises: one winner for a key, an order and an amount, and nothing left behind by the others."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from gateway.domain.commands import Caller, CommandKind
from gateway.domain.states import CommandState, PaymentState
from gateway.domain.storage import (
    COMMANDS_PER_PAYMENT_MAX,
    ClaimOutcome,
    Store,
)
from tests.store import making
from tests.store.acting import authorized, captured, not_sent
from tests.store.looking import census, rows, value

C = ClaimOutcome


async def test_a_claim_is_read_back_as_it_was_made(store: Store) -> None:
    """What was claimed is what `load` gives, with the store's version, epoch and times."""
    claim = making.create_claim()
    claimed = await store.claim(claim)
    aggregate = await store.load(making.TENANT, claim.command.payment_id)
    assert aggregate is not None
    assert (claimed.outcome, claimed.version, claimed.epoch) == (C.CLAIMED, 1, 1)
    assert claimed.lease_until_us == claimed.claimed_time_us + 30_000_000
    assert claimed.last_send_us == claimed.claimed_time_us + 20_000_000
    assert aggregate.payment == claim.payment == await store.get_payment(making.TENANT, claim.command.payment_id)
    assert aggregate.commands == (claim.command,)
    assert aggregate.operations == (making.held(claim, claimed),)
    assert aggregate.refunds == ()


async def test_one_key_is_claimed_once_by_fifty_callers(store: Store, beside: Store, url: str) -> None:
    """Of fifty claims under one key over two connections one wins, and the others leave no row behind."""
    claims = [making.create_claim(key="the-key") for _ in range(50)]
    stores = (store, beside)
    claimed = await asyncio.gather(*(stores[i % 2].claim(claim) for i, claim in enumerate(claims)))
    assert Counter(one.outcome for one in claimed) == {C.CLAIMED: 1, C.KEY_TAKEN: 49}
    counted = await census(url)
    assert {name: counted[name] for name in ("payments", "commands", "operations", "history")} == {
        "payments": 1,
        "commands": 1,
        "operations": 1,
        "history": 1,
    }
    winner = next(claim for claim, one in zip(claims, claimed, strict=True) if one.outcome is C.CLAIMED)
    assert await store.find_command(making.TENANT, winner.command.rpc, "the-key") == winner.command


async def test_a_repeated_key_on_a_payment_changes_nothing(store: Store, beside: Store, url: str) -> None:
    """Of twenty refunds under one key one is claimed; amount, version and count are taken once."""
    payment = await captured(store)
    claims = [making.claim_on(payment, CommandKind.REFUND, amount_minor=100, key="again") for _ in range(20)]
    stores = (store, beside)
    claimed = await asyncio.gather(*(stores[i % 2].claim(claim) for i, claim in enumerate(claims)))
    assert Counter(one.outcome for one in claimed) == {C.CLAIMED: 1, C.KEY_TAKEN: 19}
    after = await store.get_payment(making.TENANT, payment.payment_id)
    assert after is not None
    assert (after.version, after.reserved_refund_minor) == (3, 100)
    assert await value(url, "SELECT command_count FROM payments") == 2
    assert (await census(url))["refunds"] == 1


async def test_a_key_is_taken_even_where_the_guard_fails_too(store: Store) -> None:
    """A repeated exclusive command finds its own key before it finds the payment busy with itself."""
    payment = await authorized(store)
    first = making.claim_on(payment, CommandKind.CAPTURE, amount_minor=5_000, key="k")
    assert (await store.claim(first)).outcome is C.CLAIMED
    again = making.claim_on(payment, CommandKind.CAPTURE, amount_minor=5_000, key="k")
    assert (await store.claim(again)).outcome is C.KEY_TAKEN


async def test_two_refunds_of_60_on_100_are_one_refund(store: Store, beside: Store) -> None:
    """Refunds side by side never reserve more than was captured (Hyperswitch #13182)."""
    payment = await captured(store)
    claims = [making.claim_on(payment, CommandKind.REFUND, amount_minor=6_000) for _ in range(2)]
    claimed = await asyncio.gather(store.claim(claims[0]), beside.claim(claims[1]))
    assert Counter(one.outcome for one in claimed) == {C.CLAIMED: 1, C.REFUSED: 1}
    after = await store.get_payment(making.TENANT, payment.payment_id)
    assert after is not None
    assert (after.reserved_refund_minor, after.refundable_minor) == (6_000, 4_000)


async def test_many_small_refunds_add_up_to_the_capture(store: Store, beside: Store) -> None:
    """Of forty refunds of $7 on $100 fourteen are claimed, each with a version of its own."""
    payment = await captured(store)
    claims = [making.claim_on(payment, CommandKind.REFUND, amount_minor=700) for _ in range(40)]
    stores = (store, beside)
    claimed = await asyncio.gather(*(stores[i % 2].claim(claim) for i, claim in enumerate(claims)))
    won = [one for one in claimed if one.outcome is C.CLAIMED]
    assert len(won) == 14
    assert sorted(one.version for one in won) == list(range(3, 17))


async def test_a_capture_never_exceeds_the_authorization(store: Store) -> None:
    """What is held less what is captured, pending or reserved bounds a capture, to the last unit."""
    payment = await authorized(store)
    too_much = making.claim_on(payment, CommandKind.CAPTURE, amount_minor=10_001)
    assert (await store.claim(too_much)).outcome is C.REFUSED
    everything = making.claim_on(payment, CommandKind.CAPTURE, amount_minor=10_000)
    assert (await store.claim(everything)).outcome is C.CLAIMED
    after = await store.get_payment(making.TENANT, payment.payment_id)
    assert after is not None
    assert (after.reserved_capture_minor, after.capturable_minor) == (10_000, 0)
    assert after.busy_command_id == everything.command.command_id


async def test_exclusive_commands_shut_each_other_out(store: Store, beside: Store) -> None:
    """Of a capture and a cancel at once one is claimed; refunds are not held up by it."""
    payment = await authorized(store)
    capture = making.claim_on(payment, CommandKind.CAPTURE, amount_minor=1_000)
    cancel = making.claim_on(payment, CommandKind.CANCEL)
    claimed = await asyncio.gather(store.claim(capture), beside.claim(cancel))
    assert Counter(one.outcome for one in claimed) == {C.CLAIMED: 1, C.REFUSED: 1}
    paid = await captured(store)
    assert (await store.claim(making.claim_on(paid, CommandKind.CANCEL))).outcome is C.CLAIMED
    refund = making.claim_on(paid, CommandKind.REFUND, amount_minor=1_000)
    assert (await store.claim(refund)).outcome is C.CLAIMED


async def test_a_claim_on_an_old_view_is_refused(store: Store) -> None:
    """Where the payment moved on since it was read, an expected version no longer holds."""
    payment = await captured(store)
    stale = making.claim_on(payment, CommandKind.REFUND, amount_minor=1, expected_version=1)
    assert (await store.claim(stale)).outcome is C.REFUSED
    current = making.claim_on(payment, CommandKind.REFUND, amount_minor=1, expected_version=2)
    assert (await store.claim(current)).outcome is C.CLAIMED


async def test_a_claim_on_a_missing_or_foreign_payment_is_refused(store: Store, url: str) -> None:
    """Another tenant's payment is as good as none, and its refusal writes nothing."""
    payment = await captured(store)
    before = await census(url)
    foreign = replace(payment, tenant_id="tenant-b")
    assert (await store.claim(making.claim_on(foreign, CommandKind.REFUND, amount_minor=1))).outcome is C.REFUSED
    assert await census(url) == before


async def test_a_payment_takes_a_bounded_number_of_commands(store: Store, url: str) -> None:
    """At COMMANDS_PER_PAYMENT_MAX a payment takes no more."""
    payment = await captured(store)
    await rows(url, f"UPDATE payments SET command_count = {COMMANDS_PER_PAYMENT_MAX - 1} WHERE 1 = 1")
    last = making.claim_on(payment, CommandKind.REFUND, amount_minor=1)
    assert (await store.claim(last)).outcome is C.CLAIMED
    assert (await store.claim(making.claim_on(payment, CommandKind.REFUND, amount_minor=1))).outcome is C.REFUSED


async def test_a_unique_order_is_paid_once(store: Store, beside: Store, url: str) -> None:
    """Fresh keys for one unique order: one payment, whose id the others are told."""
    order = {"order_reference": "order-1", "order_reference_unique": True}
    claims = [making.create_claim(making.payment(terms=making.terms(**order))) for _ in range(20)]
    stores = (store, beside)
    claimed = await asyncio.gather(*(stores[i % 2].claim(claim) for i, claim in enumerate(claims)))
    assert Counter(one.outcome for one in claimed) == {C.CLAIMED: 1, C.ORDER_TAKEN: 19}
    ((holder,),) = await rows(url, "SELECT payment_id FROM payments")
    assert {one.holder_payment_id for one in claimed if one.outcome is C.ORDER_TAKEN} == {holder}
    assert (await census(url))["commands"] == 1


async def test_an_order_is_free_for_another_tenant_and_where_it_is_not_unique(store: Store) -> None:
    """Uniqueness is the tenant's, and only where it was asked for."""
    order = {"order_reference": "order-1", "order_reference_unique": True}
    other = Caller("tenant-b", "organization-1", "orders", "c")
    for claim in (
        making.create_claim(making.payment(terms=making.terms(**order))),
        making.create_claim(making.payment(other, terms=making.terms(**order)), caller=other),
        making.create_claim(making.payment(terms=making.terms(order_reference="order-1"))),
    ):
        assert (await store.claim(claim)).outcome is C.CLAIMED


@pytest.mark.parametrize("state", [PaymentState.CANCELLED, PaymentState.EXPIRED, PaymentState.FAILED])
async def test_a_closed_payment_gives_its_order_up(store: Store, state: PaymentState) -> None:
    """CANCELLED and EXPIRED free the order; FAILED can be confirmed again and keeps it."""
    order = {"order_reference": "order-1", "order_reference_unique": True}
    claim = making.create_claim(making.payment(terms=making.terms(**order)))
    claimed = await store.claim(claim)
    assert claim.payment is not None
    closed = replace(claim.payment, state=state, version=2)
    await store.settle(making.settlement_of(claim, claimed, payment=closed, movements=()))
    again = await store.claim(making.create_claim(making.payment(terms=making.terms(**order))))
    assert again.outcome is (C.ORDER_TAKEN if state is PaymentState.FAILED else C.CLAIMED)


async def test_a_taken_key_comes_before_a_taken_order(store: Store) -> None:
    """The same call again is a replay, not a second payment for its own order."""
    terms = making.terms(order_reference="order-1", order_reference_unique=True)
    assert (await store.claim(making.create_claim(making.payment(terms=terms), key="k"))).outcome is C.CLAIMED
    again = await store.claim(making.create_claim(making.payment(terms=terms), key="k"))
    assert again.outcome is C.KEY_TAKEN


async def test_a_command_that_was_not_sent_is_claimed_again(store: Store, url: str) -> None:
    """Reopening brings command and operation back to SENDING with a higher epoch and the new request."""
    claim = making.create_claim()
    payment = await not_sent(store, claim)
    prepared = replace(claim.operation.prepared, body="another")
    again = replace(
        claim, operation=replace(claim.operation, prepared=prepared, account_id="second"), payment=None, reopen=True
    )
    claimed = await store.claim(again)
    assert (claimed.outcome, claimed.version, claimed.epoch) == (C.CLAIMED, 3, 2)
    aggregate = await store.load(making.TENANT, payment.payment_id)
    assert aggregate is not None
    assert aggregate.operations == (making.held(again, claimed),)
    assert aggregate.commands[0].state is CommandState.SENDING
    assert await value(url, "SELECT command_count FROM payments") == 1


async def test_a_reopened_create_moves_its_payment_to_the_new_account(store: Store) -> None:
    """With `payment` given, a reopened create takes the route that was chosen this time."""
    claim = making.create_claim()
    await not_sent(store, claim)
    assert claim.payment is not None
    routed = replace(claim.payment, provider="stripe", account_id="stripe-main")
    assert (await store.claim(replace(claim, payment=routed, reopen=True))).outcome is C.CLAIMED
    after = await store.get_payment(making.TENANT, routed.payment_id)
    assert after is not None
    assert (after.provider, after.account_id) == ("stripe", "stripe-main")


async def test_a_command_is_reopened_once(store: Store, beside: Store) -> None:
    """Of ten that reopen one command at once one is claimed; a sent command is never reopened."""
    payment = await captured(store)
    refund = making.claim_on(payment, CommandKind.REFUND, amount_minor=6_000)
    await not_sent(store, refund)
    stores = (store, beside)
    again = [replace(refund, reopen=True) for _ in range(10)]
    claimed = await asyncio.gather(*(stores[i % 2].claim(claim) for i, claim in enumerate(again)))
    assert Counter(one.outcome for one in claimed) == {C.CLAIMED: 1, C.KEY_TAKEN: 9}
    after = await store.get_payment(making.TENANT, payment.payment_id)
    assert after is not None
    assert after.reserved_refund_minor == 6_000


@pytest.mark.parametrize("table", ["commands", "operations"])
async def test_what_may_have_been_sent_is_not_reopened(store: Store, url: str, table: str) -> None:
    """Command and operation must both be NOT_SENT: one that is not stops the claim, and nothing changes."""
    claim = making.create_claim()
    payment = await not_sent(store, claim)
    await rows(url, f"UPDATE {table} SET state = 'UNKNOWN' WHERE 1 = 1")
    assert (await store.claim(replace(claim, reopen=True))).outcome is not C.CLAIMED
    assert await store.get_payment(making.TENANT, payment.payment_id) == payment
    assert await value(url, "SELECT epoch FROM operations") == 1


async def test_a_reopened_refund_must_fit_again(store: Store) -> None:
    """What was refunded meanwhile is no longer there for a refund that was not sent."""
    payment = await captured(store)
    refund = making.claim_on(payment, CommandKind.REFUND, amount_minor=6_000)
    await not_sent(store, refund)
    assert (await store.claim(making.claim_on(payment, CommandKind.REFUND, amount_minor=5_000))).outcome is C.CLAIMED
    assert (await store.claim(replace(refund, reopen=True))).outcome is C.REFUSED


async def test_a_new_payment_is_read_back_as_it_was_claimed(store: Store) -> None:
    """To the last column, also those that stand in a statement's text since nothing new can have them."""
    claim = making.create_claim()
    claimed = await store.claim(claim)
    aggregate = await store.load(making.TENANT, claim.operation.payment_id)
    assert aggregate is not None
    assert claim.payment is not None
    assert aggregate.payment == replace(claim.payment, version=1)
    assert aggregate.commands == (claim.command,)
    assert aggregate.operations == (making.held(claim, claimed),)
