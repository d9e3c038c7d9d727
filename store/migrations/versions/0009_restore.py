"""Where each restore parts the observation log, and what operators settle of what a restore lost: tables are added.

Restores that were declared before get their points: what was numbered after the backup is the restored database's own.
"""

from pathlib import Path

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

FOLDER = Path(__file__).parent.parent / "restore"


def upgrade() -> None:
    """Create the tables, and fill in what is known."""
    schema = (FOLDER / f"{op.get_bind().dialect.name}.sql").read_text()
    for statement in schema.removesuffix(";\n").split(";\n\n"):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    """Cursors that consumers hold name what these tables say."""
    raise NotImplementedError("there is no way back from a database that consumers hold cursors of")
