"""Gateways whose clocks are ten minutes apart, or go back, over one database: one effect, one answer, one order."""

import asyncio
from pathlib import Path

import pytest

from gateway.app.clock import SystemClock
from gateway.app.requests import CapturePayment, CreatePayment, RefundPayment
from gateway.domain.errors import Precondition
from gateway.domain.payments import CaptureMethod
from gateway.verification import verify
from obol.v1 import payment_gateway_pb2 as pb
from simulators.sandbox.server import running
from simulators.sandbox.settings import SandboxSettings
from store import open_store
from tests.crash.rig import (
    Interruption,
    SimulatedCrash,
    accounts_at,
    caller_of,
    effects_of,
    outlive_leases,
    resolve,
    rows,
    runtime_on,
)
from tests.databases import postgresql_url

CALLER = caller_of("t1")
SKEW_US = 600_000_000


class Skewed:
    """A process's clock: so far off, and, where it goes back, further with each reading."""

    def __init__(self, off_us: int, *, back_us: int = 0) -> None:
        self._off_us, self._back_us, self._real = off_us, back_us, SystemClock()

    def now_us(self) -> int:
        self._off_us -= self._back_us
        return self._real.now_us() + self._off_us


CLOCKS = {"ahead": Skewed(SKEW_US), "behind": Skewed(-SKEW_US), "going back": Skewed(0, back_us=60_000_000)}


@pytest.mark.parametrize("first", CLOCKS)
async def test_what_one_clock_begins_another_ends(first: str, tmp_path: Path) -> None:
    """Claimed and killed under one clock, recovered and asked again under the others: each did its part once."""
    url = postgresql_url()
    async with running(SandboxSettings(data_dir=tmp_path / "sandbox", port=0)) as sandbox_url:
        accounts = accounts_at(sandbox_url)
        stores = {name: await open_store(url) for name in CLOCKS}
        others = [name for name in CLOCKS if name != first]
        processes = {name: runtime_on(stores[name], accounts, clock=CLOCKS[name]) for name in CLOCKS}
        create = CreatePayment("c", 1_000, "EUR", payment_method="card_ok", capture_method=CaptureMethod.MANUAL)
        for point in ("claim.after", "send.after"):
            dying = runtime_on(stores[first], accounts, Interruption(point, crash=True), clock=CLOCKS[first])
            with pytest.raises(SimulatedCrash):
                await dying.commands.create(caller_of(point), create, 20)
        # By the database's clock nothing is due before its lease has ended, whatever anybody's own clock says.
        assert [await process.recovery.run_once() for process in processes.values()] == [0, 0, 0]
        await outlive_leases(url)
        await asyncio.gather(*(resolve(processes[name]) for name in others))
        for point in ("claim.after", "send.after"):
            caller = caller_of(point)
            replies = [await process.commands.create(caller, create, 20) for process in processes.values()]
            assert len({reply.body for reply in replies}) == 1
            assert effects_of(tmp_path / "sandbox" / "effects.jsonl", point) == ["authorization"]
        for store in stores.values():
            await store.close()
        await accounts.close()
    report = await verify(url, effect_log=tmp_path / "sandbox" / "effects.jsonl", healed=True)
    assert report.violations == []


async def test_the_newest_command_is_the_last_one_claimed(tmp_path: Path) -> None:
    """Created by a clock ahead, captured and refunded by one behind: what the payment shows last came last."""
    url = postgresql_url()
    async with running(SandboxSettings(data_dir=tmp_path / "sandbox", port=0)) as sandbox_url:
        store, accounts = await open_store(url), accounts_at(sandbox_url)
        ahead, behind = (runtime_on(store, accounts, clock=CLOCKS[name]) for name in ("ahead", "behind"))
        create = CreatePayment("c", 1_000, "EUR", payment_method="card_ok", capture_method=CaptureMethod.MANUAL)
        reply = await ahead.commands.create(CALLER, create, 20)
        payment_id = pb.CreatePaymentResponse.FromString(reply.body).payment.payment_id
        await behind.commands.capture(CALLER, CapturePayment("k", payment_id), 20)
        captured = await store.get_payment(CALLER.tenant_id, payment_id)
        assert captured is not None
        assert captured.latest_command is not None
        assert captured.latest_command.kind == "CAPTURE"
        refunds = [RefundPayment(f"r{n}", payment_id, 600, "EUR") for n in range(2)]
        outcomes = await asyncio.gather(
            ahead.commands.refund(CALLER, refunds[0], 20),
            behind.commands.refund(CALLER, refunds[1], 20),
            return_exceptions=True,
        )
        assert [type(each) for each in outcomes].count(Precondition) == 1
        found = await store.get_payment(CALLER.tenant_id, payment_id)
        assert found is not None
        assert found.latest_command is not None
        assert found.latest_command.kind == "REFUND"
        told = await rows(url, "SELECT command_kind FROM observations ORDER BY version, ordinal")
        assert [kind for (kind,) in told] == ["CREATE", "CAPTURE", "REFUND"]
        await store.close()
        await accounts.close()
    report = await verify(url, effect_log=tmp_path / "sandbox" / "effects.jsonl", healed=True)
    assert report.violations == []
