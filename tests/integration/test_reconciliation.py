"""Both books side by side: every kind of break, made for real, is found, and what evidence can mend is mended."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.app.settings import ReconciliationSettings
from gateway.verification import verify
from obol.v1 import operations_pb2, payment_gateway_pb2
from tests.integration.house import House, State, eventually, money, open_house, refused
from tests.store.looking import rows

QUICK_RECONCILIATION = ReconciliationSettings(
    poll_s=0.05, pause_s=0.0, page=3, pages_per_turn=2, postpone_first_s=0.05, postponed_max=4, stuck_s=0.5
)
HOUR_S = 3_600
Break = operations_pb2.BreakType
DONE = operations_pb2.RECONCILIATION_STATE_DONE


@pytest.fixture
async def house(database_url: str, tmp_path: Path) -> AsyncIterator[House]:
    """A gateway that reconciles when it is asked to, in pages of three."""
    async with open_house(database_url, tmp_path, reconciliation=QUICK_RECONCILIATION) as opened:
        yield opened


async def ask(house: House, key: str, **asked: Any) -> Any:
    """RunReconciliation of the last and the next hour."""
    request = operations_pb2.RunReconciliationRequest(idempotency_key=key, account_id="acct_main", **asked)
    now_s = int(time.time())
    request.window_start_time.seconds = now_s - HOUR_S
    request.window_end_time.seconds = now_s + HOUR_S
    return (await house.operations.RunReconciliation(request, metadata=house.metadata, timeout=60)).reconciliation


async def ended(house: House, job: Any) -> tuple[Any, list[Any]]:
    """The job when it is over, and all its breaks."""
    final = (DONE, operations_pb2.RECONCILIATION_STATE_FAILED)
    request = operations_pb2.GetReconciliationRequest(reconciliation_id=job.reconciliation_id, page_size=200)
    found = await eventually(
        lambda: house.operations.GetReconciliation(request, metadata=house.metadata, timeout=60),
        lambda response: response.reconciliation.state in final,
    )
    return found.reconciliation, list(found.breaks)


async def reconcile(house: House, key: str, **asked: Any) -> tuple[Any, list[Any]]:
    """Ask, and wait for the end, which is a good one."""
    job, breaks = await ended(house, await ask(house, key, **asked))
    assert job.state == DONE, job.failure
    assert job.break_count == len(breaks)
    return job, breaks


async def contradictions(house: House) -> list[str]:
    """The details of every contradiction that a reconciliation observed."""
    return [
        detail
        for (detail,) in await rows(
            house.database_url,
            "SELECT detail FROM observations WHERE kind = 'CONTRADICTION' AND source = 'RECONCILIATION'",
        )
    ]


def kinds(breaks: list[Any]) -> list[tuple[str, bool]]:
    """(type, mended) of each, in a settled order."""
    return sorted((Break.Name(each.type).removeprefix("BREAK_TYPE_"), each.mended) for each in breaks)


async def test_equal_books_have_no_break_and_equal_sums(house: House) -> None:
    """Several pages of both sides, captured, held, declined and refunded, and an object that is nobody's of ours."""
    for number in range(7):
        await house.create(f"key-{number}", amount=100 + number)
    await house.create("held", capture_method=2)
    await house.create("declined", payment_method="card_declined")
    refunded = await house.create("refunded", currency="USD")
    await house.payments.RefundPayment(
        payment_gateway_pb2.RefundPaymentRequest(
            idempotency_key="r", payment_id=refunded.payment_id, amount=money(300, "USD")
        ),
        metadata=house.metadata,
        timeout=60,
    )
    await _foreign(house)
    job, breaks = await reconcile(house, "equal")
    assert breaks == []
    assert (job.provider_count, job.foreign_count, job.payment_count) == (10, 1, 10)
    sums = {each.currency_code: each for each in job.sums}
    captured = sum(100 + number for number in range(7))
    assert (sums["EUR"].our_captured_minor, sums["EUR"].provider_captured_minor) == (captured, captured)
    assert (sums["USD"].our_refunded_minor, sums["USD"].provider_refunded_minor) == (300, 300)


async def test_a_key_is_one_reconciliation(house: House) -> None:
    """The same key answers with the same job; with another window it is refused; an unknown id is not found."""
    now_s = int(time.time())
    request = operations_pb2.RunReconciliationRequest(idempotency_key="one", account_id="acct_main")
    request.window_start_time.seconds, request.window_end_time.seconds = now_s - 60, now_s
    call = house.operations.RunReconciliation
    first = (await call(request, metadata=house.metadata, timeout=60)).reconciliation
    again = (await call(request, metadata=house.metadata, timeout=60)).reconciliation
    assert first.reconciliation_id == again.reconciliation_id
    request.window_end_time.seconds += 1
    assert (await refused(call(request, metadata=house.metadata, timeout=60))).reason == "IDEMPOTENCY_KEY_REUSED"
    request.idempotency_key, request.account_id = "two", "acct_none"
    assert (await refused(call(request, metadata=house.metadata, timeout=60))).reason == "ACCOUNT_NOT_FOUND"
    request.account_id = "acct_main"
    request.window_end_time.seconds += 32 * 24 * HOUR_S
    error = await refused(call(request, metadata=house.metadata, timeout=60))
    assert error.fields == ("window_end_time",)
    unknown = operations_pb2.GetReconciliationRequest(reconciliation_id="rec_none")
    error = await refused(house.operations.GetReconciliation(unknown, metadata=house.metadata, timeout=60))
    assert error.reason == "RECONCILIATION_NOT_FOUND"


async def test_what_the_provider_knows_more_is_merged_as_an_observation(house: House) -> None:
    """A refund in the dashboard that no callback told of: found, merged, observed with source RECONCILIATION, once."""
    payment = await house.create()
    reference = payment.provider_reference.provider_payment_id
    await house.control(f"/control/payments/{reference}/refund", {"amount": 400})
    dry, would = await reconcile(house, "dry", dry_run=True)
    assert kinds(would) == [("MISSING_HERE", False)]
    assert (dry.break_count, dry.mended_count) == (1, 0)
    assert (await house.get(payment.payment_id)).version == payment.version
    job, breaks = await reconcile(house, "wet")
    assert kinds(breaks) == [("MISSING_HERE", True)]
    assert (job.break_count, job.mended_count) == (1, 1)
    after = await house.get(payment.payment_id)
    assert after.state == State.PAYMENT_STATE_PARTIALLY_REFUNDED
    assert job.sums[0].our_refunded_minor == job.sums[0].provider_refunded_minor == 400
    (source,) = {
        each
        for (each,) in await rows(house.database_url, "SELECT source FROM observations WHERE kind = 'REFUND_CHANGED'")
    }
    assert source == "RECONCILIATION"
    _, none = await reconcile(house, "again")
    assert none == []
    assert await contradictions(house) == []
    await _verified(house)


async def test_a_lost_answer_that_recovery_has_not_seen_is_mended(house: House) -> None:
    """Paid at the provider, and our row still knows no object: the evidence is merged and the command concluded."""
    payment = await house.create()
    await rows(
        house.database_url,
        f"UPDATE payments SET state = 'CREATED', captured_minor = 0, authorized_minor = 0, authorized_open_minor = 0, "
        f'fee_minor = 0, provider_payment_id = NULL, flow = \'{{"attempts": [], "objects": []}}\' '
        f"WHERE payment_id = '{payment.payment_id}'",
    )
    await rows(house.database_url, f"DELETE FROM movements WHERE payment_id = '{payment.payment_id}'")
    _, breaks = await reconcile(house, "lost")
    assert ("STATE", True) in kinds(breaks)
    assert all(each.mended for each in breaks)
    after = await house.get(payment.payment_id)
    assert after.state == State.PAYMENT_STATE_CAPTURED
    assert after.money.captured.amount_minor == 1_000


@pytest.mark.parametrize(
    ("falsehood", "kind"),
    [
        ({"captured": 1_100}, "AMOUNT"),
        ({"currency": "USD"}, "CURRENCY"),
        ({"forget": "captures"}, "MISSING_THERE"),
    ],
)
async def test_wrong_books_wait_for_a_person_and_are_never_merged(
    house: House, falsehood: dict[str, Any], kind: str
) -> None:
    """An amount, a currency or a capture that the books tell otherwise: one break, one contradiction, nothing moved."""
    payment = await house.create()
    reference = payment.provider_reference.provider_payment_id
    await house.control(f"/control/payments/{reference}/falsify", falsehood)
    job, breaks = await reconcile(house, "one")
    assert kinds(breaks) == [(kind, False)]
    assert (breaks[0].tenant, breaks[0].payment_id, breaks[0].provider_payment_id) == (
        "t1",
        payment.payment_id,
        reference,
    )
    assert job.mended_count == 0
    assert (await house.get(payment.payment_id)).money.captured.amount_minor == 1_000
    assert len(await contradictions(house)) == 1
    _, again = await reconcile(house, "two")
    assert kinds(again) == [(kind, False)]
    assert len(await contradictions(house)) == 1, "the same break is said once, however often it is found"
    await _verified(house)


async def test_an_object_that_is_gone_at_the_provider_is_missing_there(house: House) -> None:
    """Neither listed nor found by its id: a break for a person, with the payment as we know it."""
    payment, other = await house.create("a"), await house.create("b")
    reference = payment.provider_reference.provider_payment_id
    await house.control(f"/control/payments/{reference}/hide", {})
    job, breaks = await reconcile(house, "gone")
    assert kinds(breaks) == [("MISSING_THERE", False)]
    assert breaks[0].payment_id == payment.payment_id
    (eur,) = job.sums
    assert (eur.our_captured_minor, eur.provider_captured_minor) == (2_000, 1_000)
    assert (await house.get(payment.payment_id)).state == State.PAYMENT_STATE_CAPTURED
    assert len(await contradictions(house)) == 1
    await house.control(f"/control/payments/{reference}/hide", {"hidden": False})
    _, breaks = await reconcile(house, "back")
    assert breaks == []
    assert (await house.get(other.payment_id)).state == State.PAYMENT_STATE_CAPTURED


async def test_two_objects_with_one_reference_are_a_duplicate(house: House) -> None:
    """A second object for a payment of ours is money taken twice: it is told, and not merged."""
    payment = await house.create()
    reference = payment.provider_reference.provider_payment_id
    copy = await house.control(f"/control/payments/{reference}/duplicate", {})
    job, breaks = await reconcile(house, "twice")
    assert kinds(breaks) == [("DUPLICATE", False)]
    assert breaks[0].provider_payment_id == copy["id"]
    (eur,) = job.sums
    assert (eur.our_captured_minor, eur.provider_captured_minor) == (1_000, 2_000)
    assert (await house.get(payment.payment_id)).money.captured.amount_minor == 1_000
    assert len(await contradictions(house)) == 1


async def test_one_object_held_by_two_payments_is_a_duplicate(house: House) -> None:
    """Two rows of ours that name one object, of another tenant even: the one that it does not name is told."""
    payment = await house.create("a")
    stolen = await house.create("b")
    await rows(
        house.database_url,
        f"UPDATE payments SET provider_payment_id = '{payment.provider_reference.provider_payment_id}' "
        f"WHERE payment_id = '{stolen.payment_id}'",
    )
    _, breaks = await reconcile(house, "shared")
    assert {(Break.Name(each.type), each.payment_id) for each in breaks} >= {
        ("BREAK_TYPE_DUPLICATE", stolen.payment_id)
    }
    assert not any(each.mended for each in breaks if each.type == Break.BREAK_TYPE_DUPLICATE)


async def test_a_payment_that_this_database_has_lost_is_missing_here(house: House) -> None:
    """Our reference and no row: an item with all that is known of it, and its repetition is refused, not charged."""
    lost = await house.create("lost", order_reference="order-7")
    await _forget(house, lost.payment_id)
    _, breaks = await reconcile(house, "missing")
    assert kinds(breaks) == [("MISSING_HERE", False)]
    (found,) = breaks
    assert (found.tenant, found.payment_id, found.order_reference) == ("t1", lost.payment_id, "order-7")
    assert len(found.lost_operation_ids) == 1
    error = await refused(house.create("lost", order_reference="order-7"))
    assert (error.reason, error.sent, error.safe_to_retry) == ("LOST_IN_RESTORE", "YES", "false")
    assert error.details["operation_id"] == found.lost_operation_ids[0]
    assert len(house.effects(kind="capture")) == 1
    assert (await house.create("another")).state == State.PAYMENT_STATE_CAPTURED


async def test_a_stuck_command_is_found_by_its_age(house: House) -> None:
    """UNKNOWN for long, and the provider shows no trace of it: an item, and the state stays what it is."""
    await house.control("/control/faults", {"rates": {"http_500_before": 1.0}})
    payment = await house.create()
    assert payment.state == State.PAYMENT_STATE_UNKNOWN
    await rows(house.database_url, "UPDATE operations SET claimed_time_us = claimed_time_us - 60000000")
    _, breaks = await reconcile(house, "stuck")
    assert kinds(breaks) == [("STUCK", False)]
    assert (await house.get(payment.payment_id)).state == State.PAYMENT_STATE_UNKNOWN


async def test_a_provider_that_cannot_be_read_is_waited_for(house: House) -> None:
    """A list that fails now and then only delays; one that never answers ends as FAILED, and says why."""
    await house.create()
    await house.control("/control/faults", {"next": [{"fault": "http_500_before", "match": "lookup"}] * 2})
    _, breaks = await reconcile(house, "flaky")
    assert breaks == []
    await house.control("/control/faults", {"rates": {"http_500_before": 1.0}, "scope": {"method": "GET"}})
    job, _ = await ended(house, await ask(house, "down"))
    assert job.state == operations_pb2.RECONCILIATION_STATE_FAILED
    assert job.failure


async def _foreign(house: House) -> None:
    """A payment that somebody else made at the account."""
    import aiohttp

    headers = {"Authorization": "Bearer sandbox-key-main", "Idempotency-Key": "foreign"}
    body = {"amount": 1, "currency": "EUR", "payment_method": "card_ok", "confirm": True}
    url = f"{house.sandbox_url}/v1/payments"
    async with aiohttp.ClientSession() as session, session.post(url, json=body, headers=headers) as answer:
        assert answer.status < 300, await answer.text()


async def _forget(house: House, payment_id: str) -> None:
    """Take a payment out of the database, as a restore from backup would; append-only tables keep their triggers."""
    for table in ("movements", "operations", "commands", "refunds", "payments"):
        await rows(house.database_url, f"DELETE FROM {table} WHERE payment_id = '{payment_id}'")


async def _verified(house: House) -> None:
    report = await verify(house.database_url, effect_log=house.sandbox_dir / "effects.jsonl")
    assert report.violations == []
