"""What PostgreSQL's planner knows of the hot tables, while they are young.

Hot statements are planned once for a connection. Until a table's first ANALYZE the planner knows no column of it, takes
every index that begins with the tenant for as good as any other, and that plan would stay. Autovacuum comes within a
minute, and by then thousands of payments may have been through. ANALYZE makes every connection plan anew.
"""

from sqlalchemy import Connection, text

GREW_TIMES = 2
"""A table is due once it has more than so many times the pages that it had when it was last looked at."""

HOT_TABLES = (
    "commands",
    "history",
    "movements",
    "observation_log",
    "observations",
    "operations",
    "payments",
    "refunds",
)

_DUE = text(
    f"""
SELECT c.relname FROM pg_class c
WHERE c.oid = ANY (ARRAY[{", ".join(f"to_regclass('{table}')" for table in HOT_TABLES)}]::oid[])
  AND pg_relation_size(c.oid) > 0 AND pg_has_role(c.relowner, 'MEMBER')
  AND (c.reltuples < 0
    OR pg_relation_size(c.oid) > {GREW_TIMES} * c.relpages::bigint * current_setting('block_size')::bigint)
"""  # noqa: S608 - constants of ours
)


def refresh_statistics(connection: Connection) -> None:
    """ANALYZE those hot tables that were never looked at or have outgrown it; on any other day one cheap look.

    Each is read in a sample, whatever its size. One that another replica is at, or that is not the role's own, is left
    alone. The connection must be in no transaction, so that each table is told of at once.
    """
    for table in connection.scalars(_DUE).all():
        connection.exec_driver_sql(f"ANALYZE (SKIP_LOCKED) {table}")
