"""What was answered, and what moved money, is on disk first, and a restart knows it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from simulators.journal import DirectoryBusy
from simulators.sandbox.settings import Terms
from tests.unit.simulators.rig import Caller, Clock, Opened, until

NEGATIVE_WAIT_SECONDS = 0.1


class HeldDisk:
    """A disk whose syncs wait to be let go."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.let_go = threading.Event()

    def fdatasync(self, file: int) -> None:
        self.reached.set()
        self.let_go.wait(5)


def logged(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "effects.jsonl").read_text().splitlines()]


async def test_nobody_is_answered_before_the_disk(
    caller: Caller, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the sync waits, neither the request, nor its repetition, nor a lookup is answered."""
    disk = HeldDisk()
    monkeypatch.setattr(os, "fdatasync", disk.fdatasync)
    asked = [asyncio.create_task(caller.pay(key="once", metadata={"obol_payment": "pay_1"}))]
    assert await asyncio.to_thread(disk.reached.wait, 5)
    asked.append(asyncio.create_task(caller.pay(key="once", metadata={"obol_payment": "pay_1"})))
    asked.append(asyncio.create_task(caller.get("/v1/payments?reference=pay_1")))
    done, _ = await asyncio.wait(asked, timeout=NEGATIVE_WAIT_SECONDS)
    assert not done
    disk.let_go.set()
    first, again, found = await asyncio.gather(*asked)
    assert (again.body, again.replayed, found.body["data"]) == (first.body, True, [first.body])


async def test_the_effect_is_on_disk_though_the_answer_is_lost(caller: Caller, tmp_path: Path) -> None:
    """When the connection closes without an answer, the log has the effect with its key, operation and tenant."""
    metadata = {"obol_operation": "op_1", "obol_tenant": "tenant_1"}
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await caller.pay("card_answer_lost", "lost", metadata=metadata)
    (effect,) = logged(tmp_path)
    told = {name: effect[name] for name in ("n", "kind", "amount", "currency", "account", "origin")}
    assert told == {
        "n": 1,
        "kind": "capture",
        "amount": 1234,
        "currency": "EUR",
        "account": "acct_main",
        "origin": "request",
    }
    assert (effect["idempotency_key"], effect["operation"], effect["tenant"]) == ("lost", "op_1", "tenant_1")


async def test_a_restart_knows_payments_keys_and_events(opened: Opened) -> None:
    """Payments, stored answers, events and effect numbers are as before; a repeated request still moves no money."""
    async with opened() as caller:
        paid = await caller.pay(key="once", metadata={"obol_payment": "pay_1"})
        held = await caller.authorized()
        await caller.post(f"/v1/payments/{paid.body['id']}/refunds", {"amount": 100})
        before = [await caller.get("/v1/payments"), await caller.get("/v1/events")]
        effects = await caller.effects()
    async with opened() as caller:
        again = await caller.pay(key="once", metadata={"obol_payment": "pay_1"})
        assert (again.body, again.replayed) == (paid.body, True)
        assert [(await caller.get(path)).body for path in ("/v1/payments", "/v1/events")] == [
            each.body for each in before
        ]
        assert await caller.effects() == effects
        assert len((await caller.get("/v1/payments?reference=pay_1")).body["data"]) == 1
        assert (await caller.post(f"/v1/payments/{held}/capture", key="after")).status == 200
        assert (await caller.effects())[-1]["n"] == len(effects) + 1


async def test_a_restart_goes_on_with_what_was_under_way(opened: Opened, clock: Clock) -> None:
    """A payment that was processing settles after a restart; a first failure that was had is not had again."""
    async with opened(terms=Terms(processing_seconds=5)) as caller:
        begun = (await caller.pay("card_processing_then_ok")).body["id"]
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await caller.pay("card_answer_lost_before_effect", "twice")
    clock.now += 5
    async with opened(terms=Terms(processing_seconds=5)) as caller:
        await until(lambda: _captured(caller, begun))
        assert (await caller.pay("card_answer_lost_before_effect", "twice")).status == 200


async def test_a_dispute_that_was_opened_is_not_opened_again(opened: Opened, clock: Clock) -> None:
    """What happened by itself before a restart does not happen a second time after it."""
    async with opened(terms=Terms(dispute_seconds=5)) as caller:
        paid = (await caller.pay("card_disputed")).body["id"]
        clock.now += 5
        await until(lambda: _disputed(caller, paid))
    async with opened(terms=Terms(dispute_seconds=5, processing_seconds=0)) as caller:
        # The agenda runs in order: once the later entry is done, the earlier one would be, too.
        later = (await caller.pay("card_processing_then_ok")).body["id"]
        await until(lambda: _captured(caller, later))
        assert [each["kind"] for each in await caller.effects()] == ["capture", "dispute", "capture"]


async def test_a_torn_line_is_forgotten_and_a_lost_effect_is_written_again(opened: Opened, tmp_path: Path) -> None:
    """A crash in the middle of a line costs that line alone; the effect log is completed from the journal."""
    async with opened() as caller:
        await caller.pay()
        await caller.pay()
    whole = (tmp_path / "effects.jsonl").read_text()
    (tmp_path / "effects.jsonl").write_text(whole[:-40])
    with (tmp_path / "journal.jsonl").open("a") as journal:
        journal.write('{"payment":{"id":"spay_to')
    async with opened() as caller:
        assert (tmp_path / "effects.jsonl").read_text() == whole
        assert len((await caller.get("/v1/payments")).body["data"]) == 2
        await caller.pay(key="third")
    async with opened() as caller:
        assert [each["n"] for each in await caller.effects()] == [1, 2, 3]


async def test_a_directory_has_one_sandbox(opened: Opened) -> None:
    """A second sandbox on the same directory does not start."""
    async with opened():
        with pytest.raises(DirectoryBusy):
            async with opened():
                pass


async def test_many_requests_share_a_sync(caller: Caller) -> None:
    """Requests at the same time cost fewer syncs than one each."""
    await asyncio.gather(*(caller.pay() for _ in range(100)))
    state = (await caller.control("/state", method="GET")).body
    assert len(await caller.effects()) == 100
    assert 0 < state["books"]["syncs"] < 90


async def test_the_program_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """`python -m simulators.sandbox` prints its address, survives a kill -9, and ends well on SIGTERM."""
    async with aiohttp.ClientSession() as session:
        for number, replayed in ((signal.SIGKILL, False), (signal.SIGTERM, True)):
            program = subprocess.Popen(  # noqa: ASYNC220  starting blocks for a moment, and nothing else runs
                [sys.executable, "-m", "simulators.sandbox", "--port", "0", "--data-dir", str(tmp_path)],
                stdout=subprocess.PIPE,
                text=True,
            )
            try:
                assert program.stdout is not None
                line = await asyncio.to_thread(program.stdout.readline)
                assert line.startswith("sandbox: listening on http://127.0.0.1:")
                paid = await Caller(session, line.split()[-1], "sandbox-key-main").pay(key="once")
                assert (paid.status, paid.replayed) == (200, replayed)
            finally:
                program.send_signal(number)
                ended = await asyncio.to_thread(program.wait, 10)
                if program.stdout is not None:
                    program.stdout.close()
            assert ended == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    assert len(logged(tmp_path)) == 1


async def _disputed(caller: Caller, payment_id: str) -> bool:
    return bool((await caller.get(f"/v1/payments/{payment_id}")).body["disputes"])


async def _captured(caller: Caller, payment_id: str) -> bool:
    return bool((await caller.get(f"/v1/payments/{payment_id}")).body["status"] == "captured")
