"""Why a payment is at its account, failovers under way, and the modes of accounts: all new, nothing changed.

The release before this one writes neither column: a payment of its own has no route, which is what NULL means.
"""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

FOLDER = Path(__file__).parent.parent / "routing"


def upgrade() -> None:
    """Add the columns, the index and the table."""
    schema = (FOLDER / f"{op.get_bind().dialect.name}.sql").read_text()
    for statement in schema.removesuffix(";\n").split(";\n\n"):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    """A route is not forgotten by a program."""
    raise NotImplementedError("there is no way back from a database that holds routes")
