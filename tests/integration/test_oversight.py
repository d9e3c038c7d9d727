"""What operators see: accounts, what is unresolved or stuck, alarms told once, the audit trail, on both databases."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
import structlog

from gateway.app.alarms import Alarms
from gateway.app.telemetry import Silence
from gateway.verification import verify
from obol.v1 import operations_pb2 as ops
from obol.v1 import payment_pb2
from store import open_store
from tests.integration.house import Command, House, State, refused
from tests.integration.operators import QUIET, Operator, execute, lost_refund, quiet_house

HOUR_US = 3_600 * 1_000_000

WRONG: list[tuple[dict[str, object], str]] = [
    ({"states": [Command.COMMAND_STATE_FAILED]}, "states"),
    ({"states": [99]}, "states"),
    ({"payment_states": [State.PAYMENT_STATE_CAPTURED]}, "payment_states"),
    ({"age_seconds_min": -1}, "age_seconds_min"),
    ({"page_size": 201}, "page_size"),
    ({"page_token": "none"}, "page_token"),
]
"""Fields that can never be right, and the one at fault."""


@pytest.fixture
async def house(database_url: str, tmp_path: Path) -> AsyncIterator[House]:
    """A gateway whose recovery sleeps; the invariants hold over it when the test is over."""
    async with quiet_house(database_url, tmp_path) as opened:
        yield opened
    report = await verify(database_url, effect_log=opened.sandbox_dir / "effects.jsonl")
    assert report.violations == []


@pytest.fixture
def ann(house: House) -> Operator:
    """An operator."""
    return Operator(house, "ann")


async def test_what_is_unresolved_is_listed_oldest_first_by_state_and_age(house: House, ann: Operator) -> None:
    """Operations in pages; by state, by age, by tenant; and payments that stand too long, which count as well."""
    lost = [await lost_refund(house, "lost_before", order=f"c{n}", key=f"r{n}") for n in range(3)]
    pending = await house.create("p", payment_method="card_processing_then_ok")
    held = await house.create("m", capture_method=payment_pb2.CAPTURE_METHOD_MANUAL)
    asked = await house.create("a", payment_method="card_requires_action")

    first = await ann.call("ListUnresolved", page_size=2)
    rest = await ann.call("ListUnresolved", page_size=2, page_token=first.next_page_token)
    assert [each.operation.payment_id for each in (*first.items, *rest.items)] == [
        *(each.payment_id for each in lost),
        pending.payment_id,
    ]
    assert not rest.next_page_token
    assert first.items[0].operation.command_id == lost[0].command_id
    assert first.items[0].tenant_id == "t1"
    unknown = await ann.call("ListUnresolved", states=[Command.COMMAND_STATE_UNKNOWN])
    assert len(unknown.items) == 3
    waiting = await ann.call("ListUnresolved", states=[Command.COMMAND_STATE_REQUIRES_ACTION])
    assert [each.operation.payment_id for each in waiting.items] == [asked.payment_id]
    assert not (await ann.call("ListUnresolved", age_seconds_min=3_600)).items

    await execute(house.database_url, f"UPDATE payments SET created_time_us = created_time_us - {6 * 24 * HOUR_US}")
    stuck = [each for each in (await ann.call("ListUnresolved")).items if each.HasField("payment")]
    assert {(each.payment.payment_id, each.payment.state) for each in stuck} == {
        (pending.payment_id, State.PAYMENT_STATE_PROCESSING),
        (held.payment_id, State.PAYMENT_STATE_AUTHORIZED),
        (asked.payment_id, State.PAYMENT_STATE_REQUIRES_ACTION),
    }
    assert all(each.age_seconds >= 6 * 86_400 for each in stuck)
    named = await ann.call("ListUnresolved", payment_states=[State.PAYMENT_STATE_AUTHORIZED], age_seconds_min=60)
    assert [each.payment.payment_id for each in named.items] == [held.payment_id]
    older = await ann.call(
        "ListUnresolved", payment_states=[State.PAYMENT_STATE_AUTHORIZED], age_seconds_min=7 * 86_400
    )
    assert not older.items


async def test_accounts_are_listed_and_wrong_questions_name_their_field(house: House, ann: Operator) -> None:
    """Capabilities as data and the breaker's health; INVALID_ARGUMENT, also where the operator has no name."""
    (account,) = (await ann.call("ListProviders")).accounts
    assert (account.provider, account.account_id) == ("sandbox", "acct_main")
    assert account.health == ops.PROVIDER_HEALTH_CLOSED
    assert {"CAPTURE_PARTIAL", "REFUND", "CALLBACKS", "CONSISTENT_ABSENCE"} <= set(account.capabilities)
    assert "EUR" in account.currencies
    assert (account.key_window_seconds, account.flight_seconds_max) == (86_400, 120)
    assert payment_pb2.CAPTURE_METHOD_MANUAL in account.capture_methods
    for fields, at_fault in WRONG:
        error = await refused(ann.call("ListUnresolved", **fields))
        assert (error.code, error.fields) == (grpc.StatusCode.INVALID_ARGUMENT, (at_fault,))
    error = await refused(house.operations.ListProviders(ops.ListProvidersRequest(), timeout=60))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CONTEXT_INVALID")


async def test_an_operation_past_its_alarm_is_told_of_once_by_whoever_looks(house: House, ann: Operator) -> None:
    """One log line, one count and one audit record for three looks of two processes; and it is shown as alarmed."""
    lost = await lost_refund(house, "lost_before")
    (item,) = (await ann.call("ListUnresolved")).items
    assert not item.operation.alarmed
    await execute(
        house.database_url,
        f"UPDATE operations SET claimed_time_us = claimed_time_us - {HOUR_US} WHERE state = 'UNKNOWN'",
    )
    (item,) = (await ann.call("ListUnresolved")).items
    assert item.operation.alarmed
    counted: list[tuple[str, str]] = []

    class Counting(Silence):
        def alarm(self, provider: str, kind: str) -> None:
            counted.append((provider, kind))

    store = await open_store(house.database_url)
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await Alarms(store, Counting(), replace(QUIET)).run_once()
    assert (await store.unresolved(alarmed_after_s=600)).alarmed == 1
    assert (await store.unresolved(alarmed_after_s=7_200)).alarmed == 0
    await store.close()
    assert counted == [("sandbox", "REFUND")]
    assert [line["command_id"] for line in logs if line["log_level"] == "error"] == [lost.command_id]
    told = await ann.call("ListAuditRecords", tenant_id="t1", action="ALARM")
    assert [(record.payment_id, record.result) for record in told.records] == [(lost.payment_id, "UNKNOWN")]


async def test_the_audit_is_listed_by_what_is_asked(house: House, ann: Operator) -> None:
    """By payment, actor, action and time, newest first, in pages; what belongs to no tenant under the empty one."""
    payments = [await house.create(f"k{n}") for n in range(3)]
    everything = (await ann.call("ListAuditRecords", tenant_id="t1")).records
    assert [record.action for record in everything] == ["CREATE.API_REPLY"] * 3
    assert [record.payment_id for record in everything] == [each.payment_id for each in payments[::-1]]
    first = await ann.call("ListAuditRecords", tenant_id="t1", page_size=2)
    rest = await ann.call("ListAuditRecords", tenant_id="t1", page_size=2, page_token=first.next_page_token)
    assert [*first.records, *rest.records] == list(everything)
    of_one = await ann.call("ListAuditRecords", tenant_id="t1", payment_id=payments[1].payment_id)
    assert [record.payment_id for record in of_one.records] == [payments[1].payment_id]
    assert len((await ann.call("ListAuditRecords", tenant_id="t1", actor="tests")).records) == 3
    assert not (await ann.call("ListAuditRecords", tenant_id="t1", actor="ann")).records
    assert not (await ann.call("ListAuditRecords", tenant_id="t1", action="REFUND.API_REPLY")).records
    middle = everything[1].record_time
    since = await ann.call("ListAuditRecords", tenant_id="t1", start_time=middle)
    until = await ann.call("ListAuditRecords", tenant_id="t1", end_time=middle)
    assert [*since.records, *until.records] == list(everything)
    assert not (await ann.call("ListAuditRecords")).records
    error = await refused(ann.call("ListAuditRecords", payment_id="pay_1"))
    assert error.fields == ("tenant_id",)
