"""The server around the services: health, reflection, drain."""

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gateway.domain.providers import AccountHealth
from gateway.rpc.address import Address, AddressTaken
from gateway.rpc.context import Call
from gateway.rpc.interceptors import CallLimits
from obol.v1 import billing_observation_pb2 as observing
from obol.v1 import payment_gateway_pb2 as pb
from tests.rpc.serving import Serving, serving

GET = "PaymentGateway/GetPayment"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def health(served: Serving, service: str = "") -> Any:
    """What the health service says, without any metadata."""
    stub = health_pb2_grpc.HealthStub(served.channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)).status


async def health_becomes(served: Serving, service: str, status: Any) -> None:
    """Wait until the health service says so."""
    stub = health_pb2_grpc.HealthStub(served.channel)
    async for answer in stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=5):
        if answer.status == status:
            return


@pytest.mark.parametrize("service", ["", "obol.v1.PaymentGateway", "obol.v1.BillingObservation"])
@pytest.mark.parametrize("lost", [ConnectionError("down"), TimeoutError()])
async def test_readiness_follows_the_database(tmp_path: Path, service: str, lost: Exception) -> None:
    """The overall health and each service's turn NOT_SERVING when the database is lost, and back."""
    async with serving(tmp_path) as served:
        assert await health(served, service) == SERVING
        served.database.lost = lost
        await health_becomes(served, service, NOT_SERVING)
        served.database.lost = None
        await health_becomes(served, service, SERVING)


async def test_a_database_that_hangs_is_lost(tmp_path: Path) -> None:
    """A ping without an answer in time is no answer."""
    async with serving(tmp_path) as served:
        served.readiness._ping = lambda: asyncio.sleep(60)
        await health_becomes(served, "", NOT_SERVING)


async def test_a_providers_outage_is_its_own(tmp_path: Path) -> None:
    """An open breaker turns the account's own health service, and nothing else."""
    async with serving(tmp_path) as served:
        own = "obol.provider.acct_main"
        assert await health(served, own) == SERVING
        served.account.health = AccountHealth.OPEN
        await health_becomes(served, own, NOT_SERVING)
        assert await health(served) == SERVING
        served.account.health = AccountHealth.HALF_OPEN
        await health_becomes(served, own, SERVING)


async def test_health_answers_while_every_place_is_taken(tmp_path: Path) -> None:
    """An overloaded process is not a dead one: health checks are not counted among the calls."""
    gate = asyncio.Event()

    async def get(request: Any, call: Call) -> pb.GetPaymentResponse:
        await gate.wait()
        return pb.GetPaymentResponse()

    async with serving(tmp_path, {"GetPayment": get}, limits=CallLimits(calls_max=1, streams_max=1)) as served:
        calls = [await served.call(GET, pb.GetPaymentRequest()) for _ in range(20)]
        await served.telemetry.until(begun=20)
        assert await health(served) == SERVING
        gate.set()
        ended = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(each, bytes) for each in ended) == 1


async def test_two_servers_never_share_a_port_in_silence(tmp_path: Path) -> None:
    """Also one that was started past the probe: without workers SO_REUSEPORT is off."""
    async with serving(tmp_path, at=Address("127.0.0.1", 0)) as first:
        with pytest.raises(AddressTaken):
            async with serving(tmp_path, at=first.address):
                pass


async def test_reflection_lists_every_service_and_knows_its_messages(tmp_path: Path) -> None:
    """grpcurl needs no files and no metadata: reflection is open."""
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="obol.v1.PaymentGateway"),
    ]
    async with serving(tmp_path) as served:
        stub = reflection_pb2_grpc.ServerReflectionStub(served.channel)
        answers = [answer async for answer in stub.ServerReflectionInfo(iter(asked), timeout=5)]
    names = {service.name for service in answers[0].list_services_response.service}
    assert names == {
        "obol.v1.PaymentGateway",
        "obol.v1.BillingObservation",
        "obol.v1.ProviderCallbacks",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert b"CreatePaymentRequest" in answers[1].file_descriptor_response.file_descriptor_proto[0]


async def test_a_drain_lets_calls_finish_and_takes_no_new_ones(tmp_path: Path) -> None:
    """NOT_SERVING comes first, then no new call is taken, and the one under way gets its answer."""
    gate = asyncio.Event()

    async def get(request: Any, call: Call) -> pb.GetPaymentResponse:
        await gate.wait()
        return pb.GetPaymentResponse()

    async with serving(tmp_path, {"GetPayment": get}) as served:
        call = await served.call(GET, pb.GetPaymentRequest())
        await served.telemetry.until(begun=1)
        drain = asyncio.create_task(served.server.drain(announce_s=0.2, grace_s=120.0))
        await health_becomes(served, "", NOT_SERVING)
        assert not drain.done()
        await asyncio.sleep(0.4)
        refused = await served.error(GET, pb.GetPaymentRequest(), timeout_s=1.0)
        gate.set()
        await call
        began_s = time.monotonic()
        await drain
        # Those who watch the health were told, and did not hold it up.
        assert time.monotonic() - began_s < 60.0
    assert refused.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert served.telemetry.ended == [(GET, "OK")]


async def test_a_drain_ends_streams_at_once_and_says_why(tmp_path: Path) -> None:
    """A watching stream ends with UNAVAILABLE, DRAINING, without waiting for the grace; its servicer is cleaned up."""
    closed: list[bool] = []

    async def watch(request: Any, call: Call) -> AsyncGenerator[observing.WatchObservationsResponse, None]:
        try:
            yield observing.WatchObservationsResponse()
            await asyncio.sleep(240)
        finally:
            closed.append(True)

    async with serving(tmp_path, {"WatchObservations": watch}) as served:
        stream = served.watch()
        await stream.read()
        began_s = time.monotonic()
        await served.server.drain(announce_s=0.0, grace_s=120.0)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
    assert time.monotonic() - began_s < 60.0
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "resume" in (caught.value.details() or "")
    assert closed == [True]
    assert served.telemetry.ended == [("BillingObservation/WatchObservations", "UNAVAILABLE")]


async def test_a_drain_ends_the_stream_of_a_consumer_that_does_not_read(tmp_path: Path) -> None:
    """A consumer whose window is full holds up a drain no longer than the grace."""

    async def watch(request: Any, call: Call) -> AsyncGenerator[observing.WatchObservationsResponse, None]:
        big = observing.WatchObservationsResponse()
        big.observation.detail = "x" * 100_000
        while True:
            yield big

    async with serving(tmp_path, {"WatchObservations": watch}) as served:
        stream = served.watch()
        await stream.read()
        await asyncio.sleep(0.2)
        began_s = time.monotonic()
        await served.server.drain(announce_s=0.0, grace_s=1.0)
        assert time.monotonic() - began_s < 60.0
        stream.cancel()
