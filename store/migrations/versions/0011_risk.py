"""What a provider made of a payment's latest attempt, told with each observation.

The release before this one writes none, and reads past it: an observation of its is one of which nothing is known.
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; no row is touched, on either engine."""
    op.get_bind().exec_driver_sql("ALTER TABLE observations ADD COLUMN risk TEXT")


def downgrade() -> None:
    """What was observed stays, and observations are never changed."""
    raise NotImplementedError("observations that tell of a risk stay")
