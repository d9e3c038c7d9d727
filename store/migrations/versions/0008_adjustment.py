"""A further kind of command, ADJUST, and of a movement the one that it comes from.

The checks of SQLite's tables name the kinds, and are edited as 0007 does it; PostgreSQL has no such check. The release
before this one writes no parent, and leaves one that is there as it is.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

BEFORE = "kind IN ('CANCEL', 'CAPTURE', 'COMPLETE', 'CONFIRM', 'CREATE', 'REFUND')"
AFTER = "kind IN ('ADJUST', 'CANCEL', 'CAPTURE', 'COMPLETE', 'CONFIRM', 'CREATE', 'REFUND')"


def upgrade() -> None:
    """Add the column, and let ADJUST be a kind of commands and operations."""
    connection = op.get_bind()
    connection.exec_driver_sql("ALTER TABLE movements ADD COLUMN parent_id TEXT")
    if connection.dialect.name != "sqlite":
        return
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    changed = connection.exec_driver_sql(
        "UPDATE sqlite_schema SET sql = replace(sql, ?, ?) "
        "WHERE type = 'table' AND name IN ('commands', 'operations') AND instr(sql, ?) > 0",
        (BEFORE, AFTER, BEFORE),
    )
    if changed.rowcount != 2:
        raise RuntimeError(f"{changed.rowcount} tables hold the check that is to be changed, not 2")
    connection.exec_driver_sql(f"PRAGMA schema_version = {int(version) + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema = OFF")


def downgrade() -> None:
    """The former release reads no payment whose authorization was adjusted."""
    raise NotImplementedError("payments whose authorization was adjusted stay")
