"""A payment with all that was ever written of it, and a provider's effect: what the invariants are checked on."""

from dataclasses import dataclass
from enum import StrEnum

from gateway.domain.commands import Command, Operation
from gateway.domain.observations import Observation
from gateway.domain.payments import Payment, Refund
from gateway.domain.storage import HistoryEntry


@dataclass(frozen=True, slots=True)
class Dossier:
    """One payment's rows as of about one moment; `history` by version, `observations` by (version, ordinal)."""

    payment: Payment
    commands: tuple[Command, ...]
    operations: tuple[Operation, ...]
    refunds: tuple[Refund, ...]
    history: tuple[HistoryEntry, ...]
    observations: tuple[Observation, ...]


@dataclass(frozen=True, slots=True)
class Effect:
    """One line of a provider's own log: money that moved. `operation_id` is ours, empty for what we did not cause.

    `taken_back`: a later line of the log reverses it, as a bank does with a refund that it cannot deliver.
    """

    number: int
    kind: str
    effect_id: str
    provider_payment_id: str
    amount_minor: int
    currency: str
    account_id: str
    operation_id: str
    time_us: int
    taken_back: bool = False


class Invariant(StrEnum):
    """The design's invariants, and STATE: that what is derived is what the facts say."""

    I1 = "I1"
    I2 = "I2"
    I3 = "I3"
    I4 = "I4"
    I5 = "I5"
    I6 = "I6"
    I7 = "I7"
    I8 = "I8"
    I9 = "I9"
    I10 = "I10"
    I12 = "I12"
    I13 = "I13"
    I14 = "I14"
    I15 = "I15"
    STATE = "STATE"


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken invariant, with the row that breaks it, such as "operations op_..."."""

    invariant: Invariant
    row: str
    message: str
    tenant_id: str = ""
    payment_id: str = ""
