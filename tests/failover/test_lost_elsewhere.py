"""A restore forgets that a create went on at another account: it is sent nowhere again, and no absence ends it."""

from pathlib import Path

import pytest

from gateway.app.requests import CreatePayment
from gateway.domain.commands import CommandKind, Operation
from gateway.domain.errors import Precondition, Reason, Sent, Unavailable
from gateway.domain.lost import LostOutcome
from gateway.domain.states import CommandState
from gateway.domain.storage import Aggregate
from tests.crash.rig import Interruption, change
from tests.failover.losing import forgotten
from tests.failover.rig import CALLER, MAIN, ORDER, OTHER, THIRD, Scene, created, rule, wish
from tests.store.acting import said_of

ORDERED = wish(order_reference="order-1", order_reference_unique=True)
AGAIN = CreatePayment(
    "key-2", 1_000, "EUR", payment_method="card_ok", order_reference="order-1", order_reference_unique=True
)
HOURS_S = 24 * 3600.0


async def not_sent_at_main(scene: Scene) -> None:
    """The first account provably did not take it, and the caller has gone."""
    await scene.fail_next(("http_429", "payments"))
    with pytest.raises(Unavailable):
        await scene.runtime(rule(attempts_max=1)).commands.create(CALLER, ORDERED, 0.5)
    assert (await scene.only()).operations[0].state is CommandState.NOT_SENT


async def sending_at_main(scene: Scene) -> None:
    """The same, and the proof is not written yet."""
    await scene.fail_next(("http_429", "payments"))
    died = Interruption("settle.before", crash=True)
    with pytest.raises(BaseException):  # noqa: B017, PT011 the process dies
        await scene.runtime(rule(), interruption=died).commands.create(CALLER, ORDERED, 5)
    assert (await scene.only()).operations[0].state is CommandState.SENDING


async def goes_on_at_other(scene: Scene) -> None:
    """The caller comes again, and the rules choose another account."""
    # What the process that was sending wrote after the backup.
    for table in ("operations", "commands"):
        await change(scene.url, f"UPDATE {table} SET state = 'NOT_SENT'")
    await created(scene.runtime(rule(OTHER, THIRD)), ORDERED)
    assert scene.effects() == [(OTHER, "capture")]


def create_of(aggregate: Aggregate) -> Operation:
    """The payment's only create operation."""
    (create,) = [each for each in aggregate.operations if each.kind is CommandKind.CREATE]
    return create


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_what_was_reopened_elsewhere_is_not_sent_again(tmp_path: Path, engine: str) -> None:
    """The repetition of its key finds the first account well again, and is told where the money is."""
    async with forgotten(tmp_path, engine, not_sent_at_main, goes_on_at_other) as lost:
        for cleared in ORDER:
            with pytest.raises(Unavailable) as waits:
                await lost.runtime.commands.create(CALLER, ORDERED, 0.5)
            assert waits.value.reason is Reason.RESTORE_PENDING
            await lost.look_at(cleared)
        with pytest.raises(Precondition) as refused:
            await lost.runtime.commands.create(CALLER, ORDERED, 5)
        assert (refused.value.reason, refused.value.sent) == (Reason.LOST_IN_RESTORE, Sent.YES)
        assert refused.value.details["lost_payment_id"] == lost.payment_id
        assert lost.scene.effects() == [(OTHER, "capture")]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
@pytest.mark.parametrize("aged_s", [0.0, HOURS_S])
async def test_what_was_in_flight_and_went_on_elsewhere_stays_unknown(
    tmp_path: Path, engine: str, aged_s: float
) -> None:
    """Its account alone is looked at, then all: it is neither sent again while young nor told as a failure when old."""
    async with forgotten(tmp_path, engine, sending_at_main, goes_on_at_other) as lost:
        await lost.look_at(MAIN)
        assert create_of(await lost.recover(aged_s=aged_s)).state is CommandState.UNKNOWN
        assert create_of(await lost.recover(aged_s=aged_s)).state is CommandState.UNKNOWN
        await lost.look_at(OTHER, THIRD)
        assert create_of(await lost.recover(aged_s=aged_s)).state is CommandState.UNKNOWN
        assert lost.scene.effects() == [(OTHER, "capture")]
        assert (await lost.runtime.commands.create(CALLER, ORDERED, 5)).replayed
        with pytest.raises(Exception, match="order"):
            await lost.runtime.commands.create(CALLER, AGAIN, 5)
        assert lost.scene.effects() == [(OTHER, "capture")]


async def test_two_operators_end_what_went_on_elsewhere(tmp_path: Path) -> None:
    """They hold it for undone: then the absence at its own account tells how it ended here."""
    async with forgotten(tmp_path, "sqlite", sending_at_main, goes_on_at_other) as lost:
        await lost.look_at(*ORDER)
        assert create_of(await lost.recover(aged_s=HOURS_S)).state is CommandState.UNKNOWN
        found = await lost.scene.store.get_lost(CALLER.tenant_id, lost.payment_id)
        assert found is not None
        assert await said_of(lost.scene.store, found, LostOutcome.UNDONE)
        await change(lost.scene.url, "UPDATE operations SET last_send_us = 1")
        assert create_of(await lost.recover(aged_s=HOURS_S)).state is CommandState.FAILED
        assert lost.scene.effects() == [(OTHER, "capture")]
