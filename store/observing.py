"""Units over observations, in the order in which they were numbered."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Select, func, select

from gateway.domain.eras import Era, LogEnd, Turn
from gateway.domain.observations import Observation
from store.oversight_tables import restore_points, restores
from store.records import observation_from
from store.tables import observation_log, observations

_turns = restores.outerjoin(restore_points, restore_points.c.generation == restores.c.generation)
# A restore that the release before this one declared has no point: then all is read again.
_resume_after = func.coalesce(restore_points.c.resume_sequence, 0)


def last_sequence(connection: Connection) -> int:
    """The log's last number, 0 where it is empty."""
    return connection.scalar(select(func.max(observation_log.c.sequence))) or 0


def log_end(connection: Connection) -> LogEnd:
    """The last number and its era, of one moment."""
    newest = restores.alias("newest")
    raised = (
        select(newest.c.raised_time_us)
        .where(newest.c.generation == select(func.max(restores.c.generation)).scalar_subquery())
        .scalar_subquery()
    )
    query = select(
        select(func.max(observation_log.c.sequence)).scalar_subquery().label("last_sequence"),
        select(func.max(restores.c.generation)).scalar_subquery().label("generation"),
        raised.label("raised_time_us"),
        select(func.min(_resume_after)).select_from(_turns).scalar_subquery().label("shared_through"),
    )
    row = connection.execute(query).one()
    era = Era() if row.generation is None else Era(row.generation, row.raised_time_us, row.shared_through)
    return LogEnd(row.last_sequence or 0, era)


def turns(connection: Connection) -> Sequence[Turn]:
    """Every restore, oldest first."""
    columns = (restores.c.generation, restores.c.raised_time_us, _resume_after.label("resume_after"))
    rows = connection.execute(select(*columns).select_from(_turns).order_by(restores.c.generation))
    return [Turn(row.generation, row.raised_time_us, row.resume_after) for row in rows]


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
