"""A billing service, as any would be written over the client kit: commands out, observations in, facts kept.

The ledger holds what it has taken as fact. Scenes wait for what it hears, never for a time to pass.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from gateway.demo.process import TookTooLong
from obol.client import (
    Accept,
    BillingObservationClient,
    Caller,
    ConsumerLimits,
    Decision,
    FileCursorStore,
    ObservationConsumer,
    PaymentGatewayClient,
    channel,
)
from obol.v1.observation_pb2 import Observation
from obol.v1.payment_gateway_pb2 import CreatePaymentRequest, CreatePaymentResponse

CALLER = Caller(tenant="acme", organization="acme-eu", actor="billing")
CONSUMER = "billing-ledger"
HEARD_S_MAX = 20.0
LOOK_S = 0.1
ACCEPT_WITHIN_S = 0.05
RAW_TIMEOUT_S = 30.0

Heard = Callable[[Observation], None]
Matches = Callable[[Observation], bool]


class Ledger:
    """Facts, in the order in which they came; each once, however often it comes."""

    def __init__(self, heard: Heard) -> None:
        self._heard = heard
        self._facts: dict[str, Observation] = {}
        self._changed = threading.Condition()

    @property
    def ids(self) -> frozenset[str]:
        """The observations that came."""
        with self._changed:
            return frozenset(self._facts)

    def take(self, observation: Observation) -> Decision:
        """Take it as a fact. The same again decides the same, and is told nobody twice."""
        with self._changed:
            new = observation.observation_id not in self._facts
            self._facts[observation.observation_id] = observation
            self._changed.notify_all()
        if new:
            self._heard(observation)
        return Accept()

    def wait_for(self, matches: Matches, what: str, check: Callable[[], None]) -> Observation:
        """The first fact that matches, as soon as it is there. `check` raises what makes waiting pointless.

        Raises TookTooLong, which says `what` was not heard.
        """
        by_s = time.monotonic() + HEARD_S_MAX
        while True:
            with self._changed:
                if (found := next(filter(matches, self._facts.values()), None)) is not None:
                    return found
                self._changed.wait(LOOK_S)
            check()
            if time.monotonic() >= by_s:
                raise TookTooLong(f"an observation of {what}: not heard within {HEARD_S_MAX:g} s")


class Billing:
    """The service: a client for payments, and a durable consumer in a thread. Its cursor lies in `directory`.

    `heard` is called in the consumer's thread with each new observation, before it is accepted.
    """

    def __init__(self, target: str, directory: Path, heard: Heard) -> None:
        self.ledger = Ledger(heard)
        self._channel = channel(target)
        self.payments = PaymentGatewayClient(self._channel, CALLER)
        self.observations = BillingObservationClient(self._channel, CALLER)
        self._consumer = ObservationConsumer(
            self.observations,
            CONSUMER,
            self.ledger.take,
            cursors=FileCursorStore(directory / "billing.cursor"),
            limits=ConsumerLimits(batch_age_s_max=ACCEPT_WITHIN_S),
        )
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._follow, name="billing", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.stop()
        self._thread.join(HEARD_S_MAX)
        self._channel.close()

    def check(self) -> None:
        """Raises what ended the consumer, if something did."""
        if self._failure is not None:
            raise self._failure

    def create_again(self, request: CreatePaymentRequest) -> tuple[bytes, bool]:
        """The same call on the wire: the reply's bytes as they came, and whether they are marked as a replay."""
        call: grpc.UnaryUnaryMultiCallable[CreatePaymentRequest, bytes] = self._channel.unary_unary(
            "/obol.v1.PaymentGateway/CreatePayment",
            request_serializer=CreatePaymentRequest.SerializeToString,
            response_deserializer=bytes,
        )
        metadata = CALLER.metadata("the-same-call-again")
        reply, answered = call.with_call(request, timeout=RAW_TIMEOUT_S, metadata=metadata)
        replayed = any((key, value) == ("obol-replayed", "true") for key, value in answered.initial_metadata())
        return reply, replayed

    def _follow(self) -> None:
        try:
            self._consumer.run()
        except Exception as error:  # noqa: BLE001  whatever it is, `check` raises it where somebody waits
            self._failure = error


def on_the_wire(reply: CreatePaymentResponse) -> bytes:
    """The bytes of a reply."""
    return reply.SerializeToString(deterministic=True)
