"""Modes and rate limits: an account is drained without losing what is in flight, and every process knows."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.app.requests import CapturePayment, RefundPayment
from gateway.cli import app
from gateway.domain.errors import InvalidRequest, NotFound, Precondition, Reason, Unavailable
from gateway.domain.modes import ProviderMode
from gateway.domain.payments import CaptureMethod
from gateway.domain.providers import AccountHealth
from gateway.rpc.context import Context
from gateway.rpc.interceptors import Service
from gateway.rpc.providers import HEALTHS, MODES, ProviderRpcs
from gateway.rpc.routes import ROUTE_OUTCOMES
from obol.v1 import operations_pb2 as pb
from obol.v1 import payment_pb2
from providers.rate import RateLimits
from tests.crash.rig import Interruption, SimulatedCrash, outlive_leases, resolve
from tests.failover.rig import CALLER, CAPTURED, MAIN, OTHER, Scene, created, no_time_passes, rule, scene_at, wish
from tests.rpc.serving import scripted, serving
from tests.store.looking import rows

OPERATIONS = pb.DESCRIPTOR.services_by_name["Operations"]
DRAINING, MAINTENANCE, ACTIVE = ProviderMode.DRAINING, ProviderMode.MAINTENANCE, ProviderMode.ACTIVE


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A fresh database and a fresh sandbox."""
    async with scene_at(tmp_path, rate=RateLimits(rate_per_s=1_000, burst=50)) as made:
        yield made


async def test_a_draining_account_takes_no_new_payment_and_every_other_command(scene: Scene) -> None:
    """What it holds is captured and refunded; a new payment goes elsewhere by rule, and nowhere by name."""
    runtime = scene.runtime(rule())
    held = await created(runtime, wish(key="held", capture_method=CaptureMethod.MANUAL))
    await runtime.modes.set(CALLER, MAIN, DRAINING, "moving")
    elsewhere = await created(runtime, wish(key="new"))
    assert elsewhere.provider_reference.account_id == OTHER
    with pytest.raises(Unavailable) as refused:
        await created(runtime, wish(key="named", account_id=MAIN))
    assert (refused.value.reason, refused.value.safe_to_retry) == (Reason.PROVIDER_DRAINING, True)
    await runtime.commands.capture(CALLER, CapturePayment("c", held.payment_id), 10)
    await runtime.commands.refund(CALLER, RefundPayment("r", held.payment_id), 10)
    assert [kind for account, kind in scene.effects() if account == MAIN] == ["authorization", "capture", "refund"]
    await scene.verified()


async def test_a_look_that_began_before_a_mode_was_set_does_not_undo_it(scene: Scene) -> None:
    """What the look has read is older than what was set meanwhile; the next one reads both."""
    slow = Interruption("account_modes.after", crash=False)
    modes = scene.runtime(interruption=slow).modes
    looking = asyncio.create_task(modes.refresh())
    await slow.reached.wait()
    await modes.set(CALLER, MAIN, DRAINING, "moving")
    slow.resume.set()
    await looking
    assert modes.of(MAIN).mode is DRAINING
    await modes.refresh()
    assert modes.of(MAIN).mode is DRAINING


async def test_in_maintenance_nothing_is_sent_and_everything_is_read(scene: Scene) -> None:
    """Commands are refused before their claim; the payment can be asked after."""
    runtime = scene.runtime()
    payment = await created(runtime, wish())
    await runtime.modes.set(CALLER, MAIN, MAINTENANCE, "they asked us to")
    with pytest.raises(Unavailable) as refused:
        await runtime.commands.refund(CALLER, RefundPayment("r", payment.payment_id), 10)
    assert refused.value.reason is Reason.PROVIDER_IN_MAINTENANCE
    assert (await runtime.commands.sync(CALLER, payment.payment_id, 10)).account_id == MAIN
    await runtime.modes.set(CALLER, MAIN, ACTIVE, "they are back")
    await runtime.commands.refund(CALLER, RefundPayment("r", payment.payment_id), 10)
    assert [kind for _, kind in scene.effects()] == ["capture", "refund"]


async def test_recovery_resends_nothing_into_a_maintenance(scene: Scene) -> None:
    """What may have been sent waits, and ends by a resend once the account is back."""
    dying = scene.runtime(interruption=Interruption("send.before", crash=True))
    with pytest.raises(SimulatedCrash):
        await created(dying, wish())
    runtime = scene.runtime()
    await runtime.modes.set(CALLER, MAIN, MAINTENANCE, "they asked us to")
    await outlive_leases(scene.url)
    await runtime.recovery.run_once()
    assert scene.effects() == []
    failure = await rows(scene.url, "SELECT state, failure FROM operations")
    assert failure == [("UNKNOWN", "not resent: PROVIDER_IN_MAINTENANCE")]
    await runtime.modes.set(CALLER, MAIN, ACTIVE, "they are back")
    await resolve(runtime)
    assert scene.effects() == [(MAIN, "capture")]


async def test_where_no_account_is_active_the_caller_is_told_why(scene: Scene) -> None:
    """By mode: wait and repeat. By what they can: the rule has to change."""
    runtime = scene.runtime(rule(MAIN, OTHER))
    for account in (MAIN, OTHER):
        await runtime.modes.set(CALLER, account, DRAINING, "all of it")
    with pytest.raises(Unavailable) as refused:
        await created(runtime, wish())
    assert (refused.value.reason, refused.value.safe_to_retry) == (Reason.NO_ACCOUNT_FITS, True)
    assert "acct_main is left out: its mode is DRAINING" in refused.value.message
    with pytest.raises(Precondition) as never:
        await created(scene.runtime(rule("acct_gone")), wish())
    assert never.value.reason is Reason.NO_ACCOUNT_FITS


async def test_a_stored_reply_outranks_every_mode(scene: Scene) -> None:
    """The same key gets its reply, whatever the account's mode is now."""
    runtime = scene.runtime()
    await created(runtime, wish())
    await runtime.modes.set(CALLER, MAIN, MAINTENANCE, "closed")
    assert (await runtime.commands.create(CALLER, wish(), 10)).replayed


async def test_another_process_knows_after_its_next_look(scene: Scene) -> None:
    """The mode is durable: a replica reads it, and one that starts later has it from the start."""
    first, second = scene.runtime(), scene.runtime()
    await first.modes.set(CALLER, MAIN, DRAINING, "moving")
    assert second.modes.of(MAIN).mode is ACTIVE
    await second.modes.refresh()
    assert (second.modes.of(MAIN).mode, second.modes.of(MAIN).reason) == (DRAINING, "moving")
    third = scene.runtime()
    await third.start()
    assert third.modes.of(MAIN).mode is DRAINING
    await third.drain(5)


async def test_a_mode_needs_an_account_and_a_reason(scene: Scene) -> None:
    """Neither a name that nobody has, nor an act without a why."""
    modes = scene.runtime().modes
    with pytest.raises(NotFound):
        await modes.set(CALLER, "acct_nobody", DRAINING, "why")
    for reason in ("", "  ", "x" * 501):
        with pytest.raises(InvalidRequest):
            await modes.set(CALLER, MAIN, DRAINING, reason)
    assert await rows(scene.url, "SELECT 1 FROM audit") == []


# Over the wire


async def test_operators_set_modes_and_see_accounts(scene: Scene, tmp_path: Path) -> None:
    """SetProviderMode, the command line's word for it, and ListProviders with everything that an account is."""
    runtime = scene.runtime()
    servicer = ProviderRpcs(runtime.oversight, runtime.modes)
    methods: dict[str, Any] = {"ListProviders": servicer.ListProviders, "SetProviderMode": servicer.SetProviderMode}
    service = Service(OPERATIONS, scripted(methods, OPERATIONS), needs=Context.GATEWAY)
    async with serving(tmp_path, services=[service]) as served:
        told = await served.error("Operations/SetProviderMode", pb.SetProviderModeRequest(account_id=MAIN, reason="x"))
        assert (told.info.reason, told.fields) == ("FIELD_INVALID", ["mode"])
        command = ["providers", "mode", MAIN, "draining", "--reason", "moving", "--gateway", served.address.target]
        result = await asyncio.to_thread(CliRunner().invoke, app, [*command, "--actor", "olga"])
        assert result.exit_code == 0
        assert result.output.endswith(f"{MAIN} is DRAINING: moving\n")
        wrong = await asyncio.to_thread(CliRunner().invoke, app, [*command[:2], "acct_nobody", *command[3:]])
        assert wrong.exit_code == 1
        assert "NOT_FOUND" in wrong.output
        raw = await (await served.call("Operations/ListProviders", pb.ListProvidersRequest()))
    accounts = {each.account_id: each for each in pb.ListProvidersResponse.FromString(raw).accounts}
    main = accounts[MAIN]
    assert list(accounts) == sorted(accounts)
    assert (main.mode, main.mode_reason, main.mode_actor) == (pb.PROVIDER_MODE_DRAINING, "moving", "olga")
    assert main.mode_time.seconds > 1_700_000_000
    assert accounts[OTHER].mode == pb.PROVIDER_MODE_ACTIVE
    assert not accounts[OTHER].HasField("mode_time")
    assert {"CAPTURE_MULTIPLE", "REFUND_PARTIAL", "EVENT_LIST", "CONSISTENT_ABSENCE"} <= set(main.capabilities)
    assert (main.rate_per_second, main.rate_burst, main.key_window_seconds) == (1_000, 50, 86_400)
    assert set(main.capture_methods) == {payment_pb2.CAPTURE_METHOD_AUTOMATIC, payment_pb2.CAPTURE_METHOD_MANUAL}
    audit = await rows(scene.url, "SELECT actor, action, result, account_id, detail FROM audit")
    assert audit == [("olga", "OPERATOR.SET_PROVIDER_MODE", "DRAINING", MAIN, "ACTIVE -> DRAINING: moving")]


def test_an_unknown_mode_is_told_before_anything_is_asked() -> None:
    """The command line knows the three."""
    result = CliRunner().invoke(app, ["providers", "mode", MAIN, "closed", "--reason", "x"])
    assert result.exit_code == 2
    assert "ACTIVE, DRAINING, MAINTENANCE" in result.output


def test_every_enum_of_ours_has_its_place_in_the_contract() -> None:
    """Total in both directions, but for the zero."""
    for table, members, enum in (
        (HEALTHS, AccountHealth, pb.ProviderHealth),
        (MODES, ProviderMode, pb.ProviderMode),
        (ROUTE_OUTCOMES, None, payment_pb2.RouteOutcome),
    ):
        assert members is None or set(table) == set(members)
        assert sorted(table.values()) == sorted(value for value in enum.values() if value)


# Rate limits


async def test_a_429_is_waited_out_within_the_deadline(scene: Scene) -> None:
    """Not executed, with Retry-After: the same call tries the same key again, and has one effect."""
    await scene.fail_next(("http_429", "payments"))
    payment = await created(scene.runtime(), wish())
    assert payment.state == CAPTURED
    assert [(o.epoch, o.account_id) for o in (await scene.only()).operations] == [(2, MAIN)]
    assert scene.effects() == [(MAIN, "capture")]


async def test_a_429_that_outlasts_the_deadline_is_told(scene: Scene) -> None:
    """Nothing was done; the caller knows how long to wait, and is not kept."""
    await scene.fail_next(("http_429", "payments"))
    with no_time_passes(), pytest.raises(Unavailable) as told:
        await created(scene.runtime(), wish(), deadline_s=0.9)
    assert (told.value.reason, told.value.retry_after_s) == (Reason.PROVIDER_NOT_EXECUTED, 1.0)
    assert scene.effects() == []


async def test_a_429_goes_on_to_the_next_account_where_a_rule_says_so(scene: Scene) -> None:
    """Nobody waits for an account while another one would take it."""
    await scene.fail_next(("http_429", "payments"))
    with no_time_passes():
        payment = await created(scene.runtime(rule(MAIN, OTHER)), wish(), deadline_s=0.9)
    assert payment.provider_reference.account_id == OTHER
