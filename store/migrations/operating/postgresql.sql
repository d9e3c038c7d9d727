CREATE TABLE proposals (
  tenant_id TEXT NOT NULL,
  proposal_id TEXT NOT NULL,
  payment_id TEXT NOT NULL,
  command_id TEXT NOT NULL,
  operation_id TEXT NOT NULL,
  resolution TEXT NOT NULL,
  reason TEXT NOT NULL,
  provider_result_id TEXT NOT NULL,
  provider_movement_id TEXT NOT NULL,
  actor TEXT NOT NULL,
  correlation_id TEXT NOT NULL,
  version BIGINT NOT NULL,
  last_send_us BIGINT NOT NULL,
  proposed_time_us BIGINT NOT NULL,
  CONSTRAINT pk_proposals PRIMARY KEY (tenant_id, proposal_id),
  CONSTRAINT uq_proposals_tenant_id_proposal_id_actor UNIQUE (tenant_id, proposal_id, actor),
  CONSTRAINT fk_proposals_payments FOREIGN KEY(tenant_id, payment_id) REFERENCES payments (tenant_id, payment_id),
  CONSTRAINT ck_proposals_sound CHECK (actor <> '' AND reason <> '')
);

CREATE INDEX ix_proposals_command ON proposals (tenant_id, command_id, proposed_time_us);

CREATE INDEX ix_proposals_payment ON proposals (tenant_id, payment_id);

CREATE TABLE approvals (
  tenant_id TEXT NOT NULL,
  proposal_id TEXT NOT NULL,
  proposed_by TEXT NOT NULL,
  actor TEXT NOT NULL,
  correlation_id TEXT NOT NULL,
  reason TEXT NOT NULL,
  approved_time_us BIGINT NOT NULL,
  CONSTRAINT pk_approvals PRIMARY KEY (tenant_id, proposal_id),
  CONSTRAINT fk_approvals_proposals FOREIGN KEY(tenant_id, proposal_id, proposed_by) REFERENCES proposals (tenant_id, proposal_id, actor),
  CONSTRAINT ck_approvals_sound CHECK (actor <> proposed_by AND actor <> '')
);

CREATE TABLE alarms (
  tenant_id TEXT NOT NULL,
  operation_id TEXT NOT NULL,
  raised_time_us BIGINT NOT NULL,
  CONSTRAINT pk_alarms PRIMARY KEY (tenant_id, operation_id)
);

CREATE INDEX ix_callbacks_account ON callbacks (account_id, state, callback_id);

CREATE INDEX ix_callbacks_payment ON callbacks (payment_id, callback_id) WHERE payment_id <> '';

CREATE INDEX ix_callbacks_state ON callbacks (state, callback_id);

CREATE INDEX ix_payments_stuck ON payments (state, created_time_us, payment_id) WHERE state IN ('AUTHORIZED', 'PROCESSING', 'REQUIRES_ACTION');

CREATE INDEX ix_audit_operators ON audit (audit_id) WHERE substr(action, 1, 9) = 'OPERATOR.';

CREATE TRIGGER alarms_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON alarms FOR EACH STATEMENT EXECUTE FUNCTION obol_refuse_change();

CREATE TRIGGER approvals_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON approvals FOR EACH STATEMENT EXECUTE FUNCTION obol_refuse_change();

CREATE TRIGGER proposals_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON proposals FOR EACH STATEMENT EXECUTE FUNCTION obol_refuse_change();
