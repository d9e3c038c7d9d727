"""What a restore lost and a person has handled: two operators say so, and from then on everybody is told the truth."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.app.losses import OBJECTS_MAX
from obol.v1 import operations_pb2 as ops
from tests.crash.rig import change
from tests.databases import sqlite_url
from tests.integration.house import House, State, refused
from tests.integration.operators import Operator
from tests.integration.restoring import LONG_AGO, Place, pending_is_over
from tests.store.looking import rows

STANDS, UNDONE = ops.LOST_OUTCOME_STANDS, ops.LOST_OUTCOME_UNDONE
ORDER: dict[str, Any] = {"order_reference": "order-9", "order_reference_unique": True}


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Place:
    """A fresh database of each kind."""
    return Place(database_url, tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Place:
    """A fresh SQLite file: what is promised there does not depend on the engine."""
    return Place(sqlite_url(tmp_path), tmp_path)


@asynccontextmanager
async def after_a_loss(place: Place) -> AsyncIterator[tuple[House, Any]]:
    """A gateway on a restored and reconciled database, and the payment that it has lost."""
    async with place.house() as house:
        await house.create("kept")
    restore, backup_time = place.back_up(), datetime.now(UTC)
    async with place.house() as house:
        lost = await house.create("lost", **ORDER)
    restore()
    await place.declare(backup_time, stopped_time=datetime.now(UTC) - LONG_AGO)
    async with place.house() as house:
        await pending_is_over(house)
        yield house, lost


async def give_back(house: House, payment: Any) -> None:
    """Refund it in the provider's dashboard."""
    reference = payment.provider_reference.provider_payment_id
    await house.control(f"/control/payments/{reference}/refund", {"amount": payment.money.captured.amount_minor})


async def test_a_lost_payment_that_was_given_back_frees_its_order_by_two_words(place: Place) -> None:
    """UNDONE: refused while money stands, by one alone, and by nobody twice; then the order is paid anew, once."""
    async with after_a_loss(place) as (house, lost):
        ann, bob = Operator(house, "ann"), Operator(house, "bob")
        (found,) = (await ann.call("ListLostPayments")).payments
        assert (found.tenant_id, found.payment_id, found.order_reference) == ("t1", lost.payment_id, "order-9")
        assert [each.provider_payment_id for each in found.objects] == [lost.provider_reference.provider_payment_id]
        word = {"tenant_id": "t1", "payment_id": lost.payment_id, "outcome": UNDONE, "reason": "refunded by hand"}
        error = await refused(ann.call("SettleLostPayment", **word))
        assert error.reason == "EVIDENCE_CONTRADICTS", "the provider still has the money"
        await give_back(house, lost)
        proposed = (await ann.call("SettleLostPayment", **word)).payment
        again = (await ann.call("SettleLostPayment", **word)).payment
        assert again.proposal.proposal_id == proposed.proposal.proposal_id, "the same proposal again is the same"
        approval = word | {"approve_proposal_id": proposed.proposal.proposal_id, "reason": "seen there"}
        assert (await refused(ann.call("SettleLostPayment", **approval))).reason == "APPROVAL_NEEDS_ANOTHER"
        assert (await refused(Operator(house, "ANN").call("SettleLostPayment", **approval))).reason == (
            "APPROVAL_NEEDS_ANOTHER"
        )
        differs = approval | {"outcome": STANDS}
        assert (await refused(bob.call("SettleLostPayment", **differs))).reason == "PROPOSAL_DIFFERS"
        assert (await refused(house.create("fresh", **ORDER))).reason == "LOST_IN_RESTORE", "a proposal changes nothing"
        settled = (await bob.call("SettleLostPayment", **approval)).payment
        assert (settled.settlement.proposal.actor, settled.settlement.actor) == ("ann", "bob")
        assert not settled.HasField("proposal")
        assert (await bob.call("SettleLostPayment", **approval)).payment == settled, "and so is the same approval"
        assert not (await ann.call("ListLostPayments")).payments
        assert len((await ann.call("ListLostPayments", with_settled=True)).payments) == 1
        # The lost command itself is never sent again, whatever is said: its key is the charge that was undone.
        error = await refused(house.create("lost", **ORDER))
        assert (error.code, error.reason, error.sent) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "LOST_IN_RESTORE",
            "YES",
        )
        assert error.details["settled"] == "UNDONE"
        assert error.details["provider_payment_id"] == lost.provider_reference.provider_payment_id
        assert (await house.create("fresh", **ORDER)).state == State.PAYMENT_STATE_CAPTURED
        assert len(house.effects(kind="capture")) == 3
        final = await refused(ann.call("SettleLostPayment", **(word | {"outcome": STANDS})))
        assert final.reason == "PROPOSAL_STALE", "the order may be paid again since"
        acts = (await ann.call("ListAuditRecords", operators_only=True, page_size=50)).records
        told = [(each.actor, each.action.rpartition(".")[2], each.result) for each in reversed(acts)]
        assert told == [
            ("ann", "LOST_PROPOSE", "REFUSED"),
            ("ann", "LOST_PROPOSE", "UNDONE"),
            ("ann", "LOST_APPROVE", "REFUSED"),
            ("ANN", "LOST_APPROVE", "REFUSED"),
            ("bob", "LOST_APPROVE", "REFUSED"),
            ("bob", "LOST_APPROVE", "UNDONE"),
            ("ann", "LOST_PROPOSE", "REFUSED"),
        ]


async def test_a_lost_payment_that_stands_is_told_to_whoever_asks(file: Place) -> None:
    """STANDS: the repeated command and another for its order are refused, each with what it was and that it is paid."""
    async with after_a_loss(file) as (house, lost):
        ann, bob = Operator(house, "ann"), Operator(house, "bob")
        word = {"tenant_id": "t1", "payment_id": lost.payment_id, "outcome": STANDS, "reason": "booked as 4711"}
        proposed = (await ann.call("SettleLostPayment", **word)).payment
        assert "captured 1000" in proposed.proposal.shown
        await bob.call("SettleLostPayment", **word, approve_proposal_id=proposed.proposal.proposal_id)
        for key in ("lost", "fresh"):
            error = await refused(house.create(key, **ORDER))
            assert (error.reason, error.sent, error.details["settled"]) == ("LOST_IN_RESTORE", "YES", "STANDS")
            assert error.details["lost_payment_id"] == lost.payment_id
        # Given back later: what stood is undone by two words as well.
        undone = word | {"outcome": UNDONE, "reason": "refunded"}
        assert (await refused(ann.call("SettleLostPayment", **undone))).reason == "EVIDENCE_CONTRADICTS"
        await give_back(house, lost)
        assert (await refused(bob.call("SettleLostPayment", **(word | {"reason": "still"})))).reason == (
            "EVIDENCE_CONTRADICTS"
        ), "nothing of it stands any more"
        proposed = (await ann.call("SettleLostPayment", **undone)).payment
        await bob.call("SettleLostPayment", **undone, approve_proposal_id=proposed.proposal.proposal_id)
        assert (await house.create("fresh", **ORDER)).state == State.PAYMENT_STATE_CAPTURED


async def test_what_is_found_lost_later_is_not_settled_by_what_was_said_before(file: Place) -> None:
    """An approval is of what was found when it was proposed; more that is found asks for a new word."""
    async with after_a_loss(file) as (house, lost):
        ann, bob = Operator(house, "ann"), Operator(house, "bob")
        word = {"tenant_id": "t1", "payment_id": lost.payment_id, "outcome": STANDS, "reason": "booked as 4711"}
        proposed = (await ann.call("SettleLostPayment", **word)).payment
        more = (
            "INSERT INTO lost_operations SELECT tenant_id, 'op_more', account_id, payment_id, provider_payment_id, "
            f"reconciliation_id, order_reference, {4_000_000_000_000_000} FROM lost_operations"
        )
        await rows(house.database_url, more)
        approval = word | {"approve_proposal_id": proposed.proposal.proposal_id}
        assert (await refused(bob.call("SettleLostPayment", **approval))).reason == "PROPOSAL_STALE"
        assert len((await ann.call("ListLostPayments")).payments[0].operation_ids) == 2


async def test_a_provider_that_cannot_be_read_settles_nothing(file: Place) -> None:
    """Neither a proposal nor an approval stands on a word alone while the provider may be asked."""
    async with after_a_loss(file) as (house, lost):
        ann, bob = Operator(house, "ann"), Operator(house, "bob")
        word = {"tenant_id": "t1", "payment_id": lost.payment_id, "outcome": STANDS, "reason": "booked as 4711"}
        proposed = (await ann.call("SettleLostPayment", **word)).payment
        await house.control("/control/faults", {"rates": {"http_500_before": 1.0}, "scope": {"method": "GET"}})
        approval = word | {"approve_proposal_id": proposed.proposal.proposal_id}
        for call in (
            bob.call("SettleLostPayment", **approval),
            ann.call("SettleLostPayment", **(word | {"outcome": UNDONE})),
        ):
            error = await refused(call)
            assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE")
        assert len((await ann.call("ListLostPayments")).payments) == 1


async def test_what_was_not_lost_is_settled_by_nobody(file: Place) -> None:
    """A payment that is here, another tenant's lost one, and an unknown proposal are NOT_FOUND."""
    async with after_a_loss(file) as (house, lost):
        ann = Operator(house, "ann")
        word = {"tenant_id": "t1", "payment_id": lost.payment_id, "outcome": STANDS, "reason": "x"}
        kept = (await house.create("kept")).payment_id
        for wrong, reason in (
            ({"payment_id": kept}, "PAYMENT_NOT_FOUND"),
            ({"tenant_id": "t2"}, "PAYMENT_NOT_FOUND"),
            ({"approve_proposal_id": "prp_unknown"}, "PROPOSAL_NOT_FOUND"),
            ({"outcome": 0}, "FIELD_INVALID"),
            ({"reason": " "}, "FIELD_INVALID"),
        ):
            assert (await refused(ann.call("SettleLostPayment", **(word | wrong)))).reason == reason
        assert not (await ann.call("ListLostPayments", tenant_id="t2")).payments


async def test_nobody_vouches_for_more_than_can_be_read(file: Place) -> None:
    """Its reference is on more objects than a word reads: neither outcome is taken on the first few."""
    async with after_a_loss(file) as (house, lost):
        columns = "tenant_id, account_id, payment_id, reconciliation_id, order_reference, found_time_us"
        for number in range(OBJECTS_MAX):
            await change(
                house.database_url,
                f"INSERT INTO lost_operations (operation_id, provider_payment_id, {columns}) "
                f"SELECT 'op_{number}', 'obj_{number}', {columns} FROM lost_operations LIMIT 1",
            )
        for outcome in (STANDS, UNDONE):
            word = {"tenant_id": "t1", "payment_id": lost.payment_id, "outcome": outcome, "reason": "x"}
            error = await refused(Operator(house, "ann").call("SettleLostPayment", **word))
            assert error.reason == "EVIDENCE_CONTRADICTS"
