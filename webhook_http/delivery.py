"""The way to the gateway: one shared channel, DeliverCallback with a deadline, and whether anybody is there."""

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Mapping

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from obol.v1.provider_callbacks_pb2 import DeliverCallbackRequest
from obol.v1.provider_callbacks_pb2_grpc import ProviderCallbacksStub
from providers.callbacks import VerifiedEvent
from webhook_http.refusals import Refusal, Refused
from webhook_http.settings import SidecarLimits, SidecarSettings

REQUEST_BYTES_MAX = 1024 * 1024
RECONNECT_MS_MAX = 2_000
KEEPALIVE_TIME_MS = 30_000
KEEPALIVE_TIMEOUT_MS = 10_000

# DeliverCallback is idempotent by nature, so the channel may bridge a gateway's restart within the deadline.
SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": "obol.v1.ProviderCallbacks", "method": "DeliverCallback"}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}

REFUSAL_BY_CODE: Mapping[grpc.StatusCode, Refusal] = {
    grpc.StatusCode.INVALID_ARGUMENT: Refusal.GATEWAY_REFUSED,
    grpc.StatusCode.NOT_FOUND: Refusal.ACCOUNT_NOT_AT_GATEWAY,
}
"""Every other code is 503: not kept, or nobody knows, and sending it again is always right."""


class GatewayLink:
    """Lives in one event loop, from its making to `close`."""

    def __init__(self, settings: SidecarSettings, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limits: SidecarLimits = settings.limits
        self._monotonic = monotonic
        self._channel = _channel(settings)
        self._callbacks = ProviderCallbacksStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)
        self._asking = asyncio.Lock()
        self._ready = False
        self._ready_until = float("-inf")

    async def deliver(
        self,
        provider: str,
        account_id: str,
        event: VerifiedEvent,
        body: bytes,
        headers: Mapping[str, str],
        received_s: float,
    ) -> tuple[str, bool]:
        """Returns when the gateway has committed the callback: its correlation id, and whether it had it before.

        `received_s` in unix seconds. Raises Refused for every other answer, and for none.
        """
        correlation_id = str(uuid.uuid4())
        request = DeliverCallbackRequest(
            provider=provider,
            account_id=account_id,
            event_id=event.event_id,
            event_type=event.event_type,
            body=body,
            headers=headers,
            receive_time=_timestamp(received_s),
        )
        # No tenant: whose it is comes out when the gateway finds the payment.
        metadata = (("obol-actor", f"webhook:{provider}/{account_id}"), ("obol-correlation-id", correlation_id))
        try:
            reply = await self._callbacks.DeliverCallback(
                request, timeout=self._limits.deliver_s_max, metadata=metadata
            )
        except grpc.RpcError as error:
            refusal = REFUSAL_BY_CODE.get(error.code(), Refusal.GATEWAY_UNREACHABLE)
            raise Refused(refusal, f"{error.code().name} {correlation_id}") from None
        return correlation_id, reply.duplicate

    async def ready(self) -> bool:
        """Whether the gateway's health says SERVING. Asked at most once at a time and once in `ready_cached_s`."""
        async with self._asking:
            if self._monotonic() >= self._ready_until:
                self._ready = await self._is_serving()
                self._ready_until = self._monotonic() + self._limits.ready_cached_s
            return self._ready

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def _is_serving(self) -> bool:
        try:
            reply = await self._health.Check(
                health_pb2.HealthCheckRequest(), timeout=self._limits.ready_s_max, wait_for_ready=True
            )
        except grpc.RpcError:
            return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


def _channel(settings: SidecarSettings) -> aio.Channel:
    options: list[tuple[str, object]] = [
        ("grpc.keepalive_time_ms", KEEPALIVE_TIME_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.max_send_message_length", REQUEST_BYTES_MAX),
        # Its own default, two minutes, would refuse callbacks long after the gateway is back.
        ("grpc.max_reconnect_backoff_ms", RECONNECT_MS_MAX),
        ("grpc.enable_http_proxy", 0),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ]
    if settings.gateway_credentials is None:
        return aio.insecure_channel(settings.gateway_target, options=options)
    return aio.secure_channel(settings.gateway_target, settings.gateway_credentials, options=options)


def _timestamp(unix_s: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(int(unix_s * 1_000_000))
    return stamp
