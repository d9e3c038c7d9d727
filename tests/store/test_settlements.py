"""What a settle promises: everything that it taught, or nothing; once; and never over what was final."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from gateway.domain.commands import CommandKind
from gateway.domain.declines import Decline, DeclineReason, RetryAdvice
from gateway.domain.movements import (
    Closure,
    Facts,
    Movement,
    MovementKind,
    MovementStatus,
    Origin,
    ProviderObject,
)
from gateway.domain.observations import Source
from gateway.domain.payments import NextAction
from gateway.domain.states import CommandState
from gateway.domain.storage import (
    CallbackChange,
    CallbackState,
    CommandChange,
    OperationChange,
    Settlement,
    SettleOutcome,
    Store,
)
from store.postgresql_parts import ROWS_APART_MAX
from tests.store import making
from tests.store.acting import captured, claimed, unknown
from tests.store.looking import census, rows, value

APPLIED, STALE = SettleOutcome.APPLIED, SettleOutcome.STALE


async def test_a_settlement_is_read_back_as_it_was_made(store: Store) -> None:
    """Payment, facts, operation, command and its reply come back byte for byte."""
    claim, got = await claimed(store, metadata={"ключ": "\u0000 µ ☃", "empty": ""})
    settlement = making.settlement_of(claim, got)
    decline = Decline(DeclineReason.INSUFFICIENT_FUNDS, "51", "no money \U0001f4b8", RetryAdvice.RETRY_LATER)
    rich = replace(
        settlement.payment,
        next_action=NextAction("https://bank.example/?a=b", "secret"),
        decline=decline,
        busy_command_id="cmd_other",
        reserved_capture_minor=7,
        reserved_refund_minor=9,
    )
    operation = replace(
        settlement.operations[0].operation, decline=decline, failure="tired", provider_payment_id="p", recoveries=3
    )
    settlement = replace(settlement, payment=rich, operations=(OperationChange(operation, 1, None),))
    assert await store.settle(settlement) is APPLIED
    aggregate = await store.load(making.TENANT, rich.payment_id)
    assert aggregate is not None
    assert aggregate.payment == rich == await store.get_payment(making.TENANT, rich.payment_id)
    assert aggregate.operations == (replace(operation, lease_until_us=None, next_attempt_us=None),)
    assert aggregate.commands == (replace(claim.command, state=CommandState.SUCCEEDED, reply=b"reply\x00\xff"),)
    found = await store.find_command(making.TENANT, claim.command.rpc, claim.command.idempotency_key)
    assert found == aggregate.commands[0]


async def test_each_version_has_one_line_of_history(store: Store) -> None:
    """Claim and settle leave one entry each, with their edges, cause and source."""
    claim, got = await claimed(store)
    settlement = making.settlement_of(claim, got)
    await store.settle(settlement)
    first, second = await store.history(making.TENANT, settlement.payment.payment_id, after_version=0, limit=10)
    assert (first.version, first.source, first.causation_id) == (1, "CLAIM", claim.operation.operation_id)
    assert first.transitions == claim.transitions
    assert (second.version, second.source, second.causation_id) == (2, "API_REPLY", claim.operation.operation_id)
    assert second.transitions == settlement.transitions
    assert got.claimed_time_us <= second.recorded_time_us
    page = await store.history(making.TENANT, settlement.payment.payment_id, after_version=1, limit=1)
    assert page == [second]


async def test_of_two_settles_of_one_version_one_applies(store: Store, beside: Store, url: str) -> None:
    """A stale version changes nothing, however many race for it."""
    claim, got = await claimed(store)
    settlements = [making.settlement_of(claim, got) for _ in range(12)]
    stores = (store, beside)
    outcomes = await asyncio.gather(*(stores[i % 2].settle(one) for i, one in enumerate(settlements)))
    assert Counter(outcomes) == {APPLIED: 1, STALE: 11}
    counted = await census(url)
    assert (counted["history"], counted["observations"], counted["audit"]) == (2, 1, 1)


async def test_a_settle_with_a_lost_fence_changes_nothing(store: Store, url: str) -> None:
    """Once recovery has raised an operation's epoch, the first holder's settle is stale: no row of it stays."""
    claim, got = await claimed(store)
    await rows(url, "UPDATE operations SET lease_until_us = 1, next_attempt_us = 1 WHERE 1 = 1")
    due = await store.take_due(limit=10, lease_s=30)
    assert [operation.epoch for operation in due.operations] == [2]
    before = await census(url)
    assert await store.settle(making.settlement_of(claim, got)) is STALE
    assert await census(url) == before
    payment = await store.get_payment(making.TENANT, claim.command.payment_id)
    assert payment == claim.payment


async def test_one_stale_operation_of_several_stops_them_all(store: Store, url: str) -> None:
    """A settlement over two operations needs the fence of both."""
    first = await unknown(store)
    payment = await store.get_payment(making.TENANT, first.command.payment_id)
    assert payment is not None
    confirm = making.claim_on(payment, CommandKind.CONFIRM)
    got = await store.claim(confirm)
    one = replace(first.operation, epoch=1, state=CommandState.SUCCEEDED)
    two = replace(making.held(confirm, got), state=CommandState.SUCCEEDED)
    settlement = Settlement(
        payment=replace(payment, version=got.version + 1),
        expected_version=got.version,
        source=Source.RECOVERY,
        causation_id="op",
        transitions=(),
        operations=(OperationChange(two, 1, None), OperationChange(one, 9, None)),
    )
    before = await rows(url, "SELECT operation_id, state FROM operations ORDER BY 1")
    assert await store.settle(settlement) is STALE
    assert await rows(url, "SELECT operation_id, state FROM operations ORDER BY 1") == before
    both = replace(settlement, operations=(OperationChange(two, 1, None), OperationChange(one, 1, None)))
    assert await store.settle(both) is APPLIED


async def test_a_final_reply_is_written_once(store: Store) -> None:
    """A later settle may reverse a command; the reply that callers got stays the one they get."""
    claim, got = await claimed(store)
    settlement = making.settlement_of(claim, got)
    await store.settle(settlement)
    later = replace(
        settlement,
        payment=replace(settlement.payment, version=3),
        expected_version=2,
        operations=(),
        commands=(CommandChange(claim.command.command_id, CommandState.REVERSED, b"another"),),
        observations=(),
        audit=(),
    )
    assert await store.settle(later) is APPLIED
    found = await store.find_command(making.TENANT, claim.command.rpc, claim.command.idempotency_key)
    assert found is not None
    assert (found.state, found.reply) == (CommandState.REVERSED, b"reply\x00\xff")


async def test_a_settle_gives_the_next_attempt_from_the_databases_now(store: Store, url: str) -> None:
    """The lease ends with the settle, and a live operation comes again when it was told to."""
    claim = await unknown(store, next_attempt_s=60.0)
    ((lease, attempt, at),) = await rows(
        url,
        "SELECT o.lease_until_us, o.next_attempt_us, h.recorded_time_us FROM operations o "
        "JOIN history h ON h.payment_id = o.payment_id AND h.version = 2",
    )
    assert lease is None
    assert attempt == at + 60_000_000
    assert (await store.take_due(limit=10, lease_s=1)).operations == ()
    assert claim.payment is not None


async def test_the_last_possible_send_never_moves_back(store: Store, url: str) -> None:
    """A settle that knows less of it (an operation without its claim's times) keeps what the claim wrote."""
    claim, got = await claimed(store)
    settlement = making.settlement_of(claim, got)
    forgetful = replace(settlement.operations[0].operation, last_send_us=None)
    await store.settle(replace(settlement, operations=(OperationChange(forgetful, 1, None),)))
    assert await value(url, "SELECT last_send_us FROM operations") == got.last_send_us


async def test_movements_and_refunds_are_replaced_by_what_is_known_now(store: Store) -> None:
    """The same movement again is one row; a refund is inserted where new, written whole where known."""
    payment = await captured(store)
    capture = next(m for m in payment.facts.movements if m.kind is MovementKind.CAPTURE)
    reversed_ = replace(capture, status=MovementStatus.REVERSED, reason="returned")
    facts = replace(
        payment.facts.merge(replace(payment.facts, movements=(reversed_,))),
        objects=(ProviderObject(payment.account_id, f"prov_{payment.payment_id}", Closure.CANCELLED),),
    )
    adopted = making.refund(payment, making.fresh("ref"), None, 300, provider_refund_id="re_1")
    settlement = Settlement(
        payment=replace(payment, facts=facts, version=3),
        expected_version=2,
        source=Source.CALLBACK,
        causation_id="cb_1",
        transitions=(),
        movements=(reversed_,),
        refunds=(adopted,),
    )
    assert await store.settle(settlement) is APPLIED
    after = replace(adopted, state=CommandState.SUCCEEDED, decline=Decline(DeclineReason.DECLINED))
    again = replace(settlement, payment=replace(payment, facts=facts, version=4), expected_version=3, refunds=(after,))
    assert await store.settle(again) is APPLIED
    aggregate = await store.load(making.TENANT, payment.payment_id)
    assert aggregate is not None
    assert aggregate.payment.facts == facts
    assert aggregate.refunds == (after,)
    assert await store.get_refund(making.TENANT, adopted.refund_id) == after


async def test_a_callback_is_applied_with_its_settlement_or_not_at_all(store: Store, url: str) -> None:
    """The callback's epoch guards the settlement that applies it, and both are written together."""
    payment = await captured(store)
    callback = making.callback()
    assert await store.receive_callback(callback, making.audit())
    (taken,) = await store.take_callbacks(limit=10, lease_s=30)
    change = CallbackChange(
        callback.callback_id,
        taken.epoch,
        CallbackState.APPLIED,
        note="seen",
        tenant_id=making.TENANT,
        payment_id=payment.payment_id,
    )
    settlement = Settlement(
        payment=replace(payment, version=3),
        expected_version=2,
        source=Source.CALLBACK,
        causation_id=callback.callback_id,
        transitions=(),
        callback=replace(change, expected_epoch=taken.epoch + 1),
    )
    assert await store.settle(settlement) is STALE
    assert await value(url, "SELECT state FROM callbacks") == "RECEIVED"
    assert await value(url, "SELECT version FROM payments") == 2
    assert await store.settle(replace(settlement, callback=change)) is APPLIED
    assert await rows(url, "SELECT state, note, tenant_id, payment_id, lease_until_us FROM callbacks") == [
        ("APPLIED", "seen", making.TENANT, payment.payment_id, None)
    ]


async def test_terms_never_change(store: Store) -> None:
    """A settlement whose payment says other terms changes everything but them."""
    claim, got = await claimed(store)
    settlement = making.settlement_of(claim, got)
    other = replace(settlement.payment, terms=making.terms(amount_minor=1, description="forged"))
    assert await store.settle(replace(settlement, payment=other)) is APPLIED
    payment = await store.get_payment(making.TENANT, other.payment_id)
    assert payment == settlement.payment


async def test_another_tenants_rows_are_out_of_reach_of_a_settle(store: Store, url: str) -> None:
    """A settlement in the name of another tenant is stale."""
    claim, got = await claimed(store)
    settlement = making.settlement_of(claim, got)
    foreign = replace(settlement, payment=replace(settlement.payment, tenant_id="tenant-b"))
    before = await census(url)
    assert await store.settle(foreign) is STALE
    assert await census(url) == before


MANY = [1, ROWS_APART_MAX, ROWS_APART_MAX + 1, 40]


@pytest.mark.parametrize("count", MANY)
async def test_however_many_rows_a_settlement_has_they_come_back_as_they_were(store: Store, count: int) -> None:
    """A few of a kind travel as parameters, more as a document: nobody can tell by what is read."""
    claim, got = await claimed(store)
    settlement = making.settlement_of(claim, got)
    paid = settlement.payment
    parts = tuple(
        Movement("acct_main", MovementKind.FEE, f"fee-{n}", n, "USD", MovementStatus.SUCCEEDED, reason='"§\\')
        for n in range(count)
    )
    facts = paid.facts.merge(Facts(parts))
    refunds = tuple(making.refund(paid, making.fresh("ref"), None, n, origin=Origin.PROVIDER) for n in range(count))
    told = tuple(making.observation(paid, 2, n, detail="µ ☃") for n in range(count))
    settlement = replace(
        settlement,
        payment=replace(paid, facts=facts),
        movements=facts.movements,
        refunds=refunds,
        observations=told,
    )
    assert await store.settle(settlement) is APPLIED
    await store.number_observations()
    aggregate = await store.load(making.TENANT, paid.payment_id)
    assert aggregate is not None
    assert aggregate.payment.facts == facts
    assert set(aggregate.refunds) == set(refunds)
    read = await store.read_observations(making.TENANT, after_sequence=0, limit=1_000)
    assert [replace(each, sequence=0) for each in read] == list(told)


@pytest.mark.parametrize("count", MANY)
async def test_however_many_operations_settle_all_of_them_do_or_none(store: Store, count: int) -> None:
    """Each is fenced, each command keeps its reply byte for byte; one lost fence among them stops all."""
    payment = await captured(store)
    claims = [making.claim_on(payment, CommandKind.REFUND, amount_minor=1) for _ in range(count)]
    held = [making.held(claim, await store.claim(claim)) for claim in claims]
    aggregate = await store.load(making.TENANT, payment.payment_id)
    assert aggregate is not None
    version = aggregate.payment.version
    ended = tuple(
        OperationChange(replace(each, state=CommandState.SUCCEEDED, reserved_minor=0), each.epoch, None)
        for each in held
    )
    replies = {claim.command.command_id: f"reply {n}".encode() + b"\x00\xff" for n, claim in enumerate(claims)}
    settlement = Settlement(
        payment=replace(aggregate.payment, version=version + 1),
        expected_version=version,
        source=Source.RECOVERY,
        causation_id="op",
        transitions=(),
        operations=ended,
        commands=tuple(CommandChange(name, CommandState.SUCCEEDED, reply) for name, reply in replies.items()),
    )
    stale = replace(ended[-1], expected_epoch=ended[-1].expected_epoch + 1)
    assert await store.settle(replace(settlement, operations=(*ended[:-1], stale))) is STALE
    assert await store.load(making.TENANT, payment.payment_id) == aggregate
    assert await store.settle(settlement) is APPLIED
    after = await store.load(making.TENANT, payment.payment_id)
    assert after is not None
    assert {each.command_id: each.reply for each in after.commands if each.command_id in replies} == replies
    assert [each.state for each in after.operations] == [CommandState.SUCCEEDED] * (count + 1)
