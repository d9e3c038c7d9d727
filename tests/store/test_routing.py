"""What the store keeps of routes: the next step of a create, failovers that are due, and the modes of accounts."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from gateway.domain.declines import Decline, DeclineReason
from gateway.domain.errors import Sent
from gateway.domain.modes import AccountMode, ProviderMode
from gateway.domain.observations import Source
from gateway.domain.payments import Payment
from gateway.domain.reconciliation import Break, BreakType
from gateway.domain.routes import AttemptOutcome, FailoverOn, Route
from gateway.domain.states import CommandState
from gateway.domain.storage import Claim, ClaimOutcome, OperationChange, SettleOutcome, Store
from store.routes import FAILOVER_PAUSE_US
from tests.store import making
from tests.store.looking import rows, value
from tests.store.test_oversight import declared, taken

C = ClaimOutcome
ROUTE = Route("all", ("rule all matched",), (making.ACCOUNT, "second"), frozenset(FailoverOn), attempts_max=2)


async def declined(store: Store, source: Source = Source.API_REPLY) -> tuple[Claim, Payment]:
    """A create whose first account has declined, as `source` told, and its payment as it stands, on its way."""
    claim = making.create_claim(making.payment(route=ROUTE))
    claimed = await store.claim(claim)
    operation = replace(
        making.held(claim, claimed),
        state=CommandState.FAILED,
        sent=Sent.YES,
        decline=Decline(DeclineReason.DECLINED),
    )
    assert claim.payment is not None
    moving = replace(
        claim.payment,
        version=2,
        provider_payment_id="prov_first",
        route=ROUTE.declined_by(making.ACCOUNT, "DECLINED", making.CREATED_US),
    )
    settlement = making.settlement_of(
        claim,
        claimed,
        source=source,
        payment=moving,
        operations=(OperationChange(operation, claimed.epoch, None),),
        commands=(),
        movements=(),
        observations=(),
        transitions=(),
    )
    assert await store.settle(settlement) is SettleOutcome.APPLIED
    return claim, moving


def next_step(claim: Claim, moving: Payment) -> Claim:
    """The same create at the second account."""
    assert moving.route is not None
    route = replace(moving.route.ended_at("second", AttemptOutcome.CHOSEN, "", 1), failing_over=False)
    moved = replace(moving, provider="stripe", account_id="second", provider_payment_id=None, route=route)
    operation = making.operation(claim.command, step=2, provider="stripe", account_id="second")
    return replace(
        claim, operation=operation, payment=moved, expected_version=moving.version, next_step=True, transitions=()
    )


async def test_a_next_step_moves_the_payment_and_leaves_its_command(store: Store) -> None:
    """Account, route and object are the next account's; the command is the same row, still SENDING."""
    claim, moving = await declined(store)
    again = next_step(claim, moving)
    claimed = await store.claim(again)
    assert (claimed.outcome, claimed.version, claimed.epoch) == (C.CLAIMED, 3, 1)
    after = await store.load(making.TENANT, moving.payment_id)
    assert after is not None
    assert after.payment == replace(again.payment, version=3, updated_time_us=after.payment.updated_time_us)  # type: ignore[type-var]  # a payment is given
    assert after.commands == (claim.command,)
    assert [(o.step, o.account_id, o.state) for o in after.operations] == [
        (1, making.ACCOUNT, CommandState.FAILED),
        (2, "second", CommandState.SENDING),
    ]


async def test_a_next_step_is_claimed_once(store: Store, beside: Store) -> None:
    """Of ten at once one is claimed; the others have changed nothing."""
    claim, moving = await declined(store)
    stores = (store, beside)
    claimed = await asyncio.gather(*(stores[i % 2].claim(next_step(claim, moving)) for i in range(10)))
    assert Counter(each.outcome for each in claimed) == {C.CLAIMED: 1, C.REFUSED: 9}


@pytest.mark.parametrize("state", ["FAILED", "NOT_SENT", "UNKNOWN", "SUCCEEDED"])
async def test_what_is_over_takes_no_next_step(store: Store, url: str, state: str) -> None:
    """Only a create that is SENDING goes on: not one that another process has concluded."""
    claim, moving = await declined(store)
    await rows(url, f"UPDATE commands SET state = '{state}'")
    assert (await store.claim(next_step(claim, moving))).outcome is C.REFUSED
    assert await value(url, "SELECT count(*) FROM operations") == 1


@pytest.mark.parametrize(("state", "after"), [("NOT_SENT", "SENDING"), ("UNKNOWN", "UNKNOWN"), ("SENDING", "SENDING")])
async def test_a_lost_step_is_taken_up_whatever_a_restore_took_its_command_back_to(
    store: Store, url: str, state: str, after: str
) -> None:
    """What was not sent is under way by that; what its caller was told as UNKNOWN stays so. What is over is over."""
    claim, moving = await declined(store)
    step = replace(next_step(claim, moving), took_effect=True)
    job = await taken(store, "one", account_id="second")
    names = (BreakType.DUPLICATE, making.TENANT, moving.payment_id, "obj", "", "")
    assert await store.note_breaks(job, [Break(*names, operation_ids=(step.operation.operation_id,))])
    await rows(url, "UPDATE commands SET state = 'FAILED'")
    assert (await store.claim(step)).outcome is C.REFUSED
    await rows(url, f"UPDATE commands SET state = '{state}'")
    assert (await store.claim(step)).outcome is C.CLAIMED
    assert await value(url, "SELECT state FROM commands") == after


async def test_a_payment_that_moved_on_takes_no_next_step(store: Store) -> None:
    """The confirmation was of another version."""
    claim, moving = await declined(store)
    stale = replace(next_step(claim, moving), expected_version=moving.version - 1)
    assert (await store.claim(stale)).outcome is C.REFUSED


async def test_a_restore_holds_a_next_step_back(store: Store, beside: Store, url: str) -> None:
    """Until its account is cleared and its payment read; for ever where it is lost, or older than the restore."""
    claim, moving = await declared_after_a_decline(store, beside)
    step = next_step(claim, moving)
    assert (await store.claim(step)).outcome is C.RESTORE_PENDING
    for account_id, left in ((making.ACCOUNT, C.RESTORE_PENDING), ("second", C.UNREAD_SINCE_RESTORE)):
        await store.release_account(account_id, actor="operator", reason="test")
        assert (await store.claim(step)).outcome is left
    await store.mark_read(making.TENANT, moving.payment_id, generation=await store.generation())
    job = await taken(store, "one")
    found = Break(
        BreakType.STATE,
        making.TENANT,
        moving.payment_id,
        "obj",
        "",
        "",
        operation_ids=(step.operation.operation_id,),
    )
    assert not await store.has_lost(making.TENANT, moving.payment_id)
    assert await store.note_breaks(job, [found])
    assert await store.has_lost(making.TENANT, moving.payment_id)
    assert (await store.claim(step)).outcome is C.LOST_IN_RESTORE
    for _ in range(2):
        assert (await store.claim(next_step(claim, moving))).outcome is C.REFUSED
        await rows(url, "UPDATE operations SET claimed_time_us = claimed_time_us + 599000000")
    await rows(url, "UPDATE operations SET claimed_time_us = claimed_time_us + 2000000")
    assert (await store.claim(next_step(claim, moving))).outcome is C.CLAIMED


async def declared_after_a_decline(store: Store, beside: Store) -> tuple[Claim, Payment]:
    """A failover under way, and a restore that another process has declared since."""
    claim, moving = await declined(store)
    await declared(beside)
    return claim, moving


async def test_a_failover_is_due_until_it_has_come_to_its_end(store: Store, url: str) -> None:
    """Nobody takes it before its time, one takes it then, and once the payment has moved nobody does."""
    claim, moving = await declined(store)
    due = (making.TENANT, moving.payment_id)
    await rows(url, "UPDATE payments SET failover_due_us = 9000000000000000")
    assert await store.take_failovers(limit=10, retry_s=30) == []
    await rows(url, "UPDATE payments SET failover_due_us = 1")
    assert await store.take_failovers(limit=10, retry_s=30) == [due]
    assert await store.take_failovers(limit=10, retry_s=30) == []
    await store.claim(next_step(claim, moving))
    assert await value(url, "SELECT failover_due_us FROM payments") is None


@pytest.mark.parametrize("source", Source)
async def test_a_failover_that_nobody_carries_on_is_due_at_once(store: Store, url: str, source: Source) -> None:
    """A call that was told the decline is left a while to go on; what recovery or a callback tells waits for nobody."""
    _, moving = await declined(store, source)
    left_us = FAILOVER_PAUSE_US if source is Source.API_REPLY else 0
    assert await value(url, "SELECT failover_due_us FROM payments") == moving.updated_time_us + left_us


async def test_a_mode_is_kept_with_its_audit(store: Store, beside: Store, url: str) -> None:
    """The last word stands, for every process, with who said it and why."""
    assert await store.account_modes() == []
    set_to = AccountMode("second")
    for mode in (ProviderMode.MAINTENANCE, ProviderMode.DRAINING):
        set_to = await store.set_account_mode(
            AccountMode("second", mode, "they asked\0", "olga"), making.audit(action="SET_PROVIDER_MODE", result=mode)
        )
    (known,) = await beside.account_modes()
    assert (known.account_id, known.mode, known.actor) == ("second", ProviderMode.DRAINING, "olga")
    assert known.changed_time_us == set_to.changed_time_us > making.CREATED_US
    assert await rows(url, "SELECT result FROM audit ORDER BY recorded_time_us") == [("MAINTENANCE",), ("DRAINING",)]
