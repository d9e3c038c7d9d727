"""Reconciliations, event cursors and restores, as `migrations/reconciliation` holds them for each engine.

Tables are added and none is changed: the release before this one works on, and only lacks the guard after a restore.
"""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

FOLDER = Path(__file__).parent.parent / "reconciliation"


def upgrade() -> None:
    """Create the tables and their indexes."""
    schema = (FOLDER / f"{op.get_bind().dialect.name}.sql").read_text()
    for statement in schema.removesuffix(";\n").split(";\n\n"):
        # As it stands: a colon in it is no parameter.
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    """What was found is not forgotten by a program."""
    raise NotImplementedError("breaks and restores are evidence; they are not dropped")
