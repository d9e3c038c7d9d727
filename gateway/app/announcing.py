"""Which observations a change deserves: one for each thing that changed, each said once.

A settle that concludes a command says so in one observation, which carries the payment's new state as well; only what
changed without concluding a command is told by PAYMENT_CHANGED.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gateway.app.clock import new_id
from gateway.app.leaving import last_operation
from gateway.domain.commands import Command, CommandKind, Operation
from gateway.domain.declines import Decline
from gateway.domain.observations import Observation, ObservationKind, Source
from gateway.domain.payments import Payment, Refund
from gateway.domain.providers import Snapshot
from gateway.domain.states import FINAL_COMMAND_STATES, CommandState, PaymentState
from gateway.domain.storage import Aggregate

_CLOSED = frozenset({PaymentState.CANCELLED, PaymentState.EXPIRED})
_MONEY = frozenset(
    {
        PaymentState.PARTIALLY_CAPTURED,
        PaymentState.CAPTURED,
        PaymentState.PARTIALLY_REFUNDED,
        PaymentState.REFUNDED,
    }
)


@dataclass(frozen=True, slots=True)
class Change:
    """A payment before and after, with its commands, operations and changed refunds as they are afterwards."""

    before: Payment
    after: Payment
    aggregate: Aggregate
    commands: tuple[Command, ...]
    operations: tuple[Operation, ...]
    refunds: tuple[Refund, ...]
    contradiction: str


@dataclass(frozen=True, slots=True)
class _Said:
    kind: ObservationKind
    command: Command | None = None
    refund_id: str | None = None
    subject_amount_minor: int | None = None
    decline: Decline | None = None
    detail: str = ""


def announce(
    change: Change, source: Source, causation_id: str, snapshot: Snapshot | None, now_us: int
) -> tuple[Observation, ...]:
    """The observations of one settle, in order; empty where nothing changed that Billing could care about."""
    payment = change.after
    said = [*_of_commands(change), *_of_refunds(change), *_of_disputes(change), *_of_contradictions(change)]
    if not any(each.kind is ObservationKind.COMMAND_CONCLUDED for each in said) and _payment_changed(change):
        command = next((c for c in change.commands if _moved(c, change.aggregate)), None)
        said.insert(0, _Said(ObservationKind.PAYMENT_CHANGED, command, decline=payment.decline))
    return tuple(
        Observation(
            observation_id=new_id("obs"),
            tenant_id=payment.tenant_id,
            organization_id=payment.organization_id,
            payment_id=payment.payment_id,
            version=payment.version,
            ordinal=ordinal,
            kind=each.kind,
            source=source,
            causation_id=causation_id,
            correlation_id=each.command.caller.correlation_id if each.command else payment.correlation_id,
            payment_state=payment.state,
            dispute_state=payment.dispute_state,
            currency=payment.terms.currency,
            amount_minor=payment.terms.amount_minor,
            authorized_minor=payment.sums.authorized_minor,
            captured_minor=payment.sums.captured_minor,
            refunded_minor=payment.sums.refunded_minor,
            disputed_minor=payment.sums.disputed_minor,
            fee_minor=payment.sums.fee_minor,
            provider=payment.provider,
            account_id=payment.account_id,
            observed_time_us=now_us,
            provider_time_us=snapshot.provider_time_us if snapshot else None,
            provider_payment_id=payment.provider_payment_id,
            command_id=each.command.command_id if each.command else None,
            command_kind=each.command.kind if each.command else None,
            command_state=each.command.state if each.command else None,
            refund_id=each.refund_id,
            subject_amount_minor=each.subject_amount_minor,
            order_reference=payment.terms.order_reference,
            decline=each.decline,
            detail=each.detail,
            risk=payment.risk,
        )
        for ordinal, each in enumerate(said)
    )


def _payment_changed(change: Change) -> bool:
    before, after = change.before, change.after
    return (
        before.state is not after.state
        # What a dispute holds is told by DISPUTE_CHANGED.
        or before.sums != replace(after.sums, disputed_minor=before.sums.disputed_minor)
        or any(_moved(command, change.aggregate) for command in change.commands)
        or _assessed(change)
    )


def _assessed(change: Change) -> bool:
    """Whether a risk that somebody may want to look at came later than the attempt that it is about.

    As with a decline of Stripe's, whose answer does not tell it. What is ordinary waits for the next observation.
    """
    before, after = change.before.risk, change.after.risk
    return after is not None and not after.is_ordinary and (before is None or before.level is not after.level)


def _moved(command: Command, aggregate: Aggregate) -> bool:
    return any(old.command_id == command.command_id and old.state is not command.state for old in aggregate.commands)


def _of_commands(change: Change) -> Iterator[_Said]:
    states_before = {command.command_id: command.state for command in change.aggregate.commands}
    for command in change.commands:
        before = states_before[command.command_id]
        if before is command.state or command.state not in FINAL_COMMAND_STATES:
            continue
        operation = last_operation(command.command_id, change.operations)
        concluded = before not in FINAL_COMMAND_STATES
        yield _Said(
            ObservationKind.COMMAND_CONCLUDED if concluded else ObservationKind.COMMAND_REVERSED,
            command,
            refund_id=command.refund_id,
            subject_amount_minor=operation.amount_minor,
            decline=operation.decline if command.state is CommandState.FAILED else None,
        )


def _of_refunds(change: Change) -> Iterator[_Said]:
    """Refunds that no command's end has told already: adopted ones, and ours that are pending."""
    states_before = {refund.refund_id: refund.state for refund in change.aggregate.refunds}
    for refund in change.refunds:
        ours_and_final = refund.command_id is not None and refund.state in FINAL_COMMAND_STATES
        if states_before.get(refund.refund_id) is refund.state or ours_and_final:
            continue
        command = next((c for c in change.commands if c.command_id == refund.command_id), None)
        yield _Said(
            ObservationKind.REFUND_CHANGED,
            command,
            refund_id=refund.refund_id,
            subject_amount_minor=refund.amount_minor,
            decline=refund.decline,
        )


def _of_disputes(change: Change) -> Iterator[_Said]:
    before, after = change.before, change.after
    disputed_changed = before.sums.disputed_minor != after.sums.disputed_minor
    if before.dispute_state is not after.dispute_state or disputed_changed:
        yield _Said(ObservationKind.DISPUTE_CHANGED, subject_amount_minor=after.sums.disputed_minor)


def _of_contradictions(change: Change) -> Iterator[_Said]:
    before, after = change.before, change.after
    if before.state in _CLOSED and after.state in _MONEY:
        yield _Said(ObservationKind.CONTRADICTION, detail=f"money moved after the payment was {before.state}")
    # What an adjustment raised may be captured as well.
    over = after.sums.captured_minor - max(after.terms.amount_minor, after.sums.authorized_minor)
    if over > 0 and after.sums.captured_minor != before.sums.captured_minor:
        yield _Said(ObservationKind.CONTRADICTION, detail="more was captured than the payment is for")
    before_states = {command.command_id: command.state for command in change.aggregate.commands}
    for command in change.commands:
        if before_states[command.command_id] is CommandState.NOT_SENT is not command.state:
            yield _Said(ObservationKind.CONTRADICTION, command, detail="the provider has what was held for not sent")
    left = after.route.left if after.route else ()
    undone = {o.operation_id for o in change.aggregate.operations if o.state is not CommandState.SUCCEEDED}
    for operation in change.operations:
        late = operation.operation_id in undone and operation.state is CommandState.SUCCEEDED
        if late and operation.account_id in left and operation.kind is CommandKind.CREATE:
            yield _Said(ObservationKind.CONTRADICTION, detail=f"{operation.account_id} did what it had declined")
    if change.contradiction:
        yield _Said(ObservationKind.CONTRADICTION, detail=change.contradiction)
