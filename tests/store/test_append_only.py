"""History, observations, the log, decisions, evidence and audit are only ever added to."""

import sqlite3

import asyncpg
import pytest

from gateway.domain.lost import LostOutcome
from gateway.domain.storage import Decision, Store
from store.append_only import APPEND_ONLY
from tests.store import making
from tests.store.acting import captured, lost, resolved, said_of, unknown
from tests.store.looking import census, rows

CHANGES = ("UPDATE {} SET tenant_id = 'forged'", "DELETE FROM {}")


async def test_what_is_appended_stays(store: Store, url: str) -> None:
    """The database itself refuses to change or remove it."""
    payment = await captured(store)
    await store.number_observations()
    (observation,) = await store.read_observations(making.TENANT, after_sequence=0, limit=1)
    await store.decide(making.CALLER, "billing", [Decision(observation.observation_id, True)], making.audit())
    aggregate = await store.load(making.TENANT, payment.payment_id)
    assert aggregate is not None
    await store.append_evidence(aggregate.operations[0], "seen", making.audit())
    await resolved(store)
    await unknown(store)
    await said_of(store, await lost(store), LostOutcome.UNDONE)
    await store.raise_alarms(lambda _: making.audit(), older_than_s=0, limit=1)
    before = await census(url)
    assert [table for table in APPEND_ONLY if not before[table]] == []
    for statement in (change.format(table) for table in APPEND_ONLY for change in CHANGES):
        with pytest.raises((sqlite3.IntegrityError, asyncpg.PostgresError), match="append-only"):
            await rows(url, statement)
    assert await census(url) == before
