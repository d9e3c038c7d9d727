"""A sidecar leaves in the middle of handing a callback over: it cancels, runs out of time, or closes its channel.

The provider got no 2xx then, and sends it again. However far the first one had come, it is taken once and applied.
"""

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from obol.v1 import payment_pb2, provider_callbacks_pb2, provider_callbacks_pb2_grpc
from tests.crash.rig import rows
from tests.faults.test_callers_at_points import DEADLINE_S, PATIENT_S, WAYS, Scene, leave, scene_on
from tests.integration.house import eventually

POINTS = ("receive_callback.before", "receive_callback.after")
SIDECAR = (("obol-actor", "webhook:sandbox/acct_main"), ("obol-correlation-id", "corr-sidecar"))
NOBODYS = ""
"""The tenant of a callback, before its payment is found."""
EVENTS_MAX = 100


async def told_of_approval(scene: Scene, provider_payment_id: str) -> dict[str, Any]:
    """The customer approves; what the provider tells of it, and nobody has heard yet."""
    url, headers = scene.sandbox_url, {"Authorization": "Bearer sandbox-key-main"}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.post(f"{url}/customer/{provider_payment_id}", json={"outcome": "approve"}) as answer:
            assert answer.status < 300, await answer.text()
        async with session.get(f"{url}/v1/events?limit={EVENTS_MAX}") as answer:
            event: dict[str, Any] = (await answer.json())["data"][-1]
    assert event["data"]["object"]["id"] == provider_payment_id
    return event


async def hand_over_and_leave(scene: Scene, request: Any, point: str, way: str) -> None:
    """A call that is held at `point`, left, and noticed to be so before it may go on."""
    for tries in range(4):
        gate, ended = scene.gates.shut(point, NOBODYS), scene.end_of(NOBODYS)
        channel = grpc.aio.insecure_channel(scene.house.target, options=[("grpc.channel_id", f"{point}{way}{tries}")])
        stub: Any = provider_callbacks_pb2_grpc.ProviderCallbacksStub(channel)
        timeout_s = DEADLINE_S * 2**tries if way == "deadline" else PATIENT_S
        calling = asyncio.ensure_future(stub.DeliverCallback(request, metadata=SIDECAR, timeout=timeout_s))
        reached = asyncio.ensure_future(gate.reached.wait())
        await asyncio.wait((calling, reached), return_when=asyncio.FIRST_COMPLETED)
        came = not calling.done()
        if came:
            await leave(way, calling, channel)
            async with asyncio.timeout(PATIENT_S):
                assert await ended in ("CANCELLED", "DEADLINE_EXCEEDED")
        gate.opened.set()
        if came:
            return
        assert way == "deadline", calling.exception() or calling.result()
        await channel.close()
    raise AssertionError(f"no callback came to {point} in {DEADLINE_S * 8} s")


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_a_sidecar_may_leave_at_any_point(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was committed is kept, what was not is sent again; in either case it is applied, and there is one of it."""
    async with scene_on(engine, tmp_path, monkeypatch) as scene:
        for point, way in ((point, way) for point in POINTS for way in WAYS):
            key = f"{point}-{way}".replace(" ", "-")
            payment = await scene.house.create(key, payment_method="card_requires_action")
            assert payment.state == payment_pb2.PAYMENT_STATE_REQUIRES_ACTION
            event = await told_of_approval(scene, payment.provider_reference.provider_payment_id)
            request = provider_callbacks_pb2.DeliverCallbackRequest(
                provider="sandbox",
                account_id="acct_main",
                event_id=event["id"],
                event_type=event["type"],
                body=json.dumps(event).encode(),
            )
            await hand_over_and_leave(scene, request, point, way)
            again = await scene.house.callbacks.DeliverCallback(request, metadata=SIDECAR, timeout=PATIENT_S)
            assert again.duplicate is (point == "receive_callback.after")
            await scene.house.until(payment.payment_id, payment_pb2.PAYMENT_STATE_CAPTURED)
            states = partial(
                rows, scene.house.database_url, "SELECT state FROM callbacks WHERE event_id = :id", id=event["id"]
            )
            await eventually(states, lambda found: [tuple(each) for each in found] == [("APPLIED",)])
