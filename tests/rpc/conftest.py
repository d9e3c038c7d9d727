"""A whole gateway over a sandbox of its own."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from pydantic import SecretStr

from gateway.config import Settings
from gateway.config_sections import DrainSection, MetricsSection, ProviderSection
from gateway.main import Serving, serving
from gateway.rpc.address import Address
from obol.v1 import billing_observation_pb2_grpc, payment_gateway_pb2_grpc, provider_callbacks_pb2_grpc
from simulators.sandbox.server import running
from simulators.sandbox.settings import SandboxSettings


@dataclass
class Gateway:
    """A gateway in this process, and stubs for it."""

    where: Serving
    channel: grpc.aio.Channel
    sandbox_url: str

    @property
    def payments(self) -> Any:
        return payment_gateway_pb2_grpc.PaymentGatewayStub(self.channel)

    @property
    def observations(self) -> Any:
        return billing_observation_pb2_grpc.BillingObservationStub(self.channel)

    @property
    def callbacks(self) -> Any:
        return provider_callbacks_pb2_grpc.ProviderCallbacksStub(self.channel)


@pytest.fixture
async def sandbox_url(tmp_path: Path) -> AsyncIterator[str]:
    """A running sandbox."""
    async with running(SandboxSettings(data_dir=tmp_path / "sandbox", port=0)) as url:
        yield url


def settings_for(directory: Path, sandbox_url: str) -> Settings:
    """Settings for a gateway in `directory` that talks to that sandbox."""
    account = ProviderSection(
        provider="sandbox",
        base_url=sandbox_url,
        api_key=SecretStr("sandbox-key-main"),
        webhook_secrets=(SecretStr("sandbox-signing-main"),),
    )
    return Settings(
        data_dir=directory / "data",
        providers={"acct_main": account},
        metrics=MetricsSection(port=0),
        drain=DrainSection(grace_s=5.0),
    )


@pytest.fixture
async def gateway(tmp_path: Path, sandbox_url: str) -> AsyncIterator[Gateway]:
    """A running gateway over SQLite, the real use cases and the sandbox."""
    address = Address(unix_socket=tmp_path / "obol.sock")
    async with (
        serving(settings_for(tmp_path, sandbox_url), address) as where,
        grpc.aio.insecure_channel(address.target) as channel,
    ):
        yield Gateway(where, channel, sandbox_url)
