"""An insert that leaves what is there: both engines know the clause, SQLAlchemy's common insert lacks it."""

from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_if_new(connection: Connection, table: Table, values: dict[str, Any]) -> bool:
    """Insert the row unless one of its unique keys is taken; whether it was inserted.

    On PostgreSQL it waits for whoever is inserting the same, and a statement after it sees that row.
    """
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    column = next(iter(table.primary_key.columns))
    statement = insert(table).values(values).on_conflict_do_nothing().returning(column)
    return connection.execute(statement).first() is not None
