"""Which rules of the model the code does not keep yet, asked of the code itself."""

from dataclasses import replace

from sqlalchemy import create_engine, insert, literal

from store import oversight_tables
from store.recovery import start_resend
from store.rows import operation_row
from store.tables import operations
from tests.model.rules import Rule
from tests.model.table import OPERATION

SECOND_US = 1_000_000


def not_built() -> frozenset[Rule]:
    """The rules that the code lets slip."""
    return frozenset() if _start_resend_asks_for_the_lease() else frozenset({Rule.START_RESEND_LEASE})


def _start_resend_asks_for_the_lease() -> bool:
    """Whether a holder whose lease has ended, and whom nobody has relieved, is refused."""
    held = replace(OPERATION, lease_until_us=10 * SECOND_US, next_attempt_us=10 * SECOND_US, last_send_us=5 * SECOND_US)
    engine = create_engine("sqlite://")
    try:
        with engine.begin() as connection:
            oversight_tables.reconciliations.metadata.create_all(connection)
            connection.execute(insert(operations).values(**operation_row(held)))
            late = literal(24 * 3600 * SECOND_US)
            return start_resend(connection, late, held, lease_s=60.0, send_window_s=10.0) is None
    finally:
        engine.dispose()
