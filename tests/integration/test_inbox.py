"""The inbox for operators: lists, the replay and its dry run, on both databases."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.verification import verify
from obol.v1 import billing_observation_pb2 as watching
from obol.v1 import operations_pb2 as ops
from tests.integration.house import House, State, eventually, refused
from tests.integration.operators import Operator, deliver, dump, event, execute, quiet_house, resting

Received = ops.CallbackState


@pytest.fixture
async def house(database_url: str, tmp_path: Path) -> AsyncIterator[House]:
    """A gateway whose recovery sleeps; the invariants hold over it when the test is over."""
    async with quiet_house(database_url, tmp_path) as opened:
        yield opened
    report = await verify(database_url, effect_log=opened.sandbox_dir / "effects.jsonl")
    assert report.violations == []


@pytest.fixture
def ann(house: House) -> Operator:
    """An operator."""
    return Operator(house, "ann")


async def quarantined_dispute(house: House, ann: Operator, event_id: str) -> tuple[str, str]:
    """A callback about a dispute that no process could read when it came: (callback, payment)."""
    payment = await house.create(event_id)
    provider_id = payment.provider_reference.provider_payment_id
    await house.control(f"/control/payments/{provider_id}/dispute", {"amount": 300})
    callback_id = await deliver(house, event_id, b"not json")
    assert (await resting(ann, callback_id)).state == Received.CALLBACK_STATE_QUARANTINED
    # As if a newer release understood what this one could not read.
    body = json.dumps(event(event_id, await house.object(provider_id))).encode()
    await execute(
        house.database_url, "UPDATE callbacks SET body = :body WHERE callback_id = :id", body=body, id=callback_id
    )
    return callback_id, payment.payment_id


async def test_a_dry_run_tells_all_that_the_replay_then_does_and_writes_nothing(house: House, ann: Operator) -> None:
    """Transitions, movements and observations as they come to be; the whole database is as it was before."""
    callback_id, payment_id = await quarantined_dispute(house, ann, "evt_1")
    await house.observations.ListObservations(request_all(), metadata=house.metadata, timeout=60)
    await settled(house)
    before = await dump(house.database_url)
    planned = await ann.call("ReplayCallback", callback_id=callback_id, dry_run=True)
    assert await dump(house.database_url) == before
    assert planned.callback.state == Received.CALLBACK_STATE_APPLIED
    assert planned.callback.payment_id == payment_id
    assert [(m.kind, m.status_before, m.status_after, m.amount.amount_minor) for m in planned.movements] == [
        ("DISPUTE", "", "OPEN", 300)
    ]
    assert [(t.entity, t.state_before, t.state_after) for t in planned.transitions] == [("DISPUTE", "NONE", "OPEN")]
    assert [each.observation_id for each in planned.observations] == [""]

    done = await ann.call("ReplayCallback", callback_id=callback_id)
    assert done.replayed
    assert (done.transitions, done.movements) == (planned.transitions, planned.movements)
    assert [each.kind for each in done.observations] == [each.kind for each in planned.observations]
    again = await ann.call("ReplayCallback", callback_id=callback_id)
    assert not again.replayed
    assert again.callback.state == Received.CALLBACK_STATE_APPLIED
    assert not (await ann.call("ReplayCallback", callback_id=callback_id, dry_run=True)).replayed
    assert (await house.get(payment_id)).money.disputed.amount_minor == 300
    assert await ann.acts() == [("OPERATOR.CALLBACK_REPLAY", "ann", "RECEIVED")]


async def test_an_ignored_callback_that_is_known_now_is_applied(house: House, ann: Operator) -> None:
    """IGNORED for its type; the body is understood later: the replay applies it, and says where it cannot."""
    payment = await house.create()
    provider_id = payment.provider_reference.provider_payment_id
    callback_id = await deliver(house, "evt_1", {"id": "evt_1", "object": "event", "type": "payout.paid", "created": 1})
    ignored = await resting(ann, callback_id)
    assert ignored.state == Received.CALLBACK_STATE_IGNORED
    unchanged = await ann.call("ReplayCallback", callback_id=callback_id)
    assert (unchanged.callback.state, unchanged.replayed) == (Received.CALLBACK_STATE_IGNORED, True)
    assert "unknown type" in unchanged.callback.note

    await house.control(f"/control/payments/{provider_id}/refund", {"amount": 250})
    body = json.dumps(event("evt_1", await house.object(provider_id), "refund.created")).encode()
    await execute(house.database_url, "UPDATE callbacks SET body = :body", body=body)
    done = await ann.call("ReplayCallback", callback_id=callback_id)
    assert done.callback.state == Received.CALLBACK_STATE_APPLIED
    assert [(m.kind, m.amount.amount_minor) for m in done.movements] == [("REFUND", 250)]
    assert (await house.get(payment.payment_id)).state == State.PAYMENT_STATE_PARTIALLY_REFUNDED


async def test_a_replay_while_the_provider_is_silent_waits_and_says_why(house: House, ann: Operator) -> None:
    """No error: WAITING with the reason, dry or not; healed, it is applied by itself."""
    callback_id, payment_id = await quarantined_dispute(house, ann, "evt_1")
    await house.control(
        "/control/faults", {"rates": {"reset_before": 1.0}, "scope": {"method": "GET", "path_prefix": "/"}}
    )
    planned = await ann.call("ReplayCallback", callback_id=callback_id, dry_run=True)
    assert planned.callback.state == Received.CALLBACK_STATE_WAITING
    done = await ann.call("ReplayCallback", callback_id=callback_id)
    assert done.callback.state == Received.CALLBACK_STATE_WAITING
    assert done.callback.note
    assert not done.transitions
    await house.control("/control/faults", {"rates": {}})

    async def applied() -> Any:
        return (await ann.call("ReplayCallback", callback_id=callback_id)).callback.state

    await eventually(applied, lambda state: state == Received.CALLBACK_STATE_APPLIED)
    assert (await house.get(payment_id)).money.disputed.amount_minor == 300


async def test_replays_at_once_apply_once(house: House, ann: Operator) -> None:
    """Twenty replays of one callback: its dispute is told once; who comes between is told to wait."""
    callback_id, payment_id = await quarantined_dispute(house, ann, "evt_1")
    calls = (ann.call("ReplayCallback", callback_id=callback_id) for _ in range(20))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    busy = [each for each in answers if isinstance(each, grpc.aio.AioRpcError)]
    assert {error.code() for error in busy} <= {grpc.StatusCode.ABORTED}
    told = [each for each in answers if not isinstance(each, BaseException) and each.movements]
    assert len(told) == 1
    assert (await house.get(payment_id)).money.disputed.amount_minor == 300


async def test_a_lie_is_told_once_however_often_it_is_replayed(house: House, ann: Operator) -> None:
    """A callback that names another payment's object is quarantined, and replays add no second contradiction."""
    payment, other = await house.create("one"), await house.create("two")
    lie = event("evt_1", await house.object(other.provider_reference.provider_payment_id))
    lie["data"]["object"]["metadata"]["obol_payment"] = payment.payment_id
    callback_id = await deliver(house, "evt_1", lie)
    assert (await resting(ann, callback_id)).state == Received.CALLBACK_STATE_QUARANTINED
    for _ in range(3):
        again = await ann.call("ReplayCallback", callback_id=callback_id)
        assert again.callback.state == Received.CALLBACK_STATE_QUARANTINED
        assert not again.observations
    told = [e for e in await ann.timeline(payment.payment_id) if e.summary.startswith("CONTRADICTION")]
    assert len(told) == 1


async def test_callbacks_are_listed_by_state_account_and_payment_page_by_page(house: House, ann: Operator) -> None:
    """Newest first; a token goes on, and belongs to its filter; what is not there is NOT_FOUND."""
    ids = [await deliver(house, f"evt_{n}", b"not json") for n in range(5)]
    for callback_id in ids:
        await resting(ann, callback_id)
    first = await ann.call("ListCallbacks", page_size=3)
    rest = await ann.call("ListCallbacks", page_size=3, page_token=first.next_page_token)
    assert [each.callback_id for each in (*first.callbacks, *rest.callbacks)] == ids[::-1]
    assert not rest.next_page_token
    quarantined = {"state": Received.CALLBACK_STATE_QUARANTINED, "account_id": "acct_main"}
    assert len((await ann.call("ListCallbacks", **quarantined)).callbacks) == 5
    assert not (await ann.call("ListCallbacks", state=Received.CALLBACK_STATE_APPLIED)).callbacks
    assert not (await ann.call("ListCallbacks", account_id="acct_other")).callbacks
    assert not (await ann.call("ListCallbacks", payment_id="pay_none")).callbacks
    error = await refused(ann.call("ListCallbacks", page_size=2, account_id="x", page_token=first.next_page_token))
    assert error.reason == "PAGE_TOKEN_INVALID"
    error = await refused(ann.call("ListCallbacks", page_size=201))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    error = await refused(ann.call("ReplayCallback", callback_id="cbk_none"))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "CALLBACK_NOT_FOUND")


def request_all() -> Any:
    """Every observation."""
    return watching.ListObservationsRequest()


async def settled(house: House) -> None:
    """Wait until the sequencer has numbered everything, so that nothing of ours writes any more."""

    async def waiting() -> int:
        return len((await dump(house.database_url))["observation_outbox"])

    await eventually(waiting, lambda count: count == 0)
