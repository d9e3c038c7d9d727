"""What the sidecar is told: where to listen, whom to forward to, whose callbacks to take, and every bound."""

import re
from dataclasses import dataclass, field

import grpc

from providers.callbacks import CallbackSettings

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,60}")


@dataclass(frozen=True, slots=True)
class SidecarLimits:
    """Bounds; times in seconds. The worst case in memory is about `callbacks_max` times twice `body_bytes_max`.

    `head_s_max`: until a connection's next request head is complete. `body_s_max`: until its body is. `verify_s_max`:
    a verifier may fetch a certificate. `deliver_s_max`: the deadline of the gateway's answer; shorter than the least
    patient provider waits. `retry_after_s`: told with each 503. `drain_s_max`: for what is under way at a SIGTERM.
    """

    body_bytes_max: int = 256 * 1024
    head_bytes_max: int = 16 * 1024
    callbacks_max: int = 64
    connections_max: int = 1_024
    head_s_max: float = 5.0
    body_s_max: float = 10.0
    verify_s_max: float = 5.0
    deliver_s_max: float = 5.0
    keep_alive_s: int = 15
    retry_after_s: int = 10
    drain_s_max: int = 10
    ready_s_max: float = 1.0
    ready_cached_s: float = 1.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive")


@dataclass(frozen=True, slots=True)
class SidecarSettings:
    """`gateway_target` is a gRPC target such as "127.0.0.1:7443" or "unix:/run/obol.sock"; plain text where it has no
    credentials. `listen_port` 0 takes a free one. Raises ValueError for accounts that cannot be told apart or named.
    """

    gateway_target: str
    accounts: tuple[CallbackSettings, ...] = ()
    listen_host: str = "127.0.0.1"
    listen_port: int = 8080
    limits: SidecarLimits = field(default_factory=SidecarLimits)
    gateway_credentials: grpc.ChannelCredentials | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        known = set()
        for account in self.accounts:
            # They stand in a path, a metric's label and a metadata value.
            for name in (account.provider, account.account_id):
                if not _NAME.fullmatch(name):
                    raise ValueError(f"{name!r}: 1 to 60 characters of [A-Za-z0-9_.:-] can be called back")
            if (account.provider, account.account_id) in known:
                raise ValueError(f"account {account.account_id} of {account.provider} is there twice")
            known.add((account.provider, account.account_id))
