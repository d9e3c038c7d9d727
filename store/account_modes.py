"""The modes that operators set accounts to: one small table that every replica reads every few seconds."""

from collections.abc import Sequence

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    PrimaryKeyConstraint,
    Table,
    Text,
    delete,
    insert,
    select,
)

from gateway.domain.modes import AccountMode, ProviderMode
from gateway.domain.storage import AuditRecord
from store.recovery import append_audit
from store.tables import metadata
from store.values import clean

MODES_MAX = 1_000
"""Rows that are read at most: more accounts than anybody configures."""

account_modes = Table(
    "account_modes",
    metadata,
    *(Column(name, Text, nullable=False) for name in ("account_id", "mode", "reason", "actor")),
    Column("changed_time_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("account_id"),
)


def set_mode(connection: Connection, now: ColumnElement[int], mode: AccountMode, record: AuditRecord) -> AccountMode:
    """Put the mode in place of the one before, with its audit record; as it stands now."""
    connection.execute(delete(account_modes).where(account_modes.c.account_id == mode.account_id))
    row = connection.execute(
        insert(account_modes)
        .values(
            account_id=mode.account_id,
            mode=mode.mode.value,
            reason=clean(mode.reason),
            actor=mode.actor,
            changed_time_us=now,
        )
        .returning(account_modes.c.changed_time_us)
    ).one()
    append_audit(connection, now, [record])
    return AccountMode(mode.account_id, mode.mode, mode.reason, mode.actor, row.changed_time_us)


def list_modes(connection: Connection) -> Sequence[AccountMode]:
    """Every mode that was ever set, by account."""
    rows = connection.execute(select(account_modes).order_by(account_modes.c.account_id).limit(MODES_MAX))
    return [
        AccountMode(row.account_id, ProviderMode(row.mode), row.reason, row.actor, row.changed_time_us) for row in rows
    ]
