"""The initial schema."""

from alembic import op

from store.append_only import create_triggers
from store.tables import metadata

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table."""
    bind = op.get_bind()
    metadata.create_all(bind)
    for statement in create_triggers(bind.dialect.name):
        op.execute(statement)
    op.execute("INSERT INTO counters (name, value) VALUES ('observations', 0)")
