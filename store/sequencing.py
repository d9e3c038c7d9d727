"""PostgreSQL's sequencer: what is committed gets its place in the log. On SQLite the writer numbers as it settles."""

from typing import NamedTuple

import asyncpg

from store.postgresql_database import NOW_US, PostgresqlDatabase

BATCH_MAX = 1_000
"""Observations that one run of the sequencer numbers at most."""

CHANNEL = "obol_observations"
COUNTER = "observations"

_ANYTHING = "SELECT EXISTS (SELECT FROM observation_outbox) AS waiting"

_LOCK = f"BEGIN ISOLATION LEVEL READ COMMITTED; SELECT FROM counters WHERE name = '{COUNTER}' FOR UPDATE"

# A batch is taken away by where its rows lie: compared by key, each of it would be held against all of it. It is found
# along the index, which sheds the entries of rows that are gone as new ones come; the table sheds them when it is
# vacuumed. No tenant's name is empty.
NUMBER = f"""
WITH batch AS MATERIALIZED (
  DELETE FROM observation_outbox WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM observation_outbox WHERE tenant_id > '' ORDER BY payment_id, version, ordinal LIMIT {BATCH_MAX}))
  RETURNING tenant_id, payment_id, version, ordinal, observation_id),
placed AS MATERIALIZED (
  SELECT tenant_id, observation_id, row_number() OVER (ORDER BY payment_id, version, ordinal) AS place FROM batch),
size AS MATERIALIZED (SELECT count(*) AS numbered FROM placed),
counted AS (
  UPDATE counters SET value = value + numbered FROM size WHERE name = '{COUNTER}' AND numbered > 0
  RETURNING numbered, value AS last),
logged AS (
  INSERT INTO observation_log (sequence, tenant_id, observation_id, numbered_time_us)
  SELECT last - numbered + place, tenant_id, observation_id, {NOW_US} FROM placed, counted ORDER BY place)
SELECT numbered, last, pg_notify('{CHANNEL}', last::text) FROM counted
"""  # noqa: S608 - constants of ours


class Numbered(NamedTuple):
    """How many observations a run numbered, and the log's last number after it."""

    numbered: int
    last: int


async def number_observations(database: PostgresqlDatabase) -> Numbered | None:
    """Run the sequencer once; None where it found nothing, or another one was first.

    Whether anything waits is asked without the lock, so that idle sequencers do not queue for it.
    """
    found = await database.fetch(_ANYTHING, ())
    return await database.converse(_number) if found[0]["waiting"] else None


async def _number(connection: asyncpg.Connection) -> Numbered | None:
    """Lock, number and commit; the notification is delivered with the commit, and only then.

    The counter's row is locked first and the numbering is a new statement: it sees everything that the holder before
    it has committed, so two sequencers leave neither a gap nor a double. What commits later is numbered later, and a
    payment's versions commit in order, so that a payment's order is kept.
    """
    await connection.execute(_LOCK)
    run = await connection.fetchrow(NUMBER)
    await connection.execute("COMMIT")
    return None if run is None else Numbered(run["numbered"], run["last"])
