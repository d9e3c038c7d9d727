"""The crash matrix of a failover: every point of its three operations; afterwards one effect, and one answer."""

import asyncio
from pathlib import Path

import pytest

from gateway.domain.errors import ObolError
from obol.v1 import payment_gateway_pb2 as pb
from tests.crash.rig import POINTS, SimulatedCrash, caller_of, effects_of, outlive_leases, resolve
from tests.failover.rig import CAPTURED, OTHER, NthInterruption, Scene, rule, scene_at, wish

OPERATIONS = {1: "create at the first account", 2: "cancel there", 3: "create at the next account"}
PATIENT_S = 12.0
"""Enough for all cases at once to come to their points, on a machine that has other things to do."""
CASES = [(nth, point) for nth in OPERATIONS for point in POINTS]


async def interrupted(scene: Scene, nth: int, point: str, *, crash: bool) -> None:
    """A create that stops there, by the end of its process or of its caller."""
    stop = NthInterruption(nth, point, crash=crash)
    runtime = scene.runtime(rule(), interruption=stop)
    caller = caller_of(f"{nth}-{point}")
    call = asyncio.ensure_future(runtime.commands.create(caller, wish("card_declined_at_main"), PATIENT_S))
    reached = asyncio.ensure_future(stop.reached.wait())
    await asyncio.wait((call, reached), return_when=asyncio.FIRST_COMPLETED)
    assert stop.reached.is_set(), f"never came to {point} of {OPERATIONS[nth]}"
    if not crash and not point.endswith(".lost"):
        call.cancel()
        stop.resume.set()
    reached.cancel()
    outcome = (await asyncio.gather(call, return_exceptions=True))[0]
    told = not isinstance(outcome, BaseException)
    assert told or isinstance(outcome, SimulatedCrash | asyncio.CancelledError | ObolError), outcome


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
@pytest.mark.parametrize("crash", [True, False], ids=["crash", "cancel"])
async def test_a_failover_interrupted_anywhere_pays_once(crash: bool, engine: str, tmp_path: Path) -> None:
    """Taken up by another process and asked again: paid at the next account, once, or by nobody twice."""
    async with scene_at(tmp_path, engine) as scene:
        await asyncio.gather(*(interrupted(scene, nth, point, crash=crash) for nth, point in CASES))
        survivor = scene.runtime(rule())
        for _ in range(3):
            # Leases end, recovery finds out, and whoever looks next goes on.
            await outlive_leases(scene.url)
            await resolve(survivor)
            await scene.make_due()
            await survivor.commands.failover.run_once()
        for nth, point in CASES:
            caller = caller_of(f"{nth}-{point}")
            reply = await survivor.commands.create(caller, wish("card_declined_at_main"), 20)
            payment = pb.CreatePaymentResponse.FromString(reply.body).payment
            assert (payment.state, payment.provider_reference.account_id) == (CAPTURED, OTHER), (nth, point)
            assert effects_of(scene.log, caller.tenant_id) == ["capture"], (nth, point)
            assert (await survivor.commands.create(caller, wish("card_declined_at_main"), 20)).body == reply.body
        await survivor.drain(5)
        await scene.verified()
