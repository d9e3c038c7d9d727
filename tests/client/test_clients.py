"""The thin clients: every RPC, its metadata, and what comes back."""

import re

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass

from obol.client import (
    AioBillingObservationClient,
    AioOperationsClient,
    AioPaymentGatewayClient,
    BillingObservationClient,
    Caller,
    CallRecord,
    GatewayError,
    OperationsClient,
    Operator,
    PaymentGatewayClient,
)
from obol.v1.payment_gateway_pb2 import (
    CreatePaymentRequest,
    CreatePaymentResponse,
    GetPaymentRequest,
    GetPaymentResponse,
)
from tests.client.asking import OBSERVATIONS, OPERATIONS, PAYMENTS, method_of, wired

UNARY = [
    method.name for service in (PAYMENTS, OBSERVATIONS) for method in service.methods if not method.server_streaming
]
OPERATING = [method.name for method in OPERATIONS.methods]


def snake(rpc: str) -> str:
    """The method's name of an RPC."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", rpc).lower()


def test_every_rpc_has_its_method() -> None:
    """No RPC of the services is missing in a client, sync or aio."""
    for service, clients in (
        (PAYMENTS, (PaymentGatewayClient, AioPaymentGatewayClient)),
        (OBSERVATIONS, (BillingObservationClient, AioBillingObservationClient)),
    ):
        for client in clients:
            assert {snake(method.name) for method in service.methods} <= set(dir(client))
    for operating in (OperationsClient, AioOperationsClient):
        assert {snake(rpc) for rpc in OPERATING} <= set(dir(operating))


@pytest.mark.parametrize("rpc", OPERATING)
def test_an_operators_call_names_the_operator_alone(rpc: str) -> None:
    """Each method calls the RPC of its name as the operator, in no tenant's name, and returns the RPC's response."""
    method = method_of(rpc)
    with wired() as wire:
        request, response = GetMessageClass(method.input_type)(), GetMessageClass(method.output_type)()
        asked = wire.ask(rpc, getattr(wire.operations, snake(rpc)), request)
        assert asked.answer(response) == response
        assert {key for key in asked.metadata if key.startswith("obol-")} == {"obol-actor", "obol-correlation-id"}
        assert asked.metadata["obol-actor"] == "ann"


@pytest.mark.parametrize("rpc", UNARY)
def test_a_call_says_who_is_asking_and_returns_the_answer(rpc: str) -> None:
    """Each method calls the RPC of its name with the caller's metadata, and returns that RPC's response."""
    method = method_of(rpc)
    with wired() as wire:
        client = wire.payments if method in PAYMENTS.methods else wire.observations
        request, response = GetMessageClass(method.input_type)(), GetMessageClass(method.output_type)()
        asked = wire.ask(rpc, getattr(client, snake(rpc)), request)
        assert asked.answer(response) == response
        assert {key: asked.metadata[key] for key in ("obol-tenant", "obol-organization", "obol-actor")} == {
            "obol-tenant": "acme",
            "obol-organization": "acme-eu",
            "obol-actor": "billing",
        }


@pytest.mark.parametrize("rpc", UNARY)
def test_only_a_command_without_an_answer_may_have_been_sent(rpc: str) -> None:
    """A lost answer is MAYBE for each RPC that carries an idempotency key, and NO for every other."""
    method = method_of(rpc)
    command = "idempotency_key" in method.input_type.fields_by_name
    with wired() as wire:
        client = wire.payments if method in PAYMENTS.methods else wire.observations
        asked = wire.ask(rpc, getattr(client, snake(rpc)), GetMessageClass(method.input_type)())
        error = asked.refuse(grpc.StatusCode.UNAVAILABLE, "connection reset")
        assert isinstance(error, GatewayError)
        assert error.sent == ("MAYBE" if command else "NO")


def test_a_replay_is_told_apart() -> None:
    """`obol-replayed: true` in the initial metadata is seen, and its absence too, with the same record."""
    record = CallRecord()
    request = CreatePaymentRequest(idempotency_key="k")
    with wired() as wire:
        asked = wire.ask("CreatePayment", wire.payments.create_payment, request, record=record)
        asked.answer(CreatePaymentResponse(), [("obol-replayed", "true")])
        assert record.replayed
        wire.ask("CreatePayment", wire.payments.create_payment, request, record=record).answer(CreatePaymentResponse())
        assert not record.replayed


def test_calls_get_correlation_ids_of_their_own_unless_one_is_given() -> None:
    """Two calls have two ids; the caller's one id, or the call's, is used where there is one."""
    seen = []
    options: list[dict[str, object]] = [
        {},
        {},
        {"caller": Caller("a", "b", "c", correlation_id="act-7")},
        {"correlation_id": "call-9"},
    ]
    with wired() as wire:
        for each in options:
            asked = wire.ask("GetPayment", wire.payments.get_payment, GetPaymentRequest(payment_id="p"), **each)
            asked.answer(GetPaymentResponse())
            seen.append(asked.metadata["obol-correlation-id"])
    assert len(set(seen)) == 4
    assert seen[2:] == ["act-7", "call-9"]


def test_an_error_carries_the_correlation_id_that_was_sent() -> None:
    """The id that finds the logs is on the exception and in the record."""
    record = CallRecord()
    with wired() as wire:
        asked = wire.ask("GetPayment", wire.payments.get_payment, GetPaymentRequest(), record=record)
        error = asked.refuse(grpc.StatusCode.INTERNAL)
        assert isinstance(error, GatewayError)
        assert error.correlation_id == record.correlation_id == asked.metadata["obol-correlation-id"] != ""


@pytest.mark.parametrize("value", ["", "two words", "ünïcode", "line\n", "x" * 129])
def test_a_caller_that_the_gateway_would_refuse_is_refused_early(value: str) -> None:
    """Each part of a Caller is 1 to 128 visible ASCII characters."""
    for parts in ((value, "o", "a", None), ("t", value, "a", None), ("t", "o", value, None), ("t", "o", "a", value)):
        with pytest.raises(ValueError, match="visible ASCII"):
            Caller(*parts)
    with pytest.raises(ValueError, match="visible ASCII"):
        Operator(value)


def test_nobody_calls_without_a_name() -> None:
    """A call without any caller fails before the wire."""
    with grpc.insecure_channel("unix:/nonexistent") as channel, pytest.raises(ValueError, match="caller"):
        PaymentGatewayClient(channel).get_payment(GetPaymentRequest())
