"""What a caller was told in the time that a restore lost stands: nothing older is sent again, or on elsewhere."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.app.failover import BEFORE_RESTORE
from gateway.app.requests import RefundPayment
from gateway.domain.commands import CommandKind
from gateway.domain.routes import FailoverOn
from gateway.domain.states import CommandState, PaymentState
from tests.crash.rig import Interruption, change, outlive_leases, resolve
from tests.failover.losing import LIVE, forgotten
from tests.failover.rig import CALLER, FAILED, MAIN, ORDER, OTHER, SOFT, THIRD, Scene, created, rule, tried, wish
from tests.failover.test_lost_step_told import command_of
from tests.store.looking import rows

DECLINED = wish("card_declined_at_main")
NOT_SENT = frozenset({FailoverOn.NOT_SENT})


async def interrupted(scene: Scene, on: frozenset[FailoverOn], point: str = "send.after") -> None:
    """The process dies, and its create is SENDING."""
    runtime = scene.runtime(rule(on=on), interruption=Interruption(point, crash=True))
    with pytest.raises(BaseException):  # noqa: B017, PT011 the process dies
        await runtime.commands.create(CALLER, DECLINED, 5)
    assert command_of(await scene.only()) is CommandState.SENDING


async def fails_and_is_paid_with_another_key(scene: Scene, on: frozenset[FailoverOn]) -> Sequence[tuple[str, str]]:
    """UNKNOWN was told first, so that the decline is the answer; its caller takes a fresh key."""
    runtime = scene.runtime(rule(on=on))
    await outlive_leases(scene.url)
    await scene.execute(f"UPDATE operations SET next_attempt_us = 1, lease_until_us = NULL {LIVE}")
    await scene.fail_next(("http_500_before", "lookup"))
    await runtime.recovery.run_once()
    await resolve(runtime)
    assert (await created(runtime, DECLINED)).state == FAILED
    await created(runtime, wish(key="key-2"))
    return scene.effects()


@pytest.mark.parametrize(
    ("engine", "on", "order"),
    [("sqlite", NOT_SENT, ORDER), ("postgresql", SOFT, ORDER), ("sqlite", SOFT, (OTHER, THIRD, MAIN))],
)
async def test_a_decline_that_was_told_takes_the_payment_nowhere_else(
    tmp_path: Path, engine: str, on: frozenset[FailoverOn], order: Sequence[str]
) -> None:
    """Whether a look at its account came before the others were looked at, or after: it ends with its decline."""
    paid: list[tuple[str, str]] = []

    async def before(scene: Scene) -> None:
        await interrupted(scene, on)

    async def in_lost_time(scene: Scene) -> None:
        paid.extend(await fails_and_is_paid_with_another_key(scene, on))

    async with forgotten(tmp_path, engine, before, in_lost_time, rule(on=on)) as lost:
        for account_id in order:
            await lost.look_at(account_id)
        aggregate = await lost.go_on()
        assert (aggregate.payment.state, command_of(aggregate)) == (PaymentState.FAILED, CommandState.FAILED)
        assert lost.scene.effects() == paid == [(MAIN, "capture")]
        assert tried(aggregate.payment) == [(MAIN, "DECLINED")]
        assert await rows(lost.scene.url, "SELECT failure FROM audit WHERE action = 'FAILOVER'") == [(BEFORE_RESTORE,)]


async def test_a_doubt_that_has_gone_lets_nothing_go_that_its_rule_would_not(tmp_path: Path) -> None:
    """Claimed long after the restore, by every clock; the account was waited for, and nothing else."""

    async def before(scene: Scene) -> None:
        await interrupted(scene, NOT_SENT)

    async def nothing(_: Scene) -> None:
        pass

    async with forgotten(tmp_path, "sqlite", before, nothing, rule(on=NOT_SENT)) as lost:
        await change(lost.scene.url, "UPDATE restores SET raised_time_us = 1")
        for account_id in ORDER:
            await lost.look_at(account_id)
        await lost.scene.store.release_account(OTHER, actor="operator", reason="test")
        aggregate = await lost.go_on()
        assert command_of(aggregate) is CommandState.FAILED
        assert lost.scene.effects() == []


async def test_a_create_that_never_arrived_is_not_resent(tmp_path: Path) -> None:
    """Its caller was told so in the lost time, and paid otherwise: its absence ends it, and nothing is sent."""

    async def before(scene: Scene) -> None:
        await interrupted(scene, SOFT, "claim.after")

    async def in_lost_time(scene: Scene) -> None:
        await change(scene.url, "UPDATE operations SET claimed_time_us = 1, last_send_us = 1")
        runtime = scene.runtime(rule())
        await outlive_leases(scene.url)
        await resolve(runtime)
        assert command_of(await scene.only()) is CommandState.FAILED
        await created(runtime, wish(key="key-2"))

    async with forgotten(tmp_path, "sqlite", before, in_lost_time) as lost:
        await lost.look_at(*ORDER)
        assert command_of(await lost.recover()) is CommandState.UNKNOWN, "what was sent last may be on its way"
        await change(lost.scene.url, f"UPDATE operations SET last_send_us = 1 {LIVE}")
        assert command_of(await lost.recover()) is CommandState.FAILED
        assert lost.scene.effects() == [(MAIN, "capture")]


async def test_a_refund_that_failed_is_not_resent(tmp_path: Path) -> None:
    """It was asked for again under a fresh key in the lost time."""

    def refund(payment_id: str, key: str) -> RefundPayment:
        return RefundPayment(key, payment_id, 400, "EUR")

    async def before(scene: Scene) -> None:
        paid = await created(scene.runtime(rule()), wish())
        runtime = scene.runtime(rule(), interruption=Interruption("claim.after", crash=True))
        with pytest.raises(BaseException):  # noqa: B017, PT011 the process dies
            await runtime.commands.refund(CALLER, refund(paid.payment_id, "refund-1"), 5)

    async def in_lost_time(scene: Scene) -> None:
        await change(scene.url, f"UPDATE operations SET last_send_us = 1, claimed_time_us = 1 {LIVE}")
        runtime = scene.runtime(rule())
        await outlive_leases(scene.url)
        await resolve(runtime)
        payment_id = (await scene.only()).payment.payment_id
        await runtime.commands.refund(CALLER, refund(payment_id, "refund-2"), 5)
        assert scene.effects() == [(MAIN, "capture"), (MAIN, "refund")]

    async with forgotten(tmp_path, "sqlite", before, in_lost_time) as lost:
        await lost.look_at(*ORDER)
        aggregate = await lost.recover()
        (asked,) = [each for each in aggregate.commands if each.kind is CommandKind.REFUND]
        assert asked.state is CommandState.UNKNOWN
        await change(lost.scene.url, f"UPDATE operations SET last_send_us = 1 {LIVE}")
        aggregate = await lost.recover()
        (asked,) = [each for each in aggregate.commands if each.kind is CommandKind.REFUND]
        assert asked.state is CommandState.FAILED
        assert lost.scene.effects() == [(MAIN, "capture"), (MAIN, "refund")]
