"""The other side of BillingObservation, in memory, on a Unix socket: a log, what was decided, and faults to order."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc import aio

from obol.v1 import billing_observation_pb2 as pb
from obol.v1.billing_observation_pb2_grpc import BillingObservationServicer, add_BillingObservationServicer_to_server
from obol.v1.observation_pb2 import Observation
from tests.client.asking import told


def name(number: int) -> str:
    """The id of an observation; its cursor is "c" and the number."""
    return f"obs_{number}"


@dataclass
class Gateway(BillingObservationServicer):
    """`last` observations, numbered from 1. Faults are spent one by one."""

    last: int = 5
    heartbeats: bool = True
    passed_over: int = 0
    """Heartbeats have moved past so many that are nothing to this consumer."""
    padding: int = 0
    break_after: list[int] = field(default_factory=list)
    """Each stream sends so many observations and then ends with UNAVAILABLE."""
    silent_streams: int = 0
    lose_answers: int = 0
    """So many Accepts and Rejects take effect without an answer."""
    refuse_decisions: int = 0
    forget_decisions: int = 0
    """So many Accepts and Rejects are of observations that a restore has lost."""
    accepted: list[str] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)
    began_at: list[str] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    written: int = 0

    async def WatchObservations(
        self, request: pb.WatchObservationsRequest, context: Any
    ) -> AsyncIterator[pb.WatchObservationsResponse]:
        self.began_at.append(request.cursor)
        if request.cursor == "nonsense":
            await refuse(context, grpc.StatusCode.INVALID_ARGUMENT, reason="CURSOR_INVALID")
        if self.silent_streams > 0:
            self.silent_streams -= 1
            await asyncio.sleep(60)
        bound = self.break_after.pop(0) if self.break_after else None
        number = int(request.cursor[1:]) if request.cursor else self._decided()
        sent = 0
        while True:
            while number < self.last and sent != bound:
                number, sent = number + 1, sent + 1
                observation = Observation(observation_id=name(number), cursor=f"c{number}", detail="x" * self.padding)
                yield pb.WatchObservationsResponse(observation=observation)
                self.written += 1
            if sent == bound:
                await refuse(context, grpc.StatusCode.UNAVAILABLE, reason="DRAINING", safe_to_retry="true")
            if self.heartbeats:
                yield pb.WatchObservationsResponse(heartbeat=pb.Heartbeat(cursor=f"c{number + self.passed_over}"))
            await asyncio.sleep(0.05)

    async def AcceptObservations(self, request: pb.AcceptObservationsRequest, context: Any) -> Any:
        self.batches.append(len(request.observation_ids))
        if any(each in self.rejected for each in request.observation_ids):
            await refuse(context, grpc.StatusCode.FAILED_PRECONDITION, reason="OBSERVATION_DECIDED_OTHERWISE")
        return await self._decide(
            context, lambda: self.accepted.extend(request.observation_ids), pb.AcceptObservationsResponse()
        )

    async def RejectObservations(self, request: pb.RejectObservationsRequest, context: Any) -> Any:
        reasons = {each.observation_id: each.reason for each in request.rejections}
        return await self._decide(context, lambda: self.rejected.update(reasons), pb.RejectObservationsResponse())

    async def ListObservations(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def GetObservation(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def GetConsumer(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def _decide(self, context: Any, effect: Callable[[], object], reply: Message) -> Message:
        if self.forget_decisions > 0:
            self.forget_decisions -= 1
            await refuse(context, grpc.StatusCode.NOT_FOUND, reason="OBSERVATION_NOT_FOUND")
        if self.refuse_decisions > 0:
            self.refuse_decisions -= 1
            await refuse(context, grpc.StatusCode.ABORTED, reason="CONTENTION", safe_to_retry="true")
        effect()
        if self.lose_answers > 0:
            self.lose_answers -= 1
            await context.abort(grpc.StatusCode.INTERNAL, "lost")
        return reply

    def _decided(self) -> int:
        """Everything up to here is decided."""
        done, number = {*self.accepted, *self.rejected}, 0
        while name(number + 1) in done:
            number += 1
        return number


async def refuse(context: Any, code: grpc.StatusCode, **metadata: str) -> None:
    """End as the gateway does."""
    await context.abort(code, "words", told(code, "words", sent="NO", **metadata))


@asynccontextmanager
async def served(servicer: Gateway) -> AsyncIterator[str]:
    """A real grpc.aio server; its target."""
    with tempfile.TemporaryDirectory(prefix="obol-") as directory:
        target = f"unix:{Path(directory) / 'grpc.sock'}"
        server = aio.server()
        add_BillingObservationServicer_to_server(servicer, server)
        server.add_insecure_port(target)
        await server.start()
        try:
            yield target
        finally:
            await server.stop(None)
