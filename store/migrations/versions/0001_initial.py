"""The initial schema, as `migrations/initial` holds it for each engine."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

FOLDER = Path(__file__).parent.parent / "initial"


def upgrade() -> None:
    """Create every table, index and trigger."""
    schema = (FOLDER / f"{op.get_bind().dialect.name}.sql").read_text()
    for statement in schema.removesuffix(";\n").split(";\n\n"):
        # As it stands: a colon in it is no parameter.
        op.get_bind().exec_driver_sql(statement)
    op.execute("INSERT INTO counters (name, value) VALUES ('observations', 0)")


def downgrade() -> None:
    """There is nothing before it: a database that holds payments is not emptied by a program."""
    raise NotImplementedError("the initial schema has nothing before it")
