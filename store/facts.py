"""What was seen at providers, as documents and rows and back: attempts, objects and movements."""

import json
from collections.abc import Iterable

from gateway.domain.movements import (
    Attempt,
    AttemptStatus,
    Closure,
    Facts,
    Movement,
    MovementKind,
    MovementStatus,
    ProviderObject,
)
from gateway.domain.risk import RiskLevel, RiskSignal
from store.values import Row, Stored, clean, decline_document, decline_from, document


def flow_document(facts: Facts) -> str:
    """Attempts and objects as a document; movements have rows of their own."""
    risks = [[*a.key, a.risk.level, a.risk.score] for a in facts.attempts if a.risk is not None]
    return document(
        {
            "attempts": [
                [a.account_id, a.provider_payment_id, a.ordinal, a.status, a.operation_id, decline_document(a.decline)]
                for a in facts.attempts
            ],
            "objects": [[o.account_id, o.provider_payment_id, o.closure] for o in facts.objects],
            # Apart from the attempts, whose length the release before this one knows; it passes over what it does not.
            **({"risks": risks} if risks else {}),
        }
    )


def facts_from(flow: str, movements: Iterable[Stored]) -> Facts:
    """Facts from their document and the rows of their movements, in any order."""
    known = json.loads(flow)
    risks = {
        (account, provider, ordinal): RiskSignal(RiskLevel(level), score)
        for account, provider, ordinal, level, score in known.get("risks", ())
    }
    return Facts(
        tuple(sorted((movement_from(row) for row in movements), key=lambda movement: movement.key)),
        tuple(
            Attempt(
                account,
                provider,
                ordinal,
                AttemptStatus(status),
                operation,
                decline_from(decline),
                risks.get((account, provider, ordinal)),
            )
            for account, provider, ordinal, status, operation, decline in known["attempts"]
        ),
        tuple(ProviderObject(account, provider, Closure(closure)) for account, provider, closure in known["objects"]),
    )


def movement_row(tenant_id: str, payment_id: str, movement: Movement) -> Row:
    """A movement of one payment."""
    return {
        "tenant_id": tenant_id,
        "payment_id": payment_id,
        "account_id": movement.account_id,
        "kind": movement.kind.value,
        "provider_movement_id": movement.provider_movement_id,
        "amount_minor": movement.amount_minor,
        "currency": movement.currency,
        "status": movement.status.value,
        "operation_id": movement.operation_id,
        "provider_time_us": movement.provider_time_us,
        "reason": clean(movement.reason),
        "parent_id": movement.parent_id,
    }


def movement_from(row: Stored) -> Movement:
    """A movement."""
    return Movement(
        account_id=row["account_id"],
        kind=MovementKind(row["kind"]),
        provider_movement_id=row["provider_movement_id"],
        amount_minor=row["amount_minor"],
        currency=row["currency"],
        status=MovementStatus(row["status"]),
        operation_id=row["operation_id"],
        provider_time_us=row["provider_time_us"],
        reason=row["reason"],
        parent_id=row["parent_id"],
    )
