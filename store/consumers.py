"""Units of consumers: a word on each observation, and where a consumer stands."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, exists, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from gateway.domain.commands import Caller
from gateway.domain.storage import AuditRecord, Consumer, Decision, DecisionOutcome
from store.hot import microseconds
from store.recovery import append_audit
from store.tables import consumers, decisions, observation_log, observations
from store.values import clean

UNDECIDED_MAX = 10_000
"""How far undecided observations are counted."""

COUNTED_MAX = 50_000
"""How many log entries a count looks at: behind one that stays undecided, any number may be decided."""

BEHIND_MAX = 100
LOOKED_AT_MAX = 1_000
"""Consumers that a count over all tenants looks at, and log entries of each: a metric must cost the same every time."""

Now = ColumnElement[int]


def ensure_consumer(connection: Connection, now: Now, tenant_id: str, name: str) -> None:
    """Create the consumer where it is new."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    new = {
        "tenant_id": tenant_id,
        "name": name,
        "accepted": 0,
        "rejected": 0,
        "decided_through": 0,
        "created_time_us": now,
    }
    connection.execute(dialect.insert(consumers).values(new).on_conflict_do_nothing())


def decide(
    connection: Connection, now: Now, caller: Caller, name: str, words: Sequence[Decision], record: AuditRecord
) -> Sequence[DecisionOutcome]:
    """Record each first word; the consumer's row is locked, so that two words on one observation come in turn."""
    tenant_id = caller.tenant_id
    ensure_consumer(connection, now, tenant_id, name)
    mine = (consumers.c.tenant_id == tenant_id, consumers.c.name == name)
    through = connection.execute(select(consumers.c.decided_through).where(*mine).with_for_update()).scalar_one()
    known = _known(connection, tenant_id, name, [word.observation_id for word in words])
    outcomes, fresh = _weigh(words, known)
    counts = [sum(1 for word in fresh if word.accepted is accepted) for accepted in (True, False)]
    if fresh:
        for word in fresh:
            connection.execute(
                insert(decisions).values(
                    tenant_id=tenant_id,
                    consumer=name,
                    observation_id=word.observation_id,
                    accepted=word.accepted,
                    reason=clean(word.reason),
                    actor=caller.actor,
                    correlation_id=caller.correlation_id,
                    decided_time_us=now,
                )
            )
        through, _ = _standing(connection, tenant_id, name, through)
        connection.execute(
            update(consumers)
            .where(*mine)
            .values(
                accepted=consumers.c.accepted + counts[0],
                rejected=consumers.c.rejected + counts[1],
                decided_through=through,
            )
        )
    append_audit(connection, now, [record])
    return outcomes


def _known(connection: Connection, tenant_id: str, name: str, ids: Sequence[str]) -> dict[str, bool | None]:
    """Which of `ids` exist, each with the word that stands on it (None: no word yet)."""
    said = (
        (decisions.c.tenant_id == observations.c.tenant_id)
        & (decisions.c.observation_id == observations.c.observation_id)
        & (decisions.c.consumer == name)
    )
    query = (
        select(observations.c.observation_id, decisions.c.accepted)
        .select_from(observations.outerjoin(decisions, said))
        .where(observations.c.tenant_id == tenant_id, observations.c.observation_id.in_(ids))
    )
    return {row.observation_id: row.accepted for row in connection.execute(query)}


def _weigh(words: Sequence[Decision], known: dict[str, bool | None]) -> tuple[list[DecisionOutcome], list[Decision]]:
    """What becomes of each word in turn, and those that are to be recorded."""
    outcomes, fresh = [], []
    for word in words:
        if word.observation_id not in known:
            outcomes.append(DecisionOutcome.MISSING)
        elif known[word.observation_id] is None:
            known[word.observation_id] = word.accepted
            fresh.append(word)
            outcomes.append(DecisionOutcome.RECORDED)
        else:
            same = known[word.observation_id] is word.accepted
            outcomes.append(DecisionOutcome.REPEATED if same else DecisionOutcome.CONFLICT)
    return outcomes, fresh


def get_consumer(connection: Connection, now: Now, tenant_id: str, name: str) -> Consumer | None:
    """Where the consumer stands now: reading on from where it last stood."""
    query = select(consumers, now.label("now_us")).where(consumers.c.tenant_id == tenant_id, consumers.c.name == name)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    through, first = _standing(connection, tenant_id, name, row.decided_through)
    return Consumer(
        tenant_id=tenant_id,
        name=name,
        accepted=row.accepted,
        rejected=row.rejected,
        undecided=0 if first is None else _count_undecided(connection, tenant_id, name, first[0]),
        decided_through=through,
        oldest_undecided_age_s=0.0 if first is None else max(0, row.now_us - first[1]) / 1_000_000,
    )


def count_undecided(connection: Connection, now: Now, older_than_s: float) -> int:
    """Observations that some consumer has left without a word for so long, over all tenants; at least so many.

    A consumer is behind by the first entry after where it stands: that one has no word, or it would stand further on.
    """
    before = now - microseconds(older_than_s)
    log = observation_log.c
    first_us = (
        select(log.numbered_time_us)
        .where(log.tenant_id == consumers.c.tenant_id, log.sequence > consumers.c.decided_through)
        .order_by(log.sequence)
        .limit(1)
        .correlate(consumers)
        .scalar_subquery()
    )
    mine = (consumers.c.tenant_id, consumers.c.name, consumers.c.decided_through)
    behind = connection.execute(select(*mine).where(first_us <= before).limit(BEHIND_MAX)).all()
    return sum(_undecided_since(connection, *row, before) for row in behind)


def _undecided_since(connection: Connection, tenant_id: str, name: str, through: int, before: Now) -> int:
    log = observation_log.c
    window = (
        select(log.observation_id, log.numbered_time_us)
        .where(log.tenant_id == tenant_id, log.sequence > through)
        .order_by(log.sequence)
        .limit(LOOKED_AT_MAX)
        .subquery()
    )
    old = window.c.numbered_time_us <= before
    query = select(func.count()).where(old, ~_decided(tenant_id, name, window.c.observation_id))
    return connection.scalar(query) or 0


def _decided(tenant_id: str, name: str, observation_id: ColumnElement[str]) -> ColumnElement[bool]:
    return exists().where(
        decisions.c.tenant_id == tenant_id,
        decisions.c.consumer == name,
        decisions.c.observation_id == observation_id,
    )


def _standing(connection: Connection, tenant_id: str, name: str, through: int) -> tuple[int, tuple[int, int] | None]:
    """How far all is decided, reading on from `through`, and (sequence, numbered time) of the first without a word.

    The end of the log is read before the first undecided is looked for. These are two statements, and each sees what is
    committed by then: with the end read afterwards, an observation numbered in between would count as decided, and a
    consumer that resumes there would never see it.
    """
    end = _last(connection, tenant_id, through)
    first = _first_undecided(connection, tenant_id, name, through)
    return (end if first is None else _last(connection, tenant_id, through, before=first[0])), first


def _first_undecided(connection: Connection, tenant_id: str, name: str, through: int) -> tuple[int, int] | None:
    """(sequence, numbered time) of the first without a word; only what was decided since is walked over."""
    log = observation_log.c
    query = (
        select(log.sequence, log.numbered_time_us)
        .where(
            log.tenant_id == tenant_id,
            log.sequence > through,
            ~_decided(tenant_id, name, log.observation_id),
        )
        .order_by(log.sequence)
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else (row.sequence, row.numbered_time_us)


def _last(connection: Connection, tenant_id: str, through: int, *, before: int | None = None) -> int:
    """The tenant's last sequence, of all its log or `before` one; `through` where nothing came after it."""
    log = observation_log.c
    query = select(func.max(log.sequence)).where(log.tenant_id == tenant_id, log.sequence > through)
    if before is not None:
        query = query.where(log.sequence < before)
    return connection.scalar(query) or through


def _count_undecided(connection: Connection, tenant_id: str, name: str, first: int) -> int:
    log = observation_log.c
    window = (
        select(log.observation_id)
        .where(log.tenant_id == tenant_id, log.sequence >= first)
        .order_by(log.sequence)
        .limit(COUNTED_MAX)
        .subquery()
    )
    undecided = (
        select(window.c.observation_id).where(~_decided(tenant_id, name, window.c.observation_id)).limit(UNDECIDED_MAX)
    )
    return connection.scalar(select(func.count()).select_from(undecided.subquery())) or 0
