CREATE TABLE audit (
  tenant_id TEXT NOT NULL,
  audit_id TEXT NOT NULL,
  organization_id TEXT NOT NULL,
  actor TEXT NOT NULL,
  correlation_id TEXT NOT NULL,
  action TEXT NOT NULL,
  result TEXT NOT NULL,
  failure TEXT NOT NULL,
  provider TEXT NOT NULL,
  account_id TEXT NOT NULL,
  payment_id TEXT NOT NULL,
  command_id TEXT NOT NULL,
  detail TEXT NOT NULL,
  recorded_time_us BIGINT NOT NULL,
  CONSTRAINT pk_audit PRIMARY KEY (tenant_id, audit_id)
);

CREATE INDEX ix_audit_payment ON audit (tenant_id, payment_id) WHERE payment_id <> '';

CREATE TABLE callbacks (
  callback_id TEXT NOT NULL,
  provider TEXT NOT NULL,
  account_id TEXT NOT NULL,
  event_id TEXT NOT NULL,
  event_type TEXT NOT NULL,
  body BLOB NOT NULL,
  headers TEXT NOT NULL,
  correlation_id TEXT NOT NULL,
  received_time_us BIGINT NOT NULL,
  state TEXT NOT NULL,
  note TEXT NOT NULL,
  tenant_id TEXT NOT NULL,
  payment_id TEXT NOT NULL,
  epoch BIGINT NOT NULL,
  tries BIGINT NOT NULL,
  lease_until_us BIGINT,
  next_attempt_us BIGINT,
  CONSTRAINT pk_callbacks PRIMARY KEY (callback_id),
  CONSTRAINT uq_callbacks_provider_account_id_event_id UNIQUE (provider, account_id, event_id),
  CONSTRAINT ck_callbacks_state_known CHECK (state IN ('APPLIED', 'IGNORED', 'QUARANTINED', 'RECEIVED', 'WAITING')),
  CONSTRAINT ck_callbacks_sound CHECK (min(epoch, tries) >= 0)
);

CREATE INDEX ix_callbacks_live ON callbacks (next_attempt_us) WHERE state IN ('RECEIVED', 'WAITING');

CREATE TABLE consumers (
  tenant_id TEXT NOT NULL,
  name TEXT NOT NULL,
  accepted BIGINT NOT NULL,
  rejected BIGINT NOT NULL,
  decided_through BIGINT NOT NULL,
  created_time_us BIGINT NOT NULL,
  CONSTRAINT pk_consumers PRIMARY KEY (tenant_id, name),
  CONSTRAINT ck_consumers_sound CHECK (min(accepted, rejected, decided_through) >= 0)
);

CREATE TABLE counters (
  name TEXT NOT NULL,
  value BIGINT NOT NULL,
  CONSTRAINT pk_counters PRIMARY KEY (name)
);

CREATE TABLE evidence (
  tenant_id TEXT NOT NULL,
  evidence_id TEXT NOT NULL,
  payment_id TEXT NOT NULL,
  operation_id TEXT NOT NULL,
  epoch BIGINT NOT NULL,
  evidence TEXT NOT NULL,
  recorded_time_us BIGINT NOT NULL,
  CONSTRAINT pk_evidence PRIMARY KEY (tenant_id, evidence_id)
);

CREATE INDEX ix_evidence_operation ON evidence (tenant_id, operation_id);

CREATE TABLE history (
  tenant_id TEXT NOT NULL,
  payment_id TEXT NOT NULL,
  version BIGINT NOT NULL,
  source TEXT NOT NULL,
  causation_id TEXT NOT NULL,
  transitions TEXT NOT NULL,
  recorded_time_us BIGINT NOT NULL,
  CONSTRAINT pk_history PRIMARY KEY (tenant_id, payment_id, version),
  CONSTRAINT ck_history_sound CHECK (version >= 1)
);

CREATE TABLE observation_log (
  sequence INTEGER NOT NULL,
  tenant_id TEXT NOT NULL,
  observation_id TEXT NOT NULL,
  numbered_time_us BIGINT NOT NULL,
  CONSTRAINT pk_observation_log PRIMARY KEY (sequence),
  CONSTRAINT uq_observation_log_tenant_id_observation_id UNIQUE (tenant_id, observation_id)
);

CREATE INDEX ix_observation_log_tenant ON observation_log (tenant_id, sequence);

CREATE TABLE observation_outbox (
  tenant_id TEXT NOT NULL,
  payment_id TEXT NOT NULL,
  version BIGINT NOT NULL,
  ordinal BIGINT NOT NULL,
  observation_id TEXT NOT NULL,
  CONSTRAINT pk_observation_outbox PRIMARY KEY (tenant_id, payment_id, version, ordinal)
);

CREATE TABLE observations (
  tenant_id TEXT NOT NULL,
  payment_id TEXT NOT NULL,
  version BIGINT NOT NULL,
  ordinal BIGINT NOT NULL,
  observation_id TEXT NOT NULL,
  organization_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  source TEXT NOT NULL,
  causation_id TEXT NOT NULL,
  correlation_id TEXT NOT NULL,
  payment_state TEXT NOT NULL,
  dispute_state TEXT NOT NULL,
  currency TEXT NOT NULL,
  amount_minor BIGINT NOT NULL,
  authorized_minor BIGINT NOT NULL,
  captured_minor BIGINT NOT NULL,
  refunded_minor BIGINT NOT NULL,
  disputed_minor BIGINT NOT NULL,
  fee_minor BIGINT NOT NULL,
  provider TEXT NOT NULL,
  account_id TEXT NOT NULL,
  observed_time_us BIGINT NOT NULL,
  provider_time_us BIGINT,
  provider_payment_id TEXT,
  command_id TEXT,
  command_kind TEXT,
  command_state TEXT,
  refund_id TEXT,
  subject_amount_minor BIGINT,
  order_reference TEXT NOT NULL,
  decline TEXT,
  detail TEXT NOT NULL,
  CONSTRAINT pk_observations PRIMARY KEY (tenant_id, payment_id, version, ordinal),
  CONSTRAINT uq_observations_tenant_id_observation_id UNIQUE (tenant_id, observation_id),
  CONSTRAINT ck_observations_kind_known CHECK (kind IN ('COMMAND_CONCLUDED', 'COMMAND_REVERSED', 'CONTRADICTION', 'DISPUTE_CHANGED', 'PAYMENT_CHANGED', 'REFUND_CHANGED')),
  CONSTRAINT ck_observations_source_known CHECK (source IN ('API_REPLY', 'CALLBACK', 'MANUAL', 'RECONCILIATION', 'RECOVERY')),
  CONSTRAINT ck_observations_payment_state_known CHECK (payment_state IN ('AUTHORIZED', 'CANCELLED', 'CAPTURED', 'CREATED', 'EXPIRED', 'FAILED', 'PARTIALLY_CAPTURED', 'PARTIALLY_REFUNDED', 'PROCESSING', 'REFUNDED', 'REQUIRES_ACTION', 'UNKNOWN')),
  CONSTRAINT ck_observations_dispute_state_known CHECK (dispute_state IN ('INQUIRY', 'LOST', 'NONE', 'OPEN', 'WON')),
  CONSTRAINT ck_observations_sound CHECK (min(amount_minor, authorized_minor, captured_minor, refunded_minor, disputed_minor, fee_minor, ordinal) >= 0 AND version >= 1)
);

CREATE TABLE payments (
  tenant_id TEXT NOT NULL,
  payment_id TEXT NOT NULL,
  organization_id TEXT NOT NULL,
  correlation_id TEXT NOT NULL,
  provider TEXT NOT NULL,
  account_id TEXT NOT NULL,
  amount_minor BIGINT NOT NULL,
  currency TEXT NOT NULL,
  capture_method TEXT NOT NULL,
  confirmation_method TEXT NOT NULL,
  payment_method TEXT NOT NULL,
  customer_reference TEXT NOT NULL,
  description TEXT NOT NULL,
  statement_descriptor TEXT NOT NULL,
  return_url TEXT NOT NULL,
  metadata TEXT NOT NULL,
  order_reference TEXT NOT NULL,
  order_reference_unique BOOLEAN NOT NULL,
  connected_account TEXT NOT NULL,
  expire_time_us BIGINT,
  authorized_minor BIGINT NOT NULL,
  authorized_open_minor BIGINT NOT NULL,
  captured_minor BIGINT NOT NULL,
  capture_pending_minor BIGINT NOT NULL,
  refunded_minor BIGINT NOT NULL,
  refund_pending_minor BIGINT NOT NULL,
  disputed_minor BIGINT NOT NULL,
  fee_minor BIGINT NOT NULL,
  state TEXT NOT NULL,
  dispute_state TEXT NOT NULL,
  version BIGINT NOT NULL,
  created_time_us BIGINT NOT NULL,
  updated_time_us BIGINT NOT NULL,
  provider_payment_id TEXT,
  reserved_capture_minor BIGINT NOT NULL,
  reserved_refund_minor BIGINT NOT NULL,
  busy_command_id TEXT,
  next_action TEXT,
  decline TEXT,
  latest_command TEXT,
  flow TEXT NOT NULL,
  unique_order_reference TEXT,
  command_count BIGINT NOT NULL,
  action_due_us BIGINT,
  CONSTRAINT pk_payments PRIMARY KEY (tenant_id, payment_id),
  CONSTRAINT ck_payments_capture_method_known CHECK (capture_method IN ('AUTOMATIC', 'MANUAL')),
  CONSTRAINT ck_payments_confirmation_method_known CHECK (confirmation_method IN ('AUTOMATIC', 'MANUAL')),
  CONSTRAINT ck_payments_state_known CHECK (state IN ('AUTHORIZED', 'CANCELLED', 'CAPTURED', 'CREATED', 'EXPIRED', 'FAILED', 'PARTIALLY_CAPTURED', 'PARTIALLY_REFUNDED', 'PROCESSING', 'REFUNDED', 'REQUIRES_ACTION', 'UNKNOWN')),
  CONSTRAINT ck_payments_dispute_state_known CHECK (dispute_state IN ('INQUIRY', 'LOST', 'NONE', 'OPEN', 'WON')),
  CONSTRAINT ck_payments_sound CHECK (min(amount_minor, authorized_minor, authorized_open_minor, captured_minor, capture_pending_minor, refunded_minor, refund_pending_minor, disputed_minor, fee_minor, reserved_capture_minor, reserved_refund_minor, command_count) >= 0 AND version >= 1 AND refund_pending_minor <= refunded_minor AND tenant_id <> '')
);

CREATE INDEX ix_payments_account ON payments (tenant_id, account_id, payment_id);

CREATE INDEX ix_payments_customer ON payments (tenant_id, customer_reference, payment_id) WHERE customer_reference <> '';

CREATE INDEX ix_payments_order ON payments (tenant_id, order_reference, payment_id) WHERE order_reference <> '';

CREATE INDEX ix_payments_provider_reference ON payments (tenant_id, account_id, provider_payment_id, payment_id) WHERE provider_payment_id IS NOT NULL;

CREATE INDEX ix_payments_state ON payments (tenant_id, state, payment_id);

CREATE INDEX ix_payments_unfinished_action ON payments (action_due_us) WHERE state = 'REQUIRES_ACTION' AND action_due_us IS NOT NULL;

CREATE UNIQUE INDEX uq_payments_order ON payments (tenant_id, unique_order_reference) WHERE unique_order_reference IS NOT NULL;

CREATE TABLE commands (
  tenant_id TEXT NOT NULL,
  command_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  rpc TEXT NOT NULL,
  idempotency_key TEXT NOT NULL,
  request_hash BLOB NOT NULL,
  organization_id TEXT NOT NULL,
  actor TEXT NOT NULL,
  correlation_id TEXT NOT NULL,
  payment_id TEXT NOT NULL,
  state TEXT NOT NULL,
  created_time_us BIGINT NOT NULL,
  refund_id TEXT,
  reply BLOB,
  expired BOOLEAN NOT NULL,
  final_time_us BIGINT,
  CONSTRAINT pk_commands PRIMARY KEY (tenant_id, command_id),
  CONSTRAINT uq_commands_tenant_id_rpc_idempotency_key UNIQUE (tenant_id, rpc, idempotency_key),
  CONSTRAINT fk_commands_payments FOREIGN KEY(tenant_id, payment_id) REFERENCES payments (tenant_id, payment_id),
  CONSTRAINT ck_commands_kind_known CHECK (kind IN ('CANCEL', 'CAPTURE', 'CONFIRM', 'CREATE', 'REFUND')),
  CONSTRAINT ck_commands_state_known CHECK (state IN ('FAILED', 'NOT_SENT', 'PENDING', 'REQUIRES_ACTION', 'REVERSED', 'SENDING', 'SUCCEEDED', 'UNKNOWN')),
  CONSTRAINT ck_commands_sound CHECK ((reply IS NULL OR NOT expired AND state IN ('FAILED', 'REVERSED', 'SUCCEEDED')))
);

CREATE INDEX ix_commands_expirable ON commands (final_time_us) WHERE final_time_us IS NOT NULL AND NOT expired;

CREATE INDEX ix_commands_payment ON commands (tenant_id, payment_id);

CREATE TABLE decisions (
  tenant_id TEXT NOT NULL,
  consumer TEXT NOT NULL,
  observation_id TEXT NOT NULL,
  accepted BOOLEAN NOT NULL,
  reason TEXT NOT NULL,
  actor TEXT NOT NULL,
  correlation_id TEXT NOT NULL,
  decided_time_us BIGINT NOT NULL,
  CONSTRAINT pk_decisions PRIMARY KEY (tenant_id, consumer, observation_id),
  CONSTRAINT fk_decisions_observations FOREIGN KEY(tenant_id, observation_id) REFERENCES observations (tenant_id, observation_id)
);

CREATE TABLE movements (
  tenant_id TEXT NOT NULL,
  payment_id TEXT NOT NULL,
  account_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  provider_movement_id TEXT NOT NULL,
  amount_minor BIGINT NOT NULL,
  currency TEXT NOT NULL,
  status TEXT NOT NULL,
  operation_id TEXT,
  provider_time_us BIGINT,
  reason TEXT NOT NULL,
  CONSTRAINT pk_movements PRIMARY KEY (tenant_id, payment_id, account_id, kind, provider_movement_id),
  CONSTRAINT uq_movements_tenant_id_account_id_kind_provider_movement_id UNIQUE (tenant_id, account_id, kind, provider_movement_id),
  CONSTRAINT fk_movements_payments FOREIGN KEY(tenant_id, payment_id) REFERENCES payments (tenant_id, payment_id),
  CONSTRAINT ck_movements_kind_known CHECK (kind IN ('AUTHORIZATION', 'CAPTURE', 'DISPUTE', 'FEE', 'REFUND')),
  CONSTRAINT ck_movements_status_known CHECK (status IN ('EXPIRED', 'FAILED', 'INQUIRY', 'INQUIRY_CLOSED', 'LOST', 'OPEN', 'PENDING', 'RELEASED', 'REVERSED', 'SUCCEEDED', 'WON')),
  CONSTRAINT ck_movements_sound CHECK (amount_minor >= 0)
);

CREATE TABLE refunds (
  tenant_id TEXT NOT NULL,
  refund_id TEXT NOT NULL,
  payment_id TEXT NOT NULL,
  origin TEXT NOT NULL,
  amount_minor BIGINT NOT NULL,
  currency TEXT NOT NULL,
  state TEXT NOT NULL,
  reason TEXT NOT NULL,
  created_time_us BIGINT NOT NULL,
  updated_time_us BIGINT NOT NULL,
  command_id TEXT,
  provider_refund_id TEXT,
  decline TEXT,
  CONSTRAINT pk_refunds PRIMARY KEY (tenant_id, refund_id),
  CONSTRAINT fk_refunds_payments FOREIGN KEY(tenant_id, payment_id) REFERENCES payments (tenant_id, payment_id),
  CONSTRAINT ck_refunds_origin_known CHECK (origin IN ('OBOL', 'PROVIDER')),
  CONSTRAINT ck_refunds_state_known CHECK (state IN ('FAILED', 'NOT_SENT', 'PENDING', 'REQUIRES_ACTION', 'REVERSED', 'SENDING', 'SUCCEEDED', 'UNKNOWN')),
  CONSTRAINT ck_refunds_sound CHECK (amount_minor >= 0 AND (origin <> 'OBOL' OR command_id IS NOT NULL))
);

CREATE INDEX ix_refunds_payment ON refunds (tenant_id, payment_id, refund_id);

CREATE TABLE operations (
  tenant_id TEXT NOT NULL,
  operation_id TEXT NOT NULL,
  command_id TEXT NOT NULL,
  payment_id TEXT NOT NULL,
  step BIGINT NOT NULL,
  kind TEXT NOT NULL,
  provider TEXT NOT NULL,
  account_id TEXT NOT NULL,
  amount_minor BIGINT NOT NULL,
  currency TEXT NOT NULL,
  prepared TEXT NOT NULL,
  state TEXT NOT NULL,
  sent TEXT NOT NULL,
  epoch BIGINT NOT NULL,
  claimed_time_us BIGINT NOT NULL,
  lease_until_us BIGINT,
  next_attempt_us BIGINT,
  last_send_us BIGINT,
  recoveries BIGINT NOT NULL,
  reserved_minor BIGINT NOT NULL,
  refund_id TEXT,
  provider_payment_id TEXT,
  provider_result_id TEXT,
  final_capture BOOLEAN NOT NULL,
  decline TEXT,
  failure TEXT NOT NULL,
  CONSTRAINT pk_operations PRIMARY KEY (tenant_id, operation_id),
  CONSTRAINT uq_operations_tenant_id_command_id_step UNIQUE (tenant_id, command_id, step),
  CONSTRAINT fk_operations_commands FOREIGN KEY(tenant_id, command_id) REFERENCES commands (tenant_id, command_id),
  CONSTRAINT ck_operations_kind_known CHECK (kind IN ('CANCEL', 'CAPTURE', 'CONFIRM', 'CREATE', 'REFUND')),
  CONSTRAINT ck_operations_state_known CHECK (state IN ('FAILED', 'NOT_SENT', 'PENDING', 'REQUIRES_ACTION', 'REVERSED', 'SENDING', 'SUCCEEDED', 'UNKNOWN')),
  CONSTRAINT ck_operations_sent_known CHECK (sent IN ('MAYBE', 'NO', 'YES')),
  CONSTRAINT ck_operations_sound CHECK (min(amount_minor, reserved_minor, recoveries) >= 0 AND epoch >= 1 AND reserved_minor <= amount_minor AND (reserved_minor = 0 OR kind IN ('CAPTURE', 'REFUND')))
);

CREATE INDEX ix_operations_due ON operations (next_attempt_us) WHERE state IN ('PENDING', 'REQUIRES_ACTION', 'SENDING', 'UNKNOWN');

CREATE INDEX ix_operations_live ON operations (state, claimed_time_us) WHERE state IN ('PENDING', 'REQUIRES_ACTION', 'SENDING', 'UNKNOWN');

CREATE INDEX ix_operations_payment ON operations (tenant_id, payment_id);

CREATE TRIGGER audit_refuse_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;

CREATE TRIGGER audit_refuse_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;

CREATE TRIGGER decisions_refuse_update BEFORE UPDATE ON decisions BEGIN SELECT RAISE(ABORT, 'decisions is append-only'); END;

CREATE TRIGGER decisions_refuse_delete BEFORE DELETE ON decisions BEGIN SELECT RAISE(ABORT, 'decisions is append-only'); END;

CREATE TRIGGER evidence_refuse_update BEFORE UPDATE ON evidence BEGIN SELECT RAISE(ABORT, 'evidence is append-only'); END;

CREATE TRIGGER evidence_refuse_delete BEFORE DELETE ON evidence BEGIN SELECT RAISE(ABORT, 'evidence is append-only'); END;

CREATE TRIGGER history_refuse_update BEFORE UPDATE ON history BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;

CREATE TRIGGER history_refuse_delete BEFORE DELETE ON history BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;

CREATE TRIGGER observation_log_refuse_update BEFORE UPDATE ON observation_log BEGIN SELECT RAISE(ABORT, 'observation_log is append-only'); END;

CREATE TRIGGER observation_log_refuse_delete BEFORE DELETE ON observation_log BEGIN SELECT RAISE(ABORT, 'observation_log is append-only'); END;

CREATE TRIGGER observations_refuse_update BEFORE UPDATE ON observations BEGIN SELECT RAISE(ABORT, 'observations is append-only'); END;

CREATE TRIGGER observations_refuse_delete BEFORE DELETE ON observations BEGIN SELECT RAISE(ABORT, 'observations is append-only'); END;
