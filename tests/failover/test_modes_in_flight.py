"""A mode is set while a call to the provider is out: what is in flight ends as the provider says, and is settled."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.app.requests import CapturePayment, RefundPayment
from gateway.domain.errors import Reason, Unavailable
from gateway.domain.modes import ProviderMode
from gateway.domain.payments import CaptureMethod
from obol.v1 import payment_gateway_pb2 as pb
from obol.v1 import payment_pb2
from tests.crash.rig import resolve
from tests.failover.rig import CALLER, CAPTURED, MAIN, OTHER, Scene, created, rule, scene_at, wish
from tests.store.looking import rows

DRAINING, MAINTENANCE = ProviderMode.DRAINING, ProviderMode.MAINTENANCE
UNKNOWN = payment_pb2.PAYMENT_STATE_UNKNOWN
WAIT_S_MAX = 20.0


@pytest.fixture(params=["sqlite", "postgresql"])
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    """A fresh database and a fresh sandbox; every invariant holds when the test is over."""
    async with scene_at(tmp_path, request.param) as made:
        yield made
        await made.verified()


class Flight:
    """Calls that the provider holds, their requests whole, until it is told to go on."""

    def __init__(self, scene: Scene) -> None:
        self._url = f"{scene.sandbox_url}/control/faults"
        self._scene = scene

    async def begin(self, fault: str, verb: str, call: Any) -> "asyncio.Task[Any]":
        """`call`, once its request to `verb` is at the provider and held there by `fault`."""
        before = (await self._injected()).get(fault, 0)
        await self._scene.fail_next((fault, verb))
        calling = asyncio.create_task(call)
        async with asyncio.timeout(WAIT_S_MAX):
            while (await self._injected()).get(fault, 0) == before:
                assert not calling.done(), f"{verb} never was in flight: {calling}"
                await asyncio.sleep(0.01)
        return calling

    async def land(self) -> None:
        """The provider goes on with everything that it holds."""
        async with aiohttp.ClientSession() as session, session.delete(self._url) as told:
            assert told.status < 300

    async def _injected(self) -> dict[str, int]:
        async with aiohttp.ClientSession() as session, session.get(self._url) as told:
            counted: dict[str, int] = (await told.json())["injected"]
        return counted


async def refused(call: Any) -> Reason:
    """Why nothing was sent; the call may be repeated."""
    with pytest.raises(Unavailable) as told:
        await call
    assert told.value.safe_to_retry
    return told.value.reason


async def test_what_is_in_flight_when_an_account_is_drained_is_settled_as_it_ends(scene: Scene) -> None:
    """New payments go elsewhere or nowhere, what it has goes on; an answer is taken, or looked up where it was lost."""
    runtime, operator, flight = scene.runtime(rule()), scene.runtime(), Flight(scene)
    old = await created(runtime, wish(key="old", capture_method=CaptureMethod.MANUAL))
    answered = await flight.begin("stall", "payments", created(runtime, wish(key="answered")))
    lost = await flight.begin("timeout_after", "payments", created(runtime, wish(key="lost")))
    await operator.modes.set(CALLER, MAIN, DRAINING, "moving")
    await runtime.modes.refresh()

    assert await refused(created(runtime, wish(key="named", account_id=MAIN))) is Reason.PROVIDER_DRAINING
    assert (await created(runtime, wish(key="routed"))).provider_reference.account_id == OTHER
    await runtime.commands.capture(CALLER, CapturePayment("capture", old.payment_id), 10)
    await runtime.commands.refund(CALLER, RefundPayment("refund", old.payment_id), 10)
    assert not answered.done()
    assert not lost.done()
    await flight.land()

    there = await answered
    assert (there.state, there.provider_reference.account_id) == (CAPTURED, MAIN)
    assert (await lost).state == UNKNOWN
    await resolve(runtime)
    assert (await scene.aggregate((await lost).payment_id)).payment.state == "CAPTURED"
    await runtime.commands.refund(CALLER, RefundPayment("refund-2", there.payment_id), 10)
    at_main = [kind for account, kind in scene.effects() if account == MAIN]
    assert sorted(at_main) == ["authorization", "capture", "capture", "capture", "refund", "refund"]
    assert [kind for account, kind in scene.effects() if account == OTHER] == ["capture"]


async def test_what_is_in_flight_into_a_maintenance_is_settled_as_it_ends(scene: Scene) -> None:
    """Nothing new is sent; answers to what is out are taken, and lost ones are read, while the maintenance lasts."""
    runtime, flight = scene.runtime(), Flight(scene)
    old = await created(runtime, wish(key="old", capture_method=CaptureMethod.MANUAL))
    capture = runtime.commands.capture(CALLER, CapturePayment("capture", old.payment_id), 20)
    answered = await flight.begin("stall", "capture", capture)
    lost = await flight.begin("timeout_after", "payments", created(runtime, wish(key="lost")))
    await runtime.modes.set(CALLER, MAIN, MAINTENANCE, "they asked us to")

    assert await refused(created(runtime, wish(key="new"))) is Reason.PROVIDER_IN_MAINTENANCE
    await flight.land()
    taken = pb.CapturePaymentResponse.FromString((await answered).body).payment
    assert (taken.state, taken.latest_command.state) == (CAPTURED, payment_pb2.COMMAND_STATE_SUCCEEDED)
    refund = runtime.commands.refund(CALLER, RefundPayment("refund", old.payment_id), 10)
    assert await refused(refund) is Reason.PROVIDER_IN_MAINTENANCE
    assert (await lost).state == UNKNOWN
    await resolve(runtime)
    assert runtime.modes.of(MAIN).mode is MAINTENANCE
    assert await rows(scene.url, "SELECT state FROM operations WHERE state <> 'SUCCEEDED'") == []
    assert sorted(scene.effects()) == [(MAIN, "authorization"), (MAIN, "capture"), (MAIN, "capture")]
