"""Effects: movements of money on the provider's books, one line each, the evidence that tests hold the gateway to.

An effect is written and synced before the answer to the request that caused it. Authorizations, captures,
refunds, voids, disputes and reversals are effects; a decline, a pending movement or a customer's redirect is
not, because no money moved.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

EffectKind = Literal["authorization", "capture", "refund", "void", "dispute", "reversal"]
Origin = Literal["request", "customer", "provider", "dashboard"]


@dataclass(frozen=True)
class Effect:
    """One movement of money, not numbered yet.

    `id` is the movement's id (a void names its authorization, a reversal what it reverses), so (kind, id) is
    unique. `amount` is in minor units. `operation` and `tenant` are the caller's own metadata; they are null
    where nobody asked.
    """

    kind: EffectKind
    id: str
    payment: str
    amount: int
    currency: str
    account: str
    idempotency_key: str | None
    operation: str | None
    tenant: str | None
    origin: Origin


def effect_of(
    kind: EffectKind,
    payment: Any,
    movement_id: str,
    amount: int,
    origin: Origin,
    metadata: Mapping[str, str] | None = None,
    key: str | None = None,
) -> Effect:
    """The effect of a movement on `payment`, which has id, currency and account. `metadata` is its request's."""
    told = metadata or {}
    return Effect(
        kind,
        movement_id,
        payment.id,
        amount,
        payment.currency,
        payment.account,
        key,
        told.get("obol_operation"),
        told.get("obol_tenant"),
        origin,
    )


def effect_line(effect: Effect, number: int, time_ms: int) -> str:
    """The effect as its line in the log, without the line break. `number` counts from 1 and has no gap."""
    return json.dumps({"n": number, **vars(effect), "time": time_ms})
