"""What was recorded of a command that is tried again outranks what its request leaves open."""

from dataclasses import replace
from typing import TypeVar

from gateway.app.identity import Identity
from gateway.app.requests import AdjustAuthorization, CapturePayment, RefundPayment
from gateway.domain.storage import Aggregate

Amounted = TypeVar("Amounted", CapturePayment, RefundPayment, AdjustAuthorization)


def as_recorded(request: Amounted, base: Aggregate, identity: Identity) -> Amounted:
    """A wish for 'all that is left' that is tried again keeps the amount that was recorded."""
    if not identity.reopen or request.amount_minor is not None:
        return request
    operation = next(o for o in base.operations if o.operation_id == identity.operation_id)
    return replace(request, amount_minor=operation.amount_minor, currency=operation.currency)
