"""A lost step of a create that was told as UNKNOWN since: its decline at the first account ends nothing."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.app.callbacks import Delivery
from gateway.domain.commands import CommandKind
from gateway.domain.errors import Conflict, ObolError, Precondition, Unavailable
from gateway.domain.lost import LostOutcome
from gateway.domain.providers import Absent, Found, Lookup, Unreadable
from gateway.domain.routes import FailoverOn
from gateway.domain.states import CommandState, PaymentState
from gateway.domain.storage import Aggregate
from tests.crash.rig import Interruption, blinded, outlive_leases, resolve
from tests.failover.losing import Lost, forgotten
from tests.failover.rig import CALLER, MAIN, ORDER, OTHER, SOFT, THIRD, Scene, accounts_at, rule, wish
from tests.store.acting import said_of
from tests.store.looking import rows

UNIQUE: dict[str, Any] = {"order_reference": "order-1", "order_reference_unique": True}
ORDERED = wish("card_declined_at_main", **UNIQUE)
AGAIN = wish(key="key-2", **UNIQUE)
NOT_SENT = frozenset({FailoverOn.NOT_SENT})
NEWS = ("recovery", "sync", "callback", "reconciliation")


async def sent_to_main(scene: Scene, method: str = "card_declined_at_main", on: frozenset[FailoverOn] = SOFT) -> None:
    """The process dies while the first account declines."""
    runtime = scene.runtime(rule(on=on), interruption=Interruption("send.after", crash=True))
    with pytest.raises(BaseException):  # noqa: B017, PT011 the process dies
        await runtime.commands.create(CALLER, replace(ORDERED, payment_method=method), 5)


async def goes_on(scene: Scene) -> None:
    """Another process brings it to the next account."""
    runtime = scene.runtime(rule())
    await outlive_leases(scene.url)
    await resolve(runtime)
    await scene.make_due()
    await runtime.commands.failover.run_once()
    assert scene.effects() == [(OTHER, "capture")]


async def told_unknown(lost: Lost) -> None:
    """Recovery's first look meets a provider that is down."""
    await lost.scene.fail_next(("http_500_before", "lookup"))
    assert command_of(await lost.recover()) is CommandState.UNKNOWN


async def hear(lost: Lost, by: str) -> None:
    """The decline at the first account comes to be known."""
    if by == "recovery":
        await lost.recover()
    elif by == "sync":
        await lost.runtime.commands.sync(CALLER, lost.payment_id, 5)
    elif by == "reconciliation":
        await lost.look_at(MAIN)
    else:
        main = lost.scene.accounts.get(MAIN)
        assert main is not None
        found = await main.adapter.lookup(lost.payment_id, timeout_s=5)
        assert isinstance(found, Found)
        object_id = found.snapshot.provider_payment_id
        body = (
            '{"id": "sevt_1", "object": "event", "type": "payment.cancelled", "created": 1, "livemode": false, '
            f'"account": "acct_main", "data": {{"object": {{"id": "{object_id}", "object": "payment", "metadata": '
            f'{{"obol_payment": "{lost.payment_id}", "obol_tenant": "{CALLER.tenant_id}"}}}}}}}}'
        ).encode()
        delivery = Delivery("sandbox", MAIN, "sevt_1", "payment.cancelled", body, {}, 0)
        await lost.runtime.callbacks.deliver(CALLER, delivery)
        await lost.runtime.applier.run_once()


def command_of(aggregate: Aggregate) -> CommandState:
    """Where the create stands."""
    (create,) = [each for each in aggregate.commands if each.kind is CommandKind.CREATE]
    return create.state


async def is_paid_once(lost: Lost) -> None:
    """Nobody was told a failure, its order is not free, and nothing was sent."""
    aggregate = await lost.scene.aggregate(lost.payment_id)
    assert command_of(aggregate) in (CommandState.UNKNOWN, CommandState.SUCCEEDED)
    assert aggregate.payment.state in (PaymentState.UNKNOWN, PaymentState.CREATED, PaymentState.CAPTURED)
    told = "SELECT command_state FROM observations WHERE kind = 'COMMAND_CONCLUDED' AND command_kind = 'CREATE'"
    assert set(await rows(lost.scene.url, told)) <= {("SUCCEEDED",)}
    with pytest.raises((Conflict, Precondition)):
        await lost.runtime.commands.create(CALLER, AGAIN, 5)
    assert lost.scene.effects() == [(OTHER, "capture")]


@pytest.mark.parametrize("by", NEWS)
async def test_a_decline_that_comes_before_the_other_accounts_were_looked_at(tmp_path: Path, by: str) -> None:
    """It waits for them, whoever brings it, and ends where the money is."""
    async with forgotten(tmp_path, "sqlite", sent_to_main, goes_on) as lost:
        await told_unknown(lost)
        if by != "reconciliation":
            await lost.look_at(MAIN)
        await hear(lost, by)
        await lost.go_on()
        await lost.look_at(OTHER, THIRD, MAIN)
        aggregate = await lost.go_on()
        assert (aggregate.payment.state, aggregate.payment.account_id) == (PaymentState.CAPTURED, OTHER)
        await is_paid_once(lost)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_a_decline_that_comes_after_the_lost_step_was_found(tmp_path: Path, engine: str) -> None:
    """The step is taken up although its caller was told UNKNOWN, which the provider's answer ends."""
    async with forgotten(tmp_path, engine, sent_to_main, goes_on) as lost:
        await told_unknown(lost)
        await lost.look_at(OTHER, THIRD)
        assert command_of(await lost.scene.aggregate(lost.payment_id)) is CommandState.UNKNOWN
        await lost.look_at(MAIN)
        aggregate = await lost.go_on()
        assert (aggregate.payment.state, command_of(aggregate)) == (PaymentState.CAPTURED, CommandState.SUCCEEDED)
        await is_paid_once(lost)
        assert (await lost.runtime.commands.create(CALLER, ORDERED, 5)).replayed


async def test_a_lost_step_that_was_undone_ends_with_the_decline(tmp_path: Path) -> None:
    """Two operators say so: the create fails as it did at its first account, and its order is free."""
    async with forgotten(tmp_path, "sqlite", sent_to_main, goes_on) as lost:
        await told_unknown(lost)
        await lost.look_at(*ORDER)
        found = await lost.scene.store.get_lost(CALLER.tenant_id, lost.payment_id)
        assert found is not None
        assert found.order_reference == "order-1", "it holds its order for itself"
        assert await said_of(lost.scene.store, found, LostOutcome.UNDONE)
        aggregate = await lost.go_on()
        assert (aggregate.payment.state, command_of(aggregate)) == (PaymentState.CANCELLED, CommandState.FAILED)
        assert lost.scene.effects() == [(OTHER, "capture")]


async def test_a_create_that_was_not_sent_and_then_declined_and_went_on(tmp_path: Path) -> None:
    """The backup has it NOT_SENT under rules of one try; the decline of its next try ends it where the money is."""

    async def not_sent(scene: Scene) -> None:
        await scene.fail_next(("http_429", "payments"))
        with pytest.raises(Unavailable):
            await scene.runtime(rule(attempts_max=1)).commands.create(CALLER, ORDERED, 0.5)

    async def is_tried_again(scene: Scene) -> None:
        # Another process, which the first account has not told to come later.
        accounts = accounts_at(scene.sandbox_url, scene.refusing_url)
        await scene.runtime(rule(), accounts=accounts).commands.create(CALLER, ORDERED, 10)
        await accounts.close()
        assert scene.effects() == [(OTHER, "capture")]
        assert set(await scene.objects()) == {MAIN, OTHER}

    async with forgotten(tmp_path, "sqlite", not_sent, is_tried_again) as lost:
        await lost.look_at(MAIN, THIRD)
        await lost.runtime.commands.sync(CALLER, lost.payment_id, 5)
        assert command_of(await lost.scene.aggregate(lost.payment_id)) is CommandState.NOT_SENT
        with pytest.raises(ObolError):
            await lost.runtime.commands.create(CALLER, ORDERED, 0.5)
        await lost.look_at(OTHER)
        aggregate = await lost.go_on()
        assert (aggregate.payment.state, aggregate.payment.account_id) == (PaymentState.CAPTURED, OTHER)
        await is_paid_once(lost)
        assert (await lost.runtime.commands.create(CALLER, ORDERED, 5)).replayed


@pytest.mark.parametrize(
    ("engine", "order"),
    [("sqlite", (OTHER, THIRD, MAIN)), ("sqlite", ORDER), ("postgresql", (OTHER, THIRD, MAIN))],
)
async def test_a_create_of_before_there_were_rules_is_waited_for_as_any(
    tmp_path: Path, engine: str, order: Sequence[str]
) -> None:
    """Rules came in the lost time, and its key went on by them: its decline at the first account ends nothing."""

    async def not_sent(scene: Scene) -> None:
        await scene.fail_next(("http_429", "payments"))
        with pytest.raises(Unavailable):
            await scene.runtime().commands.create(CALLER, ORDERED, 0.5)
        assert (await scene.only()).payment.route is None

    async def is_tried_again(scene: Scene) -> None:
        accounts = accounts_at(scene.sandbox_url, scene.refusing_url)
        await scene.runtime(rule(), accounts=accounts).commands.create(CALLER, ORDERED, 10)
        await accounts.close()
        assert scene.effects() == [(OTHER, "capture")]

    async with forgotten(tmp_path, engine, not_sent, is_tried_again) as lost:
        for account_id in order:
            await lost.look_at(account_id)
            assert command_of(await lost.scene.aggregate(lost.payment_id)) is not CommandState.FAILED
        aggregate = await lost.go_on()
        assert (aggregate.payment.state, aggregate.payment.account_id) == (PaymentState.CAPTURED, OTHER)
        await is_paid_once(lost)


async def test_a_create_without_rules_ends_with_its_decline_where_nothing_was_lost(tmp_path: Path) -> None:
    """Once every account was looked at, and not before."""

    async def sent(scene: Scene) -> None:
        runtime = scene.runtime(interruption=Interruption("send.after", crash=True))
        with pytest.raises(BaseException):  # noqa: B017, PT011 the process dies
            await runtime.commands.create(CALLER, ORDERED, 5)

    async def nothing(_: Scene) -> None:
        pass

    async with forgotten(tmp_path, "sqlite", sent, nothing) as lost:
        # Its own account waits for nothing any more when its decline is heard.
        await lost.scene.store.release_account(MAIN, actor="operator", reason="cannot list")
        for account_id in (OTHER, THIRD):
            assert command_of(await lost.go_on()) is CommandState.SENDING
            await lost.look_at(account_id)
        aggregate = await lost.go_on()
        assert (aggregate.payment.state, command_of(aggregate)) == (PaymentState.FAILED, CommandState.FAILED)
        assert set(await lost.scene.objects()) == {MAIN}


class Dim:
    """The real adapter, whose looks at another account than the first one come to `answer`."""

    answer: Lookup = Unreadable("down")

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    async def fetch(self, provider_payment_id: str, *, timeout_s: float) -> Lookup:
        if self._adapter.account_id != MAIN:
            return self.answer
        found: Lookup = await self._adapter.fetch(provider_payment_id, timeout_s=timeout_s)
        return found


class Dark(Dim):
    """The same, and they see nothing there."""

    answer = Absent(consistent=True)


@pytest.mark.parametrize("adapter", [Dim, Dark])
async def test_a_step_of_what_was_not_sent_is_looked_after_like_any_other(tmp_path: Path, adapter: type[Dim]) -> None:
    """Taken up, and then its provider cannot be asked, or denies it: UNKNOWN, not NOT_SENT, and told so."""

    async def not_sent(scene: Scene) -> None:
        await scene.fail_next(("http_429", "payments"))
        with pytest.raises(Unavailable):
            await scene.runtime(rule(attempts_max=1)).commands.create(CALLER, ORDERED, 0.5)

    async def is_tried_again(scene: Scene) -> None:
        accounts = accounts_at(scene.sandbox_url, scene.refusing_url)
        await scene.runtime(rule(), accounts=accounts).commands.create(CALLER, ORDERED, 10)
        await accounts.close()

    async with forgotten(tmp_path, "sqlite", not_sent, is_tried_again) as lost:
        await lost.look_at(*ORDER)
        await lost.scene.make_due()
        await lost.runtime.commands.failover.run_once()
        assert command_of(await lost.scene.aggregate(lost.payment_id)) is CommandState.SENDING
        edge = "SELECT transitions FROM history WHERE source = 'CLAIM' ORDER BY version DESC LIMIT 1"
        ((transitions,),) = await rows(lost.scene.url, edge)
        assert '"NOT_SENT"' in transitions
        well, lost.runtime = lost.runtime, lost.scene.runtime(rule(), accounts=blinded(lost.scene.accounts, adapter))
        await lost.recover()
        aggregate = await lost.recover()
        assert command_of(aggregate) is aggregate.operations[-1].state is CommandState.UNKNOWN
        assert (await lost.runtime.commands.create(CALLER, ORDERED, 5)).replayed
        lost.runtime = well
        assert (await lost.go_on()).payment.state is PaymentState.CAPTURED
        await is_paid_once(lost)


@pytest.mark.parametrize(
    ("method", "told", "on"),
    [
        ("card_declined_at_main", True, SOFT),
        ("card_fraud_at_main", True, SOFT),
        ("card_fraud_at_main", False, SOFT),
        ("card_declined_at_main", False, NOT_SENT),
    ],
)
async def test_where_nothing_was_lost_the_decline_ends_it(
    tmp_path: Path, method: str, told: bool, on: frozenset[FailoverOn]
) -> None:
    """It waits until that is known, then fails as it did at its account, and goes nowhere else."""

    async def nothing(_: Scene) -> None:
        pass

    before = partial(sent_to_main, method=method, on=on)
    async with forgotten(tmp_path, "sqlite", before, nothing, rule(on=on)) as lost:
        if told:
            await told_unknown(lost)
        await lost.look_at(MAIN, THIRD)
        assert command_of(await lost.go_on()) is not CommandState.FAILED
        await lost.look_at(OTHER)
        aggregate = await lost.go_on()
        assert (aggregate.payment.state, command_of(aggregate)) == (PaymentState.FAILED, CommandState.FAILED)
        assert set(await lost.scene.objects()) == {MAIN}
