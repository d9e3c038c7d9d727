"""Tables and indexes that operators' work needs: proposals, approvals, alarms, and lists across tenants.

`proposals`, `approvals` and `alarms` are only ever added to. The approval names the proposer, so that the database
itself refuses one who approves alone. Indexes here follow what is rare (a state that payments pass through, what
operators did), so that the payment that goes well pays for none of them.
"""

from sqlalchemy import BigInteger, Column, ForeignKeyConstraint, Index, PrimaryKeyConstraint, Table, Text, text
from sqlalchemy import UniqueConstraint as Unique

from gateway.domain.operating import OPERATOR_ACTION
from gateway.domain.resolutions import Resolution
from gateway.domain.states import PaymentState
from store.tables import _known, _of_payment, _partial, _sound, among, audit, callbacks, metadata, payments

STUCK_STATES = frozenset({PaymentState.REQUIRES_ACTION, PaymentState.PROCESSING, PaymentState.AUTHORIZED})
"""States that a payment passes through: one that stands in them for long is looked for."""

STUCK_PAYMENT = among("state", STUCK_STATES)
OPERATOR_ACT = f"substr(action, 1, {len(OPERATOR_ACTION)}) = '{OPERATOR_ACTION}'"


def _texts(*names: str) -> list[Column[str]]:
    return [Column(name, Text, nullable=False) for name in names]


def _whole(*names: str) -> list[Column[int]]:
    return [Column(name, BigInteger, nullable=False) for name in names]


proposals = Table(
    "proposals",
    metadata,
    *_texts("tenant_id", "proposal_id", "payment_id", "command_id", "operation_id", "resolution", "reason"),
    *_texts("provider_result_id", "provider_movement_id", "actor", "correlation_id"),
    *_whole("version", "last_send_us", "proposed_time_us"),
    PrimaryKeyConstraint("tenant_id", "proposal_id"),
    Unique("tenant_id", "proposal_id", "actor"),
    _of_payment(),
    _known("resolution", Resolution),
    *_sound("actor <> ''", "reason <> ''"),
    Index("ix_proposals_command", "tenant_id", "command_id", "proposed_time_us"),
    Index("ix_proposals_payment", "tenant_id", "payment_id"),
)

approvals = Table(
    "approvals",
    metadata,
    *_texts("tenant_id", "proposal_id", "proposed_by", "actor", "correlation_id", "reason"),
    *_whole("approved_time_us"),
    PrimaryKeyConstraint("tenant_id", "proposal_id"),
    ForeignKeyConstraint(
        ["tenant_id", "proposal_id", "proposed_by"],
        ["proposals.tenant_id", "proposals.proposal_id", "proposals.actor"],
    ),
    *_sound("actor <> proposed_by", "actor <> ''"),
)

alarms = Table(
    "alarms",
    metadata,
    *_texts("tenant_id", "operation_id"),
    *_whole("raised_time_us"),
    PrimaryKeyConstraint("tenant_id", "operation_id"),
)

Index("ix_callbacks_state", callbacks.c.state, callbacks.c.callback_id)
Index("ix_callbacks_account", callbacks.c.account_id, callbacks.c.state, callbacks.c.callback_id)
_FOUND = text("payment_id <> ''")
Index(
    "ix_callbacks_payment",
    callbacks.c.payment_id,
    callbacks.c.callback_id,
    postgresql_where=_FOUND,
    sqlite_where=_FOUND,
)
payments.append_constraint(_partial("ix_payments_stuck", "state", "created_time_us", "payment_id", where=STUCK_PAYMENT))
audit.append_constraint(_partial("ix_audit_operators", "audit_id", where=OPERATOR_ACT))
