"""The gRPC server: services, health and reflection at one address, with every bound of the wire named."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from gateway.rpc.address import Address, AddressTaken
from gateway.rpc.interceptors import Edge, Service
from gateway.rpc.readiness import Readiness

TELL_S = 0.05
HEALTH_AND_REFLECTION_MAX = 256
"""Calls of health and reflection at a time, beyond what the edge admits: an overload must not look like a death."""


@dataclass(frozen=True, slots=True)
class WireLimits:
    """Bounds of the wire: sizes in bytes, times in seconds.

    A callback of 256 KiB with its headers fits into a request. Metadata: calls above the first bound may be refused,
    above the second one they are. A client may ping every `ping_s_min`, also without a call; `keepalive_s` is when the
    server asks a silent one, `keepalive_answer_s` how long it waits. `connection_age_s` None: connections never age.
    """

    request_bytes_max: int = 1024 * 1024
    response_bytes_max: int = 16 * 1024 * 1024
    metadata_bytes_max: int = 8 * 1024
    metadata_bytes_absolute_max: int = 16 * 1024
    ping_s_min: float = 10.0
    keepalive_s: float = 60.0
    keepalive_answer_s: float = 20.0
    connection_age_s: float | None = None
    connection_age_grace_s: float = 30.0
    streams_per_connection_max: int = 1_000


class RpcServer:
    """One process's server. `start` in a running loop, then `drain`; `reuse_port` where workers share the port."""

    def __init__(
        self,
        services: Iterable[Service],
        edge: Edge,
        readiness: Readiness,
        *,
        limits: WireLimits | None = None,
        reuse_port: bool = False,
    ) -> None:
        self._edge = edge
        self._readiness = readiness
        self._watching: asyncio.Task[None] | None = None
        self._server = grpc.aio.server(
            options=_options(limits or WireLimits(), reuse_port=reuse_port),
            maximum_concurrent_rpcs=edge.rpcs_max + HEALTH_AND_REFLECTION_MAX,
        )
        names = []
        for service in services:
            names.append(service.descriptor.full_name)
            handlers = dict(edge.handlers(service))
            self._server.add_registered_method_handlers(service.descriptor.full_name, handlers)
        health_pb2_grpc.add_HealthServicer_to_server(readiness.servicer, self._server)
        health = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        reflection.enable_server_reflection((*names, health, reflection.SERVICE_NAME), self._server)

    async def start(self, address: Address) -> Address:
        """Listen; the address with the port that it got. Raises AddressTaken."""
        try:
            port = self._server.add_insecure_port(address.target)
        except RuntimeError:
            raise AddressTaken(f"cannot listen at {address}: the port was taken a moment ago") from None
        # Before the first call, so that nobody is told of a health that nobody has looked at.
        await self._readiness.check()
        await self._server.start()
        self._watching = asyncio.create_task(self._readiness.run(), name="readiness")
        return address if address.unix_socket else Address(host=address.host, port=port)

    async def drain(self, *, announce_s: float, grace_s: float) -> None:
        """Stop: first NOT_SERVING, after `announce_s` no new call; streams end at once, calls within `grace_s`."""
        await self._readiness.withdraw()
        if self._watching is not None:
            self._watching.cancel()
        # At least one turn of the loop, so that those who watch the health are told before their streams end.
        await asyncio.sleep(max(announce_s, TELL_S))
        self._edge.end_streams()
        self._readiness.end_watches()
        await self._server.stop(grace_s)


def _options(limits: WireLimits, *, reuse_port: bool) -> list[tuple[str, int]]:
    options = {
        "grpc.max_receive_message_length": limits.request_bytes_max,
        "grpc.max_send_message_length": limits.response_bytes_max,
        "grpc.max_metadata_size": limits.metadata_bytes_max,
        "grpc.absolute_max_metadata_size": limits.metadata_bytes_absolute_max,
        "grpc.http2.min_ping_interval_without_data_ms": _ms(limits.ping_s_min),
        "grpc.http2.min_recv_ping_interval_without_data_ms": _ms(limits.ping_s_min),
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.keepalive_time_ms": _ms(limits.keepalive_s),
        "grpc.keepalive_timeout_ms": _ms(limits.keepalive_answer_s),
        "grpc.max_concurrent_streams": limits.streams_per_connection_max,
        # Off unless asked for: with it a second server would share the port in silence.
        "grpc.so_reuseport": int(reuse_port),
    }
    if limits.connection_age_s is not None:
        options["grpc.max_connection_age_ms"] = _ms(limits.connection_age_s)
        options["grpc.max_connection_age_grace_ms"] = _ms(limits.connection_age_grace_s)
    return list(options.items())


def _ms(seconds: float) -> int:
    return round(seconds * 1_000)
