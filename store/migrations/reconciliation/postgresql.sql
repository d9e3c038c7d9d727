CREATE TABLE reconciliations (
  reconciliation_id TEXT NOT NULL,
  tenant_id TEXT NOT NULL,
  idempotency_key TEXT NOT NULL,
  organization_id TEXT NOT NULL,
  actor TEXT NOT NULL,
  correlation_id TEXT NOT NULL,
  account_id TEXT NOT NULL,
  window_start_us BIGINT NOT NULL,
  window_end_us BIGINT,
  dry_run BOOLEAN NOT NULL,
  state TEXT NOT NULL,
  phase TEXT NOT NULL,
  position TEXT NOT NULL,
  epoch BIGINT NOT NULL,
  postponed BIGINT NOT NULL,
  generation BIGINT NOT NULL,
  created_time_us BIGINT NOT NULL,
  begun_time_us BIGINT,
  ended_time_us BIGINT,
  lease_until_us BIGINT,
  next_attempt_us BIGINT,
  provider_count BIGINT NOT NULL,
  foreign_count BIGINT NOT NULL,
  payment_count BIGINT NOT NULL,
  sums TEXT NOT NULL,
  failure TEXT NOT NULL,
  CONSTRAINT pk_reconciliations PRIMARY KEY (reconciliation_id),
  CONSTRAINT uq_reconciliations_tenant_id_idempotency_key UNIQUE (tenant_id, idempotency_key)
);

CREATE INDEX ix_reconciliations_account ON reconciliations (account_id, ended_time_us);

CREATE INDEX ix_reconciliations_live ON reconciliations (created_time_us) WHERE state IN ('QUEUED', 'RUNNING');

CREATE UNIQUE INDEX uq_reconciliations_running ON reconciliations (account_id) WHERE state IN ('RUNNING');

CREATE TABLE reconciliation_breaks (
  reconciliation_id TEXT NOT NULL,
  number BIGINT NOT NULL,
  type TEXT NOT NULL,
  tenant_id TEXT NOT NULL,
  payment_id TEXT NOT NULL,
  provider_payment_id TEXT NOT NULL,
  ours TEXT NOT NULL,
  theirs TEXT NOT NULL,
  order_reference TEXT NOT NULL,
  operation_ids TEXT NOT NULL,
  mends BOOLEAN NOT NULL,
  mended BOOLEAN NOT NULL,
  found_time_us BIGINT NOT NULL,
  CONSTRAINT pk_reconciliation_breaks PRIMARY KEY (reconciliation_id, number),
  CONSTRAINT uq_reconciliation_breaks_break UNIQUE (reconciliation_id, type, tenant_id, payment_id, provider_payment_id, mends)
);

CREATE TABLE reconciliation_seen (
  reconciliation_id TEXT NOT NULL,
  provider_payment_id TEXT NOT NULL,
  tenant_id TEXT NOT NULL,
  payment_id TEXT NOT NULL,
  CONSTRAINT pk_reconciliation_seen PRIMARY KEY (reconciliation_id, provider_payment_id)
);

CREATE TABLE event_cursors (
  account_id TEXT NOT NULL,
  after_event_id TEXT NOT NULL,
  last_event_time_us BIGINT NOT NULL,
  first_time_us BIGINT NOT NULL,
  epoch BIGINT NOT NULL,
  next_attempt_us BIGINT NOT NULL,
  lease_until_us BIGINT,
  CONSTRAINT pk_event_cursors PRIMARY KEY (account_id)
);

CREATE TABLE restores (
  generation BIGINT NOT NULL,
  backup_time_us BIGINT NOT NULL,
  stopped_time_us BIGINT NOT NULL,
  raised_time_us BIGINT NOT NULL,
  actor TEXT NOT NULL,
  reason TEXT NOT NULL,
  CONSTRAINT pk_restores PRIMARY KEY (generation)
);

CREATE TABLE cautions (
  kind TEXT NOT NULL,
  since_us BIGINT NOT NULL,
  CONSTRAINT pk_cautions PRIMARY KEY (kind)
);

CREATE TABLE restore_clearances (
  account_id TEXT NOT NULL,
  generation BIGINT NOT NULL,
  reconciliation_id TEXT NOT NULL,
  actor TEXT NOT NULL,
  reason TEXT NOT NULL,
  cleared_time_us BIGINT NOT NULL,
  CONSTRAINT pk_restore_clearances PRIMARY KEY (account_id, generation)
);

CREATE TABLE restore_reads (
  tenant_id TEXT NOT NULL,
  payment_id TEXT NOT NULL,
  generation BIGINT NOT NULL,
  CONSTRAINT pk_restore_reads PRIMARY KEY (tenant_id, payment_id, generation)
);

CREATE TABLE lost_operations (
  tenant_id TEXT NOT NULL,
  operation_id TEXT NOT NULL,
  account_id TEXT NOT NULL,
  payment_id TEXT NOT NULL,
  provider_payment_id TEXT NOT NULL,
  reconciliation_id TEXT NOT NULL,
  order_reference TEXT NOT NULL,
  found_time_us BIGINT NOT NULL,
  CONSTRAINT pk_lost_operations PRIMARY KEY (tenant_id, operation_id)
);

CREATE INDEX ix_lost_operations_order ON lost_operations (tenant_id, order_reference);
