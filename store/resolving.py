"""Units of a resolution: hold the operation, keep a proposal, find what stands."""

from sqlalchemy import ColumnElement, Connection, insert, or_, select, update

from gateway.domain.commands import Command, Operation
from gateway.domain.movements import MovementKind
from gateway.domain.resolutions import Approval, Proposal
from gateway.domain.states import LIVE_COMMAND_STATES
from gateway.domain.storage import AuditRecord
from store.hot import microseconds
from store.operating_tables import approvals, proposals
from store.records import approval_from, proposal_from
from store.recovery import append_audit
from store.rows import command_from, operation_from
from store.tables import commands, movements, operations
from store.values import Row, clean

Now = ColumnElement[int]
_LIVE = sorted(state.value for state in LIVE_COMMAND_STATES)


def get_command(connection: Connection, tenant_id: str, command_id: str) -> Command | None:
    """A command of the tenant."""
    query = select(commands).where(commands.c.tenant_id == tenant_id, commands.c.command_id == command_id)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else command_from(row)


def take_operation(
    connection: Connection, now: Now, operation: Operation, *, lease_s: float
) -> tuple[Operation | None, int]:
    """Raise the epoch and set a lease where the former one has ended, as recovery does; and the time of it."""
    table = operations.c
    lease_until = now + microseconds(lease_s)
    statement = (
        update(operations)
        .where(
            table.tenant_id == operation.tenant_id,
            table.operation_id == operation.operation_id,
            table.state.in_(_LIVE),
            or_(table.lease_until_us.is_(None), table.lease_until_us < now),
        )
        .values(epoch=table.epoch + 1, lease_until_us=lease_until, next_attempt_us=lease_until)
        .returning(operations, now.label("now_us"))
    )
    row = connection.execute(statement).mappings().one_or_none()
    return (None, 0) if row is None else (operation_from(row), row["now_us"])


def movement_holder(
    connection: Connection, tenant_id: str, account_id: str, kind: MovementKind, provider_movement_id: str
) -> str:
    """The payment that the movement is of, "" where it is of none."""
    table = movements.c
    query = select(table.payment_id).where(
        table.tenant_id == tenant_id,
        table.account_id == account_id,
        table.kind == kind.value,
        table.provider_movement_id == provider_movement_id,
    )
    return connection.scalar(query) or ""


def propose(connection: Connection, now: Now, proposal: Proposal, record: AuditRecord) -> Proposal:
    """Add a proposal and its audit record."""
    statement = insert(proposals).values(**_proposal_row(proposal), proposed_time_us=now).returning(proposals)
    row = connection.execute(statement).mappings().one()
    append_audit(connection, now, [record])
    return proposal_from(row)


def latest_proposal(connection: Connection, now: Now, tenant_id: str, command_id: str) -> tuple[Proposal | None, int]:
    """The newest proposal, and the database's time."""
    table = proposals.c
    query = (
        select(proposals)
        .where(table.tenant_id == tenant_id, table.command_id == command_id)
        .order_by(table.proposed_time_us.desc(), table.proposal_id.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().one_or_none()
    now_us = connection.execute(select(now)).scalar_one()
    return None if row is None else proposal_from(row), now_us


def get_proposal(connection: Connection, tenant_id: str, proposal_id: str) -> tuple[Proposal, Approval | None] | None:
    """A proposal, with its approval where it has one."""
    query = select(proposals).where(proposals.c.tenant_id == tenant_id, proposals.c.proposal_id == proposal_id)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return None
    said = select(approvals).where(approvals.c.tenant_id == tenant_id, approvals.c.proposal_id == proposal_id)
    approved = connection.execute(said).mappings().one_or_none()
    return proposal_from(row), None if approved is None else approval_from(approved)


def _proposal_row(proposal: Proposal) -> Row:
    return {
        "tenant_id": proposal.tenant_id,
        "proposal_id": proposal.proposal_id,
        "payment_id": proposal.payment_id,
        "command_id": proposal.command_id,
        "operation_id": proposal.operation_id,
        "resolution": proposal.resolution.value,
        "reason": clean(proposal.reason),
        "provider_result_id": clean(proposal.provider_result_id),
        "provider_movement_id": clean(proposal.provider_movement_id),
        "actor": proposal.actor,
        "correlation_id": proposal.correlation_id,
        "version": proposal.version,
        "last_send_us": proposal.last_send_us,
    }
