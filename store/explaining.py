"""Units of an explanation: what is kept of one payment beside its rows and its history."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, select, text

from gateway.domain.operating import Decided, Evidence, PaymentFile
from store.auditing import kept_audit_from
from store.inbox import HEAD, kept_callback_from
from store.operating_tables import approvals, proposals
from store.records import approval_from, observation_from, proposal_from
from store.tables import audit, callbacks, consumers, decisions, evidence, observation_log, observations, operations


def payment_file(connection: Connection, tenant_id: str, payment_id: str, *, limit: int) -> PaymentFile:
    """The oldest `limit` of each kind."""

    def own(table: Table) -> tuple[ColumnElement[bool], ...]:
        return (table.c.tenant_id == tenant_id, table.c.payment_id == payment_id)

    def rows(query: Any) -> list[Any]:
        return list(connection.execute(query.limit(limit)).mappings())

    # Partial indexes' own conditions must be seen to hold: no parameters.
    of_payment = text("payment_id <> ''")
    asked = select(operations.c.operation_id).where(*own(operations))
    same = and_(observations.c.tenant_id == observation_log.c.tenant_id, _same_observation(observation_log))
    # Decisions are kept by consumer: each consumer's word on each observation is one step down the primary key.
    decided = and_(
        decisions.c.tenant_id == observations.c.tenant_id,
        decisions.c.consumer == consumers.c.name,
        _same_observation(decisions),
    )
    proposed = and_(approvals.c.tenant_id == proposals.c.tenant_id, approvals.c.proposal_id == proposals.c.proposal_id)
    in_order = (observations.c.version, observations.c.ordinal)
    return PaymentFile(
        callbacks=tuple(
            kept_callback_from(row)
            for row in rows(select(*HEAD).where(*own(callbacks), of_payment).order_by(callbacks.c.callback_id))
        ),
        evidence=tuple(
            Evidence(
                evidence_id=row["evidence_id"],
                operation_id=row["operation_id"],
                epoch=row["epoch"],
                words=row["evidence"],
                recorded_time_us=row["recorded_time_us"],
            )
            for row in rows(
                select(evidence)
                .where(evidence.c.tenant_id == tenant_id, evidence.c.operation_id.in_(asked))
                .order_by(evidence.c.evidence_id)
            )
        ),
        audit=tuple(
            kept_audit_from(row)
            for row in rows(select(audit).where(*own(audit), of_payment).order_by(audit.c.audit_id))
        ),
        observations=tuple(
            observation_from(row)
            for row in rows(
                select(observations, observation_log.c.sequence)
                .outerjoin(observation_log, same)
                .where(*own(observations))
                .order_by(*in_order)
            )
        ),
        decisions=tuple(
            Decided(
                consumer=row["consumer"],
                observation_id=row["observation_id"],
                accepted=bool(row["accepted"]),
                reason=row["reason"],
                actor=row["actor"],
                decided_time_us=row["decided_time_us"],
            )
            for row in rows(
                select(decisions)
                .select_from(observations)
                .join(consumers, consumers.c.tenant_id == observations.c.tenant_id)
                .join(decisions, decided)
                .where(*own(observations))
                .order_by(*in_order)
            )
        ),
        proposals=tuple(
            proposal_from(row)
            for row in rows(select(proposals).where(*own(proposals)).order_by(proposals.c.proposal_id))
        ),
        approvals=tuple(
            approval_from(row)
            for row in rows(
                select(approvals).join(proposals, proposed).where(*own(proposals)).order_by(proposals.c.proposal_id)
            )
        ),
    )


def _same_observation(table: Table) -> ColumnElement[bool]:
    return observations.c.observation_id == table.c.observation_id
