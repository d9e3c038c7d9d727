"""A database that dies, deadlocks, fills up, or loses the answer to a COMMIT, under a gateway that goes on paying.

Nothing that was acknowledged is lost, the provider is called for nothing that is not committed, and once the database
is well the gateway serves again within seconds.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.app.replies import CommandReply
from gateway.app.requests import CreatePayment
from gateway.app.runtime import Runtime
from gateway.domain.errors import ObolError, Sent, Unavailable
from gateway.verification import verify
from obol.v1 import payment_gateway_pb2 as pb
from obol.v1 import payment_pb2
from simulators.sandbox.server import running
from simulators.sandbox.settings import SandboxSettings
from store import open_store
from tests.crash.rig import (
    BRIEF,
    LEASE_S,
    Interruption,
    accounts_at,
    caller_of,
    change,
    effects_of,
    outlive_leases,
    resolve,
    rows,
    runtime_on,
)
from tests.databases import postgresql_url, sqlite_url
from tests.faults.wire import Wire
from tests.integration.house import QUICK, House, State, open_house, refused
from tests.readiness import READY_S_MAX, readiness, write_to_postgresql, write_to_sqlite
from tests.store.looking import connect_sqlite
from tests.torture.database import restart

pytestmark = pytest.mark.slow

CALLER = caller_of("t1")
RESTART_EVERY_S = 5.0
RESTARTS = 3
"""Two of a long torture's minutes have them as well (tests/torture/restarts.py)."""
PATIENT = replace(QUICK, send_window_s=10.0, provider_timeout_s=10.0, lease_s=LEASE_S, settle_retry_s=20.0)
"""A machine that stands still for seconds ends no wait of these, and takes no lease: the test moves the rows' times."""
BRISK = replace(QUICK, send_window_s=2.0, provider_timeout_s=2.0, lease_s=4.5, settle_retry_s=15.0)
"""Where nobody can tell which leases a restart has left behind: they are waited for, and every call is repeated."""


@asynccontextmanager
async def wired(tmp_path: Path) -> AsyncIterator[tuple[House, Wire]]:
    """A gateway whose PostgreSQL is behind a wire; in the end everything is resolved and every invariant holds."""
    url = postgresql_url()
    behind, _, host = url.partition("?host=")
    (tmp_path / "w").mkdir()
    wire = Wire(tmp_path / "w", Path(host))
    await wire.open()
    try:
        async with open_house(f"{behind}?host={wire.folder}", tmp_path, engine=PATIENT) as house:
            yield house, wire
    finally:
        wire.close()
    report = await verify(url, effect_log=house.sandbox_dir / "effects.jsonl", healed=True)
    assert report.violations == []
    assert report.unresolved == 0


async def test_a_claim_whose_commit_was_not_heard_of_is_not_sent_and_not_lost(tmp_path: Path) -> None:
    """Nobody knows whether it is claimed: the caller is told to repeat, nothing is sent; repeated, it is done once."""
    async with wired(tmp_path) as (house, wire):
        await again_until_answered(partial(house.create, "warm"))
        wire.lose(b"claim-key")
        error = await refused(house.create("claim-key"))
        assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
        assert (error.sent, error.safe_to_retry) == ("MAYBE", "true")
        assert wire.lost == 1
        assert len(house.effects()) == 1  # the one that warmed up
        await outlive_leases(house.database_url)
        payment = await again_until_answered(partial(house.create, "claim-key"))
        await house.until(payment.payment_id, State.PAYMENT_STATE_CAPTURED)
        assert len(house.effects()) == 2


async def test_a_settle_whose_commit_was_not_heard_of_is_answered_as_it_stands(tmp_path: Path) -> None:
    """The answer is recorded, and nobody heard: the gateway looks, and the caller gets the one reply there is."""
    async with wired(tmp_path) as (house, wire):
        await again_until_answered(partial(house.create, "warm"))
        wire.lose(b"COMMAND_CONCLUDED")
        payment = await house.create("settle-key")
        assert wire.lost == 1
        assert payment.state == State.PAYMENT_STATE_CAPTURED
        assert (await house.get(payment.payment_id)).version == 2  # a claim, and its answer: settled once
        again = await house.create("settle-key")
        assert again == payment
        assert len(house.effects()) == 2


async def test_serialization_failures_and_deadlocks_cost_a_retry(tmp_path: Path) -> None:
    """PostgreSQL refuses every third write with 40001 or 40P01, claims and settles: each wish is fulfilled once."""
    url = postgresql_url()
    for table in ("commands", "history", "observations"):
        await change(url, f"CREATE SEQUENCE refused_{table}")
        await change(
            url,
            f"CREATE FUNCTION refuse_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"CASE nextval('refused_{table}') % 6 WHEN 1 THEN RAISE SQLSTATE '40001'; "
            "WHEN 4 THEN RAISE SQLSTATE '40P01'; ELSE RETURN NEW; END CASE; END $$",
        )
        await change(
            url,
            f"CREATE TRIGGER refusing BEFORE INSERT OR UPDATE ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION refuse_{table}()",
        )
    async with open_house(url, tmp_path) as house:
        # Refused more often in a row than the store tries, it is the caller who repeats, with the same key.
        wishes = (partial(house.create, f"k{n}") for n in range(12))
        payments = await asyncio.gather(*(again_until_answered(wish, within_s=60) for wish in wishes))
        assert {payment.state for payment in payments} == {State.PAYMENT_STATE_CAPTURED}
        assert len(house.effects()) == 12
    report = await verify(url, effect_log=house.sandbox_dir / "effects.jsonl", healed=True)
    assert report.violations == []


async def test_a_server_that_is_restarted_again_and_again_loses_nothing(tmp_path: Path) -> None:
    """Killed every five seconds, as by a power failure, under eight callers: ready within five, and nothing is lost."""
    url = postgresql_url()
    async with open_house(url, tmp_path, engine=BRISK) as house:
        stop, answered = asyncio.Event(), dict[str, payment_pb2.Payment]()

        async def pay(number: int) -> None:
            while not stop.is_set():
                key = f"k-{number}-{len(answered)}"
                payment = await again_until_answered(partial(house.create, key), within_s=60)
                answered[key] = payment
                await asyncio.sleep(0.4)

        paying = [asyncio.create_task(pay(number)) for number in range(8)]
        await again_until_answered(partial(house.create, "first"))
        due = time.monotonic()
        for number in range(RESTARTS):
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = time.monotonic() + RESTART_EVERY_S
            await asyncio.to_thread(restart, "immediate")
            back = await readiness(partial(serves, house, f"after-{number}"), partial(write_to_postgresql, url))
            assert back.own_s < READY_S_MAX, str(back)
        stop.set()
        await asyncio.gather(*paying)
        for key, payment in answered.items():
            kept = await house.create(key)
            assert kept.payment_id == payment.payment_id
            await house.until(payment.payment_id, State.PAYMENT_STATE_CAPTURED)
    report = await verify(url, effect_log=house.sandbox_dir / "effects.jsonl", healed=True)
    assert report.violations == []
    assert report.unresolved == 0
    assert report.effects == report.payments


async def test_an_exhausted_pool_refuses_and_loses_nothing(tmp_path: Path) -> None:
    """One connection for forty callers, held by a stranger's lock: refused in time, nothing sent; then all are paid."""
    url = postgresql_url()
    async with running(SandboxSettings(data_dir=tmp_path / "sandbox", port=0)) as sandbox_url:
        narrow = await open_store(url, pool_size=1, checkout_timeout_s=0.1, statement_timeout_s=0.5)
        store, accounts = await open_store(url), accounts_at(sandbox_url)
        exhausted, healed = runtime_on(narrow, accounts), runtime_on(store, accounts)

        def calls(runtime: Runtime) -> list[Callable[[], Awaitable[CommandReply]]]:
            requests = (CreatePayment(f"k{number}", 100, "EUR") for number in range(40))
            return [partial(runtime.commands.create, CALLER, request, 20) for request in requests]

        stranger = create_async_engine(url)
        async with stranger.connect() as holding, holding.begin():
            await holding.execute(text("LOCK TABLE commands IN ACCESS EXCLUSIVE MODE"))
            first = await outcomes_of(calls(exhausted))
        await stranger.dispose()
        refusals = [each for each in first if isinstance(each, ObolError)]
        assert refusals
        assert all(isinstance(each, Unavailable) for each in refusals)
        log = tmp_path / "sandbox" / "effects.jsonl"
        claimed = await rows(url, "SELECT count(*) FROM operations")
        assert len(effects_of(log, "t1")) <= claimed[0][0]
        await outlive_leases(url)
        await resolve(healed)
        # The pool that was exhausted serves again; the rest is paid over one that a slow machine does not exhaust.
        assert isinstance(await again_until_answered(calls(exhausted)[0]), CommandReply)
        for call in calls(healed):
            assert isinstance(await again_until_answered(call), CommandReply)
        await resolve(healed)
        assert effects_of(log, "t1") == ["capture"] * 40
        for each in (narrow, store):
            await each.close()
        await accounts.close()
    report = await verify(url, effect_log=log, healed=True)
    assert report.violations == []


async def test_a_full_disk_takes_no_money_that_it_cannot_write_down(tmp_path: Path) -> None:
    """SQLite runs out of pages amid sixty payments: what is not claimed is not sent, the rest settles later."""
    url = sqlite_url(tmp_path)
    async with running(SandboxSettings(data_dir=tmp_path / "sandbox", port=0)) as sandbox_url:
        store, accounts = await open_store(url), accounts_at(sandbox_url)
        runtime = runtime_on(store, accounts)
        writer = store._database  # type: ignore[attr-defined]  # the file's limit belongs to the writer's connection
        with closing(connect_sqlite(url)) as file:
            pages = file.execute("PRAGMA page_count").fetchone()[0]
        await writer.write(lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 40}"))
        calls = [lambda n=n: runtime.commands.create(CALLER, CreatePayment(f"k{n}", 100, "EUR"), 20) for n in range(60)]
        # A few at a time: the writer commits in groups, and a group that does not fit fails as one.
        first = [each for start in range(0, 60, 6) for each in await outcomes_of(calls[start : start + 6])]
        refusals = [each for each in first if isinstance(each, ObolError)]
        assert refusals
        log = tmp_path / "sandbox" / "effects.jsonl"
        claimed = await rows(url, "SELECT count(*) FROM operations")
        assert len(effects_of(log, "t1")) == claimed[0][0]
        assert 0 < claimed[0][0] < 60
        # Whoever may have been sent is told so, and nobody else.
        assert [each.sent for each in refusals].count(Sent.MAYBE) >= claimed[0][0] - (60 - len(refusals))
        await writer.write(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 1073741823"))
        back = await readiness(partial(again_until_answered, calls[-1]), partial(write_to_sqlite, url))
        assert back.own_s < READY_S_MAX, str(back)
        await outlive_leases(url)
        await resolve(runtime)
        for number, call in enumerate(calls):
            reply = await again_until_answered(call)
            told = first[number]
            assert isinstance(told, ObolError) or told.body == reply.body
        assert effects_of(log, "t1") == ["capture"] * 60
        await store.close()
        await accounts.close()
    report = await verify(url, effect_log=log, healed=True)
    assert report.violations == []


async def test_a_busy_database_delays_a_settle_and_loses_no_answer(tmp_path: Path) -> None:
    """Another process holds SQLite's lock past the busy timeout when the provider answers: it is recorded then."""
    url = sqlite_url(tmp_path)
    async with running(SandboxSettings(data_dir=tmp_path / "sandbox", port=0)) as sandbox_url:
        store, accounts = await open_store(url, busy_timeout_s=0.1), accounts_at(sandbox_url)
        stop = Interruption("send.after", crash=False)
        runtime = runtime_on(store, accounts, stop, settings=replace(BRIEF, settle_retry_s=20.0))
        call = asyncio.ensure_future(runtime.commands.create(CALLER, CreatePayment("k", 100, "EUR"), 20))
        await stop.reached.wait()
        with closing(connect_sqlite(url)) as other:
            other.execute("BEGIN IMMEDIATE")
            stop.resume.set()
            await asyncio.sleep(0.6)
            assert not call.done()
            other.execute("ROLLBACK")
        payment = pb.CreatePaymentResponse.FromString((await call).body).payment
        assert payment.state == State.PAYMENT_STATE_CAPTURED
        assert effects_of(tmp_path / "sandbox" / "effects.jsonl", "t1") == ["capture"]
        await store.close()
        await accounts.close()


async def serves(house: House, key: str) -> None:
    """A reply that is kept, a read, and a payment that is new."""
    first = await again_until_answered(partial(house.create, "first"))
    await again_until_answered(partial(house.get, first.payment_id))
    await again_until_answered(partial(house.create, key))


async def outcomes_of(calls: Sequence[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """All at once: replies and errors of ours, and nothing else."""
    outcomes = await asyncio.gather(*(call() for call in calls), return_exceptions=True)
    assert [each for each in outcomes if isinstance(each, BaseException) and not isinstance(each, ObolError)] == []
    return outcomes


async def again_until_answered(call: Callable[[], Awaitable[Any]], *, within_s: float = 20.0) -> Any:
    """The reply to a call that is repeated, with its key, while it is safe to."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return await call()
        except (grpc.aio.AioRpcError, ObolError) as error:
            temporary = error.safe_to_retry if isinstance(error, ObolError) else error.code() in TEMPORARY
            if not temporary or time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.05)


TEMPORARY = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)
