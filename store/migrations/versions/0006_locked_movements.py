"""PostgreSQL looks no payment up for a movement: settle writes the keys of the payment that it has locked."""

from alembic import op

revision = "0006"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Drop the movements' foreign key. SQLite, where it costs next to nothing and cannot be dropped alone, keeps it."""
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint("fk_movements_payments", "movements", type_="foreignkey")


def downgrade() -> None:
    """The key comes back; the release before works with it as well as without it."""
    if op.get_bind().dialect.name == "postgresql":
        keys = ["tenant_id", "payment_id"]
        op.create_foreign_key("fk_movements_payments", "movements", "payments", keys, keys)
