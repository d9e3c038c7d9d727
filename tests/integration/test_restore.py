"""A database restored from a backup sends nothing before it has looked, and charges nobody twice for what it forgot."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import make_url

from gateway.app.settings import EventSettings, ReconciliationSettings
from gateway.cli_restore import Declared, declare, release, standing
from gateway.verification import verify
from obol.v1 import payment_gateway_pb2
from tests.databases import administer
from tests.integration.house import House, State, eventually, money, open_house, refused
from tests.store.looking import rows

RECONCILIATION = ReconciliationSettings(poll_s=0.05, pause_s=0.0)
LONG_AGO = timedelta(seconds=300)
"""More than the longest time in flight: whatever ran on the lost database has nothing under way any more."""


@dataclass
class Place:
    """A database that can be put back to an earlier state, with the provider that goes on."""

    url: str
    folder: Path

    @asynccontextmanager
    async def house(self, **sections: Any) -> AsyncIterator[House]:
        """The gateway on it, and the provider with all its books."""
        given: dict[str, Any] = {"events": EventSettings(poll_s=0.0), "reconciliation": RECONCILIATION, **sections}
        async with open_house(self.url, self.folder, **given) as opened:
            yield opened

    def back_up(self) -> Callable[[], None]:
        """Take a backup, with no gateway running; what it gives restores it."""
        if self.url.startswith("sqlite"):
            file = Path(make_url(self.url).database or "")
            copy = file.with_suffix(".backup")
            shutil.copy(file, copy)

            def restore() -> None:
                for leftover in (file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")):
                    leftover.unlink(missing_ok=True)
                shutil.copy(copy, file)

            return restore
        name = make_url(self.url).database or ""
        administer(f"CREATE DATABASE {name}_backup TEMPLATE {name}")

        def restore_database() -> None:
            administer(f"DROP DATABASE {name} WITH (FORCE)")
            administer(f"CREATE DATABASE {name} TEMPLATE {name}_backup")

        return restore_database

    async def declare(
        self, backup_time: datetime, *, stopped_time: datetime | None = None, accounts: Sequence[str] = ("acct_main",)
    ) -> Declared:
        """What `obol restore` does."""
        return await declare(
            self.url,
            accounts,
            backup_time=backup_time,
            stopped_time=stopped_time,
            actor="operator",
            reason="the disk was lost",
        )


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Place:
    """A fresh database of each kind."""
    return Place(database_url, tmp_path)


async def refund(house: House, payment_id: str, key: str, amount: int) -> Any:
    """RefundPayment; the refund."""
    request = payment_gateway_pb2.RefundPaymentRequest(idempotency_key=key, payment_id=payment_id, amount=money(amount))
    return (await house.payments.RefundPayment(request, metadata=house.metadata, timeout=10)).refund


async def pending_is_over(house: House) -> None:
    """Wait until the account may send."""
    await eventually(lambda: standing(house.database_url, ["acct_main"]), lambda found: not found[-1].pending)


async def test_what_the_backup_had_lost_is_never_done_twice(place: Place) -> None:
    """Back up, pay and refund, restore, declare, reconcile, repeat: one effect each, and a repetition is told why."""
    async with place.house() as house:
        kept = await house.create("kept")
    restore, backup_time = place.back_up(), datetime.now(UTC)
    async with place.house() as house:
        lost = await house.create("lost", order_reference="order-9", order_reference_unique=True)
        await refund(house, kept.payment_id, "refund-lost", 400)
    restore()
    declared = await place.declare(backup_time, stopped_time=datetime.now(UTC) - LONG_AGO)
    assert declared.restore.generation == 1
    async with place.house() as house:
        await pending_is_over(house)
        found = await rows(
            house.database_url, "SELECT type, payment_id, order_reference, mended FROM reconciliation_breaks"
        )
        assert [tuple(each) for each in found if each[1] == lost.payment_id] == [
            ("MISSING_HERE", lost.payment_id, "order-9", False)
        ]
        # The create is known to the reconciliation, the refund only to the payment's own object, which is read now.
        for call in (
            house.create("lost", order_reference="order-9", order_reference_unique=True),
            house.create("fresh-key", order_reference="order-9", order_reference_unique=True),
            refund(house, kept.payment_id, "refund-lost", 400),
        ):
            error = await refused(call)
            assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LOST_IN_RESTORE")
            assert (error.sent, error.safe_to_retry) == ("YES", "false")
        error = await refused(refund(house, kept.payment_id, "refund-more", 700))
        assert error.reason == "AMOUNT_EXCEEDS_REFUNDABLE"
        await refund(house, kept.payment_id, "refund-rest", 600)
        after = await house.get(kept.payment_id)
        assert after.state == State.PAYMENT_STATE_REFUNDED
        assert (await house.create("kept")).payment_id == kept.payment_id, "what the backup knows is replayed as ever"
        assert (await house.create("new")).state == State.PAYMENT_STATE_CAPTURED
        assert len(house.effects(kind="capture")) == 3
        assert sorted(effect["amount"] for effect in house.effects(kind="refund")) == [400, 600]
    report = await verify(place.url, effect_log=place.folder / "sandbox" / "effects.jsonl")
    assert {each.invariant for each in report.violations} == {"I2"}, "exactly the two operations that were lost"
    assert len(report.violations) == 2


async def test_a_running_gateway_sends_nothing_from_the_moment_of_the_declaration(place: Place) -> None:
    """Create, refund and recovery's resend all stop at once, are told so, and go on when the account is cleared."""
    async with place.house() as house:
        payment = await house.create("before")
        # Sends that fail: UNKNOWN, and recovery resends as long as it may.
        await house.control("/control/faults", {"rates": {"http_500_before": 1.0}})
        unknown = await house.create("unknown")
        assert unknown.state == State.PAYMENT_STATE_UNKNOWN
        await place.declare(datetime.now(UTC))
        await house.control("/control/faults", {"rates": {}})
        for call in (house.create("after"), refund(house, payment.payment_id, "r", 100)):
            error = await refused(call)
            assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "RESTORE_PENDING")
            assert (error.sent, error.safe_to_retry) == ("NO", "true")
            assert error.retry_after_s is not None
        assert (await house.create("before")).payment_id == payment.payment_id, "a stored reply outranks the refusal"
        # So old that absence would end it, were the database the one that has sent it.
        await rows(
            house.database_url,
            "UPDATE operations SET claimed_time_us = claimed_time_us - 2000000000, "
            f"last_send_us = last_send_us - 2000000000 WHERE payment_id = '{unknown.payment_id}'",
        )
        recoveries = await _recoveries(house, unknown.payment_id)
        await eventually(lambda: _recoveries(house, unknown.payment_id), lambda now: now >= recoveries + 3)
        assert (await house.get(unknown.payment_id)).state == State.PAYMENT_STATE_UNKNOWN, (
            "it looks, and concludes nothing"
        )
        assert len(house.effects(kind="capture")) == 1
        ((state,),) = await rows(house.database_url, "SELECT state FROM reconciliations")
        assert state in ("QUEUED", "RUNNING"), "what was in flight when the lost database stopped may still arrive"
        assert await release(house.database_url, "acct_main", actor="operator", reason="looked myself") == 1
        assert (await house.create("after")).state == State.PAYMENT_STATE_CAPTURED
        await refund(house, payment.payment_id, "r", 100)
        # Nothing is sent again so late; that it never was there is what a look says now.
        await house.until(unknown.payment_id, State.PAYMENT_STATE_FAILED)


async def test_only_a_reconciliation_that_proves_it_clears_an_account(place: Place) -> None:
    """One that began before, looked at less, or was a dry run changes nothing."""
    from tests.integration.test_reconciliation import ask, ended

    async with place.house() as house:
        await ended(house, await ask(house, "before"))
        backup_time = datetime.now(UTC) - timedelta(hours=2)
        await place.declare(backup_time, stopped_time=datetime.now(UTC) - LONG_AGO, accounts=())
        for key, asked in (("too-short", {}), ("dry", {"dry_run": True})):
            await ended(house, await ask(house, key, **asked))
            (found,) = await standing(house.database_url, ["acct_main"])
            assert found.pending == ("acct_main",), key
        await rows(house.database_url, f"UPDATE restores SET backup_time_us = {int((time.time() - 1_800) * 1_000_000)}")
        await ended(house, await ask(house, "dry-again", dry_run=True))
        assert (await standing(house.database_url, ["acct_main"]))[0].pending
        await ended(house, await ask(house, "long-enough"))
        assert not (await standing(house.database_url, ["acct_main"]))[0].pending
        assert (await house.create("at-last")).state == State.PAYMENT_STATE_CAPTURED


async def test_an_older_payment_is_read_at_its_provider_before_anything_is_sent(place: Place) -> None:
    """No list by creation time shows a refund of an old payment: its object does, and it is read first."""
    async with place.house() as house:
        kept = await house.create("kept")
    restore, backup_time = place.back_up(), datetime.now(UTC)
    async with place.house() as house:
        await refund(house, kept.payment_id, "refund-lost", 400)
    restore()
    # No reconciliation: somebody takes it upon himself, as for a provider that cannot list.
    await place.declare(backup_time, accounts=())
    await release(place.url, "acct_main", actor="operator", reason="it cannot list")
    async with place.house() as house:
        await house.control("/control/faults", {"rates": {"http_500_before": 1.0}, "scope": {"method": "GET"}})
        error = await refused(refund(house, kept.payment_id, "refund-lost", 400))
        assert (error.code, error.sent) == (grpc.StatusCode.UNAVAILABLE, "NO"), "it cannot be read, so nothing is sent"
        await house.control("/control/faults", {"rates": {}})
        error = await refused(refund(house, kept.payment_id, "refund-lost", 400))
        assert (error.reason, error.sent) == ("LOST_IN_RESTORE", "YES")
        assert (await house.get(kept.payment_id)).money.refunded.amount_minor == 400
        await refund(house, kept.payment_id, "refund-rest", 600)
        assert sorted(effect["amount"] for effect in house.effects(kind="refund")) == [400, 600]


async def test_without_a_declaration_the_providers_key_still_stands_in_the_way(place: Place) -> None:
    """Restored and not declared: the repeated create goes out under the key of the lost one, and charges nobody."""
    async with place.house() as house:
        await house.create("kept")
    restore = place.back_up()
    async with place.house() as house:
        await house.create("lost")
    restore()
    async with place.house() as house:
        again = await house.create("lost")
        assert again.state == State.PAYMENT_STATE_UNKNOWN
        await asyncio.sleep(0.5)
        assert (await house.get(again.payment_id)).state == State.PAYMENT_STATE_UNKNOWN, "no timer makes it a failure"
        assert len(house.effects(kind="capture")) == 2
    report = await verify(place.url, effect_log=place.folder / "sandbox" / "effects.jsonl")
    assert {each.invariant for each in report.violations} <= {"I2", "I3"}, report.violations


async def test_a_claim_that_waits_for_the_declaration_sees_it(place: Place) -> None:
    """On PostgreSQL the declaration is a lock that every claim takes: one that comes while it is made is refused."""
    if place.url.startswith("sqlite"):
        pytest.skip("SQLite has one writer: there is no between")
    from tests.store.looking import connect

    async with place.house() as house:
        operator = await connect(place.url)
        transaction = operator.transaction()
        await transaction.start()
        await operator.execute("LOCK TABLE cautions, restores IN ACCESS EXCLUSIVE MODE")
        call = asyncio.ensure_future(refused(house.create("meanwhile")))
        await eventually(lambda: rows(place.url, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"), bool)
        await operator.execute("INSERT INTO cautions VALUES ('RESTORE', 0)")
        await operator.execute("INSERT INTO restores VALUES (1, 0, 0, 0, 'operator', 'test')")
        await transaction.commit()
        assert (await call).reason == "RESTORE_PENDING"
        await operator.close()


async def _recoveries(house: House, payment_id: str) -> int:
    ((count,),) = await rows(house.database_url, f"SELECT recoveries FROM operations WHERE payment_id = '{payment_id}'")
    return int(count)
