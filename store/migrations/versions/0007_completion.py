"""A further kind of command, COMPLETE: the checks of SQLite's tables name it; PostgreSQL has no such check.

SQLite documents this way for a change that touches no row: the table's text in its schema is edited, and the schema's
version raised so that every connection reads it anew (sqlite.org/lang_altertable.html, section 7).
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

BEFORE = "kind IN ('CANCEL', 'CAPTURE', 'CONFIRM', 'CREATE', 'REFUND')"
AFTER = "kind IN ('CANCEL', 'CAPTURE', 'COMPLETE', 'CONFIRM', 'CREATE', 'REFUND')"


def upgrade() -> None:
    """Let COMPLETE be a kind of commands and operations."""
    connection = op.get_bind()
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
    """The former release reads no payment that was completed."""
    raise NotImplementedError("payments that were completed stay")
