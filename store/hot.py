"""The hot path behind one interface: what each engine does in its own way.

`claim_document` and `settlement_document` make the rows of a transaction, the same for both; an engine adds what only
its clock and its guard know.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from gateway.domain.commands import EXCLUSIVE_KINDS, Command, CommandKind, Operation
from gateway.domain.payments import Payment
from gateway.domain.storage import (
    Aggregate,
    AuditRecord,
    Callback,
    CallbackChange,
    Claim,
    Claimed,
    ClaimOutcome,
    Due,
    Settlement,
    SettleOutcome,
    TakenCallback,
)
from store.facts import movement_row
from store.records import approval_row, audit_row, observation_row, refund_from, refund_row, transitions_document
from store.rows import (
    command_from,
    command_row,
    derived_row,
    operation_from,
    operation_row,
    payment_from,
    payment_row,
)
from store.values import Row, Stored, clean, decline_document

CLAIM_SOURCE = "CLAIM"
"""The history's source of a version that a claim made; every other version has the settlement's."""


class Hot(Protocol):
    """The transactions and reads that every payment goes through."""

    async def claim(self, claim: Claim) -> Claimed: ...

    async def settle(self, settlement: Settlement) -> SettleOutcome: ...

    async def receive_callback(self, callback: Callback, audit: AuditRecord) -> bool: ...

    async def take_callbacks(
        self, *, limit: int, lease_s: float, except_accounts: Sequence[str]
    ) -> Sequence[TakenCallback]: ...

    async def change_callback(self, change: CallbackChange, audit: Sequence[AuditRecord]) -> bool: ...

    async def find_command(self, tenant_id: str, rpc: str, idempotency_key: str) -> Command | None: ...

    async def get_payment(self, tenant_id: str, payment_id: str) -> Payment | None: ...

    async def load(self, tenant_id: str, payment_id: str) -> Aggregate | None: ...

    async def take_due(self, *, limit: int, lease_s: float, except_accounts: Sequence[str]) -> Due: ...


def microseconds(seconds: float) -> int:
    """A duration as the store counts it."""
    return round(seconds * 1_000_000)


def claim_rows(claim: Claim) -> dict[str, Row]:
    """The rows of a claim by name; versions, epochs and times are the engine's to set."""
    operation, command = claim.operation, claim.command
    rows = {
        "command": command_row(command),
        "operation": operation_row(operation),
        "history": {
            "tenant_id": operation.tenant_id,
            "payment_id": command.payment_id,
            "source": CLAIM_SOURCE,
            "causation_id": operation.operation_id,
            "transitions": transitions_document(claim.transitions),
        },
    }
    if claim.payment is not None:
        rows["payment"] = payment_row(claim.payment)
    if claim.refund is not None:
        rows["refund"] = refund_row(claim.refund)
    return rows


def reserving(operation: Operation) -> tuple[int, int]:
    """What an operation reserves, in minor units: (of a capture, of a refund)."""
    return (
        operation.reserved_minor if operation.kind is CommandKind.CAPTURE else 0,
        operation.reserved_minor if operation.kind is CommandKind.REFUND else 0,
    )


def exclusive_command(command: Command) -> str | None:
    """The command's id if nothing else may be under way for its payment."""
    return command.command_id if command.kind in EXCLUSIVE_KINDS else None


def settled_parts(settlement: Settlement) -> dict[str, Any]:
    """The rows of a settlement by name, only those that are present; `payment` and `history` always are.

    Times that count from the database's now are given as `next_attempt_in_us`.
    """
    payment = settlement.payment
    tenant_id, payment_id = payment.tenant_id, payment.payment_id
    version = settlement.expected_version + 1
    parts: dict[str, Any] = {
        "payment": derived_row(payment, settlement.source) | {"version": version},
        "history": [
            {
                "tenant_id": tenant_id,
                "payment_id": payment_id,
                "version": version,
                "source": settlement.source.value,
                "causation_id": settlement.causation_id,
                "transitions": transitions_document(settlement.transitions),
            }
        ],
        "operations": [
            settled_operation_row(change.operation)
            | {"expected_epoch": change.expected_epoch, "next_attempt_in_us": _later(change.next_attempt_s)}
            for change in settlement.operations
        ],
        "commands": [
            {"command_id": change.command_id, "state": change.state.value, "reply": change.reply}
            for change in settlement.commands
        ],
        "movements": [movement_row(tenant_id, payment_id, movement) for movement in settlement.movements],
        "refunds": [refund_row(refund) for refund in settlement.refunds],
        "observations": observation_rows(settlement),
        "audit": [audit_row(record) for record in settlement.audit],
    }
    if settlement.callback is not None:
        parts["callback"] = [changed_callback_row(settlement.callback)]
    if settlement.approval is not None:
        parts["approval"] = [approval_row(settlement.approval)]
    return {name: rows for name, rows in parts.items() if rows}


def settled_operation_row(operation: Operation) -> Row:
    """What a settle may change of an operation: what was asked for, and exactly sent, stays as it was claimed."""
    return {
        "operation_id": operation.operation_id,
        "state": operation.state.value,
        "sent": operation.sent.value,
        "epoch": operation.epoch,
        "last_send_us": operation.last_send_us,
        "recoveries": operation.recoveries,
        "reserved_minor": operation.reserved_minor,
        "provider_payment_id": operation.provider_payment_id,
        "provider_result_id": operation.provider_result_id,
        "decline": decline_document(operation.decline),
        "failure": clean(operation.failure),
    }


def changed_callback_row(change: CallbackChange) -> Row:
    """What became of a callback; when it is tried again counts from the database's now."""
    return {
        "callback_id": change.callback_id,
        "expected_epoch": change.expected_epoch,
        "state": change.state.value,
        "note": clean(change.note),
        "tenant_id": change.tenant_id,
        "payment_id": change.payment_id,
        "next_attempt_in_us": _later(change.next_attempt_s),
    }


SETTLED_OPERATION_COLUMNS = (
    *("state", "sent", "epoch", "last_send_us", "recoveries", "reserved_minor", "provider_payment_id"),
    *("provider_result_id", "decline", "failure"),
)
"""The columns of `settled_operation_row` but its key."""


def observation_rows(settlement: Settlement) -> Sequence[Row]:
    """Observations in the order in which they are numbered."""
    return [
        observation_row(observation)
        for observation in sorted(settlement.observations, key=lambda observation: observation.ordinal)
    ]


def _later(seconds: float | None) -> int | None:
    return None if seconds is None else microseconds(seconds)


def unique_order(claim: Claim) -> str | None:
    """The order that a new payment declares unique."""
    terms = claim.payment.terms if claim.payment is not None else None
    return terms.order_reference if terms is not None and terms.order_reference_unique else None


def held_by(claim: Claim) -> tuple[str, str | None, str | None, int | None]:
    """By what a claim may be held back: its operation, order, payment, and the restores that were asked about.

    Nothing of a step that is taken up because it was lost; its payment only of a create that is tried again, the
    restores only of a new payment.
    """
    if claim.took_effect:
        return "", None, None, None
    operation = claim.operation
    tried_again = operation.payment_id if claim.reopen and operation.kind is CommandKind.CREATE else None
    return operation.operation_id, unique_order(claim), tried_again, claim.restores_known


def why_not(claim: Claim, key_state: str | None) -> ClaimOutcome:
    """Why a claim changed nothing, from the state of the command that holds its key (None: nobody does)."""
    if key_state is None or (claim.reopen and key_state == "NOT_SENT") or claim.next_step:
        return ClaimOutcome.REFUSED
    return ClaimOutcome.KEY_TAKEN


def aggregate_from(found: Mapping[str, Any]) -> Aggregate:
    """All of a payment, from the rows of one moment, in a settled order."""
    commands = sorted(
        map(command_from, found["commands"]), key=lambda command: (command.created_time_us, command.command_id)
    )
    # As their commands came: an id says nothing of the time.
    place = {command.command_id: number for number, command in enumerate(commands)}
    operations = sorted(
        map(operation_from, found["operations"]), key=lambda operation: (place[operation.command_id], operation.step)
    )
    return Aggregate(
        payment=payment_from(found["payment"], found["movements"]),
        commands=tuple(commands),
        operations=tuple(operations),
        refunds=tuple(sorted(map(refund_from, found["refunds"]), key=lambda refund: refund.refund_id)),
    )


def due_from(rows: Iterable[Stored], now_us: int) -> Due:
    """Taken operations, longest overdue first."""
    return Due(tuple(map(operation_from, rows)), now_us)
