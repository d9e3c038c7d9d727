"""Faults come as they are told: by seed, by queue, within their scope, until they are healed."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from simulators.faults import FAULTS, FaultPlan, FaultPlanInvalid
from tests.unit.simulators.rig import Caller, Opened, until

RATES = {"http_500_before": 0.2, "http_500_after": 0.1, "lost_after": 0.2, "http_429": 0.1, "reset_before": 0.1}


async def test_a_seed_gives_the_same_faults_again(caller: Caller) -> None:
    """The same seed and requests: the same faults in the same places; another seed: others."""
    runs = []
    for seed in (7, 7, 8):
        await caller.control("/faults", {"seed": seed, "rates": RATES})
        runs.append([await _outcome(caller) for _ in range(40)])
    assert runs[0] == runs[1] != runs[2]
    assert len(set(runs[0])) >= 4


async def test_healed_means_that_nothing_fails(caller: Caller) -> None:
    """After DELETE every request is answered; what was injected stays counted."""
    await caller.control(
        "/faults", {"rates": {"http_500_before": 1.0}, "next": [{"fault": "http_429", "match": "capture"}]}
    )
    assert (await caller.pay()).status == 500
    await caller.control("/faults", method="DELETE")
    held = await caller.authorized()
    assert (await caller.post(f"/v1/payments/{held}/capture")).status == 200
    assert await caller.injected() == {"http_500_before": 1}


@pytest.mark.parametrize("name", FAULTS)
async def test_every_fault_keeps_to_its_stage(caller: Caller, name: str) -> None:
    """A fault before leaves the books alone, one after leaves the effect; either way the key then has one effect."""
    await caller.control("/faults", {"next": [{"fault": name, "match": "payments"}]})
    asked = asyncio.create_task(_outcome(caller, key="same"))
    await until(lambda: _injected(caller, name))
    if name == "stall":
        assert await caller.effects() == []
    if name in ("stall", "timeout_before", "timeout_after"):
        await caller.control("/faults", method="DELETE")
    await asked
    assert len(await caller.effects()) == (FAULTS[name].stage == "after" or name == "stall")
    await _outcome(caller, key="same")
    assert len(await caller.effects()) == 1


async def test_a_stalled_request_is_booked_though_its_caller_is_gone(caller: Caller) -> None:
    """What a slow provider delivers late takes effect after the caller gave up: absence was no evidence."""
    await caller.control("/faults", {"next": [{"fault": "stall"}]})
    asked = asyncio.create_task(caller.pay(metadata={"obol_payment": "pay_1"}))
    await until(lambda: _injected(caller, "stall"))
    asked.cancel()
    assert (await caller.get("/v1/payments?reference=pay_1")).body["data"] == []
    await caller.control("/faults", method="DELETE")
    await until(lambda: _found(caller, "pay_1"))


async def test_a_queued_fault_takes_the_request_that_it_matches(caller: Caller) -> None:
    """A fault for a capture lets the payment pass and hits the capture, once."""
    await caller.control("/faults", {"next": [{"fault": "http_500_after", "match": "capture"}]})
    held = await caller.authorized()
    assert (await caller.post(f"/v1/payments/{held}/capture", key="c")).status == 500
    replayed = await caller.post(f"/v1/payments/{held}/capture", key="c")
    assert (replayed.status, replayed.replayed) == (500, True)
    assert (await caller.get(f"/v1/payments/{held}")).body["status"] == "captured"


async def test_a_lookup_fails_only_when_it_is_named(caller: Caller) -> None:
    """Rates spare reads, unless the scope or a queued fault names them."""
    paid = (await caller.pay()).body["id"]
    await caller.control("/faults", {"rates": {"http_500_before": 1.0}})
    assert (await caller.get(f"/v1/payments/{paid}")).status == 200
    scope = {"method": "GET", "path_prefix": "/v1/payments"}
    await caller.control("/faults", {"rates": {"http_500_before": 1.0}, "scope": scope})
    assert (await caller.get(f"/v1/payments/{paid}")).status == 500
    assert (await caller.get("/v1/account")).status == 200
    assert (await caller.pay()).status == 200
    await caller.control("/faults", method="DELETE")
    await caller.control("/faults", {"next": [{"fault": "http_429", "match": "lookup"}]})
    assert (await caller.get(f"/v1/payments/{paid}")).status == 429


async def test_a_reset_is_a_reset(caller: Caller) -> None:
    """The connection is reset, which is another error than a closed one."""
    await caller.control("/faults", {"next": [{"fault": "reset_after"}]})
    with pytest.raises(aiohttp.ClientOSError, match="reset"):
        await caller.pay()


async def test_silence_ends_with_a_closed_connection(opened: Opened) -> None:
    """After hang_seconds the connection closes without an answer."""
    async with opened(hang_seconds=0.05) as caller:
        await caller.control("/faults", {"next": [{"fault": "timeout_after"}]})
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await caller.pay()


@pytest.mark.parametrize(
    "plan",
    [
        {"rates": {"earthquake": 0.1}},
        {"rates": {"lost_after": 1.1}},
        {"rates": {"lost_after": 0.6, "lost_before": 0.6}},
        {"rates": {"lost_after": True}},
        {"rates": [1]},
        {"scope": {"host": "x"}},
        {"next": [{"match": "capture"}]},
        {"next": [{"fault": "stall"}] * 10_001},
    ],
)
def test_a_plan_that_makes_no_sense_changes_nothing(plan: dict[str, Any]) -> None:
    """Unknown names, rates that are no probabilities and endless queues are refused whole."""
    faults = FaultPlan()
    before = faults.shown()
    with pytest.raises(FaultPlanInvalid):
        faults.configure(plan)
    assert faults.shown() == before


async def test_a_plan_that_makes_no_sense_is_400(caller: Caller) -> None:
    """The control says what is wrong."""
    refused = await caller.control("/faults", {"rates": {"earthquake": 0.1}})
    assert (refused.status, "earthquake" in refused.body["error"]["message"]) == (400, True)


async def _outcome(caller: Caller, key: str | None = None) -> str:
    try:
        return str((await caller.pay(key=key)).status)
    except (aiohttp.ClientError, ValueError) as error:
        return type(error).__name__


async def _injected(caller: Caller, name: str) -> bool:
    return name in await caller.injected()


async def _found(caller: Caller, reference: str) -> bool:
    return bool((await caller.get(f"/v1/payments?reference={reference}")).body["data"])
