"""One installation of real processes for a module: two gateways and two sidecars over one PostgreSQL."""

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from gateway.demo.installation import HOST
from gateway.verification import verify
from obol.client import AioPaymentGatewayClient, Caller, aio_channel
from obol.v1 import payment_gateway_pb2 as pb
from obol.v1 import payment_pb2
from tests.databases import postgresql_url
from tests.integration.house import money
from tests.torture.processes import Nursery
from tests.torture.provider import Provider, read_effects
from tests.torture.site import Site

_numbers = itertools.count(1)


@dataclass
class Installation:
    """What is up. `clients` are of gateway 0 and 1, of a tenant of their own."""

    site: Site
    provider: Provider
    clients: tuple[AioPaymentGatewayClient, ...]
    database_url: str

    async def create(self, amount: int = 1_000, **asked: Any) -> payment_pb2.Payment:
        """A payment, made at the first gateway; with a good card unless told otherwise."""
        asked.setdefault("payment_method", "card_ok")
        request = pb.CreatePaymentRequest(idempotency_key=fresh_key(), amount=money(amount), **asked)
        return (await self.clients[0].create_payment(request)).payment

    async def get(self, payment_id: str) -> payment_pb2.Payment:
        """The payment as it stands."""
        return (await self.clients[1].get_payment(pb.GetPaymentRequest(payment_id=payment_id))).payment

    def effects(self, payment: payment_pb2.Payment) -> list[tuple[str, int]]:
        """(kind, amount) of everything that moved for a payment."""
        own = payment.provider_reference.provider_payment_id
        return [(each["kind"], each["amount"]) for each in read_effects(self.site.effect_log) if each["payment"] == own]

    async def rows(self, query: str, *values: Any) -> list[Any]:
        """What a SELECT finds."""
        host = self.database_url.partition("host=")[2]
        name = self.database_url.partition("@/")[2].partition("?")[0]
        connection = await asyncpg.connect(host=host, user="postgres", database=name)
        try:
            return list(await connection.fetch(query, *values))
        finally:
            await connection.close()


def fresh_key() -> str:
    """An idempotency key that nobody has used."""
    return f"key-{next(_numbers)}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installation]:
    """Everything up and calm; when the module is over, every invariant holds."""
    directory: Path = tmp_path_factory.mktemp("installed")
    url = postgresql_url()
    async with Nursery() as nursery:
        site = Site(directory, nursery, gateways=2, sidecars=2, database_url=url, seed=1)
        try:
            await site.open()
            async with AsyncExitStack() as ending:
                provider = await ending.enter_async_context(Provider(f"http://{HOST}:{site.sandbox_port}"))
                channels = [await ending.enter_async_context(aio_channel(target)) for target in site.targets]
                caller = Caller(tenant="acme", organization="acme-eu", actor="tests")
                clients = tuple(AioPaymentGatewayClient(channel, caller) for channel in channels)
                yield Installation(site, provider, clients, url)
        finally:
            await site.close()
    report = await verify(url, effect_log=site.effect_log)
    assert report.violations == []
