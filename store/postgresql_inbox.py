# Statements are spelled from our own tables and constants; every value is a parameter.
# ruff: noqa: S608
"""The text of the inbox on PostgreSQL: to receive a callback, to take those that are due, to say what became of one.

Each is one statement, one round trip and one commit, as `store.postgresql_statements` says.
"""

from functools import lru_cache

from store import tables
from store.postgresql_database import NOW_US
from store.postgresql_parts import Part
from store.postgresql_statements import SETTLED
from store.spelling import Slots, insert_from, statement
from store.tables import LIVE_CALLBACK

AUDIT = SETTLED["audit"]
CALLBACK = Part.of(tables.callbacks, without={"next_attempt_us"})
CHANGE = SETTLED["callback"]


def _receive_callback() -> str:
    slots = Slots()
    now = f"(SELECT {NOW_US} AS now_us) s"
    suffix = "ON CONFLICT (provider, account_id, event_id) DO NOTHING RETURNING callback_id"
    inbox = slots.row(CALLBACK.kinds) | {"next_attempt_us": "s.now_us"}
    audit = slots.row(AUDIT.kinds) | {"recorded_time_us": NOW_US}
    parts = {
        "inbox": insert_from(inbox, tables.callbacks, now, suffix=suffix),
        "audit": insert_from(audit, tables.audit, "inbox"),
    }
    return statement(parts, "SELECT callback_id FROM inbox")


RECEIVE_CALLBACK = _receive_callback()
"""CALLBACK, then AUDIT. One row if the event was new."""

TAKE_CALLBACKS = f"""
WITH clock AS MATERIALIZED (SELECT {NOW_US} AS now_us),
due AS MATERIALIZED (
  SELECT c.callback_id FROM callbacks c
  WHERE {LIVE_CALLBACK} AND c.next_attempt_us <= (SELECT now_us FROM clock)
    AND (c.lease_until_us IS NULL OR c.lease_until_us < (SELECT now_us FROM clock))
    AND c.account_id <> ALL ($3::text[])
  ORDER BY c.next_attempt_us LIMIT $1 FOR UPDATE SKIP LOCKED)
UPDATE callbacks c SET epoch = c.epoch + 1, tries = c.tries + 1,
  lease_until_us = k.now_us + $2, next_attempt_us = k.now_us + $2
FROM due d, clock k WHERE c.callback_id = d.callback_id
RETURNING c.*
"""
"""$1 limit, $2 lease in microseconds, $3 accounts to leave out. A row for each that was taken."""


@lru_cache
def change_callback(audits: int) -> str:
    """CHANGE, then as many rows of AUDIT (what is too many for parameters counts as one more). One row if changed."""
    slots = Slots()
    change = slots.row(CHANGE.kinds)
    parts = {
        "changed": f"""
            UPDATE callbacks c SET state = {change["state"]}, note = {change["note"]},
              tenant_id = {change["tenant_id"]}, payment_id = {change["payment_id"]}, lease_until_us = NULL,
              next_attempt_us = {NOW_US} + {change["next_attempt_in_us"]}
            WHERE c.callback_id = {change["callback_id"]} AND c.epoch = {change["expected_epoch"]}
            RETURNING c.callback_id"""
    }
    if audits:
        source = AUDIT.source(slots, audits)
        values = AUDIT.read(audits) | {"recorded_time_us": NOW_US}
        parts["audit"] = insert_from(values, tables.audit, f"changed, {source}")
    return statement(parts, "SELECT callback_id FROM changed")
