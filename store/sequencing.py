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

_NUMBER = f"""
WITH batch AS MATERIALIZED (
  DELETE FROM observation_outbox WHERE (tenant_id, payment_id, version, ordinal) IN (
    SELECT tenant_id, payment_id, version, ordinal FROM observation_outbox
    ORDER BY payment_id, version, ordinal LIMIT {BATCH_MAX})
  RETURNING tenant_id, payment_id, version, ordinal, observation_id),
counter AS MATERIALIZED (SELECT value FROM counters WHERE name = '{COUNTER}'),
numbered AS MATERIALIZED (
  SELECT tenant_id, observation_id,
    counter.value + row_number() OVER (ORDER BY payment_id, version, ordinal) AS sequence FROM batch, counter),
logged AS (
  INSERT INTO observation_log (sequence, tenant_id, observation_id, numbered_time_us)
  SELECT sequence, tenant_id, observation_id, {NOW_US} FROM numbered ORDER BY sequence),
counted AS (
  UPDATE counters SET value = value + (SELECT count(*) FROM numbered)
  WHERE name = '{COUNTER}' AND EXISTS (SELECT FROM numbered)),
run AS MATERIALIZED (
  SELECT (SELECT count(*) FROM numbered) AS numbered, value + (SELECT count(*) FROM numbered) AS last FROM counter)
SELECT numbered, last, CASE WHEN numbered > 0 THEN pg_notify('{CHANNEL}', last::text) END FROM run
"""  # noqa: S608 - constants of ours


class Numbered(NamedTuple):
    """How many observations a run numbered, and the log's last number after it."""

    numbered: int
    last: int


async def number_observations(database: PostgresqlDatabase) -> Numbered | None:
    """Run the sequencer once; None where nothing waits.

    Whether anything waits is asked without the lock, so that idle sequencers do not queue for it.
    """
    found = await database.fetch(_ANYTHING, ())
    return await database.converse(_number) if found[0]["waiting"] else None


async def _number(connection: asyncpg.Connection) -> Numbered:
    """Lock, number and commit; the notification is delivered with the commit, and only then.

    The counter's row is locked first and the numbering is a new statement: it sees everything that the holder before
    it has committed, so two sequencers leave neither a gap nor a double. What commits later is numbered later, and a
    payment's versions commit in order, so that a payment's order is kept.
    """
    await connection.execute(_LOCK)
    (run,) = await connection.fetch(_NUMBER)
    await connection.execute("COMMIT")
    return Numbered(run["numbered"], run["last"])
