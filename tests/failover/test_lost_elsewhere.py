"""A restore forgets that a create went on at another account: it is sent nowhere again, and no absence ends it."""

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.app.requests import CreatePayment
from gateway.app.runtime import Runtime
from gateway.domain.commands import CommandKind, Operation
from gateway.domain.errors import Precondition, Reason, Sent, Unavailable
from gateway.domain.lost import LostOutcome
from gateway.domain.routing import RoutingRule
from gateway.domain.states import CommandState
from gateway.domain.storage import Aggregate
from tests.crash.rig import Interruption, change
from tests.failover.losing import Lost, forgotten
from tests.failover.rig import CALLER, CAPTURED, MAIN, ORDER, OTHER, THIRD, Scene, accounts_at, created, rule, wish
from tests.store.acting import said_of

ORDERED = wish(order_reference="order-1", order_reference_unique=True)
AGAIN = CreatePayment(
    "key-2", 1_000, "EUR", payment_method="card_ok", order_reference="order-1", order_reference_unique=True
)
DECLINED = wish("card_declined_at_main")
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


async def declined_at_main_and_paid(scene: Scene, *accounts: str) -> None:
    """Its first account declines, which cannot list its payments; the last one has the money."""
    known = accounts_at(scene.sandbox_url, scene.refusing_url)
    await scene.runtime(rule(*accounts), accounts=known).commands.create(CALLER, DECLINED, 10)
    await known.close()
    assert scene.effects()[-1] == (accounts[-1], "capture")


async def is_refused_with_its_payment(lost: Lost, runtime: Runtime, request: CreatePayment, payment_id: str) -> None:
    """Told where the money is, and nothing is sent."""
    before = lost.scene.effects()
    with pytest.raises(Precondition) as refused:
        await runtime.commands.create(CALLER, request, 5)
    assert (refused.value.reason, refused.value.sent) == (Reason.LOST_IN_RESTORE, Sent.YES)
    assert refused.value.details["lost_payment_id"] == payment_id
    assert "this command was carried out" in refused.value.message
    assert lost.scene.effects() == before


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_a_later_step_that_is_lost_keeps_its_key_from_being_sent_again(tmp_path: Path, engine: str) -> None:
    """The step before it is nowhere to be seen, and rules choose a third account now."""

    async def not_sent(scene: Scene) -> None:
        await scene.fail_next(("http_429", "payments"))
        with pytest.raises(Unavailable):
            await scene.runtime(rule(OTHER, attempts_max=1)).commands.create(CALLER, DECLINED, 0.5)

    async def paid_at_third(scene: Scene) -> None:
        await declined_at_main_and_paid(scene, MAIN, THIRD)

    async with forgotten(tmp_path, engine, not_sent, paid_at_third, rule(OTHER, THIRD)) as lost:
        await lost.scene.store.release_account(MAIN, actor="operator", reason="cannot list")
        await lost.look_at(OTHER, THIRD)
        well = accounts_at(lost.scene.sandbox_url, lost.scene.refusing_url)
        runtime = lost.scene.runtime(rule(OTHER, THIRD), accounts=well)
        await is_refused_with_its_payment(lost, runtime, DECLINED, lost.payment_id)
        await well.close()


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
@pytest.mark.parametrize("rules", [(rule(OTHER, THIRD),), ()])
async def test_a_create_that_the_backup_does_not_know_is_known_by_its_later_step(
    tmp_path: Path, engine: str, rules: tuple[RoutingRule, ...]
) -> None:
    """Whether rules choose its account now or not; another process may have met no restore before."""
    payments: list[str] = []

    async def before(scene: Scene) -> None:
        await created(scene.runtime(), wish(key="other-key"))

    async def paid_at_third(scene: Scene) -> None:
        await declined_at_main_and_paid(scene, MAIN, THIRD)
        found = await scene.store.find_command(CALLER.tenant_id, "CreatePayment", DECLINED.idempotency_key)
        assert found is not None
        payments.append(found.payment_id)

    async with forgotten(tmp_path, engine, before, paid_at_third) as lost:
        runtime = lost.scene.runtime(*rules)
        await lost.scene.store.release_account(MAIN, actor="operator", reason="cannot list")
        await lost.look_at(OTHER)
        with pytest.raises(Unavailable) as waits:
            await runtime.commands.create(CALLER, DECLINED, 5)
        assert waits.value.reason is Reason.RESTORE_PENDING, "its later step may be there"
        named = replace(wish(key=f"named-{engine}"), account_id=MAIN)
        if not rules:
            assert (await created(runtime, named)).state == CAPTURED, "no rule has ever had a say"
        await lost.look_at(THIRD)
        await is_refused_with_its_payment(lost, runtime, DECLINED, *payments)
        assert (await created(runtime, wish(key="new"))).state == CAPTURED


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
