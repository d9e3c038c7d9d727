"""Runs migrations over the connection that `store.migrate` hands in."""

from alembic import context
from sqlalchemy import text

from store.tables import metadata

# A migration must not queue behind a long transaction and hold up every query that comes after it.
LOCK_TIMEOUT = "3s"
MIGRATION_LOCK = 6_242_661_001
"""Any fixed number: whoever migrates an Obol database holds this advisory lock."""

connection = context.config.attributes["connection"]
if connection.dialect.name == "postgresql":
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True, transactional_ddl=True)
context.run_migrations()
