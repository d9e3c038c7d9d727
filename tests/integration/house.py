"""A gateway with everything real but the process boundary: what the integration tests talk to."""

import asyncio
import base64
import json
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from pydantic import SecretStr

from gateway.app.settings import EngineSettings
from gateway.config import Settings
from gateway.config_sections import DatabaseSection, GrpcSection, MetricsSection, ProviderSection, SecretsSection
from gateway.main import serving
from gateway.rpc.address import unix
from obol.v1 import (
    billing_observation_pb2_grpc,
    money_pb2,
    operations_pb2_grpc,
    payment_gateway_pb2,
    payment_gateway_pb2_grpc,
    payment_pb2,
    provider_callbacks_pb2_grpc,
)
from simulators.sandbox.server import running
from simulators.sandbox.settings import SandboxSettings

WAIT_S_MAX = 60.0

SEALING_KEYS = (SecretStr(f"tests:{base64.b64encode(secrets.token_bytes(32)).decode()}"),)
"""PostgreSQL's; SQLite makes its own."""

QUICK = EngineSettings(
    recovery_poll_s=0.05,
    unknown_check_first_s=0.05,
    unknown_check_s_max=0.2,
    pending_check_first_s=0.2,
    callback_wait_first_s=0.05,
    sequencer_poll_s=0.05,
    heartbeat_s=0.2,
    housekeeping_s=0.2,
    provider_timeout_s=8.0,
    send_window_s=5.0,
    lease_s=16.0,
)
"""Quick, and patient with a machine that stalls: whose provider is silent on purpose waits less for it."""


@dataclass(frozen=True)
class Refused:
    """An error as a caller sees it."""

    code: grpc.StatusCode
    reason: str
    sent: str
    safe_to_retry: str
    fields: tuple[str, ...]
    retry_after_s: float | None
    details: dict[str, str]
    message: str


@dataclass
class House:
    """Stubs and witnesses. `metadata` is that of tenant t1."""

    payments: "payment_gateway_pb2_grpc.PaymentGatewayAsyncStub"
    observations: "billing_observation_pb2_grpc.BillingObservationAsyncStub"
    callbacks: "provider_callbacks_pb2_grpc.ProviderCallbacksAsyncStub"
    sandbox_url: str
    sandbox_dir: Path
    database_url: str
    operations: "operations_pb2_grpc.OperationsAsyncStub"
    target: str
    metadata: tuple[tuple[str, str], ...] = field(default_factory=lambda: caller("t1"))

    async def create(self, key: str = "key", amount: int = 1_000, currency: str = "EUR", **asked: Any) -> Any:
        """CreatePayment with a good card unless told otherwise; the payment."""
        asked.setdefault("payment_method", "card_ok")
        request = payment_gateway_pb2.CreatePaymentRequest(
            idempotency_key=key, amount=money_pb2.Money(amount_minor=amount, currency_code=currency), **asked
        )
        response = await self.payments.CreatePayment(request, metadata=self.metadata, timeout=60)
        return response.payment

    async def get(self, payment_id: str) -> Any:
        """The payment as it stands."""
        request = payment_gateway_pb2.GetPaymentRequest(payment_id=payment_id)
        return (await self.payments.GetPayment(request, metadata=self.metadata, timeout=60)).payment

    async def until(self, payment_id: str, state: int) -> Any:
        """The payment once it is in `state`; fails after WAIT_S_MAX."""
        return await eventually(lambda: self.get(payment_id), lambda payment: payment.state == state)

    async def control(self, path: str, body: dict[str, Any]) -> Any:
        """One of the sandbox's controls."""
        async with aiohttp.ClientSession() as session, session.post(self.sandbox_url + path, json=body) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def object(self, provider_payment_id: str) -> Any:
        """The provider's own object."""
        headers = {"Authorization": "Bearer sandbox-key-main"}
        url = f"{self.sandbox_url}/v1/payments/{provider_payment_id}"
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
            return await answer.json()

    def effects(self, **wanted: Any) -> list[dict[str, Any]]:
        """The sandbox's effect log, where every field is as wanted."""
        lines = (self.sandbox_dir / "effects.jsonl").read_text().splitlines()
        return [
            effect for effect in map(json.loads, lines) if all(effect[name] == value for name, value in wanted.items())
        ]


def caller(tenant: str) -> tuple[tuple[str, str], ...]:
    """Request metadata of a caller of `tenant`."""
    return (
        ("obol-tenant", tenant),
        ("obol-organization", "org-1"),
        ("obol-actor", "tests"),
        ("obol-correlation-id", "corr-1"),
    )


def money(amount_minor: int, currency: str = "EUR") -> money_pb2.Money:
    """A Money message."""
    return money_pb2.Money(amount_minor=amount_minor, currency_code=currency)


async def refused(call: Awaitable[Any]) -> Refused:
    """Await a call that must fail, and take its error apart."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        status = rpc_status.from_call(error)
        if status is None:
            raise AssertionError(f"{error.code()}: {error.details()} carries no rich status") from error
        info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        retry_after_s = None
        for detail in status.details:
            detail.Unpack(info)
            detail.Unpack(bad)
            if detail.Unpack(retry):
                retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
        if info.domain != "obol":
            raise AssertionError(f"{error.code()}: {error.details()} carries no ErrorInfo of ours") from error
        return Refused(
            code=error.code(),
            reason=info.reason,
            sent=info.metadata["sent"],
            safe_to_retry=info.metadata["safe_to_retry"],
            fields=tuple(violation.field for violation in bad.field_violations),
            retry_after_s=retry_after_s,
            details=dict(info.metadata),
            message=status.message,
        )
    raise AssertionError(f"the call was answered: {answer}")


async def eventually(read: Callable[[], Awaitable[Any]], good: Callable[[Any], bool]) -> Any:
    """What `read` gives once it is good; fails with the last value after WAIT_S_MAX."""
    deadline = asyncio.get_running_loop().time() + WAIT_S_MAX
    while True:
        value = await read()
        if good(value):
            return value
        assert asyncio.get_running_loop().time() < deadline, f"still {value}"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def open_house(
    database_url: str,
    folder: Path,
    *,
    engine: EngineSettings = QUICK,
    sandbox_url: str = "",
    hang_seconds: float = 20.0,
    sealing_keys: Sequence[SecretStr] = SEALING_KEYS,
    webhook_url: str | None = None,
    **own: Any,
) -> AsyncIterator[House]:
    """A gateway on `database_url`, and a sandbox of its own or the one at `sandbox_url`.

    `own` has settings: whole sections by their names (`providers` are further accounts), and the account's by theirs.
    """
    # A Unix socket's path is short by law; a test's folder is not.
    with tempfile.TemporaryDirectory(prefix="obol-") as short:
        sandbox = running(
            SandboxSettings(data_dir=folder / "sandbox", port=0, hang_seconds=hang_seconds, webhook_url=webhook_url)
        )
        async with sandbox as own_url:
            address = unix(Path(short) / "g", "grpc.unix_socket")
            settings = _settings(
                database_url,
                sandbox_url or own_url,
                folder,
                Path(short) / "g",
                engine,
                tuple(sealing_keys),
                {name: own[name] for name in own if name not in Settings.model_fields},
                {name: own[name] for name in own if name in Settings.model_fields},
            )
            async with serving(settings, address), grpc.aio.insecure_channel(address.target) as channel:
                yield House(
                    payments=payment_gateway_pb2_grpc.PaymentGatewayStub(channel),
                    observations=billing_observation_pb2_grpc.BillingObservationStub(channel),
                    callbacks=provider_callbacks_pb2_grpc.ProviderCallbacksStub(channel),
                    target=address.target,
                    operations=operations_pb2_grpc.OperationsStub(channel),
                    sandbox_url=own_url,
                    sandbox_dir=folder / "sandbox",
                    database_url=database_url,
                )


def _settings(
    database_url: str,
    sandbox_url: str,
    folder: Path,
    socket: Path,
    engine: EngineSettings,
    sealing_keys: tuple[SecretStr, ...],
    own: dict[str, Any],
    sections: dict[str, Any],
) -> Settings:
    account = ProviderSection(
        provider="sandbox",
        base_url=sandbox_url,
        api_key=SecretStr("sandbox-key-main"),
        webhook_secrets=(SecretStr("sandbox-signing-main"),),
        merchant_id="acct_main",
        default=True,
        **own,
    )
    return Settings(
        data_dir=folder,
        database=DatabaseSection(url=SecretStr(database_url)),
        grpc=GrpcSection(unix_socket=socket),
        metrics=MetricsSection(enabled=False),
        secrets=SecretsSection(sealing_keys=sealing_keys if database_url.startswith("postgresql") else ()),
        providers={"acct_main": account} | sections.pop("providers", {}),
        engine=engine,
        **sections,
    )


State = payment_pb2.PaymentState
Command = payment_pb2.CommandState
