"""What a payment pays for: a foreign key less on PostgreSQL, and an index that no query can mistake for another.

PostgreSQL looks no payment up for a movement: settle writes the keys of the payment that it has locked. SQLite, where
the look-up costs next to nothing and the key cannot be dropped alone, keeps it.
"""

from alembic import op

revision = "0006"
down_revision = "0004"
branch_labels = None
depends_on = None

LIVE = "state IN ('PENDING', 'REQUIRES_ACTION', 'SENDING', 'UNKNOWN')"


def upgrade() -> None:
    """Live operations are indexed by time first, so that what is due is always found by when it is due."""
    op.execute("-- additive because it is made again, in another order\nDROP INDEX ix_operations_live")
    op.execute(f"CREATE INDEX ix_operations_live ON operations (claimed_time_us, state) WHERE {LIVE}")
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "-- additive because a settle writes the keys of the payment that it has locked\n"
            "ALTER TABLE movements DROP CONSTRAINT fk_movements_payments"
        )


def downgrade() -> None:
    """As it was; this release works with either."""
    op.execute("DROP INDEX ix_operations_live")
    op.execute(f"CREATE INDEX ix_operations_live ON operations (state, claimed_time_us) WHERE {LIVE}")
    if op.get_bind().dialect.name == "postgresql":
        keys = ["tenant_id", "payment_id"]
        op.create_foreign_key("fk_movements_payments", "movements", "payments", keys, keys)
