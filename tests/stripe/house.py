"""A gateway, its sidecar and an imitation of Stripe in one process, over HTTP and gRPC: what happens by callbacks."""

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from pydantic import SecretStr

from gateway.config import Settings
from gateway.config_sections import DatabaseSection, GrpcSection, MetricsSection, ProviderSection, SecretsSection
from gateway.demo.installation import free_ports
from gateway.main import serving
from gateway.rpc.address import unix
from obol.v1 import money_pb2, operations_pb2_grpc, payment_gateway_pb2_grpc
from obol.v1 import payment_gateway_pb2 as pb
from providers.callbacks import CallbackSettings
from providers.secret import Secret
from simulators.stripe.imitation import signed_headers
from simulators.stripe.server import running
from simulators.stripe.settings import Account, Heard, StripeSettings, Terms
from tests.integration.house import QUICK, SEALING_KEYS, caller, eventually
from tests.stripe_document import document
from webhook_http.server import serve
from webhook_http.settings import SidecarSettings

ACCOUNT = "acct_main"
OURS, THEIRS = "acct_connected", "acct_second"
PLATFORM = Account(ACCOUNT, "sk_test_simulated", "whsec_simulated", (OURS, THEIRS))
BY_CONTROL = Terms(processing_seconds=None, refund_seconds=None, dispute_seconds=None)


@dataclass
class Stripe:
    """The imitation: where it is, what it heard, and what took effect there."""

    url: str
    folder: Path
    callback_port: int
    heard: list[Heard] = field(default_factory=list)

    def effects(self) -> list[dict[str, Any]]:
        """Its effect log."""
        return [json.loads(line) for line in (self.folder / "effects.jsonl").read_text().splitlines()]


@dataclass
class StripeHouse:
    """Stubs, and the payer's and Stripe's side."""

    payments: "payment_gateway_pb2_grpc.PaymentGatewayAsyncStub"
    operations: "operations_pb2_grpc.OperationsAsyncStub"
    stripe: Stripe
    database_url: str
    http: aiohttp.ClientSession

    async def call(self, rpc: str, request: Any) -> Any:
        """Any RPC of PaymentGateway, as tenant t1."""
        return await getattr(self.payments, rpc)(request, metadata=caller("t1"), timeout=10)

    async def create(self, key: str, method: str = "pm_card_visa", **asked: Any) -> Any:
        """The payment that a CreatePayment of 10.00 EUR answers with."""
        amount = money_pb2.Money(amount_minor=1_000, currency_code="EUR")
        request = pb.CreatePaymentRequest(idempotency_key=key, amount=amount, payment_method=method, **asked)
        return (await self.call("CreatePayment", request)).payment

    async def get(self, payment_id: str) -> Any:
        """The payment as it stands."""
        return (await self.call("GetPayment", pb.GetPaymentRequest(payment_id=payment_id))).payment

    async def until(self, payment_id: str, state: int) -> Any:
        """The payment once it is in `state`."""
        return await eventually(lambda: self.get(payment_id), lambda payment: payment.state == state)

    async def control(self, path: str, body: dict[str, Any]) -> Any:
        """One of the imitation's controls."""
        async with self.http.post(f"{self.stripe.url}/control/{path}", json=body) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def deliver(self, body: bytes) -> int:
        """A delivery to the sidecar, signed as Stripe signs; the HTTP status."""
        url = f"http://127.0.0.1:{self.stripe.callback_port}/webhooks/stripe/{ACCOUNT}"
        headers = dict(signed_headers(PLATFORM.signing_secret, time.time(), body))
        async with self.http.post(url, data=body, headers=headers) as answer:
            return answer.status


@asynccontextmanager
async def stripe_in(folder: Path, *, webhooks: bool = False) -> AsyncIterator[Stripe]:
    """Stripe for as long as the block lasts; its own document holds over everything that was said."""
    (port,) = free_ports(1)
    heard: list[Heard] = []
    settings = StripeSettings(
        folder / "stripe",
        port=0,
        accounts=(PLATFORM,),
        terms=BY_CONTROL,
        heard=heard.append,
        webhook_url=f"http://127.0.0.1:{port}/webhooks/stripe/{{account}}" if webhooks else None,
    )
    async with running(settings) as url:
        yield Stripe(url, folder / "stripe", port, heard)
    known = document()
    assert known is None or not [problem for each in heard for problem in known.broken(each)]


@asynccontextmanager
async def house_before(
    stripe: Stripe, database_url: str, folder: Path, *, connected: Sequence[str] = ()
) -> AsyncIterator[StripeHouse]:
    """A gateway that may act for `connected`, and its sidecar."""
    account = ProviderSection(
        provider="stripe",
        base_url=stripe.url,
        api_key=SecretStr(PLATFORM.api_key),
        webhook_secrets=(SecretStr(PLATFORM.signing_secret),),
        merchant_id=ACCOUNT,
        options={"connected_accounts": ",".join(connected)},
    )
    # A Unix socket's path is short by law; a test's folder is not.
    with tempfile.TemporaryDirectory(prefix="obol-") as short:
        address = unix(Path(short) / "g", "grpc.unix_socket")
        settings = Settings(
            data_dir=folder,
            database=DatabaseSection(url=SecretStr(database_url)),
            grpc=GrpcSection(unix_socket=Path(short) / "g"),
            metrics=MetricsSection(enabled=False),
            secrets=SecretsSection(sealing_keys=SEALING_KEYS if database_url.startswith("postgresql") else ()),
            providers={ACCOUNT: account},
            engine=QUICK,
        )
        async with (
            serving(settings, address),
            _sidecar(address.target, stripe.callback_port),
            grpc.aio.insecure_channel(address.target) as channel,
            aiohttp.ClientSession() as http,
        ):
            yield StripeHouse(
                payment_gateway_pb2_grpc.PaymentGatewayStub(channel),
                operations_pb2_grpc.OperationsStub(channel),
                stripe,
                database_url,
                http,
            )


@asynccontextmanager
async def _sidecar(target: str, port: int) -> AsyncIterator[None]:
    account = CallbackSettings("stripe", ACCOUNT, (Secret(PLATFORM.signing_secret),))
    listening, stop = asyncio.Event(), asyncio.Event()
    settings = SidecarSettings(target, (account,), listen_port=port)
    task = asyncio.create_task(serve(settings, ready=lambda host, port: listening.set(), stop=stop))
    waiting = asyncio.ensure_future(listening.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield
    finally:
        waiting.cancel()
        stop.set()
        await task
