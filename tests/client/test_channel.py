"""The channel: what it repeats by itself, what it never does, and the deadlines of the aio clients."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass
from grpc import aio

from obol.client import (
    AioBillingObservationClient,
    AioPace,
    AioPaymentGatewayClient,
    CallRecord,
    Limits,
    OutcomeUnknown,
    aio_channel,
    aio_repeat_until_answered,
    channel,
)
from obol.client.calls import COMMAND_TIMEOUT_S, READ_TIMEOUT_S
from obol.client.channel import KEEPALIVE_TIME_MS, REPEATED_BY_THE_CHANNEL, REPEATS_MAX, channel_options
from obol.client.gateway import PaymentGatewayClient
from obol.v1 import payment_gateway_pb2 as pb
from obol.v1 import provider_callbacks_pb2
from tests.client.asking import CALLER, OBSERVATIONS, PAYMENTS
from tests.client.test_clients import snake

UNARY = [method for service in (PAYMENTS, OBSERVATIONS) for method in service.methods if not method.server_streaming]
Handle = Callable[[str, Any], Any]


@asynccontextmanager
async def answering(handle: Handle, target: str = "") -> AsyncIterator[str]:
    """A grpc.aio server that answers every unary RPC of both services with `handle(rpc, context)`."""
    with tempfile.TemporaryDirectory(prefix="obol-") as directory:
        target = target or f"unix:{Path(directory) / 'grpc.sock'}"
        server = aio.server()
        for service in (PAYMENTS, OBSERVATIONS):
            handlers = {method.name: _handler(method, handle) for method in service.methods}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
        server.add_insecure_port(target)
        await server.start()
        try:
            yield target
        finally:
            await server.stop(None)


def _handler(method: Any, handle: Handle) -> "grpc.RpcMethodHandler[Any, Any]":
    request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)

    async def answer(asked: Any, context: Any) -> Any:
        reply = await handle(method.name, context)
        return response() if reply is None else reply

    return grpc.unary_unary_rpc_method_handler(answer, request.FromString, response.SerializeToString)


@pytest.mark.parametrize("method", UNARY, ids=lambda method: str(method.name))
async def test_only_what_changes_nothing_is_repeated_blindly(method: Any) -> None:
    """On UNAVAILABLE a command reaches the server once, everything else is tried again."""
    calls: list[str] = []

    async def drained(rpc: str, context: Any) -> None:
        calls.append(rpc)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "draining")

    async with answering(drained) as target, aio_channel(target) as opened:
        client = AioPaymentGatewayClient if method in PAYMENTS.methods else AioBillingObservationClient
        with pytest.raises(Exception, match="draining"):
            await getattr(client(opened, CALLER), snake(method.name))(GetMessageClass(method.input_type)())
    command = "idempotency_key" in method.input_type.fields_by_name
    assert calls == [method.name] * (1 if command else 1 + REPEATS_MAX)


def test_no_command_is_on_the_list_of_repeats() -> None:
    """The list names unary RPCs that there are, none of which carries an idempotency key."""
    callbacks = provider_callbacks_pb2.DESCRIPTOR.services_by_name["ProviderCallbacks"]
    services = {service.full_name: service for service in (PAYMENTS, OBSERVATIONS, callbacks)}
    for service, methods in REPEATED_BY_THE_CHANNEL.items():
        for name in methods:
            method = services[service].methods_by_name[name]
            assert not method.server_streaming
            assert "idempotency_key" not in method.input_type.fields_by_name


def test_pings_are_rarer_than_the_gateway_permits() -> None:
    """The gateway closes a connection that pings more often than every 10 s."""
    assert KEEPALIVE_TIME_MS >= 10_000
    assert dict(channel_options())["grpc.keepalive_time_ms"] == KEEPALIVE_TIME_MS


def test_an_option_of_the_callers_wins() -> None:
    """Once, and with its value."""
    options = channel_options([("grpc.keepalive_time_ms", 60_000)])
    assert [value for key, value in options if key == "grpc.keepalive_time_ms"] == [60_000]


async def test_every_call_has_a_deadline() -> None:
    """Commands and reads end by themselves, and a caller's own deadline wins."""
    remaining: list[float] = []

    async def note(rpc: str, context: Any) -> None:
        remaining.append(context.time_remaining())

    async with answering(note) as target, aio_channel(target) as opened:
        client = AioPaymentGatewayClient(opened, CALLER)
        began_s = time.monotonic()
        await client.create_payment(pb.CreatePaymentRequest(idempotency_key="k"))
        await client.get_payment(pb.GetPaymentRequest())
        await client.get_payment(pb.GetPaymentRequest(), timeout_s=50.0)
        took_s = time.monotonic() - began_s
    for left, bound in zip(remaining, (COMMAND_TIMEOUT_S, READ_TIMEOUT_S, 50.0), strict=True):
        assert bound - took_s - 0.5 < left < bound + 0.5


async def test_a_deadline_on_a_command_is_an_unknown_outcome_in_both_clients() -> None:
    """A gateway that does not answer in time leaves MAYBE, over the real wire."""

    async def stall(rpc: str, context: Any) -> None:
        await asyncio.sleep(30)

    request = pb.CreatePaymentRequest(idempotency_key="k")
    async with answering(stall) as target, aio_channel(target) as opened:
        with pytest.raises(OutcomeUnknown):
            await AioPaymentGatewayClient(opened, CALLER).create_payment(request, timeout_s=0.2)
        with channel(target) as blocking:
            call = PaymentGatewayClient(blocking, CALLER).create_payment
            with pytest.raises(OutcomeUnknown):
                await asyncio.to_thread(call, request, timeout_s=0.2)


async def test_a_replay_is_told_apart_in_the_aio_client() -> None:
    """`obol-replayed` is read from a real server's initial metadata."""

    async def again(rpc: str, context: Any) -> None:
        await context.send_initial_metadata((("obol-replayed", "true"),))

    record = CallRecord()
    async with answering(again) as target, aio_channel(target) as opened:
        client = AioPaymentGatewayClient(opened, CALLER)
        await client.create_payment(pb.CreatePaymentRequest(idempotency_key="k"), record=record)
    assert record.replayed


async def test_an_aio_command_is_repeated_until_the_gateway_is_back() -> None:
    """A gateway that goes away and returns at its address answers the same command, once it is there."""
    gateway_is_back = asyncio.Event()
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            gateway_is_back.set()
        await asyncio.sleep(0.1)

    async def answered(rpc: str, context: Any) -> None:
        return None

    with tempfile.TemporaryDirectory(prefix="obol-") as directory:
        target = f"unix:{Path(directory) / 'grpc.sock'}"

        async def come_back() -> None:
            await gateway_is_back.wait()
            async with answering(answered, target):
                await asyncio.sleep(120)

        back = asyncio.create_task(come_back())
        async with aio_channel(target) as opened:
            client = AioPaymentGatewayClient(opened, CALLER)
            reply = await aio_repeat_until_answered(
                client.create_payment,
                pb.CreatePaymentRequest(idempotency_key="k"),
                limits=Limits(attempts_max=100),
                pace=AioPace(sleep=sleep),
            )
        back.cancel()
    assert reply == pb.CreatePaymentResponse()
    assert len(waits) >= 2


async def test_an_answer_larger_than_the_bound_is_not_taken_for_a_failure() -> None:
    """A reply that the client refuses for its size was an effect all the same: the outcome is unknown."""

    async def large(rpc: str, context: Any) -> Any:
        reply = pb.CreatePaymentResponse()
        reply.payment.order_reference = "x" * 2_000
        return reply

    async with (
        answering(large) as target,
        aio_channel(target, options=[("grpc.max_receive_message_length", 1_000)]) as opened,
    ):
        with pytest.raises(OutcomeUnknown):
            await AioPaymentGatewayClient(opened, CALLER).create_payment(pb.CreatePaymentRequest(idempotency_key="k"))
