"""Units of lost payments: what a provider showed and this database does not know, and what two operators say of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, exists, func, insert, or_, select, update

from gateway.domain.commands import Caller
from gateway.domain.lost import PROPOSAL_AGE_S_MAX, LostOutcome, LostPayment, LostProposal, LostSettlement
from gateway.domain.transactions import AuditRecord
from store.oversight_tables import lost_operations, lost_proposals, lost_settlements
from store.recovery import append_audit
from store.tables import operations
from store.values import Row, clean

Now = ColumnElement[int]


def in_turn(connection: Connection, tenant_id: str, payment_id: str) -> None:
    """Let two approvals for a payment, or an approval and what reconciliation finds next, come one after the other.

    To the end of the transaction: a row that is about to be inserted cannot be locked. SQLite has one writer.
    """
    if connection.dialect.name == "postgresql":
        lock = func.hashtextextended(f"lost {tenant_id} {payment_id}", 0)
        connection.execute(select(func.pg_advisory_xact_lock(lock)))


def list_lost(
    connection: Connection, tenant_id: str, *, after: tuple[str, str], limit: int, with_settled: bool
) -> Sequence[LostPayment]:
    """By (tenant, payment); settled are those of which everything that was found was found before the last word."""
    lost, said = lost_operations.c, lost_settlements.c
    query = select(lost.tenant_id, lost.payment_id).group_by(lost.tenant_id, lost.payment_id)
    after_tenant, after_payment = after
    behind = or_(lost.tenant_id > after_tenant, and_(lost.tenant_id == after_tenant, lost.payment_id > after_payment))
    query = query.where(behind).order_by(lost.tenant_id, lost.payment_id).limit(limit)
    if tenant_id:
        query = query.where(lost.tenant_id == tenant_id)
    if not with_settled:
        settled = exists().where(
            said.tenant_id == lost.tenant_id,
            said.payment_id == lost.payment_id,
            said.settled_time_us >= lost.found_time_us,
        )
        query = query.where(~settled)
    return [_payment(connection, *key) for key in connection.execute(query).all()]


def get_lost(connection: Connection, tenant_id: str, payment_id: str) -> LostPayment | None:
    """One of them."""
    lost = lost_operations.c
    there = select(lost.payment_id).where(lost.tenant_id == tenant_id, lost.payment_id == payment_id).limit(1)
    return None if connection.scalar(there) is None else _payment(connection, tenant_id, payment_id)


def lost_by(connection: Connection, tenant_id: str, operation_id: str, order_reference: str) -> LostPayment | None:
    """By the operation first: that one is the very command."""
    lost = lost_operations.c
    found = connection.scalar(
        select(lost.payment_id).where(lost.tenant_id == tenant_id, lost.operation_id == operation_id)
    )
    if found is None and order_reference:
        found = connection.scalar(
            select(lost.payment_id)
            .where(lost.tenant_id == tenant_id, lost.order_reference == order_reference)
            .order_by(lost.payment_id)
            .limit(1)
        )
    return None if found is None else _payment(connection, tenant_id, found)


def lost_steps(connection: Connection, tenant_id: str, operation_ids: Sequence[str]) -> Mapping[str, tuple[str, str]]:
    """Operation to (account, object)."""
    lost = lost_operations.c
    query = select(lost.operation_id, lost.account_id, lost.provider_payment_id).where(
        lost.tenant_id == tenant_id, lost.operation_id.in_(operation_ids)
    )
    return {row.operation_id: (row.account_id, row.provider_payment_id) for row in connection.execute(query)}


def has_lost(connection: Connection, tenant_id: str, payment_id: str) -> bool:
    """Whether something of the payment was lost that is neither held for undone nor taken up since."""
    lost, said, proposed = lost_operations.c, lost_settlements.c, lost_proposals.c
    undone = exists().where(
        said.tenant_id == lost.tenant_id,
        said.payment_id == lost.payment_id,
        said.settled_time_us >= lost.found_time_us,
        proposed.tenant_id == said.tenant_id,
        proposed.proposal_id == said.proposal_id,
        proposed.outcome == LostOutcome.UNDONE.value,
    )
    known = operations.c
    taken_up = exists().where(
        known.tenant_id == lost.tenant_id,
        known.operation_id == lost.operation_id,
        known.account_id == lost.account_id,
    )
    found = select(lost.operation_id).where(
        lost.tenant_id == tenant_id, lost.payment_id == payment_id, ~undone, ~taken_up
    )
    return connection.scalar(found.limit(1)) is not None


def propose_lost(connection: Connection, now: Now, proposal: LostProposal, record: AuditRecord) -> LostProposal:
    """Add a proposal and its audit record."""
    row: Row = {
        "tenant_id": proposal.tenant_id,
        "proposal_id": proposal.proposal_id,
        "payment_id": proposal.payment_id,
        "order_reference": proposal.order_reference,
        "outcome": proposal.outcome.value,
        "reason": clean(proposal.reason),
        "shown": clean(proposal.shown),
        "actor": proposal.actor,
        "correlation_id": proposal.correlation_id,
    }
    statement = insert(lost_proposals).values(**row, proposed_time_us=now).returning(lost_proposals)
    kept = _proposal(connection.execute(statement).mappings().one())
    append_audit(connection, now, [record])
    return kept


def settle_lost(
    connection: Connection, now: Now, proposal: LostProposal, caller: Caller, reason: str, record: AuditRecord
) -> LostSettlement | None:
    """Approve the payment's newest proposal, once."""
    lost = lost_operations.c
    mine = (lost.tenant_id == proposal.tenant_id, lost.payment_id == proposal.payment_id)
    in_turn(connection, proposal.tenant_id, proposal.payment_id)
    standing = _payment(connection, proposal.tenant_id, proposal.payment_id)
    last = standing.settlement
    if last is not None and last.proposal.proposal_id == proposal.proposal_id:
        return last
    now_us = connection.execute(select(now)).scalar_one()
    too_old = now_us - proposal.proposed_time_us > PROPOSAL_AGE_S_MAX * 1_000_000
    overtaken = standing.proposal is None or standing.proposal.proposal_id != proposal.proposal_id
    if overtaken or too_old or standing.found_time_us > proposal.proposed_time_us:
        return None
    row: Row = {
        "tenant_id": proposal.tenant_id,
        "proposal_id": proposal.proposal_id,
        "payment_id": proposal.payment_id,
        "proposed_by": proposal.actor,
        "actor": caller.actor,
        "correlation_id": caller.correlation_id,
        "reason": clean(reason),
        "settled_time_us": now_us,
    }
    connection.execute(insert(lost_settlements).values(row))
    if proposal.outcome is LostOutcome.UNDONE:
        # What was lost stays known by its operations: they are never sent again. Its order is free.
        connection.execute(update(lost_operations).where(*mine).values(order_reference=""))
    append_audit(connection, now, [record])
    return LostSettlement(proposal, caller.actor, caller.correlation_id, reason, now_us)


def _payment(connection: Connection, tenant_id: str, payment_id: str) -> LostPayment:
    lost = lost_operations.c
    query = select(lost_operations).where(lost.tenant_id == tenant_id, lost.payment_id == payment_id)
    rows = connection.execute(query.order_by(lost.found_time_us, lost.operation_id)).mappings().all()
    found_us = max(row["found_time_us"] for row in rows)
    newest, settlement = _newest_proposal(connection, tenant_id, payment_id), _settlement(connection, rows[0])
    is_open = newest is not None and (settlement is None or newest.proposal_id != settlement.proposal.proposal_id)
    said_of_all = settlement is not None and settlement.settled_time_us >= found_us
    return LostPayment(
        tenant_id=tenant_id,
        payment_id=payment_id,
        objects=tuple(dict.fromkeys((row["account_id"], row["provider_payment_id"]) for row in rows)),
        order_reference=next((row["order_reference"] for row in rows if row["order_reference"]), ""),
        operation_ids=tuple(row["operation_id"] for row in rows),
        reconciliation_ids=tuple(dict.fromkeys(row["reconciliation_id"] for row in rows)),
        found_time_us=found_us,
        proposal=newest if is_open else None,
        settlement=settlement if said_of_all else None,
    )


def _newest_proposal(connection: Connection, tenant_id: str, payment_id: str) -> LostProposal | None:
    table = lost_proposals.c
    query = (
        select(lost_proposals)
        .where(table.tenant_id == tenant_id, table.payment_id == payment_id)
        .order_by(table.proposed_time_us.desc(), table.proposal_id.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else _proposal(row)


def _settlement(connection: Connection, of: Any) -> LostSettlement | None:
    said, proposed = lost_settlements.c, lost_proposals.c
    same = and_(proposed.tenant_id == said.tenant_id, proposed.proposal_id == said.proposal_id)
    names = ("actor", "correlation_id", "reason", "settled_time_us")
    query = (
        select(lost_proposals, *(said[name].label(f"said_{name}") for name in names))
        .select_from(lost_settlements.join(lost_proposals, same))
        .where(said.tenant_id == of["tenant_id"], said.payment_id == of["payment_id"])
        .order_by(said.settled_time_us.desc(), said.proposal_id.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else LostSettlement(_proposal(row), *(row[f"said_{name}"] for name in names))


def _proposal(row: Any) -> LostProposal:
    values = {column.name: row[column.name] for column in lost_proposals.columns}
    return LostProposal(**values | {"outcome": LostOutcome(row["outcome"])})
