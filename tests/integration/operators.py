"""Operators at a gateway: their calls by name, unknown commands for them to decide, and the database past the store."""

import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from obol.v1 import billing_observation_pb2 as watching
from obol.v1 import operations_pb2 as ops
from obol.v1 import payment_gateway_pb2 as pb
from obol.v1 import provider_callbacks_pb2
from store.tables import metadata
from tests.integration.house import QUICK, Command, House, caller, eventually, money, open_house

TENANT = "t1"
EXECUTED = ops.RESOLUTION_EXECUTED
NOT_EXECUTED = ops.RESOLUTION_NOT_EXECUTED
RESTING = (ops.CALLBACK_STATE_APPLIED, ops.CALLBACK_STATE_IGNORED, ops.CALLBACK_STATE_QUARANTINED)

QUIET = replace(
    QUICK,
    recovery_poll_s=3_600.0,
    housekeeping_s=3_600.0,
    send_window_s=5.0,
    provider_timeout_s=10.0,
    lease_s=20.0,
)
"""Recovery takes no look while a test lasts: what is unknown stays so, and the operators decide."""

FLIGHT_S = 200
"""More than the sandbox's longest flight with a call's timeout."""


@asynccontextmanager
async def quiet_house(database_url: str, folder: Path) -> AsyncIterator[House]:
    """A house whose recovery sleeps."""
    async with open_house(database_url, folder, engine=QUIET) as opened:
        yield opened


@dataclass
class Operator:
    """One operator's calls. The metadata names the operator alone: a tenant that it sent would not count."""

    house: House
    actor: str

    def call(self, rpc: str, **fields: Any) -> Awaitable[Any]:
        """Any RPC of Operations, by name."""
        request = getattr(ops, f"{rpc}Request")(**fields)
        stamped = (("obol-actor", self.actor), ("obol-correlation-id", "corr-ops"))
        method: Any = getattr(self.house.operations, rpc)
        answer: Awaitable[Any] = method(request, metadata=stamped, timeout=60)
        return answer

    def resolve(self, command_id: str, resolution: Any, **fields: Any) -> Awaitable[Any]:
        """ResolveCommand with a reason, for tenant t1 unless told otherwise."""
        asked = {"tenant_id": TENANT, "reason": "their support looked", "resolution": resolution} | fields
        return self.call("ResolveCommand", command_id=command_id, **asked)

    async def timeline(self, payment_id: str) -> list[Any]:
        """The entries of ExplainPayment."""
        explained = await self.call("ExplainPayment", tenant_id=TENANT, payment_id=payment_id)
        return list(explained.timeline)

    async def acts(self, **fields: Any) -> list[tuple[str, str, str]]:
        """(action, actor, result) of what operators did, newest first."""
        page = await self.call("ListAuditRecords", operators_only=True, **fields)
        return [(record.action, record.actor, record.result) for record in page.records]


@dataclass(frozen=True)
class Unknown:
    """A refund whose answer was lost: its payment, command and key, and its id at the provider where it took effect."""

    payment_id: str
    command_id: str
    key: str
    provider_payment_id: str
    provider_refund_id: str


async def lost_refund(house: House, fault: str, *, amount: int = 400, key: str = "r", order: str = "c") -> Unknown:
    """A refund of a captured payment of 1,000 that ends UNKNOWN: `lost_before` its effect, or `lost_after` it."""
    payment = await house.create(order)
    await house.control("/control/faults", {"next": [{"fault": fault, "match": "refunds"}]})
    response = await refund(house, payment.payment_id, key, amount)
    assert response.payment.latest_command.state == Command.COMMAND_STATE_UNKNOWN
    provider_id = payment.provider_reference.provider_payment_id
    made = list((await house.object(provider_id))["refunds"])
    return Unknown(
        payment.payment_id,
        response.payment.latest_command.command_id,
        key,
        provider_id,
        made[-1]["id"] if made else "",
    )


async def arrive(house: House, lost: Unknown) -> None:
    """Let the provider get the request of a lost refund after all, as a network may deliver it late: byte for byte."""
    dumped = await dump(house.database_url)
    names = [column.name for column in metadata.tables["operations"].columns]
    (row,) = [each for each in dumped["operations"] if each[names.index("command_id")] == lost.command_id]
    method, path, body, key, _, _, headers = json.loads(row[names.index("prepared")])
    stamped = {**headers, "Authorization": "Bearer sandbox-key-main", "Idempotency-Key": key}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, house.sandbox_url + path, data=body, headers=stamped) as answer,
    ):
        assert answer.status < 300, await answer.text()


async def refund(house: House, payment_id: str, key: str, amount: int) -> Any:
    """RefundPayment."""
    request = pb.RefundPaymentRequest(idempotency_key=key, payment_id=payment_id, amount=money(amount))
    return await house.payments.RefundPayment(request, metadata=house.metadata, timeout=60)


async def sync(house: House, payment_id: str) -> Any:
    """SyncPayment."""
    request = pb.SyncPaymentRequest(payment_id=payment_id)
    return (await house.payments.SyncPayment(request, metadata=house.metadata, timeout=60)).payment


async def last_observation(house: House, kind: int) -> Any:
    """Billing's last observation, once it is of this kind: on PostgreSQL it is numbered a moment after the settle."""

    async def read() -> Any:
        request = watching.ListObservationsRequest()
        listed = await house.observations.ListObservations(request, metadata=house.metadata, timeout=60)
        return listed.observations[-1] if listed.observations else None

    return await eventually(read, lambda observation: observation is not None and observation.kind == kind)


async def deliver(
    house: House, event_id: str, body: dict[str, Any] | bytes, event_type: str = "payment.updated"
) -> str:
    """Hand a verified callback over; its id."""
    request = provider_callbacks_pb2.DeliverCallbackRequest(
        provider="sandbox",
        account_id="acct_main",
        event_id=event_id,
        event_type=event_type,
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
    )
    answer = await house.callbacks.DeliverCallback(request, metadata=caller("sidecar"), timeout=60)
    return answer.callback_id


async def operate(operations: Any, rpc: str, **fields: Any) -> Any:
    """Any RPC of Operations by its stub, by name."""
    request = getattr(ops, f"{rpc}Request")(**fields)
    return await getattr(operations, rpc)(request, metadata=(("obol-actor", "ann"),), timeout=60)


async def at_rest(operations: Any, event_id: str) -> Any:
    """The callback of a provider's event, once it rests."""

    async def read() -> Any:
        listed = (await operate(operations, "ListCallbacks")).callbacks
        return next(each for each in listed if each.event_id == event_id)

    return await eventually(read, lambda callback: callback.state in RESTING)


async def resting(ann: Operator, callback_id: str) -> Any:
    """The callback once it rests."""

    async def read() -> Any:
        callbacks = (await ann.call("ListCallbacks")).callbacks
        return next(each for each in callbacks if each.callback_id == callback_id)

    return await eventually(read, lambda callback: callback.state in RESTING)


def event(event_id: str, payment: dict[str, Any], event_type: str = "payment.updated") -> dict[str, Any]:
    """An event about the provider's object, as the sandbox writes it."""
    about = {"id": event_id, "object": "event", "type": event_type, "livemode": False, "account": "acct_main"}
    return {**about, "created": 1_700_000_000, "data": {"object": payment}}


async def outlast_flight(database_url: str) -> None:
    """Let the longest flight pass for everything that was sent: the test moves its times instead of waiting."""
    await execute(
        database_url,
        f"UPDATE operations SET last_send_us = last_send_us - {FLIGHT_S * 1_000_000}, "
        f"claimed_time_us = claimed_time_us - {FLIGHT_S * 1_000_000} WHERE state = 'UNKNOWN'",
    )


async def execute(database_url: str, statement: str, **values: Any) -> None:
    """One statement, past the store."""
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(text(statement), values)
    await engine.dispose()


async def dump(database_url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, in an order that does not depend on when it was written."""
    engine = create_async_engine(database_url)
    found = {}
    async with engine.connect() as connection:
        for table in metadata.sorted_tables:
            rows = await connection.execute(table.select())
            found[table.name] = sorted((tuple(row) for row in rows), key=repr)
    await engine.dispose()
    return found
