ALTER TABLE payments ADD COLUMN route TEXT, ADD COLUMN failover_due_us BIGINT;

CREATE INDEX ix_payments_failing_over ON payments (failover_due_us) WHERE failover_due_us IS NOT NULL;

CREATE TABLE account_modes (
  account_id TEXT NOT NULL,
  mode TEXT NOT NULL,
  reason TEXT NOT NULL,
  actor TEXT NOT NULL,
  changed_time_us BIGINT NOT NULL,
  CONSTRAINT pk_account_modes PRIMARY KEY (account_id)
);
