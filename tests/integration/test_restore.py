"""A database restored from a backup sends nothing before it has looked, and charges nobody twice for what it forgot."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.cli.restore import release, standing
from gateway.verification import verify
from obol.v1 import billing_observation_pb2
from tests.integration.house import House, State, eventually, refused
from tests.integration.restoring import LONG_AGO, Place, pending_is_over, refund
from tests.store.looking import rows


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Place:
    """A fresh database of each kind."""
    return Place(database_url, tmp_path)


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


async def observed(house: House, cursor: str, count: int = 0, **asked: Any) -> tuple[list[str], str]:
    """What a consumer with that cursor sees, `count` at least, and its cursor at the sign of life after that."""
    request = billing_observation_pb2.WatchObservationsRequest(cursor=cursor, **asked)
    watch = house.observations.WatchObservations(request, metadata=house.metadata, timeout=60)
    seen: list[str] = []
    at_start = True
    async for message in watch:
        if message.HasField("observation"):
            seen.append(message.observation.observation_id)
            cursor = message.observation.cursor
        elif not at_start and len(seen) >= count:
            cursor = message.heartbeat.cursor
            break
        at_start = False
    watch.cancel()
    return seen, cursor


async def logged(house: House, count: int) -> list[str]:
    """The log, once it has so many entries."""
    query = "SELECT observation_id FROM observation_log ORDER BY sequence"
    found = await eventually(lambda: rows(house.database_url, query), lambda found: len(found) == count)
    return [observation_id for (observation_id,) in found]


async def test_a_consumer_with_a_cursor_of_its_own_misses_nothing_of_a_restored_log(place: Place) -> None:
    """Its cursor is of the lost time: it is taken back to where the backup was, however far the new log has come."""
    async with place.house() as house:
        await house.create("kept")
        kept, at_backup = await observed(house, "", 1)
    restore, backup_time = place.back_up(), datetime.now(UTC)
    async with place.house() as house:
        for number in range(3):
            await house.create(f"lost-{number}")
        lost, held = await observed(house, at_backup, 3)
        assert (len(kept), len(lost)) == (1, 3)
    restore()
    await place.declare(backup_time, accounts=())
    await release(place.url, "acct_main", actor="operator", reason="the test goes on")
    async with place.house() as house:
        # The log is shorter than the cursor that is held, and later just as long, and longer.
        assert await observed(house, held) == await observed(house, at_backup)
        for number in range(4):
            await house.create(f"new-{number}")
        new = (await logged(house, 5))[1:]
        seen, after = await observed(house, held)
        assert seen == new, "all that is new, in order, under numbers that it had seen"
        assert (await observed(house, held, consumer="ledger"))[0] == new, "a named consumer's own cursor as well"
        listing = billing_observation_pb2.ListObservationsRequest(cursor=held)
        page = await house.observations.ListObservations(listing, metadata=house.metadata, timeout=60)
        assert [each.observation_id for each in page.observations] == new
        assert page.next_cursor == after == page.observations[-1].cursor
        assert (await observed(house, after)) == ([], after), "once taken back it goes on as ever"
        assert (await observed(house, at_backup))[0] == new, "and what both have is not sent again"
        assert (await observed(house, ""))[0] == kept + new


async def test_a_database_restored_twice_from_one_backup_tells_both_times_apart(place: Place) -> None:
    """Both restores are generation 1, and a cursor of the first one's time is not taken for one of the second."""
    async with place.house() as house:
        await house.create("kept")
    restore, backup_time = place.back_up(), datetime.now(UTC)
    held, seen = "", list[str]()
    for attempt in range(2):
        restore()
        assert (await place.declare(backup_time, accounts=())).restore.generation == 1
        await release(place.url, "acct_main", actor="operator", reason="the test goes on")
        async with place.house() as house:
            for number in range(3):
                await house.create(f"new-{attempt}-{number}")
            log = await logged(house, 4)
            seen, held = await observed(house, held, 3)
            assert log[attempt:] == seen, "what is new since, and of the backup what was not seen"


async def test_a_stream_that_is_open_when_a_restore_is_declared_goes_back_with_it(place: Place) -> None:
    """Gateways should be stopped; one that was not sends again what came since the backup, and goes on in order."""
    async with place.house() as house:
        await house.create("before")
        await logged(house, 1)
        backup_time = datetime.now(UTC)
        await house.create("since")
        watch = house.observations.WatchObservations(
            billing_observation_pb2.WatchObservationsRequest(), metadata=house.metadata, timeout=60
        )
        seen: list[str] = []
        declared = False
        async for message in watch:
            if message.HasField("observation"):
                seen.append(message.observation.observation_id)
            if len(seen) == 2 and not declared:
                declared = True
                await place.declare(backup_time, accounts=())
                await release(place.url, "acct_main", actor="operator", reason="the test goes on")
                await house.create("after")
            if len(seen) >= 4:
                break
        watch.cancel()
        first, second, third = await logged(house, 3)
        assert seen in ([first, second, second, third], [first, second, third, second])
        # Nothing wakes for ever for a number that was heard of before.
        assert (await observed(house, message.observation.cursor))[0] in ([], [third])


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
