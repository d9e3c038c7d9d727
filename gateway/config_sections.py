"""The sections of the settings, a table of the file each; `gateway.config` reads them and fits them together."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

DATABASE_SCHEMES = ("sqlite+aiosqlite:///", "postgresql+asyncpg://")

Port = Annotated[int, Field(ge=0, le=65_535)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class Section(BaseModel):
    """A table of the file. Unknown names are refused, values are not changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class DatabaseSection(Section):
    """`url` may hold a password. Unset: SQLite, in the file `obol.db` of `data_dir`."""

    url: SecretStr | None = Field(
        default=None,
        description="sqlite+aiosqlite:///FILE or postgresql+asyncpg://USER@HOST/DATABASE; unset for SQLite in data_dir",
    )
    pool_max: int = Field(default=10, ge=1, le=200, description="connections of one process, 1 to 200")

    @field_validator("url")
    @classmethod
    def _has_a_store(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(DATABASE_SCHEMES):
            raise ValueError("there is no store for such a URL")
        return url


class GrpcSection(Section):
    """Where callers connect, and how many. Workers above 1 need PostgreSQL."""

    host: str = Field(default="127.0.0.1", description="a loopback address; a public one is refused")
    port: Port = Field(default=50_051, description="0 to 65535; 0 takes a free one")
    unix_socket: Path | None = Field(default=None, description="path of a Unix socket, in place of host and port")
    workers: int = Field(default=1, ge=1, le=64, description="processes, 1 to 64")
    calls_max: Count = Field(default=1_000, description="calls under way at a time, in each process")
    streams_max: Count = Field(default=200, description="watching streams at a time, in each process")
    connection_age_s: Seconds | None = Field(default=None, description="seconds until a connection is renewed")


class WebhooksSection(Section):
    """The sidecar that providers call."""

    host: str = Field(default="127.0.0.1", description="an address of this machine")
    port: Port = Field(default=8_090, description="0 to 65535; 0 takes a free one")
    gateway: str = Field(default="", description="gRPC target of the gateway; empty for the address of [grpc]")


class MetricsSection(Section):
    """The Prometheus exposition. Worker i of several listens at `port` + i."""

    enabled: bool = Field(default=True, description="true or false")
    host: str = Field(default="127.0.0.1", description="an address of this machine")
    port: Port = Field(default=9_464, description="0 to 65535; 0 takes a free one")


class LogsSection(Section):
    """What is logged, and in which shape."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="how much")
    format: Literal["json", "console"] = Field(default="json", description="for machines or for people")


class DrainSection(Section):
    """How a process ends: it says so for `announce_s`, then takes no more calls, then waits at most `grace_s`."""

    announce_s: float = Field(default=0.0, ge=0, le=300, description="seconds in which load balancers notice")
    grace_s: Seconds = Field(default=30.0, description="seconds for calls under way, and again for provider calls")


class SecretsSection(Section):
    """What client secrets are sealed with in the database. Unset on SQLite: a key of its own, in a file beside it."""

    sealing_keys: tuple[SecretStr, ...] = Field(
        default=(),
        max_length=8,
        description="ID:BASE64 of 32 bytes each; the first seals, all open. PostgreSQL keeps no secret without one",
    )


class ProviderSection(Section):
    """One account at one provider; its name in the file is the account id."""

    provider: str = Field(
        min_length=1, max_length=63, description="the provider's kind, such as stripe; left out, the account's own name"
    )
    base_url: str = Field(
        default="", max_length=2_048, description="https://..., or http:// on loopback; empty for the provider's own"
    )
    api_key: SecretStr = Field(description="the credential that the gateway calls with")
    webhook_secrets: tuple[SecretStr, ...] = Field(
        default=(), max_length=4, description="what callbacks are signed with; two while one is replaced"
    )
    merchant_id: str = Field(default="", max_length=255, description="the provider's own id of the account")
    default: bool = Field(default=False, description="whether it is its provider's default")
    connections_max: Count = Field(default=64, description="HTTP connections at a time")
    calls_max: Count = Field(default=64, description="calls at a time")
    waiting_max: Count = Field(default=256, description="callers that may wait for a call")
    failures_max: Count = Field(default=5, description="failures in a row that open the breaker")
    open_s: Seconds = Field(default=15.0, description="seconds that an open breaker stays open")
    rate_per_s: float = Field(default=0.0, ge=0, le=100_000, description="calls a second of a process; 0 for no limit")
    burst: int = Field(default=10, ge=1, le=100_000, description="calls at once under a rate limit")
    options: dict[str, str] = Field(default_factory=dict, description="the provider's own options")
