"""Callers that cancel, run out of time, or close their channel while the provider is silent: the work goes on, once."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from gateway.verification import verify
from obol.v1 import payment_gateway_pb2 as pb
from obol.v1 import payment_gateway_pb2_grpc, payment_pb2
from tests.databases import sqlite_url
from tests.integration.house import Command, House, eventually, money, open_house

pytestmark = pytest.mark.slow

WAYS = ("cancel", "deadline", "closed channel")
DEADLINE_S = 1.2
"""Long enough to be begun, shorter than the provider is silent."""

Call = Callable[[Any, float], Awaitable[Any]]


async def wish(house: House, kind: str, key: str) -> Call:
    """A command of `kind` on a payment of its own, as a function of a stub and a timeout."""
    manual: dict[str, Any] = {"capture_method": payment_pb2.CAPTURE_METHOD_MANUAL}
    unconfirmed: dict[str, Any] = {"confirmation_method": payment_pb2.CONFIRMATION_METHOD_MANUAL}
    first: dict[str, dict[str, Any]] = {"capture": manual, "cancel": manual, "confirm": unconfirmed, "refund": {}}
    named: dict[str, Any] = {"idempotency_key": key}
    if kind == "create":
        named |= {"amount": money(1_000), "payment_method": "card_ok"}
    else:
        named["payment_id"] = (await house.create(f"first-{key}", **first[kind])).payment_id
    method = f"{kind.title()}Payment"
    request = getattr(pb, f"{method}Request")(**named)
    return lambda stub, timeout: getattr(stub, method)(request, metadata=house.metadata, timeout=timeout)


async def leave(house: House, way: str, call: Call) -> None:
    """Begin the call and leave it in one of the ways."""
    if way == "deadline":
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await call(house.payments, DEADLINE_S)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        return
    channel = grpc.aio.insecure_channel(house.target)
    calling = asyncio.ensure_future(call(payment_gateway_pb2_grpc.PaymentGatewayStub(channel), 20.0))
    await asyncio.sleep(0.3)
    if way == "cancel":
        calling.cancel()
    await channel.close()
    with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
        await calling


async def test_every_command_goes_on_without_its_caller(tmp_path: Path) -> None:
    """Five commands, three ways to leave, a provider that holds each: every one succeeds once, and says so."""
    url = sqlite_url(tmp_path)
    async with open_house(url, tmp_path) as house:
        kinds = ("create", "confirm", "capture", "cancel", "refund")
        wishes = {(kind, way): await wish(house, kind, f"{kind}-{way[:2]}") for kind in kinds for way in WAYS}
        before = len(house.effects())
        await house.control("/control/faults", {"rates": {"stall": 1.0}})
        await asyncio.gather(*(leave(house, way, call) for (_, way), call in wishes.items()))
        async with aiohttp.ClientSession() as session, session.delete(f"{house.sandbox_url}/control/faults") as healed:
            assert healed.status < 300
        for (kind, way), call in wishes.items():

            async def asked(call: Call = call) -> Any:
                reply: Any = await call(house.payments, 10.0)
                return reply.payment.latest_command.state

            ended = await eventually(asked, lambda state: state == Command.COMMAND_STATE_SUCCEEDED)
            assert ended, (kind, way)
        assert len(house.effects()) == before + len(wishes)
    report = await verify(url, effect_log=house.sandbox_dir / "effects.jsonl", healed=True)
    assert report.violations == []
