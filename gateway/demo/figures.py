"""The figures: what the gateway's database and the provider's effect log say, each read from its own file.

Read past the gateway on purpose: a gateway that is wrong about itself cannot vouch for itself.
"""

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from gateway.domain.storage import CallbackState

BUSY_S_MAX = 5.0
LIVE_CALLBACKS = frozenset({CallbackState.RECEIVED, CallbackState.WAITING})

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class PaymentRow:
    """A payment; amounts in minor units of its currency."""

    payment_id: str
    tenant_id: str
    account_id: str
    provider_payment_id: str | None
    amount_minor: int
    currency: str
    confirmation_method: str
    state: str
    authorized_minor: int
    captured_minor: int
    refunded_minor: int
    refund_pending_minor: int
    disputed_minor: int


@dataclass(frozen=True, slots=True)
class CommandRow:
    """A command."""

    command_id: str
    payment_id: str
    kind: str
    state: str


@dataclass(frozen=True, slots=True)
class OperationRow:
    """One write to the provider."""

    operation_id: str
    payment_id: str
    account_id: str
    kind: str
    state: str
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class MovementRow:
    """One movement of money, as the gateway knows it."""

    payment_id: str
    account_id: str
    kind: str
    provider_movement_id: str
    amount_minor: int
    currency: str
    status: str
    operation_id: str | None


@dataclass(frozen=True, slots=True)
class ObservationRow:
    """An observation, and whether it has its place in the order of all."""

    observation_id: str
    payment_id: str
    kind: str
    command_id: str | None
    sequence: int | None


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """A consumer's word on an observation."""

    observation_id: str
    consumer: str
    accepted: bool


@dataclass(frozen=True, slots=True)
class CallbackRow:
    """A callback in the inbox."""

    callback_id: str
    state: str


@dataclass(frozen=True, slots=True)
class Books:
    """All of it, as of one moment."""

    payments: tuple[PaymentRow, ...]
    commands: tuple[CommandRow, ...]
    operations: tuple[OperationRow, ...]
    movements: tuple[MovementRow, ...]
    observations: tuple[ObservationRow, ...]
    decisions: tuple[DecisionRow, ...]
    callbacks: tuple[CallbackRow, ...]

    def accepted(self, consumer: str) -> frozenset[str]:
        """The ids of the observations that `consumer` has taken as facts."""
        return frozenset(each.observation_id for each in self.decisions if each.accepted and each.consumer == consumer)

    @property
    def callbacks_live(self) -> int:
        """How many callbacks are still to be applied."""
        return sum(each.state in LIVE_CALLBACKS for each in self.callbacks)


@dataclass(frozen=True, slots=True)
class Effect:
    """A movement of money on the provider's books. `operation` is ours, None where nobody asked for it."""

    number: int
    kind: str
    movement_id: str
    provider_payment_id: str
    amount_minor: int
    currency: str
    account_id: str
    operation_id: str | None
    tenant_id: str | None
    origin: str


def read_books(database: Path) -> Books:
    """Read an SQLite database that a gateway is using. Raises sqlite3.Error."""
    uri = f"file:{quote(str(database))}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_S_MAX, isolation_level=None)) as reading:
        # One moment for all tables, and never a lock that the gateway would wait for.
        reading.execute("BEGIN DEFERRED")
        return Books(
            payments=_rows(reading, PaymentRow, "payments"),
            commands=_rows(reading, CommandRow, "commands"),
            operations=_rows(reading, OperationRow, "operations"),
            movements=_rows(reading, MovementRow, "movements"),
            observations=_rows(
                reading,
                ObservationRow,
                "observations LEFT JOIN observation_log USING (tenant_id, observation_id)",
                "ORDER BY sequence",
            ),
            decisions=_rows(reading, DecisionRow, "decisions"),
            callbacks=_rows(reading, CallbackRow, "callbacks"),
        )


def read_effects(log: Path) -> tuple[Effect, ...]:
    """Read the sandbox's effect log. Raises OSError, or ValueError for a line that is no effect."""
    effects = []
    for line in log.read_text(encoding="utf-8").splitlines():
        told: dict[str, Any] = json.loads(line)
        try:
            effects.append(
                Effect(
                    number=told["n"],
                    kind=told["kind"].upper(),
                    movement_id=told["id"],
                    provider_payment_id=told["payment"],
                    amount_minor=told["amount"],
                    currency=told["currency"],
                    account_id=told["account"],
                    operation_id=told["operation"],
                    tenant_id=told["tenant"],
                    origin=told["origin"],
                )
            )
        except KeyError as missing:
            raise ValueError(f"an effect without {missing}: {line}") from None
    return tuple(effects)


def _rows(reading: sqlite3.Connection, kind: type[Row], source: str, order: str = "") -> tuple[Row, ...]:
    # The names are of the classes above, never from outside.
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # a TypeVar cannot say "a dataclass"
    statement = f"SELECT {', '.join(names)} FROM {source} {order}"  # noqa: S608  see above
    return tuple(kind(*row) for row in reading.execute(statement))
