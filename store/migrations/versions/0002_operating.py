"""What operators need: proposals, approvals, alarms, and indexes for lists across tenants.

Only adds: the release before this one runs on it as it is.
"""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

FOLDER = Path(__file__).parent.parent / "operating"


def upgrade() -> None:
    """Create the tables, indexes and triggers, as `migrations/operating` holds them for each engine."""
    schema = (FOLDER / f"{op.get_bind().dialect.name}.sql").read_text()
    for statement in schema.removesuffix(";\n").split(";\n\n"):
        # As it stands: a colon in it is no parameter.
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    """What operators decided is kept: nothing here is taken back by a program."""
    raise NotImplementedError("operators' decisions are not deleted by a program")
