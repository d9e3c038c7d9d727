"""Units over observations, in the order in which they were numbered."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Select, func, select

from gateway.domain.observations import Observation
from store.records import observation_from
from store.tables import observation_log, observations


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
