"""Units over observations: number what is committed, and read it in that order."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Select, func, select, text

from gateway.domain.observations import Observation
from store.postgresql_database import NOW_US
from store.records import observation_from
from store.tables import counters, observation_log, observations

BATCH_MAX = 1_000
"""Observations that one run of the sequencer numbers at most."""

CHANNEL = "obol_observations"
COUNTER = "observations"

_NUMBER = text(
    f"""
WITH batch AS MATERIALIZED (
  DELETE FROM observation_outbox WHERE (tenant_id, payment_id, version, ordinal) IN (
    SELECT tenant_id, payment_id, version, ordinal FROM observation_outbox
    ORDER BY payment_id, version, ordinal LIMIT {BATCH_MAX})
  RETURNING tenant_id, payment_id, version, ordinal, observation_id),
numbered AS MATERIALIZED (
  SELECT tenant_id, observation_id,
    :counter + row_number() OVER (ORDER BY payment_id, version, ordinal) AS sequence FROM batch),
logged AS (
  INSERT INTO observation_log (sequence, tenant_id, observation_id, numbered_time_us)
  SELECT sequence, tenant_id, observation_id, {NOW_US} FROM numbered ORDER BY sequence),
counted AS (
  UPDATE counters SET value = value + (SELECT count(*) FROM numbered)
  WHERE name = '{COUNTER}' AND EXISTS (SELECT FROM numbered))
SELECT count(*) FROM numbered
"""  # noqa: S608 - constants of ours; the one value is a parameter
)
_ANYTHING = text("SELECT EXISTS (SELECT FROM observation_outbox)")


def anything_to_number(connection: Connection) -> bool:
    """Whether something waits; asked without the lock, so that idle sequencers do not queue for it."""
    return bool(connection.scalar(_ANYTHING))


def number_observations(connection: Connection) -> tuple[int, int]:
    """PostgreSQL's sequencer, once: how many were numbered, and the last number.

    The counter's row is locked first and the numbering is a new statement: it sees everything that the holder before
    it has committed, so two sequencers leave neither a gap nor a double. What commits later is numbered later, and a
    payment's versions commit in order, so that a payment's order is kept.
    """
    lock = select(counters.c.value).where(counters.c.name == COUNTER).with_for_update()
    counter = connection.execute(lock).scalar_one()
    numbered = connection.execute(_NUMBER, {"counter": counter}).scalar_one()
    last = counter + numbered
    if numbered:
        # Delivered with the commit, and only then.
        connection.execute(text("SELECT pg_notify(:channel, :last)"), {"channel": CHANNEL, "last": str(last)})
    return numbered, last


def last_sequence(connection: Connection) -> int:
    """The log's last number, 0 where it is empty."""
    return connection.scalar(select(func.max(observation_log.c.sequence))) or 0


def read_observations(
    connection: Connection, tenant_id: str, *, after_sequence: int, limit: int, payment_id: str
) -> Sequence[Observation]:
    """A tenant's observations after a place in the log, in sequence order."""
    log = observation_log.c
    query = _logged().where(log.tenant_id == tenant_id, log.sequence > after_sequence)
    if payment_id:
        query = query.where(observations.c.payment_id == payment_id)
    rows = connection.execute(query.order_by(log.sequence).limit(limit)).mappings()
    return [observation_from(row) for row in rows]


def get_observation(connection: Connection, tenant_id: str, observation_id: str) -> Observation | None:
    """One observation, numbered or not yet."""
    query = _logged(numbered_only=False).where(
        observations.c.tenant_id == tenant_id, observations.c.observation_id == observation_id
    )
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else observation_from(row)


def _logged(*, numbered_only: bool = True) -> Select[tuple[object, ...]]:
    same: ColumnElement[bool] = (observations.c.tenant_id == observation_log.c.tenant_id) & (
        observations.c.observation_id == observation_log.c.observation_id
    )
    source = observations.join(observation_log, same, isouter=not numbered_only)
    return select(observations, observation_log.c.sequence).select_from(source)
