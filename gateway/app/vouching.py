"""What two operators vouch for, held against what the provider's books show: pure functions from both to facts.

Evidence outranks the operators: where the provider's object speaks of the operation, it must say what they say. Where
it shows the result without our reference, they say whose it is. Where it can never be read (its account is not
configured any more, it does not know its own object, its values are in no table), their word becomes the facts.
"""

from dataclasses import replace

from gateway.app.verdicts import mismatch, verdict_of_facts
from gateway.domain.commands import ENTRY_KINDS, CommandKind, Operation
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
from gateway.domain.payments import CaptureMethod, ConfirmationMethod, Payment
from gateway.domain.providers import Absent, Found, Lookup, Snapshot
from gateway.domain.resolutions import Proposal
from gateway.domain.states import CommandState

RESULT_KINDS = {
    CommandKind.CAPTURE: MovementKind.CAPTURE,
    CommandKind.REFUND: MovementKind.REFUND,
    CommandKind.ADJUST: MovementKind.AUTHORIZATION,
}
"""Operations whose result at the provider is a movement of money."""

_EFFECT = frozenset({CommandState.SUCCEEDED, CommandState.PENDING, CommandState.REQUIRES_ACTION, CommandState.REVERSED})
_DONE = _EFFECT - {CommandState.REVERSED}


class Contradicted(Exception):
    """The provider shows otherwise; the message says what."""


def executed(proposal: Proposal, operation: Operation, payment: Payment, lookup: Lookup | None) -> Snapshot:
    """The evidence that the operation took effect; `lookup` is of the object, None where it can never be read.

    Raises Contradicted.
    """
    known_id = payment.provider_payment_id or operation.provider_payment_id
    names_object = operation.kind in ENTRY_KINDS
    if names_object and known_id and proposal.provider_result_id != known_id:
        raise Contradicted(f"the payment is {known_id} at the provider, not {proposal.provider_result_id}")
    kind = RESULT_KINDS.get(operation.kind)
    if kind is not None:
        _known(payment.facts, _movement(kind, proposal.provider_result_id, operation))
    match lookup:
        case Found(snapshot=snapshot):
            lie = mismatch(operation, payment.terms, snapshot)
            if lie:
                raise Contradicted(lie)
            if not snapshot.unmapped:
                seen = replace(snapshot, facts=_attributed(snapshot.facts, proposal, operation, payment))
                return _confirmed(seen, operation, payment)
        case Absent() if not known_id:
            raise Contradicted(f"the provider has no payment {proposal.provider_result_id}")
        case _:
            pass
    return _confirmed(_by_word(proposal, operation, payment), operation, payment)


def not_executed(operation: Operation, payment: Payment, lookup: Lookup | None) -> Snapshot | None:
    """What the provider shows beside, to be merged; None where nothing can be. Raises Contradicted."""
    if not isinstance(lookup, Found):
        return None
    snapshot = lookup.snapshot
    if operation.kind is CommandKind.CREATE:
        raise Contradicted(f"the provider has payment {snapshot.provider_payment_id} for it")
    if mismatch(operation, payment.terms, snapshot):
        return None
    merged = payment.facts.merge(snapshot.facts)
    said = verdict_of_facts(operation, merged, payment.terms.confirmation_method)
    if said is not None and said[0] in _EFFECT:
        raise Contradicted(f"the provider's object shows it {said[0]}")
    return None if snapshot.unmapped else snapshot


def _confirmed(snapshot: Snapshot, operation: Operation, payment: Payment) -> Snapshot:
    """The snapshot, if by it and what is known the operation took effect."""
    merged = payment.facts.merge(snapshot.facts)
    said = verdict_of_facts(operation, merged, payment.terms.confirmation_method)
    if said is None or said[0] not in _DONE:
        raise Contradicted(f"the facts show it {said[0] if said else 'nowhere'}")
    return snapshot


def _attributed(facts: Facts, proposal: Proposal, operation: Operation, payment: Payment) -> Facts:
    """The provider's facts, with the operation's own marked as such where our reference was lost."""
    kind = RESULT_KINDS.get(operation.kind)
    if kind is not None:
        return replace(facts, movements=_with_result(facts, kind, proposal.provider_result_id, operation))
    confirms = payment.terms.confirmation_method is ConfirmationMethod.AUTOMATIC
    if operation.kind is CommandKind.CONFIRM or (operation.kind is CommandKind.CREATE and confirms):
        return _with_attempt(facts, operation, payment)
    return facts  # an object, or its closure, carries no operation


def _known(facts: Facts, told: Movement) -> Movement | None:
    """What `facts` have of a movement that is told. Raises Contradicted where it is another's, or of another amount."""
    known = next((m for m in facts.movements if m.key == told.key), None)
    if known is None:
        return None
    named = f"{known.kind.lower()} {known.provider_movement_id}"
    if known.operation_id not in (None, told.operation_id):
        raise Contradicted(f"{named} belongs to {known.operation_id}")
    if known.amount_minor != told.amount_minor:
        raise Contradicted(f"{named} is of {known.amount_minor}, not {told.amount_minor}")
    return known


def _with_result(facts: Facts, kind: MovementKind, result_id: str, operation: Operation) -> tuple[Movement, ...]:
    result = _known(facts, _movement(kind, result_id, operation))
    if result is None:
        raise Contradicted(f"the provider's object has no {kind.lower()} {result_id}")
    own = replace(result, operation_id=operation.operation_id)
    return tuple(own if m is result else m for m in facts.movements)


def _with_attempt(facts: Facts, operation: Operation, payment: Payment) -> Facts:
    if any(attempt.operation_id == operation.operation_id for attempt in facts.attempts):
        return facts
    known = {attempt.key for attempt in payment.facts.attempts if attempt.operation_id is not None}
    free = [a for a in facts.attempts if a.operation_id is None and a.key not in known]
    if not free:
        raise Contradicted("the provider's object shows no attempt that could be it")
    last = max(free, key=lambda attempt: attempt.ordinal)
    held = {movement.key for movement in payment.facts.movements}
    money = (MovementKind.AUTHORIZATION, MovementKind.CAPTURE)
    return replace(
        facts,
        attempts=tuple(replace(a, operation_id=operation.operation_id) if a is last else a for a in facts.attempts),
        movements=tuple(
            replace(m, operation_id=operation.operation_id)
            if m.operation_id is None and m.kind in money and m.key not in held
            else m
            for m in facts.movements
        ),
    )


def _by_word(proposal: Proposal, operation: Operation, payment: Payment) -> Snapshot:
    """The operators' word as the facts that the provider would have shown."""
    object_id = payment.provider_payment_id or operation.provider_payment_id or proposal.provider_result_id
    account_id = operation.account_id
    kind = RESULT_KINDS.get(operation.kind)
    if kind is not None:
        facts = Facts(movements=(_made(kind, proposal.provider_result_id, operation, payment),))
    elif operation.kind is CommandKind.CANCEL:
        facts = Facts(objects=(ProviderObject(account_id, object_id, Closure.CANCELLED),))
    else:
        facts = _entry_facts(proposal, operation, payment, object_id)
    return Snapshot(
        account_id=account_id,
        provider_payment_id=object_id,
        amount_minor=payment.terms.amount_minor,
        currency=payment.terms.currency,
        facts=facts,
        payment_id=payment.payment_id,
        tenant_id=payment.tenant_id,
        next_action=payment.next_action,
    )


def _made(kind: MovementKind, movement_id: str, operation: Operation, payment: Payment) -> Movement:
    made = _movement(kind, movement_id, operation)
    if operation.kind is not CommandKind.ADJUST:
        return made
    # It stands in the place of what was held: without saying so, both would count. It may be known already, and is
    # never what it replaced.
    known = _known(payment.facts, made)
    if known is not None and known.parent_id:
        return replace(made, parent_id=known.parent_id)
    standing = [m for m in payment.facts.standing() if m.key != made.key]
    held = [m for m in standing if m.kind is kind and m.status is MovementStatus.SUCCEEDED]
    if not held:
        raise Contradicted("nothing is held that could have been adjusted")
    return replace(made, parent_id=max(held, key=lambda m: (m.provider_time_us or 0, m.key)).provider_movement_id)


def _entry_facts(proposal: Proposal, operation: Operation, payment: Payment, object_id: str) -> Facts:
    objects = (ProviderObject(operation.account_id, object_id),)
    if operation.kind is CommandKind.CREATE and payment.terms.confirmation_method is ConfirmationMethod.MANUAL:
        return Facts(objects=objects)
    known = [a for a in payment.facts.attempts if a.provider_payment_id == object_id]
    last = max(known, key=lambda attempt: attempt.ordinal, default=None)
    if operation.kind is CommandKind.COMPLETE and last is not None:
        # What it moves is booked under the create that it completes.
        attempt = replace(last, status=AttemptStatus.SUCCEEDED)
    else:
        ordinal = last.ordinal + 1 if last is not None else 1
        attempt = Attempt(
            operation.account_id, object_id, ordinal, AttemptStatus.SUCCEEDED, operation_id=operation.operation_id
        )
    if not proposal.provider_movement_id:
        return Facts(attempts=(attempt,), objects=objects)
    automatic = payment.terms.capture_method is CaptureMethod.AUTOMATIC
    kind = MovementKind.CAPTURE if automatic else MovementKind.AUTHORIZATION
    movement = replace(_movement(kind, proposal.provider_movement_id, operation), operation_id=attempt.operation_id)
    _known(payment.facts, movement)
    return Facts((movement,), (attempt,), objects)


def _movement(kind: MovementKind, movement_id: str, operation: Operation) -> Movement:
    return Movement(
        operation.account_id,
        kind,
        movement_id,
        operation.amount_minor,
        operation.currency,
        MovementStatus.SUCCEEDED,
        operation_id=operation.operation_id,
    )
