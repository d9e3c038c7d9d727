"""What PostgreSQL need not check again for each payment: keys that one statement writes, and copies of checked rows.

A command, its operation and its payment are written by one statement, from one row of its own; history and observations
tell of the payment that the same transaction has written, whose row is checked. `obol verify` looks for what would
break these. SQLite, where checks cost next to nothing and cannot be dropped alone, keeps them.
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# In the order in which a payment locks its tables, so that a migration and a payment do not wait for each other.
DROPPED = (
    ("commands", "fk_commands_payments", "a claim writes a command's keys and its payment's from one row"),
    ("operations", "fk_operations_commands", "a claim writes an operation of the command that it writes or has locked"),
    ("history", "ck_history_sound", "a version is one more than that of the locked payment, whose row is checked"),
    ("observations", "ck_observations_sound", "its amounts are the payment's, whose row is checked"),
)


def upgrade() -> None:
    """Drop the foreign keys and checks on PostgreSQL; the release before this one works on without."""
    if op.get_bind().dialect.name == "postgresql":
        for table, constraint, reason in DROPPED:
            op.execute(f"-- additive because {reason}\nALTER TABLE {table} DROP CONSTRAINT {constraint}")


def downgrade() -> None:
    """As it was; this release works with either."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.create_foreign_key(
        "fk_commands_payments", "commands", "payments", ["tenant_id", "payment_id"], ["tenant_id", "payment_id"]
    )
    op.create_foreign_key(
        "fk_operations_commands", "operations", "commands", ["tenant_id", "command_id"], ["tenant_id", "command_id"]
    )
    op.create_check_constraint("ck_history_sound", "history", "version >= 1")
    amounts = "amount_minor, authorized_minor, captured_minor, refunded_minor, disputed_minor, fee_minor, ordinal"
    op.create_check_constraint("ck_observations_sound", "observations", f"least({amounts}) >= 0 AND version >= 1")
