"""The whole matrix: every point x command x interruption x database; afterwards one effect, and an answer."""

import asyncio
from pathlib import Path

import pytest

from gateway.app.observing import Beat
from gateway.domain.errors import ObolError
from gateway.verification import verify
from obol.v1 import payment_pb2
from simulators.sandbox.server import running
from simulators.sandbox.settings import SandboxSettings
from store import open_store
from tests.crash.rig import (
    EFFECT,
    KINDS,
    POINTS,
    RESPONSES,
    Interruption,
    SimulatedCrash,
    accounts_at,
    caller_of,
    effects_of,
    outlive_leases,
    prepared,
    resolve,
    runtime_on,
)
from tests.databases import postgresql_url, sqlite_url

STREAM_POINTS = (
    "wait_for_observations.after",
    "log_end.after",
    "read_observations.before",
    "read_observations.after",
)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
@pytest.mark.parametrize("interruption", ["crash", "cancel"])
@pytest.mark.parametrize("point", POINTS)
async def test_a_command_interrupted_anywhere_has_one_effect_and_one_answer(
    point: str, interruption: str, engine: str, tmp_path: Path
) -> None:
    """Interrupted at the point, recovered by another process, asked again: SUCCEEDED, and the provider did it once."""
    url = sqlite_url(tmp_path) if engine == "sqlite" else postgresql_url()
    sandbox = SandboxSettings(data_dir=tmp_path / "sandbox", port=0)
    log = tmp_path / "sandbox" / "effects.jsonl"
    async with running(sandbox) as sandbox_url:
        store = await open_store(url)
        accounts = accounts_at(sandbox_url)
        survivor = runtime_on(store, accounts)
        calls = {kind: await prepared(kind, survivor, caller_of(kind)) for kind in KINDS}
        before = {kind: effects_of(log, kind) for kind in KINDS}

        async def interrupted(kind: str) -> None:
            stop = Interruption(point, crash=interruption == "crash")
            call = asyncio.ensure_future(calls[kind](runtime_on(store, accounts, stop)))
            reached = asyncio.ensure_future(stop.reached.wait())
            await asyncio.wait((call, reached), return_when=asyncio.FIRST_COMPLETED)
            assert stop.reached.is_set(), f"{kind} never came to {point}: {call.exception() or call.result()}"
            if interruption == "cancel":
                call.cancel()
                stop.resume.set()
            reached.cancel()
            outcome = (await asyncio.gather(call, return_exceptions=True))[0]
            # Whatever the caller was told, it was told it in our words: or the process died on the way.
            told = not isinstance(outcome, BaseException)
            assert told or isinstance(outcome, SimulatedCrash | asyncio.CancelledError | ObolError), outcome

        await asyncio.gather(*(interrupted(kind) for kind in KINDS))
        if interruption == "crash" or point.endswith(".lost"):
            await outlive_leases(url)
        answers = await asyncio.gather(*(calls[kind](survivor) for kind in KINDS), resolve(survivor))
        await resolve(survivor)
        for kind, answer in zip(KINDS, answers, strict=False):
            again = await calls[kind](survivor)
            payment = RESPONSES[kind].FromString(again.body).payment
            assert payment.latest_command.state == payment_pb2.COMMAND_STATE_SUCCEEDED, (kind, answer)
            assert effects_of(log, kind)[len(before[kind]) :] == [EFFECT[kind]], kind
            assert (await calls[kind](survivor)).body == again.body
        await survivor.drain(5)
        await store.close()
        await accounts.close()
    report = await verify(url, effect_log=log, healed=True)
    assert report.violations == []
    assert report.unresolved == 0


class StreamInterruption(Interruption):
    """Stops a stream at `point`, once it has said all that there was and waits."""

    def __init__(self, point: str) -> None:
        super().__init__("", crash=True)
        self.waiting = asyncio.Event()
        self._wanted = point

    async def at(self, point: str) -> None:
        if point == "wait_for_observations.before":
            self.point = self._wanted
            self.waiting.set()
        await super().at(point)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_a_gateway_that_dies_between_a_reply_and_its_observation_loses_none(engine: str, tmp_path: Path) -> None:
    """The caller has its reply, the stream has not sent what it saw of it: another process sends it, once."""
    url = sqlite_url(tmp_path) if engine == "sqlite" else postgresql_url()
    async with running(SandboxSettings(data_dir=tmp_path / "sandbox", port=0)) as sandbox_url:
        store, accounts = await open_store(url), accounts_at(sandbox_url)
        survivor = runtime_on(store, accounts)
        for point in STREAM_POINTS:
            caller, stop = caller_of(point), StreamInterruption(point)
            watch = runtime_on(store, accounts, stop).observing.watch(caller, "", "")
            beat = await anext(watch)
            assert isinstance(beat, Beat)
            sending = asyncio.ensure_future(anext(watch))
            await stop.waiting.wait()
            create = await prepared("create", survivor, caller)
            await create(survivor)
            await store.number_observations()
            with pytest.raises(SimulatedCrash):
                await sending
            assert stop.reached.is_set()
            resumed = survivor.observing.watch(caller, "", beat.cursor)
            sent = [await anext(resumed) for _ in range(2)]
            listed, _ = await survivor.observing.list(caller, "", 0, "")
            assert sent[1:] == list(listed)
        await store.close()
        await accounts.close()
