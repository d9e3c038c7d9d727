"""The schema as SQLAlchemy Core tables: what is kept, under which key, and which rows are impossible.

Times are BIGINT unix microseconds, amounts BIGINT minor units. Documents (metadata, prepared requests, transitions) are
JSON in TEXT columns, escaped to ASCII by `store.rows`: what was kept comes back character for character on both
engines, which JSONB does not promise. Every key but the inbox's and the log's leads with `tenant_id`.

Foreign keys hold the live rows together. History and observations pay for none: claim and settle write them from the
payment that they have locked. Nor do commands, operations and movements on PostgreSQL: one statement writes the keys of
all, and looking each up and locking it was a fifteenth of its work (docs/adr/0019).

Payments, commands, operations, movements and refunds are the live rows; `history`, `observations`, `observation_log`,
`decisions`, `evidence` and `audit` are only ever added to (`store.append_only`).
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from gateway.domain.commands import CommandKind
from gateway.domain.errors import Sent
from gateway.domain.movements import MovementKind, MovementStatus, Origin
from gateway.domain.observations import ObservationKind, Source
from gateway.domain.payments import CaptureMethod, ConfirmationMethod
from gateway.domain.states import FINAL_COMMAND_STATES, LIVE_COMMAND_STATES, CommandState, DisputeState, PaymentState
from gateway.domain.storage import CallbackState

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
    }
)

LIVE_CALLBACK_STATES = frozenset({CallbackState.RECEIVED, CallbackState.WAITING})
"""A callback in one of these is still to be applied."""

ORDER_GIVEN_UP_STATES = frozenset({PaymentState.CANCELLED, PaymentState.EXPIRED})
"""A payment in one of these no longer holds the unique claim of its order."""


def among(column: str, values: Iterable[str]) -> str:
    """The SQL condition that `column` holds one of `values`; sorted, so that an index predicate never varies."""
    return f"{column} IN ({', '.join(repr(str(value)) for value in sorted(values))})"


LIVE_OPERATION = among("state", LIVE_COMMAND_STATES)
LIVE_CALLBACK = among("state", LIVE_CALLBACK_STATES)
UNFINISHED_ACTION = "state = 'REQUIRES_ACTION' AND action_due_us IS NOT NULL"
FAILING_OVER = "failover_due_us IS NOT NULL"
EXPIRABLE_COMMAND = "final_time_us IS NOT NULL AND NOT expired"


def _texts(*names: str) -> list[Column[Any]]:
    return [Column(name, Text, nullable=False) for name in names]


def _optional_texts(*names: str) -> list[Column[Any]]:
    return [Column(name, Text) for name in names]


def _whole(*names: str) -> list[Column[Any]]:
    return [Column(name, BigInteger, nullable=False) for name in names]


def _optional_whole(*names: str) -> list[Column[Any]]:
    return [Column(name, BigInteger) for name in names]


def _known(column: str, values: Iterable[str]) -> CheckConstraint:
    """The enums guard these columns; SQLite, where a check costs next to nothing, does so once more."""
    constraint = CheckConstraint(among(column, values), name=f"{column}_known")
    return constraint.ddl_if(dialect="sqlite")


def _sound(*conditions: str, not_negative: tuple[str, ...] = (), copied: bool = False) -> list[CheckConstraint]:
    """All that must hold of a row, as one CHECK: PostgreSQL reads each anew, word by word, for every statement."""
    checks = []
    # What only repeats a row that the same transaction has checked is not checked again there.
    for dialect, smallest in (("postgresql", "least"), ("sqlite", "min"))[copied:]:
        amounts = f"{smallest}({', '.join(not_negative)})" if len(not_negative) > 1 else "".join(not_negative)
        all_of = [f"{amounts} >= 0"] if amounts else []
        constraint = CheckConstraint(" AND ".join([*all_of, *conditions]), name="sound")
        checks.append(constraint.ddl_if(dialect=dialect))
    return checks


def _partial(name: str, *columns: Any, where: str, unique: bool = False) -> Index:
    return Index(name, *columns, unique=unique, postgresql_where=text(where), sqlite_where=text(where))


def _of_payment() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["tenant_id", "payment_id"], ["payments.tenant_id", "payments.payment_id"])


def _of_locked(key: str, table: str) -> ForeignKeyConstraint:
    """Where PostgreSQL's one writer takes the keys from the row that it has locked or made, they are not looked up."""
    keys = ForeignKeyConstraint(["tenant_id", key], [f"{table}.tenant_id", f"{table}.{key}"])
    return keys.ddl_if(dialect="sqlite")


payments = Table(
    "payments",
    metadata,
    *_texts("tenant_id", "payment_id", "organization_id", "correlation_id", "provider", "account_id"),
    *_whole("amount_minor"),
    *_texts("currency", "capture_method", "confirmation_method", "payment_method", "customer_reference"),
    *_texts("description", "statement_descriptor", "return_url", "metadata", "order_reference"),
    Column("order_reference_unique", Boolean(create_constraint=False), nullable=False),
    *_texts("connected_account"),
    *_optional_whole("expire_time_us"),
    *_whole("authorized_minor", "authorized_open_minor", "captured_minor", "capture_pending_minor"),
    *_whole("refunded_minor", "refund_pending_minor", "disputed_minor", "fee_minor"),
    *_texts("state", "dispute_state"),
    *_whole("version", "created_time_us", "updated_time_us"),
    *_optional_texts("provider_payment_id"),
    *_whole("reserved_capture_minor", "reserved_refund_minor"),
    *_optional_texts("busy_command_id", "next_action", "decline", "latest_command"),
    *_texts("flow"),
    # The store's own: the order while this payment holds it, commands so far, when an unfinished action is next due.
    *_optional_texts("unique_order_reference"),
    *_whole("command_count"),
    *_optional_whole("action_due_us"),
    *_optional_texts("route"),
    # The store's own: when a failover under way is next looked after.
    *_optional_whole("failover_due_us"),
    PrimaryKeyConstraint("tenant_id", "payment_id"),
    _known("capture_method", CaptureMethod),
    _known("confirmation_method", ConfirmationMethod),
    _known("state", PaymentState),
    _known("dispute_state", DisputeState),
    *_sound(
        "version >= 1",
        "refund_pending_minor <= refunded_minor",
        "tenant_id <> ''",
        not_negative=(
            *("amount_minor", "authorized_minor", "authorized_open_minor", "captured_minor", "capture_pending_minor"),
            *("refunded_minor", "refund_pending_minor", "disputed_minor", "fee_minor"),
            *("reserved_capture_minor", "reserved_refund_minor", "command_count"),
        ),
    ),
    _partial(
        "uq_payments_order",
        "tenant_id",
        "unique_order_reference",
        where="unique_order_reference IS NOT NULL",
        unique=True,
    ),
    _partial("ix_payments_order", "tenant_id", "order_reference", "payment_id", where="order_reference <> ''"),
    _partial("ix_payments_customer", "tenant_id", "customer_reference", "payment_id", where="customer_reference <> ''"),
    _partial(
        "ix_payments_provider_reference",
        "tenant_id",
        "account_id",
        "provider_payment_id",
        "payment_id",
        where="provider_payment_id IS NOT NULL",
    ),
    Index("ix_payments_account", "tenant_id", "account_id", "payment_id"),
    Index("ix_payments_state", "tenant_id", "state", "payment_id"),
    _partial("ix_payments_unfinished_action", "action_due_us", where=UNFINISHED_ACTION),
    _partial("ix_payments_failing_over", "failover_due_us", where=FAILING_OVER),
)

commands = Table(
    "commands",
    metadata,
    *_texts("tenant_id", "command_id", "kind", "rpc", "idempotency_key"),
    Column("request_hash", LargeBinary, nullable=False),
    *_texts("organization_id", "actor", "correlation_id", "payment_id", "state"),
    *_whole("created_time_us"),
    *_optional_texts("refund_id"),
    Column("reply", LargeBinary),
    Column("expired", Boolean(create_constraint=False), nullable=False),
    # The store's own: when the command became final, from which its key's window counts.
    *_optional_whole("final_time_us"),
    PrimaryKeyConstraint("tenant_id", "command_id"),
    UniqueConstraint("tenant_id", "rpc", "idempotency_key"),
    _of_locked("payment_id", "payments"),
    _known("kind", CommandKind),
    _known("state", CommandState),
    # A reply is final, and a tombstone is empty.
    *_sound(f"(reply IS NULL OR NOT expired AND {among('state', FINAL_COMMAND_STATES)})"),
    Index("ix_commands_payment", "tenant_id", "payment_id"),
    _partial("ix_commands_expirable", "final_time_us", where=EXPIRABLE_COMMAND),
)

operations = Table(
    "operations",
    metadata,
    *_texts("tenant_id", "operation_id", "command_id", "payment_id"),
    *_whole("step"),
    *_texts("kind", "provider", "account_id"),
    *_whole("amount_minor"),
    *_texts("currency", "prepared", "state", "sent"),
    *_whole("epoch", "claimed_time_us"),
    *_optional_whole("lease_until_us", "next_attempt_us", "last_send_us"),
    *_whole("recoveries", "reserved_minor"),
    *_optional_texts("refund_id", "provider_payment_id", "provider_result_id"),
    Column("final_capture", Boolean(create_constraint=False), nullable=False),
    *_optional_texts("decline"),
    *_texts("failure"),
    PrimaryKeyConstraint("tenant_id", "operation_id"),
    UniqueConstraint("tenant_id", "command_id", "step"),
    _of_locked("command_id", "commands"),
    _known("kind", CommandKind),
    _known("state", CommandState),
    _known("sent", Sent),
    *_sound(
        "epoch >= 1",
        "reserved_minor <= amount_minor",
        "(reserved_minor = 0 OR kind IN ('CAPTURE', 'REFUND'))",
        not_negative=("amount_minor", "reserved_minor", "recoveries"),
    ),
    Index("ix_operations_payment", "tenant_id", "payment_id"),
    _partial("ix_operations_due", "next_attempt_us", where=LIVE_OPERATION),
    # By time first: with the state first, this one would look as good for what is due as the index above.
    _partial("ix_operations_live", "claimed_time_us", "state", where=LIVE_OPERATION),
)

movements = Table(
    "movements",
    metadata,
    *_texts("tenant_id", "payment_id", "account_id", "kind", "provider_movement_id"),
    *_whole("amount_minor"),
    *_texts("currency", "status"),
    *_optional_texts("operation_id"),
    *_optional_whole("provider_time_us"),
    *_texts("reason"),
    *_optional_texts("parent_id"),
    PrimaryKeyConstraint("tenant_id", "payment_id", "account_id", "kind", "provider_movement_id"),
    # One movement belongs to one payment: money is not counted twice.
    UniqueConstraint("tenant_id", "account_id", "kind", "provider_movement_id"),
    _of_locked("payment_id", "payments"),
    _known("kind", MovementKind),
    _known("status", MovementStatus),
    *_sound(not_negative=("amount_minor",)),
)

refunds = Table(
    "refunds",
    metadata,
    *_texts("tenant_id", "refund_id", "payment_id", "origin"),
    *_whole("amount_minor"),
    *_texts("currency", "state", "reason"),
    *_whole("created_time_us", "updated_time_us"),
    *_optional_texts("command_id", "provider_refund_id", "decline"),
    PrimaryKeyConstraint("tenant_id", "refund_id"),
    _of_payment(),
    _known("origin", Origin),
    _known("state", CommandState),
    *_sound("(origin <> 'OBOL' OR command_id IS NOT NULL)", not_negative=("amount_minor",)),
    Index("ix_refunds_payment", "tenant_id", "payment_id", "refund_id"),
)

history = Table(
    "history",
    metadata,
    *_texts("tenant_id", "payment_id"),
    *_whole("version"),
    *_texts("source", "causation_id", "transitions"),
    *_whole("recorded_time_us"),
    PrimaryKeyConstraint("tenant_id", "payment_id", "version"),
    *_sound("version >= 1", copied=True),
)

observations = Table(
    "observations",
    metadata,
    *_texts("tenant_id", "payment_id"),
    *_whole("version", "ordinal"),
    *_texts("observation_id", "organization_id", "kind", "source", "causation_id", "correlation_id"),
    *_texts("payment_state", "dispute_state", "currency"),
    *_whole("amount_minor", "authorized_minor", "captured_minor", "refunded_minor", "disputed_minor", "fee_minor"),
    *_texts("provider", "account_id"),
    *_whole("observed_time_us"),
    *_optional_whole("provider_time_us"),
    *_optional_texts("provider_payment_id", "command_id", "command_kind", "command_state", "refund_id"),
    *_optional_whole("subject_amount_minor"),
    *_texts("order_reference"),
    *_optional_texts("decline"),
    *_texts("detail"),
    *_optional_texts("risk"),
    PrimaryKeyConstraint("tenant_id", "payment_id", "version", "ordinal"),
    UniqueConstraint("tenant_id", "observation_id"),
    _known("kind", ObservationKind),
    _known("source", Source),
    _known("payment_state", PaymentState),
    _known("dispute_state", DisputeState),
    *_sound(
        "version >= 1",
        not_negative=(
            *("amount_minor", "authorized_minor", "captured_minor", "refunded_minor", "disputed_minor", "fee_minor"),
            "ordinal",
        ),
        copied=True,
    ),
)

observation_log = Table(
    "observation_log",
    metadata,
    # INTEGER on SQLite makes it the rowid: the one writer numbers by inserting.
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), autoincrement=False),
    *_texts("tenant_id", "observation_id"),
    *_whole("numbered_time_us"),
    PrimaryKeyConstraint("sequence"),
    UniqueConstraint("tenant_id", "observation_id"),
    Index("ix_observation_log_tenant", "tenant_id", "sequence"),
)

observation_outbox = Table(
    "observation_outbox",
    metadata,
    *_texts("tenant_id", "payment_id"),
    *_whole("version", "ordinal"),
    *_texts("observation_id"),
    PrimaryKeyConstraint("tenant_id", "payment_id", "version", "ordinal"),
)

counters = Table("counters", metadata, *_texts("name"), *_whole("value"), PrimaryKeyConstraint("name"))

consumers = Table(
    "consumers",
    metadata,
    *_texts("tenant_id", "name"),
    *_whole("accepted", "rejected", "decided_through", "created_time_us"),
    PrimaryKeyConstraint("tenant_id", "name"),
    *_sound(not_negative=("accepted", "rejected", "decided_through")),
)

decisions = Table(
    "decisions",
    metadata,
    *_texts("tenant_id", "consumer", "observation_id"),
    Column("accepted", Boolean(create_constraint=False), nullable=False),
    *_texts("reason", "actor", "correlation_id"),
    *_whole("decided_time_us"),
    PrimaryKeyConstraint("tenant_id", "consumer", "observation_id"),
    ForeignKeyConstraint(["tenant_id", "observation_id"], ["observations.tenant_id", "observations.observation_id"]),
)

callbacks = Table(
    "callbacks",
    metadata,
    *_texts("callback_id", "provider", "account_id", "event_id", "event_type"),
    Column("body", LargeBinary, nullable=False),
    *_texts("headers", "correlation_id"),
    *_whole("received_time_us"),
    *_texts("state", "note", "tenant_id", "payment_id"),
    *_whole("epoch", "tries"),
    *_optional_whole("lease_until_us", "next_attempt_us"),
    PrimaryKeyConstraint("callback_id"),
    UniqueConstraint("provider", "account_id", "event_id"),
    _known("state", CallbackState),
    *_sound(not_negative=("epoch", "tries")),
    _partial("ix_callbacks_live", "next_attempt_us", where=LIVE_CALLBACK),
)

evidence = Table(
    "evidence",
    metadata,
    *_texts("tenant_id", "evidence_id", "payment_id", "operation_id"),
    *_whole("epoch"),
    *_texts("evidence"),
    *_whole("recorded_time_us"),
    PrimaryKeyConstraint("tenant_id", "evidence_id"),
    Index("ix_evidence_operation", "tenant_id", "operation_id"),
)

audit = Table(
    "audit",
    metadata,
    *_texts("tenant_id", "audit_id", "organization_id", "actor", "correlation_id", "action", "result", "failure"),
    *_texts("provider", "account_id", "payment_id", "command_id", "detail"),
    *_whole("recorded_time_us"),
    PrimaryKeyConstraint("tenant_id", "audit_id"),
    _partial("ix_audit_payment", "tenant_id", "payment_id", where="payment_id <> ''"),
)
