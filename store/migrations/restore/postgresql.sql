CREATE TABLE restore_points (
  generation BIGINT NOT NULL,
  resume_sequence BIGINT NOT NULL,
  CONSTRAINT pk_restore_points PRIMARY KEY (generation)
);

INSERT INTO restore_points (generation, resume_sequence) SELECT r.generation, coalesce((SELECT min(l.sequence) - 1 FROM observation_log l WHERE l.numbered_time_us > r.backup_time_us), (SELECT max(m.sequence) FROM observation_log m), 0) FROM restores r;

CREATE TABLE lost_proposals (
  tenant_id TEXT NOT NULL,
  proposal_id TEXT NOT NULL,
  payment_id TEXT NOT NULL,
  order_reference TEXT NOT NULL,
  outcome TEXT NOT NULL,
  reason TEXT NOT NULL,
  shown TEXT NOT NULL,
  actor TEXT NOT NULL,
  correlation_id TEXT NOT NULL,
  proposed_time_us BIGINT NOT NULL,
  CONSTRAINT pk_lost_proposals PRIMARY KEY (tenant_id, proposal_id),
  CONSTRAINT uq_lost_proposals_tenant_id_proposal_id_actor UNIQUE (tenant_id, proposal_id, actor),
  CONSTRAINT ck_lost_proposals_sound CHECK (actor <> '' AND reason <> '')
);

CREATE INDEX ix_lost_proposals_payment ON lost_proposals (tenant_id, payment_id, proposed_time_us);

CREATE INDEX ix_lost_operations_payment ON lost_operations (tenant_id, payment_id);

CREATE TABLE lost_settlements (
  tenant_id TEXT NOT NULL,
  proposal_id TEXT NOT NULL,
  payment_id TEXT NOT NULL,
  proposed_by TEXT NOT NULL,
  actor TEXT NOT NULL,
  correlation_id TEXT NOT NULL,
  reason TEXT NOT NULL,
  settled_time_us BIGINT NOT NULL,
  CONSTRAINT pk_lost_settlements PRIMARY KEY (tenant_id, proposal_id),
  CONSTRAINT fk_lost_settlements_lost_proposals FOREIGN KEY(tenant_id, proposal_id, proposed_by) REFERENCES lost_proposals (tenant_id, proposal_id, actor),
  CONSTRAINT ck_lost_settlements_sound CHECK (actor <> proposed_by AND actor <> '')
);

CREATE INDEX ix_lost_settlements_payment ON lost_settlements (tenant_id, payment_id, settled_time_us);

CREATE TRIGGER lost_proposals_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON lost_proposals FOR EACH STATEMENT EXECUTE FUNCTION obol_refuse_change();

CREATE TRIGGER lost_settlements_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON lost_settlements FOR EACH STATEMENT EXECUTE FUNCTION obol_refuse_change();
