"""The synchronous clients over grpcio-testing: the call runs in a thread, and the test is the server."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc_testing
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from obol.client import BillingObservationClient, Caller, OperationsClient, Operator, PaymentGatewayClient
from obol.v1 import billing_observation_pb2, operations_pb2, payment_gateway_pb2

CALLER = Caller("acme", "acme-eu", "billing")
PAYMENTS: ServiceDescriptor = payment_gateway_pb2.DESCRIPTOR.services_by_name["PaymentGateway"]
OPERATOR = Operator("ann")
OPERATIONS: ServiceDescriptor = operations_pb2.DESCRIPTOR.services_by_name["Operations"]
OBSERVATIONS: ServiceDescriptor = billing_observation_pb2.DESCRIPTOR.services_by_name["BillingObservation"]

Metadata = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True)
class Asked:
    """One call as the server sees it, to be answered."""

    metadata: dict[str, str | bytes]
    request: Any
    rpc: Any
    reply: Future[Any]

    def answer(self, message: Message, initial: Metadata = ()) -> Any:
        """Answer OK; what the client returned."""
        self.rpc.send_initial_metadata(tuple(initial))
        self.rpc.terminate(message, (), grpc.StatusCode.OK, "")
        return self.reply.result(timeout=5)

    def refuse(self, code: grpc.StatusCode, text: str = "", trailing: Metadata = ()) -> BaseException:
        """End with an error; what the client raised."""
        self.rpc.send_initial_metadata(())
        self.rpc.terminate(None, tuple(trailing), code, text)
        error = self.reply.exception(timeout=5)
        assert error is not None
        return error


class Wire:
    """The clients on one test channel."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._channel = grpc_testing.channel((PAYMENTS, OBSERVATIONS, OPERATIONS), grpc_testing.strict_real_time())
        self.payments = PaymentGatewayClient(self._channel, CALLER)
        self.observations = BillingObservationClient(self._channel, CALLER)
        self.operations = OperationsClient(self._channel, OPERATOR)

    def begin(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Future[Any]:
        """Run `call` in a thread."""
        return self._threads.submit(call, *arguments, **options)

    def take(self, method: MethodDescriptor, reply: Future[Any]) -> Asked:
        """The next call of `method`."""
        metadata, request, rpc = self._channel.take_unary_unary(method)
        return Asked(dict(metadata), request, rpc, reply)

    def ask(self, rpc: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Asked:
        """Begin one call and take it."""
        return self.take(method_of(rpc), self.begin(call, *arguments, **options))


@contextmanager
def wired() -> Iterator[Wire]:
    """A wire whose threads end with it."""
    with ThreadPoolExecutor(4) as threads:
        yield Wire(threads)


def method_of(rpc: str) -> MethodDescriptor:
    """The RPC of that name, in any of the services."""
    return {**PAYMENTS.methods_by_name, **OBSERVATIONS.methods_by_name, **OPERATIONS.methods_by_name}[rpc]


def told(
    code: grpc.StatusCode, text: str = "words", *details: Message, domain: str = "obol", **metadata: str
) -> Metadata:
    """The trailing metadata of an error as the gateway writes it."""
    info = error_details_pb2.ErrorInfo(reason=metadata.pop("reason", "SOME_REASON"), domain=domain, metadata=metadata)
    status = status_pb2.Status(code=code.value[0], message=text)
    for detail in (info, *details):
        packed = Packed()
        packed.Pack(detail)
        status.details.append(packed)
    return tuple(rpc_status.to_status(status).trailing_metadata)
