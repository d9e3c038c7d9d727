"""A caller leaves at each point at which a gateway can be killed: it cancels, runs out of time, or closes its channel.

Over gRPC, at gates (tests/faults/gates.py). The work goes on without it: the provider does it once, and the same key
gets the one final reply.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import asyncpg
import grpc
import pytest
import structlog

import gateway.main
from gateway.domain.storage import Store
from gateway.rpc.interceptors import Edge
from gateway.verification import verify
from obol.v1 import billing_observation_pb2, billing_observation_pb2_grpc, payment_pb2
from obol.v1 import payment_gateway_pb2 as pb
from obol.v1 import payment_gateway_pb2_grpc as rpc
from simulators.sandbox.server import running
from simulators.sandbox.settings import SandboxSettings
from tests.crash.rig import EFFECT, KINDS, StoreWithPoints, change, effects_of
from tests.databases import postgresql_url, sqlite_url
from tests.faults.gates import Gate, Gates, gated_way
from tests.integration.house import QUICK, Command, House, caller, eventually, money, open_house

pytestmark = pytest.mark.slow

POINTS = ("claim.before", "claim.after", "half_sent", "effected", "settle.before", "settle.after")
WAYS = ("cancel", "deadline", "closed channel")
RPC = {"adjust": "AdjustAuthorization"}
"""Where it is not called as its kind."""
DEADLINE_S = 4.0
"""Enough to come to a point; where a machine is too busy for that, twice as long is given, and again."""
PATIENT_S = 30.0
ROOMY: dict[str, Any] = {"connections_max": 256, "calls_max": 256, "failures_max": 1_000}
# Nobody is looked after by anybody else meanwhile, however long the gates are shut.
UNHURRIED = replace(QUICK, lease_s=120.0, send_window_s=60.0, provider_timeout_s=50.0, heartbeat_s=60.0)


@dataclass
class Scene:
    """A gateway with gates, and what its handlers ended with, by tenant."""

    house: House
    gates: Gates
    store: Store
    log: Path
    sandbox_url: str
    channel: grpc.aio.Channel
    ended: dict[str, asyncio.Future[str]] = field(default_factory=dict)

    def end_of(self, tenant: str) -> "asyncio.Future[str]":
        """The status that the next handler of `tenant` ends with."""
        return self.ended.setdefault(tenant, asyncio.get_running_loop().create_future())


@dataclass
class Wish:
    """A command of a tenant of its own, on a payment of its own."""

    kind: str
    way: str
    tenant: str
    request: Any
    effects_before: int

    def call(self, stub: Any, timeout_s: float) -> Any:
        """Ask for it."""
        method = getattr(stub, RPC.get(self.kind, f"{self.kind.title()}Payment"))
        return method(self.request, metadata=caller(self.tenant), timeout=timeout_s)


@asynccontextmanager
async def scene_on(engine: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """A gateway on `engine`, with gates before its store and on its way to a sandbox; in the end all is well."""
    gates, opened, open_as_it_is = Gates(), list[Store](), gateway.main._open_store

    async def with_points(settings: Any) -> Store:
        opened.append(await open_as_it_is(settings))
        return cast(Store, StoreWithPoints(opened[0], cast(Any, gates)))

    monkeypatch.setattr(gateway.main, "_open_store", with_points)
    url = sqlite_url(folder) if engine == "sqlite" else postgresql_url()
    settings = SandboxSettings(data_dir=folder / "provider", port=0)
    log = folder / "provider" / "effects.jsonl"
    async with (
        running(settings) as sandbox_url,
        gated_way(gates, urlsplit(sandbox_url).port or 0) as way,
        open_house(url, folder, engine=UNHURRIED, sandbox_url=way, **ROOMY) as house,
        grpc.aio.insecure_channel(house.target) as channel,
    ):
        scene = Scene(house, gates, opened[0], log, sandbox_url, channel)
        ended = Edge._ended

        def noted(edge: Edge, method: Any, code: str, *rest: Any) -> None:
            ended(edge, method, code, *rest)
            future = scene.ended.pop(structlog.contextvars.get_contextvars().get("tenant", ""), None)
            if future is not None and not future.done():
                future.set_result(code)

        monkeypatch.setattr(Edge, "_ended", noted)
        yield scene
    report = await verify(url, effect_log=log, healed=True)
    assert report.violations == []
    assert report.unresolved == 0


async def prepared(scene: Scene, kind: str, way: str, tenant: str) -> Wish:
    """What leads up to a command of `kind`, done undisturbed."""
    first: dict[str, dict[str, Any]] = {
        "capture": {"capture_method": payment_pb2.CAPTURE_METHOD_MANUAL},
        "cancel": {"capture_method": payment_pb2.CAPTURE_METHOD_MANUAL},
        "confirm": {"confirmation_method": payment_pb2.CONFIRMATION_METHOD_MANUAL},
        "adjust": {"capture_method": payment_pb2.CAPTURE_METHOD_MANUAL},
        "refund": {},
    }
    named: dict[str, Any] = {"idempotency_key": "it"}
    if kind == "create":
        named |= {"amount": money(1_000), "payment_method": "card_ok"}
    else:
        asked = {"payment_method": "card_ok"} | first[kind]
        create = pb.CreatePaymentRequest(idempotency_key="first", amount=money(1_000), **asked)
        made = await scene.house.payments.CreatePayment(create, metadata=caller(tenant), timeout=PATIENT_S)
        named["payment_id"] = made.payment.payment_id
    if kind == "adjust":
        named["amount"] = money(1_500)
    request = getattr(pb, f"{RPC.get(kind, f'{kind.title()}Payment')}Request")(**named)
    return Wish(kind, way, tenant, request, len(effects_of(scene.log, tenant)))


Held = tuple[Wish, Gate, "asyncio.Future[str]", Callable[[], Any]]


async def held_at(scene: Scene, point: str, kind: str, way: str) -> Held:
    """A command of a caller that will leave in its way, held at `point`; the last is its leaving."""
    for tries in range(4):
        tenant = f"{point}-{kind}-{way}-{tries}".replace(" ", "-")
        wish = await prepared(scene, kind, way, tenant)
        gate, ended = scene.gates.shut(point, tenant), scene.end_of(tenant)
        channel = grpc.aio.insecure_channel(scene.house.target, options=[("grpc.channel_id", tenant)])
        stub = rpc.PaymentGatewayStub(channel if way == "closed channel" else scene.channel)
        deadline_s = DEADLINE_S * 2**tries if way == "deadline" else PATIENT_S
        calling = asyncio.ensure_future(wish.call(stub, deadline_s))
        reached = asyncio.ensure_future(gate.reached.wait())
        await asyncio.wait((calling, reached), return_when=asyncio.FIRST_COMPLETED)
        if not calling.done():
            return wish, gate, ended, partial(leave, way, calling, channel)
        assert way == "deadline", f"{kind} never came to {point}: {calling.exception() or calling.result()}"
        gate.opened.set()
        await channel.close()
    raise AssertionError(f"{kind} did not come to {point} in {DEADLINE_S * 8} s")


async def leave(way: str, calling: "asyncio.Future[Any]", channel: grpc.aio.Channel) -> None:
    """Go away: at once, or when time is up."""
    if way == "cancel":
        calling.cancel()
    if way == "closed channel":
        await channel.close()
    outcome: Any = (await asyncio.gather(calling, return_exceptions=True))[0]
    told = outcome.code() if isinstance(outcome, grpc.aio.AioRpcError) else None
    assert told is grpc.StatusCode.DEADLINE_EXCEEDED if way == "deadline" else isinstance(outcome, BaseException)
    await channel.close()


async def left(scene: Scene, held: Sequence[Held]) -> None:
    """Every caller goes, and its handler notices; only then do the gates open."""
    await asyncio.gather(*(going() for *_, going in held))
    for _, _, ended, _ in held:
        async with asyncio.timeout(PATIENT_S):
            assert await ended in ("CANCELLED", "DEADLINE_EXCEEDED")
    for _, gate, _, _ in held:
        gate.opened.set()


async def judged(scene: Scene, held: Sequence[Held]) -> None:
    """Each command is done once, and its key gets one final reply, from then on as it was stored."""
    for wish, *_ in held:
        reply = await eventually(partial(wish.call, scene.house.payments, PATIENT_S), is_done)
        assert reply == await wish.call(scene.house.payments, PATIENT_S), wish
        assert effects_of(scene.log, wish.tenant)[wish.effects_before :] == [EFFECT[wish.kind]], wish


def is_done(reply: Any) -> bool:
    """Whether the command has succeeded."""
    return bool(reply.payment.latest_command.state == Command.COMMAND_STATE_SUCCEEDED)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_a_caller_may_leave_at_any_point(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six commands x six points x three ways of leaving: one effect each, and one final reply to the key."""
    async with scene_on(engine, tmp_path, monkeypatch) as scene:
        pairs = [(point, kind) for point in POINTS for kind in KINDS]
        whole = [(*pair, way) for pair in pairs for way in WAYS]
        # There each pair has one of the ways: every point and every command meets all of them.
        cases = whole if engine == "sqlite" else [(*pair, WAYS[n % 3]) for n, pair in enumerate(pairs)]
        held = await asyncio.gather(*(held_at(scene, *case) for case in cases if case[2] != "deadline"))
        # Last, so that their time is not over before the others are in place.
        held += await asyncio.gather(*(held_at(scene, *case) for case in cases if case[2] == "deadline"))
        await left(scene, held)
        await judged(scene, held)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_a_caller_may_leave_while_its_answer_is_committed(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is written and not committed when it goes: committed all the same, and said when it asks again."""
    async with scene_on(engine, tmp_path, monkeypatch) as scene:
        stuck = stuck_in_sqlite if engine == "sqlite" else stuck_in_postgresql
        # A way at a time: no more than a pool has connections.
        for way in WAYS:
            held = await asyncio.gather(*(held_at(scene, "settle.before", kind, way) for kind in KINDS))
            async with stuck(scene) as all_written:
                for _, gate, _, _ in held:
                    gate.opened.set()
                await all_written(len(held))
                await left(scene, held)
            await judged(scene, held)


AllWritten = Callable[[int], Any]
"""Waits until so many settles are written and not committed; on SQLite one is, and the rest wait for its commit."""


@asynccontextmanager
async def stuck_in_postgresql(scene: Scene) -> AsyncIterator[AllWritten]:
    """While the block lasts, a settle stops in its COMMIT: a deferred trigger waits for a lock that is ours."""
    url = scene.house.database_url
    await change(
        url,
        "CREATE OR REPLACE FUNCTION stick() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_advisory_xact_lock_shared(17); RETURN NULL; END $$",
    )
    await change(url, "DROP TRIGGER IF EXISTS sticking ON observations")
    await change(
        url,
        "CREATE CONSTRAINT TRIGGER sticking AFTER INSERT ON observations DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION stick()",
    )
    name, _, host = url.partition("@/")[2].partition("?host=")
    ours = await asyncpg.connect(host=host, user="postgres", database=name)
    try:
        await ours.execute("SELECT pg_advisory_lock(17)")

        async def all_written(count: int) -> None:
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            async with asyncio.timeout(PATIENT_S):
                while await ours.fetchval(waiting) < count:  # noqa: ASYNC110  a lock's queue tells nobody
                    await asyncio.sleep(0.02)

        yield all_written
    finally:
        await ours.close()


@asynccontextmanager
async def stuck_in_sqlite(scene: Scene) -> AsyncIterator[AllWritten]:
    """While the block lasts, a settle stops in its transaction: a trigger waits, and with it the one writer."""
    written, go_on = threading.Event(), threading.Event()

    def wait() -> int:
        written.set()
        return int(go_on.wait(PATIENT_S))

    def lay(driver: Any) -> None:
        driver.create_function("stick", 0, wait)
        driver.execute("CREATE TEMP TRIGGER sticking AFTER INSERT ON main.observations BEGIN SELECT stick(); END")

    writer = cast(Any, scene.store)._database  # what is temporary belongs to the writer's connection
    await writer.write_hot(lay)

    async def all_written(count: int) -> None:
        assert await asyncio.to_thread(written.wait, PATIENT_S)

    try:
        yield all_written
    finally:
        go_on.set()
        await writer.write_hot(lambda driver: driver.execute("DROP TRIGGER sticking"))


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_a_watcher_may_leave_between_a_reply_and_its_observation(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The payment is answered, the stream has not sent what it saw: resumed, it sends all of it, once."""
    async with scene_on(engine, tmp_path, monkeypatch) as scene:
        watches = await asyncio.gather(*(held_watch(scene, way) for way in WAYS))
        await left(scene, [watch for watch, _ in watches])
        for (wish, *_), cursor in watches:
            await wish.call(scene.house.payments, PATIENT_S)
            seen = await resumed(scene, wish.tenant, cursor, count=2)
            listed = await scene.house.observations.ListObservations(
                billing_observation_pb2.ListObservationsRequest(), metadata=caller(wish.tenant), timeout=PATIENT_S
            )
            assert [each.observation_id for each in listed.observations] == seen


async def held_watch(scene: Scene, way: str) -> tuple[Held, str]:
    """A payment that is answered, under a stream that is held before it sends what came of it; and its cursor."""
    for tries in range(4):
        tenant, point = f"watch-{way}-{tries}".replace(" ", "-"), "wait_for_observations.after"
        channel = grpc.aio.insecure_channel(scene.house.target, options=[("grpc.channel_id", tenant)])
        observing = billing_observation_pb2_grpc.BillingObservationStub(channel)
        ended = scene.end_of(tenant)
        watch = observing.WatchObservations(
            billing_observation_pb2.WatchObservationsRequest(),
            metadata=caller(tenant),
            timeout=DEADLINE_S * 2**tries if way == "deadline" else None,
        )
        beat = cast(Any, await watch.read())
        gate = scene.gates.shut(point, tenant)
        wish = await prepared(scene, "refund", way, tenant)  # a payment, whose handlers end before the watch's
        reading = asyncio.ensure_future(watch.read())
        reached = asyncio.ensure_future(gate.reached.wait())
        await asyncio.wait((reading, reached), return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            ended = scene.end_of(tenant)
            return (wish, gate, ended, partial(stop_watching, way, watch, reading, channel)), beat.heartbeat.cursor
        gate.opened.set()
        await channel.close()
    raise AssertionError("the stream ended before anything was to be sent")


async def stop_watching(way: str, watch: Any, reading: "asyncio.Future[Any]", channel: grpc.aio.Channel) -> None:
    """Go away: at once, or when time is up."""
    if way == "cancel":
        watch.cancel()
    if way == "closed channel":
        await channel.close()
    with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
        assert await reading is grpc.aio.EOF, "it was sent before its watcher left"
    await channel.close()


async def resumed(scene: Scene, tenant: str, cursor: str, *, count: int) -> list[str]:
    """The observations that a new stream sends after `cursor`, until there are `count`."""
    request = billing_observation_pb2.WatchObservationsRequest(cursor=cursor)
    watch = scene.house.observations.WatchObservations(request, metadata=caller(tenant), timeout=PATIENT_S)
    seen: list[str] = []
    while len(seen) < count:
        message = cast(Any, await watch.read())
        if message.HasField("observation"):
            seen.append(message.observation.observation_id)
    watch.cancel()
    return seen
