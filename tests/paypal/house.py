"""A gateway, its sidecar's verifier and an imitation of PayPal in one process: what the end-to-end tests talk to."""

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from pydantic import SecretStr

from gateway.app.settings import EngineSettings, ReconciliationSettings
from gateway.config import Settings
from gateway.config_sections import DatabaseSection, GrpcSection, MetricsSection, ProviderSection, WebhooksSection
from gateway.demo.installation import free_ports
from gateway.main import serving
from gateway.rpc.address import unix
from obol.v1 import operations_pb2_grpc, payment_gateway_pb2_grpc, payment_pb2
from obol.v1 import payment_gateway_pb2 as pb
from providers.callbacks import CallbackSettings
from providers.secret import Secret
from simulators.paypal.certificates import ROOT_FILE, chain_in
from simulators.paypal.events import signed_headers
from simulators.paypal.imitation import CERTIFICATE_PATH
from simulators.paypal.server import running
from simulators.paypal.settings import Merchant, PayPalSettings, Terms
from tests.integration.house import QUICK, caller, eventually, money
from tests.paypal_documents import Validation
from webhook_http.server import serve
from webhook_http.settings import SidecarSettings

MERCHANT = Merchant()
ACCOUNT = "acct_main"

State, Command, Kind = payment_pb2.PaymentState, payment_pb2.CommandState, payment_pb2.CommandKind


@dataclass
class PayPalHouse:
    """Stubs and witnesses."""

    payments: "payment_gateway_pb2_grpc.PaymentGatewayAsyncStub"
    url: str
    folder: Path
    database_url: str
    http: aiohttp.ClientSession
    callback_url: str
    operations: "operations_pb2_grpc.OperationsAsyncStub"

    async def create(self, key: str = "key", amount: int = 2_000, currency: str = "EUR", **asked: Any) -> Any:
        """CreatePayment, by a payer's approval unless told otherwise; the payment."""
        asked.setdefault("return_url", "https://shop.example/back")
        request = pb.CreatePaymentRequest(idempotency_key=key, amount=money(amount, currency), **asked)
        return (await self.payments.CreatePayment(request, metadata=caller("t1"), timeout=10)).payment

    async def get(self, payment_id: str) -> Any:
        """The payment as it stands."""
        request = pb.GetPaymentRequest(payment_id=payment_id)
        return (await self.payments.GetPayment(request, metadata=caller("t1"), timeout=10)).payment

    async def sync(self, payment_id: str) -> Any:
        """The payment after PayPal was asked."""
        request = pb.SyncPaymentRequest(payment_id=payment_id)
        return (await self.payments.SyncPayment(request, metadata=caller("t1"), timeout=10)).payment

    async def until(self, payment_id: str, good: Callable[[Any], bool]) -> Any:
        """The payment once it is `good`."""
        return await eventually(lambda: self.get(payment_id), good)

    async def approve(self, payment: Any, funding: str = "ok") -> None:
        """The payer follows the link and approves."""
        link = payment.next_action.redirect_url
        async with self.http.post(link, json={"outcome": "approve", "funding": funding}) as answer:
            assert answer.status == 200, await answer.text()

    async def control(self, path: str, body: dict[str, Any] | None = None, method: str = "POST") -> Any:
        """One of the imitation's controls."""
        async with self.http.request(method, f"{self.url}/control/{path}", json=body or {}) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def deliver(self, body: bytes) -> int:
        """A delivery to the sidecar, signed as PayPal signs; the HTTP status."""
        chain = chain_in(self.folder / "paypal")
        headers = signed_headers(chain, MERCHANT.webhook_id, time.time(), body, self.url + CERTIFICATE_PATH)
        async with self.http.post(self.callback_url, data=body, headers=dict(headers)) as answer:
            return answer.status

    def effects(self, **wanted: Any) -> list[dict[str, Any]]:
        """The effect log, where every field is as wanted."""
        lines = (self.folder / "paypal" / "effects.jsonl").read_text().splitlines()
        return [each for each in map(json.loads, lines) if all(each[name] == value for name, value in wanted.items())]


@asynccontextmanager
async def open_paypal_house(
    database_url: str,
    folder: Path,
    *,
    engine: EngineSettings = QUICK,
    reconciliation: ReconciliationSettings | None = None,
    webhooks: bool = True,
    reporting_lag_s: int = 3 * 3600,
    failures_max: int = 5,
    **terms: Any,
) -> AsyncIterator[PayPalHouse]:
    """A gateway on `database_url`, PayPal, and the sidecar between them where `webhooks` are delivered.

    `reporting_lag_s` is how late the gateway believes PayPal's transaction search to be; `failures_max` failures in a
    row open the account's breaker.
    """
    validation = Validation()
    with tempfile.TemporaryDirectory(prefix="obol-") as short:
        path, (port,) = Path(short) / "g", free_ports(1)
        callback_url = f"http://127.0.0.1:{port}/webhooks/paypal/{ACCOUNT}"
        settings = PayPalSettings(
            data_dir=folder / "paypal",
            port=0,
            hang_seconds=20.0,
            webhook_url=callback_url if webhooks else None,
            observed=validation.observe,
            terms=Terms(**terms),
        )
        async with running(settings) as url, aiohttp.ClientSession() as http:
            address = unix(path, "grpc.unix_socket")
            options = {"client_id": MERCHANT.client_id, "reporting_lag_s": str(reporting_lag_s)}
            told = _settings(database_url, url, folder, path, engine, options, failures_max)
            if reconciliation is not None:
                told = told.model_copy(update={"reconciliation": reconciliation})
            async with (
                serving(told, address),
                _sidecar(url, folder, address.target, port),
                grpc.aio.insecure_channel(address.target) as channel,
            ):
                stub = payment_gateway_pb2_grpc.PaymentGatewayStub(channel)
                operations = operations_pb2_grpc.OperationsStub(channel)
                yield PayPalHouse(stub, url, folder, database_url, http, callback_url, operations)
    assert not validation.violations, "\n".join(validation.violations)


@asynccontextmanager
async def _sidecar(url: str, folder: Path, target: str, port: int) -> AsyncIterator[None]:
    options = {"roots_file": str(folder / "paypal" / ROOT_FILE), "certificate_origin": url}
    account = CallbackSettings("paypal", ACCOUNT, (Secret(MERCHANT.webhook_id),), options=options)
    listening, stop = asyncio.Event(), asyncio.Event()
    settings = SidecarSettings(target, (account,), listen_port=port)
    task = asyncio.create_task(serve(settings, ready=lambda host, port: listening.set(), stop=stop))
    await asyncio.wait({task, asyncio.ensure_future(listening.wait())}, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield
    finally:
        stop.set()
        await task


def _settings(
    database_url: str,
    url: str,
    folder: Path,
    path: Path,
    engine: EngineSettings,
    options: dict[str, str],
    failures_max: int,
) -> Settings:
    account = ProviderSection(
        provider="paypal",
        base_url=url,
        api_key=SecretStr(MERCHANT.client_secret),
        webhook_secrets=(SecretStr(MERCHANT.webhook_id),),
        merchant_id=MERCHANT.merchant_id,
        default=True,
        options=options,
        failures_max=failures_max,
    )
    return Settings(
        data_dir=folder,
        database=DatabaseSection(url=SecretStr(database_url)),
        grpc=GrpcSection(unix_socket=path),
        metrics=MetricsSection(enabled=False),
        webhooks=WebhooksSection(),
        providers={ACCOUNT: account},
        engine=engine,
    )
