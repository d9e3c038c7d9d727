"""Triggers that refuse to change what is only ever added to, on both engines."""

from collections.abc import Iterator

APPEND_ONLY = (
    *("alarms", "approvals", "audit", "decisions", "evidence", "history", "observation_log", "observations"),
    *("lost_proposals", "lost_settlements", "proposals"),
)
"""The tables whose rows never change and never go."""

_POSTGRESQL_FUNCTION = """
CREATE FUNCTION obol_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$
"""


def create_triggers(dialect: str) -> Iterator[str]:
    """The statements that arm the guard, for `sqlite` or `postgresql`."""
    if dialect == "postgresql":
        yield _POSTGRESQL_FUNCTION
    for table in APPEND_ONLY:
        if dialect == "postgresql":
            # For each statement: an UPDATE of no row is refused as well.
            yield (
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION obol_refuse_change()"
            )
        else:
            for verb in ("UPDATE", "DELETE"):
                yield (
                    f"CREATE TRIGGER {table}_refuse_{verb.lower()} BEFORE {verb} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
                )
