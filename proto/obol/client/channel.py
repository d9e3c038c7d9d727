"""Channels to the gateway that survive its restarts: keepalive, bounded messages, quick reconnects, safe repeats only.

A channel repeats by itself what changes nothing or is idempotent by nature. A command is never repeated in here:
that is `repeat_until_answered`, which holds the idempotency key while it does.
"""

import json
from collections.abc import Sequence

import grpc
from grpc import aio

KEEPALIVE_TIME_MS = 30_000
"""Between pings while a call is open; the gateway permits one every 10 s."""
KEEPALIVE_TIMEOUT_MS = 10_000
REQUEST_BYTES_MAX = 1024 * 1024
"""Four times the largest request of the contract, a callback's 256 KiB body."""
REPLY_BYTES_MAX = 16 * 1024 * 1024
"""What the gateway may send."""
RECONNECT_MS_MIN = 200
RECONNECT_MS_MAX = 5_000
"""gRPC's own 120 s would be two minutes of refusals after a restart of ten seconds."""
CONNECT_TIMEOUT_MS = 5_000
REPEATS_MAX = 3

REPEATED_BY_THE_CHANNEL: dict[str, tuple[str, ...]] = {
    "obol.v1.PaymentGateway": (
        "GetPayment",
        "ListPayments",
        "SyncPayment",
        "GetRefund",
        "ListRefunds",
        "GetPaymentTimeline",
    ),
    "obol.v1.BillingObservation": (
        "ListObservations",
        "GetObservation",
        "AcceptObservations",
        "RejectObservations",
        "GetConsumer",
    ),
    "obol.v1.ProviderCallbacks": ("DeliverCallback",),
}
"""Reads, and what is idempotent by nature. A stream is not here: its consumer resumes from a cursor."""


def channel(
    target: str,
    *,
    credentials: grpc.ChannelCredentials | None = None,
    options: Sequence[tuple[str, object]] = (),
) -> grpc.Channel:
    """A synchronous channel to `target`: "host:port", "dns:///name:port" or "unix:/path".

    Without `credentials` the bytes travel in plain text: for loopback, Unix sockets and meshes alone. `options` are
    gRPC channel arguments that win over those of the kit. Connects at the first call; close it when done.
    """
    if credentials is None:
        return grpc.insecure_channel(target, options=channel_options(options))
    return grpc.secure_channel(target, credentials, options=channel_options(options))


def aio_channel(
    target: str,
    *,
    credentials: grpc.ChannelCredentials | None = None,
    options: Sequence[tuple[str, object]] = (),
) -> aio.Channel:
    """The same for asyncio; make it inside the event loop that uses it."""
    if credentials is None:
        return aio.insecure_channel(target, options=channel_options(options))
    return aio.secure_channel(target, credentials, options=channel_options(options))


def channel_options(extra: Sequence[tuple[str, object]] = ()) -> list[tuple[str, object]]:
    """The kit's channel arguments, overridden by `extra`."""
    arguments: dict[str, object] = {
        "grpc.keepalive_time_ms": KEEPALIVE_TIME_MS,
        "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
        "grpc.keepalive_permit_without_calls": 0,
        # A watch may be silent for longer than the two pings that gRPC would otherwise allow itself.
        "grpc.http2.max_pings_without_data": 0,
        "grpc.max_send_message_length": REQUEST_BYTES_MAX,
        "grpc.max_receive_message_length": REPLY_BYTES_MAX,
        "grpc.initial_reconnect_backoff_ms": RECONNECT_MS_MIN,
        "grpc.min_reconnect_backoff_ms": CONNECT_TIMEOUT_MS,
        "grpc.max_reconnect_backoff_ms": RECONNECT_MS_MAX,
        # An internal service: never through the web proxy that the environment happens to name.
        "grpc.enable_http_proxy": 0,
        # The kit's own policy stands, whatever a DNS TXT record says.
        "grpc.service_config_disable_resolution": 1,
        "grpc.service_config": json.dumps(service_config()),
    }
    arguments.update(extra)
    return list(arguments.items())


def service_config() -> dict[str, object]:
    """gRPC's service config: replicas in turn, and a retry on UNAVAILABLE for what may be repeated blindly."""
    repeated = [
        {"service": service, "method": method}
        for service, methods in REPEATED_BY_THE_CHANNEL.items()
        for method in methods
    ]
    return {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": repeated,
                "retryPolicy": {
                    "maxAttempts": 1 + REPEATS_MAX,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
        # In an outage a tenth of the calls' worth of repeats goes out, not a multiple.
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
    }
