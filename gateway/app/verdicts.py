"""What evidence says of an operation: the engine's classification table, as pure functions.

`classify` reads a provider's answer to a send; `verdict_of_facts` reads the merged facts, whoever brought them. Facts
win over answers: an answer can be lost, late or a lie, a booked movement that carries our operation id cannot.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from gateway.app.leaving import accounts_left
from gateway.domain.commands import ENTRY_KINDS, CommandKind, Operation
from gateway.domain.declines import Decline, DeclineReason
from gateway.domain.errors import Sent
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
from gateway.domain.payments import ConfirmationMethod, Payment, PaymentTerms
from gateway.domain.providers import Ambiguous, Answered, Declined, NotExecuted, NotSent, Outcome, Snapshot
from gateway.domain.states import COMMAND_EDGES, LIVE_COMMAND_STATES, CommandState


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an operation's state is by some evidence; `failure` is for operators, `decline` for callers.

    `snapshot` is the evidence to merge, where some may be merged. `object_id` is the provider's id of the payment's
    object where an answer that cannot be merged named it. `retry_after_s` where a provider said so; `reached` where it
    answered that it did nothing.
    """

    state: CommandState
    sent: Sent
    decline: Decline | None = None
    failure: str = ""
    snapshot: Snapshot | None = None
    result_id: str | None = None
    retry_after_s: float | None = None
    quarantined: bool = False
    reached: bool = False
    object_id: str | None = None


MISMATCH = "mismatch: "
"""How every failure begins that contradicts what we asked for or know."""

NEVER_EXECUTED = Decline(DeclineReason.NEVER_EXECUTED, provider_message="The provider has no trace of it.")
TAKEN_BACK = Decline(DeclineReason.REFUSED_BY_PROVIDER, provider_message="The provider did it and took it back.")
SUPERSEDED = Decline(DeclineReason.SUPERSEDED, provider_message="Another attempt or a cancellation took its place.")


def classify(operation: Operation, terms: PaymentTerms, outcome: Outcome, *, resend: bool) -> Verdict:
    """The table of the first and of later sends.

    `sent` never falls. After a send that may have arrived, a refusal of a resend says nothing about the first one: it
    leaves UNKNOWN. What is not listed is UNKNOWN.
    """
    may_have_arrived = resend or operation.sent is not Sent.NO
    match outcome:
        case Answered(snapshot=snapshot, result_id=result_id):
            lie = mismatch(operation, terms, snapshot)
            if lie:
                return Verdict(CommandState.UNKNOWN, Sent.YES, failure=lie, quarantined=True)
            if snapshot.unmapped:
                return _unmapped(snapshot)
            return Verdict(
                CommandState.UNKNOWN,
                Sent.YES,
                failure="the answer does not show the operation",
                snapshot=snapshot,
                result_id=result_id,
            )
        case Declined(decline=decline, snapshot=snapshot, of_key=of_key):
            lie = mismatch(operation, terms, snapshot) if snapshot else ""
            if lie:
                return Verdict(CommandState.UNKNOWN, Sent.YES, failure=lie, quarantined=True)
            if snapshot and snapshot.unmapped:
                return _unmapped(snapshot)
            if may_have_arrived and not of_key:
                failure = f"declined on a resend: {decline.provider_code or decline.reason}"
                return Verdict(
                    CommandState.UNKNOWN, operation.sent.at_least(Sent.MAYBE), failure=failure, snapshot=snapshot
                )
            return Verdict(CommandState.FAILED, Sent.YES, decline=decline, snapshot=snapshot)
        case NotSent(failure=failure):
            state = CommandState.UNKNOWN if may_have_arrived else CommandState.NOT_SENT
            return Verdict(state, operation.sent, failure=failure)
        case NotExecuted(failure=failure, retry_after_s=retry_after_s):
            state = CommandState.UNKNOWN if may_have_arrived else CommandState.NOT_SENT
            return Verdict(state, operation.sent, failure=failure, retry_after_s=retry_after_s, reached=True)
        case Ambiguous(failure=failure, contradicts=contradicts, key_known=key_known):
            # A key that the provider knows from another request was sent before: nothing may conclude from absence.
            sent = operation.sent.at_least(Sent.YES if key_known else Sent.MAYBE)
            return Verdict(CommandState.UNKNOWN, sent, failure=failure, quarantined=contradicts)


def _unmapped(snapshot: Snapshot) -> Verdict:
    """Nothing is believed of it but which object it is: a provider without a search shows it by its own id alone."""
    failure = f"unmapped: {', '.join(snapshot.unmapped)}"
    return Verdict(CommandState.UNKNOWN, Sent.YES, failure=failure, object_id=snapshot.provider_payment_id)


def mismatch(
    of: Operation | Payment, terms: PaymentTerms, snapshot: Snapshot, operations: Sequence[Operation] = ()
) -> str:
    """Why `snapshot` cannot be of this payment as it was asked for; empty where it can.

    An object without our reference may be ours (the provider's id was asked for); one with another's cannot. Of what
    `operations` moved, and `of` where it is one, the amount must be what was asked for.
    """
    left = accounts_left(of.route) if isinstance(of, Payment) else ()
    if snapshot.account_id != of.account_id and snapshot.account_id not in left:
        return f"{MISMATCH}account {snapshot.account_id}, not {of.account_id}"
    if (snapshot.tenant_id or of.tenant_id, snapshot.payment_id or of.payment_id) != (of.tenant_id, of.payment_id):
        return f"{MISMATCH}the object carries another payment's reference"
    if snapshot.currency != terms.currency:
        return f"{MISMATCH}currency {snapshot.currency}, not {terms.currency}"
    if snapshot.amount_minor != terms.amount_minor:
        return f"{MISMATCH}amount {snapshot.amount_minor}, not {terms.amount_minor}"
    foreign = {movement.currency for movement in snapshot.facts.movements} - {terms.currency}
    if foreign:
        return f"{MISMATCH}a movement in {', '.join(sorted(foreign))}"
    return moved_otherwise(operations or ((of,) if isinstance(of, Operation) else ()), terms, snapshot)


def moved_otherwise(operations: Sequence[Operation], terms: PaymentTerms, snapshot: Snapshot | None) -> str:
    """How an amount that one of `operations` moved is another than it asked for, by `snapshot`; empty where none is.

    A provider whose books are read in parts can lie in one of them: the object's amount is right, and a refund's wrong.
    """
    if snapshot is None or snapshot.unmapped:
        return ""
    asked = {each.operation_id: each for each in operations}
    for movement in snapshot.facts.movements:
        operation = asked.get(movement.operation_id or "")
        if operation is None or movement.kind not in _MOVES[operation.kind]:
            continue
        amount_minor = terms.amount_minor if operation.kind in ENTRY_KINDS else operation.amount_minor
        if movement.amount_minor != amount_minor:
            return f"{MISMATCH}{movement.kind.lower()} of {movement.amount_minor}, not {amount_minor}"
    return ""


_HELD_OR_TAKEN = frozenset({MovementKind.AUTHORIZATION, MovementKind.CAPTURE})
_MOVES: Mapping[CommandKind, frozenset[MovementKind]] = MappingProxyType(
    {
        CommandKind.CREATE: _HELD_OR_TAKEN,
        CommandKind.CONFIRM: _HELD_OR_TAKEN,
        CommandKind.COMPLETE: _HELD_OR_TAKEN,
        CommandKind.ADJUST: frozenset({MovementKind.AUTHORIZATION}),
        CommandKind.CAPTURE: frozenset({MovementKind.CAPTURE}),
        CommandKind.CANCEL: frozenset(),
        CommandKind.REFUND: frozenset({MovementKind.REFUND}),
    }
)
"""What an operation moves, in the amount that was asked for."""


def verdict_of_facts(
    operation: Operation, facts: Facts, confirmation: ConfirmationMethod
) -> tuple[CommandState, Decline | None] | None:
    """What the merged facts say of `operation`; None where they say nothing."""
    match operation.kind:
        case CommandKind.CREATE | CommandKind.CONFIRM:
            return _entry_verdict(operation, facts, confirmation)
        case CommandKind.CAPTURE:
            return _movement_verdict(operation, facts, MovementKind.CAPTURE)
        case CommandKind.REFUND:
            return _movement_verdict(operation, facts, MovementKind.REFUND)
        case CommandKind.CANCEL:
            # A closure carries no operation id: it speaks for a cancellation under way, not for one that has ended.
            live = operation.state in LIVE_COMMAND_STATES
            cancelled = any(
                view.closure is Closure.CANCELLED and _is_object_of(operation, view) for view in facts.objects
            )
            return (CommandState.SUCCEEDED, None) if live and cancelled else None
        case CommandKind.COMPLETE:
            return _completion_verdict(operation, facts)
        case CommandKind.ADJUST:
            return _movement_verdict(operation, facts, MovementKind.AUTHORIZATION)


def _completion_verdict(operation: Operation, facts: Facts) -> tuple[CommandState, Decline | None] | None:
    """What the object that it completes says: its money is booked under the create, so the attempt speaks for both.

    As with a closure, of a completion under way alone: a later one's success is no success of one that was declined.
    """
    of_object = (operation.account_id, operation.provider_payment_id)
    attempts = [a for a in facts.attempts if (a.account_id, a.provider_payment_id) == of_object]
    if operation.state not in LIVE_COMMAND_STATES or not attempts:
        return None
    last = max(attempts, key=lambda attempt: attempt.ordinal)
    if last.status in (AttemptStatus.SUCCEEDED, AttemptStatus.PENDING):
        return CommandState.SUCCEEDED, None
    if last.status is AttemptStatus.FAILED:
        return CommandState.FAILED, last.decline or Decline(DeclineReason.UNMAPPED)
    return (CommandState.FAILED, SUPERSEDED) if _is_superseded(last, facts) else None


def _is_object_of(operation: Operation, view: ProviderObject) -> bool:
    # After a failover the payment has objects at several accounts: one that was cancelled there says nothing here.
    same = operation.provider_payment_id in (None, view.provider_payment_id)
    return same and view.account_id == operation.account_id


def _entry_verdict(
    operation: Operation, facts: Facts, confirmation: ConfirmationMethod
) -> tuple[CommandState, Decline | None] | None:
    if operation.kind is CommandKind.CREATE and confirmation is ConfirmationMethod.MANUAL:
        made = any(view.account_id == operation.account_id for view in facts.objects)
        return (CommandState.SUCCEEDED, None) if made else None
    attempt = next((a for a in facts.attempts if a.operation_id == operation.operation_id), None)
    if attempt is None:
        # An object without a try tells nothing yet, except that a create was sent after all.
        made = any(view.account_id == operation.account_id for view in facts.objects)
        begun = operation.kind is CommandKind.CREATE and operation.state is CommandState.NOT_SENT and made
        return (CommandState.PENDING, None) if begun else None
    if _is_reversed(operation, facts):
        return CommandState.REVERSED, None
    if attempt.status is AttemptStatus.SUCCEEDED:
        return CommandState.SUCCEEDED, None
    if attempt.status is AttemptStatus.FAILED:
        return CommandState.FAILED, attempt.decline or Decline(DeclineReason.UNMAPPED)
    if _is_superseded(attempt, facts):
        return CommandState.FAILED, SUPERSEDED
    if attempt.status is AttemptStatus.REQUIRES_ACTION:
        return CommandState.REQUIRES_ACTION, None
    return CommandState.PENDING, None


def _is_superseded(attempt: Attempt, facts: Facts) -> bool:
    of_object = (attempt.account_id, attempt.provider_payment_id)
    later = any(
        a.ordinal > attempt.ordinal and (a.account_id, a.provider_payment_id) == of_object for a in facts.attempts
    )
    closed = any(view.key == of_object and view.closure is not Closure.OPEN for view in facts.objects)
    return later or closed


def _is_reversed(operation: Operation, facts: Facts) -> bool:
    own = [m for m in facts.movements if m.operation_id == operation.operation_id and m.kind is MovementKind.CAPTURE]
    return bool(own) and all(movement.status is MovementStatus.REVERSED for movement in own)


_MOVEMENT_VERDICTS = {
    MovementStatus.PENDING: CommandState.PENDING,
    MovementStatus.FAILED: CommandState.FAILED,
    MovementStatus.SUCCEEDED: CommandState.SUCCEEDED,
    MovementStatus.REVERSED: CommandState.REVERSED,
    # Of an adjusted authorization: it was held, and was let go later.
    MovementStatus.EXPIRED: CommandState.SUCCEEDED,
    MovementStatus.RELEASED: CommandState.SUCCEEDED,
}


def _movement_verdict(
    operation: Operation, facts: Facts, kind: MovementKind
) -> tuple[CommandState, Decline | None] | None:
    movement = own_movement(operation, facts, kind)
    if movement is None:
        return None
    state = _MOVEMENT_VERDICTS[movement.status]
    if state is CommandState.FAILED:
        return state, Decline(DeclineReason.REFUSED_BY_PROVIDER, provider_code=movement.reason)
    return state, None


def own_movement(operation: Operation, facts: Facts, kind: MovementKind) -> Movement | None:
    """The movement of `kind` that `operation` made, by our operation id."""
    return next((m for m in facts.movements if m.kind is kind and m.operation_id == operation.operation_id), None)


def reached(before: CommandState, said: CommandState) -> CommandState:
    """Where `said` leads from `before`, if anywhere.

    A reversal that is seen before its success is a failure: no money stayed moved. A failure after a success (a refund
    that the bank sent back) is a reversal.
    """
    if said is CommandState.REVERSED and (before in LIVE_COMMAND_STATES or before is CommandState.NOT_SENT):
        said = CommandState.FAILED
    elif said is CommandState.FAILED and before is CommandState.SUCCEEDED:
        said = CommandState.REVERSED
    return said if said in COMMAND_EDGES[before] else before
