"""The tables of reconciliation, of event cursors and of restores from backup.

They belong to a provider account, as the inbox does, and not to a tenant: only what a claim looks up leads with the
tenant. Claims read `restores`, `restore_clearances`, `restore_reads` and `lost_operations`, which are empty in a
database that was never restored.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from gateway.domain.lost import LostOutcome
from gateway.domain.reconciliation import JobState
from store.tables import _known, _sound, among, metadata

LIVE_JOB = among("state", (JobState.QUEUED, JobState.RUNNING))
RUNNING_JOB = among("state", (JobState.RUNNING,))


def _texts(*names: str) -> list[Column[Any]]:
    return [Column(name, Text, nullable=False) for name in names]


def _whole(*names: str) -> list[Column[Any]]:
    return [Column(name, BigInteger, nullable=False) for name in names]


def _optional_whole(*names: str) -> list[Column[Any]]:
    return [Column(name, BigInteger) for name in names]


def _flags(*names: str) -> list[Column[Any]]:
    return [Column(name, Boolean(create_constraint=False), nullable=False) for name in names]


reconciliations = Table(
    "reconciliations",
    metadata,
    *_texts("reconciliation_id", "tenant_id", "idempotency_key", "organization_id", "actor", "correlation_id"),
    *_texts("account_id"),
    *_whole("window_start_us"),
    *_optional_whole("window_end_us"),
    *_flags("dry_run"),
    *_texts("state", "phase", "position"),
    *_whole("epoch", "postponed", "generation", "created_time_us"),
    *_optional_whole("begun_time_us", "ended_time_us", "lease_until_us", "next_attempt_us"),
    *_whole("provider_count", "foreign_count", "payment_count"),
    *_texts("sums", "failure"),
    PrimaryKeyConstraint("reconciliation_id"),
    UniqueConstraint("tenant_id", "idempotency_key"),
    # One at a time for each account, whatever else goes wrong.
    Index(
        "uq_reconciliations_running",
        "account_id",
        unique=True,
        postgresql_where=text(RUNNING_JOB),
        sqlite_where=text(RUNNING_JOB),
    ),
    Index("ix_reconciliations_live", "created_time_us", postgresql_where=text(LIVE_JOB), sqlite_where=text(LIVE_JOB)),
    Index("ix_reconciliations_account", "account_id", "ended_time_us"),
)

reconciliation_breaks = Table(
    "reconciliation_breaks",
    metadata,
    *_texts("reconciliation_id"),
    *_whole("number"),
    *_texts("type", "tenant_id", "payment_id", "provider_payment_id", "ours", "theirs", "order_reference"),
    *_texts("operation_ids"),
    *_flags("mends", "mended"),
    *_whole("found_time_us"),
    PrimaryKeyConstraint("reconciliation_id", "number"),
    UniqueConstraint(
        *("reconciliation_id", "type", "tenant_id", "payment_id", "provider_payment_id", "mends"),
        name="uq_reconciliation_breaks_break",
    ),
)

reconciliation_seen = Table(
    "reconciliation_seen",
    metadata,
    # What the provider listed, until the job ends.
    *_texts("reconciliation_id", "provider_payment_id", "tenant_id", "payment_id"),
    PrimaryKeyConstraint("reconciliation_id", "provider_payment_id"),
)

event_cursors = Table(
    "event_cursors",
    metadata,
    *_texts("account_id", "after_event_id"),
    *_whole("last_event_time_us", "first_time_us", "epoch", "next_attempt_us"),
    *_optional_whole("lease_until_us"),
    PrimaryKeyConstraint("account_id"),
)

restores = Table(
    "restores",
    metadata,
    Column("generation", BigInteger, nullable=False, autoincrement=False),
    *_whole("backup_time_us", "stopped_time_us", "raised_time_us"),
    *_texts("actor", "reason"),
    PrimaryKeyConstraint("generation"),
)

restore_points = Table(
    "restore_points",
    metadata,
    Column("generation", BigInteger, nullable=False, autoincrement=False),
    # Up to this number the observation log is as it was before the restore.
    *_whole("resume_sequence"),
    PrimaryKeyConstraint("generation"),
)

cautions = Table(
    "cautions",
    metadata,
    # RESTORE, LOST: while there is none, a claim need not look into the tables below. One look instead of three.
    *_texts("kind"),
    *_whole("since_us"),
    PrimaryKeyConstraint("kind"),
)

restore_clearances = Table(
    "restore_clearances",
    metadata,
    *_texts("account_id"),
    *_whole("generation"),
    # The reconciliation that proved it, or whoever took it upon himself.
    *_texts("reconciliation_id", "actor", "reason"),
    *_whole("cleared_time_us"),
    PrimaryKeyConstraint("account_id", "generation"),
)

restore_reads = Table(
    "restore_reads",
    metadata,
    *_texts("tenant_id", "payment_id"),
    *_whole("generation"),
    PrimaryKeyConstraint("tenant_id", "payment_id", "generation"),
)

lost_operations = Table(
    "lost_operations",
    metadata,
    *_texts("tenant_id", "operation_id", "account_id", "payment_id", "provider_payment_id", "reconciliation_id"),
    # Of a payment that may hold money, else empty: nobody else can declare the order unique.
    *_texts("order_reference"),
    *_whole("found_time_us"),
    PrimaryKeyConstraint("tenant_id", "operation_id"),
    Index("ix_lost_operations_order", "tenant_id", "order_reference"),
    Index("ix_lost_operations_payment", "tenant_id", "payment_id"),
)

# As `proposals` and `approvals` of an UNKNOWN command: only ever added to, and nobody approves alone.
lost_proposals = Table(
    "lost_proposals",
    metadata,
    *_texts("tenant_id", "proposal_id", "payment_id", "order_reference", "outcome", "reason", "shown"),
    *_texts("actor", "correlation_id"),
    *_whole("proposed_time_us"),
    PrimaryKeyConstraint("tenant_id", "proposal_id"),
    UniqueConstraint("tenant_id", "proposal_id", "actor"),
    _known("outcome", LostOutcome),
    *_sound("actor <> ''", "reason <> ''"),
    Index("ix_lost_proposals_payment", "tenant_id", "payment_id", "proposed_time_us"),
)

lost_settlements = Table(
    "lost_settlements",
    metadata,
    *_texts("tenant_id", "proposal_id", "payment_id", "proposed_by", "actor", "correlation_id", "reason"),
    *_whole("settled_time_us"),
    PrimaryKeyConstraint("tenant_id", "proposal_id"),
    ForeignKeyConstraint(
        ["tenant_id", "proposal_id", "proposed_by"],
        ["lost_proposals.tenant_id", "lost_proposals.proposal_id", "lost_proposals.actor"],
    ),
    *_sound("actor <> proposed_by", "actor <> ''"),
    Index("ix_lost_settlements_payment", "tenant_id", "payment_id", "settled_time_us"),
)
