"""A reconciliation whose process dies at any step is finished by another one, and its figures are exact."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from gateway.app.reconciliations import RunReconciliation
from gateway.app.requests import CreatePayment
from gateway.app.runtime import Runtime
from gateway.app.settings import ReconciliationSettings
from gateway.app.telemetry import Silence
from gateway.domain.reconciliation import BreakType, JobState, Reconciliation
from gateway.domain.storage import Store
from gateway.rpc.codec import ProtoReplyCodec
from gateway.verification import verify
from obol.v1 import payment_gateway_pb2 as pb
from providers.registry import AccountRegistry
from simulators.sandbox.server import running
from simulators.sandbox.settings import SandboxSettings
from store import open_store
from tests.crash.rig import ACCOUNT, BRIEF, SimulatedCrash, accounts_at, caller_of
from tests.databases import postgresql_url, sqlite_url
from tests.store.looking import rows

CALLER = caller_of("t1")
PAYMENTS = 5
SETTINGS = ReconciliationSettings(pause_s=0.0, page=2, pages_per_turn=50)
STEPS = ("note_breaks", "settle", "take_step", "end_reconciliation")
HOUR_US = 3_600_000_000


class StoreDyingAt:
    """The real store until the `nth` call of `step`: it dies before or after that, and does nothing more."""

    def __init__(self, store: Store, step: str, nth: int, *, after: bool) -> None:
        self._store, self._step, self._left, self._after = store, step, nth, after
        self.is_dead = False

    def __getattr__(self, name: str) -> Any:
        inner: Callable[..., Any] = getattr(self._store, name)

        async def passed(*args: Any, **kwargs: Any) -> Any:
            if self.is_dead:
                raise SimulatedCrash
            self._left -= name == self._step
            is_it = name == self._step and self._left == 0
            self.is_dead = is_it and not self._after
            if self.is_dead:
                raise SimulatedCrash
            result = await inner(*args, **kwargs)
            self.is_dead = is_it
            if self.is_dead:
                raise SimulatedCrash
            return result

        return passed


@dataclass
class Books:
    """Five payments; the second was refunded in the dashboard, and the books falsify the fourth."""

    url: str
    sandbox_url: str
    log: Path
    store: Store
    accounts: AccountRegistry

    def runtime(self, store: Any = None) -> Runtime:
        """A process's insides."""
        chosen = cast(Store, store or self.store)
        return Runtime(chosen, self.accounts, ProtoReplyCodec(), Silence(), BRIEF, reconciliation=SETTINGS)

    async def control(self, path: str, body: dict[str, Any]) -> None:
        """One of the sandbox's controls."""
        async with aiohttp.ClientSession() as session, session.post(self.sandbox_url + path, json=body) as answer:
            assert answer.status == 200, await answer.text()


@pytest.fixture(params=["sqlite", "postgresql"])
async def books(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Books]:
    """Both books, with one break that mends and one that does not."""
    url = sqlite_url(tmp_path) if request.param == "sqlite" else postgresql_url()
    async with running(SandboxSettings(data_dir=tmp_path / "sandbox", port=0)) as sandbox_url:
        store, accounts = await open_store(url), accounts_at(sandbox_url)
        made = Books(url, sandbox_url, tmp_path / "sandbox" / "effects.jsonl", store, accounts)
        runtime = made.runtime()
        references = []
        for number in range(PAYMENTS):
            wish = CreatePayment(f"key-{number}", 1_000, "EUR", payment_method="card_ok")
            reply = await runtime.commands.create(CALLER, wish, 20)
            payment = pb.CreatePaymentResponse.FromString(reply.body).payment
            references.append(payment.provider_reference.provider_payment_id)
        await made.control(f"/control/payments/{references[1]}/refund", {"amount": 400})
        await made.control(f"/control/payments/{references[3]}/falsify", {"captured": 900})
        yield made
        await store.close()
        await accounts.close()


async def asked(books: Books, key: str = "it") -> Reconciliation:
    """A job of the last and the next hour."""
    now_us = time.time_ns() // 1_000
    wish = RunReconciliation(key, ACCOUNT, now_us - HOUR_US, now_us + HOUR_US)
    return await books.runtime().reconciliations.run(CALLER, wish)


async def finished(books: Books, job: Reconciliation) -> Reconciliation:
    """The job after another process has had its turns."""
    while True:
        await books.runtime().reconciler.run_once()
        found = await books.store.get_reconciliation(job.reconciliation_id)
        assert found is not None
        if found.state in (JobState.DONE, JobState.FAILED):
            return found


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_job_that_died_is_finished_with_exact_figures(books: Books, step: str, after: bool) -> None:
    """Whichever step its process died at: every record counted once, every break kept once, said once, mended once."""
    job = await asked(books)
    dying = books.runtime(StoreDyingAt(books.store, step, 2 if step == "take_step" else 1, after=after))
    with pytest.raises(SimulatedCrash):
        await dying.reconciler.run_once()
    if (step, after) != ("end_reconciliation", True):
        assert await books.store.take_reconciliation(lease_s=60.0) is None, "its lease still stands"
    await rows(books.url, "UPDATE reconciliations SET lease_until_us = 1, next_attempt_us = 1 WHERE state = 'RUNNING'")
    done = await finished(books, job)
    assert done.state is JobState.DONE
    assert (done.provider_count, done.payment_count) == (PAYMENTS, PAYMENTS)
    assert (done.break_count, done.mended_count) == (2, 1)
    assert done.sums["EUR"].our_captured_minor - done.sums["EUR"].their_captured_minor == 100
    assert done.sums["EUR"].our_refunded_minor == done.sums["EUR"].their_refunded_minor == 400
    breaks = await books.store.list_breaks(job.reconciliation_id, after_number=0, limit=10)
    assert sorted((each.type, each.mended) for each in breaks) == [
        (BreakType.AMOUNT, False),
        (BreakType.MISSING_HERE, True),
    ]
    seen = await rows(books.url, "SELECT kind FROM observations WHERE source = 'RECONCILIATION'")
    assert sorted(kind for (kind,) in seen) == ["CONTRADICTION", "PAYMENT_CHANGED", "REFUND_CHANGED"]
    assert await rows(books.url, "SELECT * FROM reconciliation_seen") == []
    assert (await verify(books.url, effect_log=books.log)).violations == []


async def test_two_replicas_share_the_jobs_of_one_account_and_run_none_twice(books: Books) -> None:
    """Six jobs and four reconcilers at once: each job is walked by one at a time, and its figures are of one walk."""
    jobs = [await asked(books, f"job-{number}") for number in range(6)]
    beside = await open_store(books.url) if books.url.startswith("postgresql") else books.store
    others = [books.runtime(beside if number % 2 else None) for number in range(4)]
    found: list[Reconciliation | None] = []
    for _ in range(40):
        await asyncio.gather(*(each.reconciler.run_once() for each in others))
        found = [await books.store.get_reconciliation(job.reconciliation_id) for job in jobs]
        if all(job is not None and job.state is JobState.DONE for job in found):
            break
    assert [job and (job.state, job.provider_count, job.payment_count) for job in found] == [
        (JobState.DONE, PAYMENTS, PAYMENTS)
    ] * 6
    assert sum(job.mended_count for job in found if job) == 1
    contradictions = await rows(books.url, "SELECT 1 FROM observations WHERE kind = 'CONTRADICTION'")
    assert len(contradictions) == 1
    if beside is not books.store:
        await beside.close()


async def test_a_schedule_is_kept_by_whichever_replica_comes_first(books: Books) -> None:
    """Two processes with the same schedule queue one reconciliation for each window, and no second one later."""
    settings = ReconciliationSettings(every_s=600.0, window_s=7_200.0, lag_s=0.0, pause_s=0.0)
    replicas = [
        Runtime(books.store, books.accounts, ProtoReplyCodec(), Silence(), BRIEF, reconciliation=settings)
        for _ in range(2)
    ]
    for _ in range(3):
        await asyncio.gather(*(each.reconciler.run_once() for each in replicas))
    found = await rows(books.url, "SELECT window_start_us, window_end_us FROM reconciliations")
    windows = sorted(set(found))
    # The clock may have passed a boundary meanwhile: then there are two windows, and still no window twice.
    assert len(windows) == len(found) <= 2
    assert all((end - start, end % 600_000_000) == (7_200_000_000, 0) for start, end in windows)
