"""From what was learned to the one transaction that says so: a pure function from an aggregate and a lesson.

Facts are merged, every operation is judged by the merged facts, state is derived, reservations follow the operations
that still need them, and each change is announced once. The caller commits the result with `Store.settle`, which
refuses it when the payment has moved on; then the aggregate is read again and the lesson is applied to that.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from gateway.app.announcing import Change, announce
from gateway.app.leaving import command_state, entry_states, facts_that_speak, is_of_failover, route_after
from gateway.app.refunding import refunds_after
from gateway.app.replies import CommandView, ReplyCodec
from gateway.app.settings import EngineSettings
from gateway.app.verdicts import TAKEN_BACK, Verdict, own_movement, reached, verdict_of_facts
from gateway.domain.commands import ENTRY_KINDS, EXCLUSIVE_KINDS, Command, CommandKind, Operation
from gateway.domain.declines import Decline
from gateway.domain.derivation import derive_dispute_state, derive_payment_state, derive_sums
from gateway.domain.errors import Sent
from gateway.domain.movements import Facts, MovementKind
from gateway.domain.observations import Source
from gateway.domain.payments import LatestCommand, Payment, Refund
from gateway.domain.providers import Snapshot
from gateway.domain.resolutions import Approval
from gateway.domain.routes import Route
from gateway.domain.states import (
    FINAL_COMMAND_STATES,
    LIVE_COMMAND_STATES,
    RESERVING_STATES,
    CommandState,
    PaymentState,
    check_edge,
)
from gateway.domain.storage import (
    Aggregate,
    AuditRecord,
    CallbackChange,
    CommandChange,
    Entity,
    OperationChange,
    Settlement,
    Transition,
)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What was learned of a payment, from whom.

    `snapshot` is evidence to merge, already checked against the payment's terms. `operation_id`, `epoch` and `verdict`
    belong to an operation whose lease the teller holds. `contradiction` is said aloud in an observation of its own.
    `approval` is the second operator's, where the lesson is what two operators decided.
    `ends_failover`: why a failover under way ends at the account that declined. `doubted`: a restore leaves open
    whether the create went on at another account, so that its decline here does not end it.
    """

    source: Source
    causation_id: str
    snapshot: Snapshot | None = None
    operation_id: str = ""
    epoch: int = 0
    verdict: Verdict | None = None
    callback: CallbackChange | None = None
    audit: tuple[AuditRecord, ...] = ()
    contradiction: str = ""
    approval: Approval | None = None
    ends_failover: str = ""
    doubted: bool = False


@dataclass(frozen=True, slots=True)
class _Judged:
    before: Operation
    after: Operation


def settlement_of(
    aggregate: Aggregate, lesson: Lesson, *, now_us: int, codec: ReplyCodec, settings: EngineSettings
) -> Settlement | None:
    """The transaction that `lesson` asks for; None where it teaches nothing and holds no lease."""
    before = aggregate.payment
    facts = before.facts.merge(lesson.snapshot.facts) if lesson.snapshot else before.facts
    judged = [_judge(operation, facts, aggregate, lesson) for operation in aggregate.operations]
    operations = [each.after for each in judged]
    route = route_after(
        before,
        facts,
        aggregate.commands,
        operations,
        ends=lesson.ends_failover,
        now_us=now_us,
        doubted=lesson.doubted,
    )
    commands = _commands_after(aggregate.commands, operations, route)
    latest = _latest_of(commands, operations) or before.latest_command
    after = _payment_after(before, facts, operations, route, latest, lesson, now_us)
    refunds = refunds_after(aggregate, after, operations, now_us)

    moved = [each for each in judged if each.before.state is not each.after.state]
    change = Change(before, after, aggregate, tuple(commands), tuple(operations), tuple(refunds), lesson.contradiction)
    transitions = _transitions(before, after, moved, aggregate, commands, refunds)
    observations = announce(change, lesson.source, lesson.causation_id, lesson.snapshot, now_us)
    held = [each for each in judged if each.before.operation_id == lesson.operation_id]
    changed = [each for each in judged if each not in held and _is_ours_to_write(each)]
    told = transitions or observations or held or route != before.route
    if not (told or facts != before.facts or _action_changed(before, after)):
        return None
    return Settlement(
        payment=after,
        expected_version=before.version,
        source=lesson.source,
        causation_id=lesson.causation_id,
        transitions=transitions,
        operations=tuple(_operation_change(each, lesson, settings) for each in (*held, *changed)),
        commands=tuple(_command_changes(aggregate, commands, operations, after, refunds, codec)),
        movements=tuple(m for m in facts.movements if m not in before.facts.movements),
        refunds=tuple(refunds),
        observations=observations,
        audit=tuple(_as_it_ended(record, held) for record in lesson.audit),
        callback=lesson.callback,
        approval=lesson.approval,
    )


def _action_changed(before: Payment, after: Payment) -> bool:
    return before.next_action != after.next_action or before.provider_payment_id != after.provider_payment_id


def _as_it_ended(record: AuditRecord, held: list[_Judged]) -> AuditRecord:
    """The audit tells what the exchange came to after the facts were merged, not what the answer alone said."""
    if not held:
        return record
    operation = held[0].after
    failure = operation.failure or (operation.decline.reason if operation.decline else "")
    return replace(record, result=operation.state, failure=failure)


def _judge(operation: Operation, facts: Facts, aggregate: Aggregate, lesson: Lesson) -> _Judged:
    """The operation by the merged facts; by the lesson's verdict where the facts are silent and the lease is ours."""
    own = lesson.verdict if operation.operation_id == lesson.operation_id else None
    said = verdict_of_facts(operation, facts, aggregate.payment.terms.confirmation_method)
    sent, failure, result_id = operation.sent, operation.failure, operation.provider_result_id
    if own is not None:
        sent, failure, result_id = sent.at_least(own.sent), own.failure, own.result_id or result_id
    if said is not None:
        state, decline = said
        # What went wrong on the way here is over once the provider's own object speaks; not by facts of old.
        sent, failure = Sent.YES, "" if lesson.snapshot else failure
    elif own is not None and operation.state in LIVE_COMMAND_STATES:
        state, decline = own.state, own.decline
    else:
        state, decline = operation.state, operation.decline
    after: dict[str, Any] = {"sent": sent, "failure": failure, "provider_result_id": result_id}
    after |= _moved_to(operation, state, decline)
    after |= _provider_ids(operation, result_id, facts, lesson)
    # One copy, and only of what differs: most operations of a payment stay as they are.
    changed = {name: value for name, value in after.items() if value != getattr(operation, name)}
    return _Judged(operation, replace(operation, **changed) if changed else operation)


def _is_ours_to_write(each: _Judged) -> bool:
    """Whether an operation that we do not hold changes: writing it ends its lease, and a call may be under that."""
    moved = each.before.state is not each.after.state
    return moved or (each.before != each.after and each.before.lease_until_us is None)


def _moved_to(operation: Operation, state: CommandState, decline: Decline | None) -> dict[str, Any]:
    """What taking the edge changes, if there is one."""
    taken_back = state is CommandState.REVERSED
    state = reached(operation.state, state)
    if taken_back and state is CommandState.FAILED:
        decline = TAKEN_BACK
    if state is operation.state:
        return {}
    reserved = operation.reserved_minor if state in RESERVING_STATES else 0
    return {"state": state, "decline": decline, "reserved_minor": reserved}


_MOVED_BY = {
    CommandKind.CAPTURE: MovementKind.CAPTURE,
    CommandKind.REFUND: MovementKind.REFUND,
    CommandKind.ADJUST: MovementKind.AUTHORIZATION,
}


def _provider_ids(operation: Operation, result_id: str | None, facts: Facts, lesson: Lesson) -> dict[str, Any]:
    """The provider's names for what the operation made and for what it is about, where they are learned now."""
    learned: dict[str, Any] = {}
    kind = _MOVED_BY.get(operation.kind)
    movement = own_movement(operation, facts, kind) if kind else None
    if movement is not None and result_id is None:
        learned["provider_result_id"] = movement.provider_movement_id
    if operation.provider_payment_id is None and (named := _named(lesson, operation.account_id, operation)):
        learned["provider_payment_id"] = named
    return learned


def _named(lesson: Lesson, account_id: str, held: Operation | None) -> str | None:
    """The id of the payment's object at this account, where the lesson names it; its verdict may be of `held`."""
    if lesson.snapshot and lesson.snapshot.account_id == account_id:
        return lesson.snapshot.provider_payment_id
    own = held is not None and held.operation_id == lesson.operation_id and held.account_id == account_id
    return lesson.verdict.object_id if own and lesson.verdict else None


def _payment_after(
    before: Payment,
    facts: Facts,
    operations: list[Operation],
    route: Route | None,
    latest: LatestCommand | None,
    lesson: Lesson,
    now_us: int,
) -> Payment:
    speaking = facts_that_speak(facts, route)
    state = derive_payment_state(speaking, entry_states(operations, route))
    reserving = [operation for operation in operations if operation.state in RESERVING_STATES]
    busy = {o.command_id for o in reserving if o.kind in EXCLUSIVE_KINDS}
    # What an account that was left shows now is no object of this payment's any more, and no action of its payer's.
    snapshot = lesson.snapshot if lesson.snapshot and lesson.snapshot.account_id == before.account_id else None
    next_action = snapshot.next_action if snapshot else before.next_action
    held = next((each for each in operations if each.operation_id == lesson.operation_id), None)
    return replace(
        before,
        facts=facts,
        sums=derive_sums(facts),
        state=state,
        dispute_state=derive_dispute_state(facts),
        version=before.version + 1,
        updated_time_us=now_us,
        provider_payment_id=before.provider_payment_id or _named(lesson, before.account_id, held),
        reserved_capture_minor=_reserved(reserving, CommandKind.CAPTURE),
        reserved_refund_minor=_reserved(reserving, CommandKind.REFUND),
        busy_command_id=before.busy_command_id if before.busy_command_id in busy else None,
        next_action=next_action if state is PaymentState.REQUIRES_ACTION else None,
        decline=_decline_of(speaking, operations) if state is PaymentState.FAILED else None,
        latest_command=latest,
        route=route,
    )


def _reserved(reserving: Iterable[Operation], kind: CommandKind) -> int:
    return sum(operation.reserved_minor for operation in reserving if operation.kind is kind)


def _decline_of(facts: Facts, operations: list[Operation]) -> Decline | None:
    """Why the last attempt failed; where the provider never made an object, why the create did."""
    if facts.attempts:
        last = max(facts.attempts, key=lambda attempt: (attempt.ordinal, attempt.key))
        if last.decline is not None:
            return last.decline
    failed = [o for o in operations if o.kind in ENTRY_KINDS and o.state is CommandState.FAILED]
    return failed[-1].decline if failed else None


def _commands_after(commands: Iterable[Command], operations: list[Operation], route: Route | None) -> list[Command]:
    after = []
    for command in commands:
        own = sorted((o for o in operations if o.command_id == command.command_id), key=lambda o: o.step)
        state = command_state(command, own, route)
        after.append(command if command.state is state else replace(command, state=state))
    return after


def _latest_of(commands: list[Command], operations: list[Operation]) -> LatestCommand | None:
    """The command axis: the newest command that somebody asked for, whoever taught us what.

    Newest by its claim, which the database's clock told: gateways' own clocks may be minutes apart. A command that
    went on at another account is as old as its first operation.
    """
    claimed: dict[str, int] = {}
    for operation in operations:
        first_us = claimed.get(operation.command_id, operation.claimed_time_us)
        claimed[operation.command_id] = min(first_us, operation.claimed_time_us)
    asked = (each for each in commands if not is_of_failover(each))
    command = max(asked, key=lambda each: (claimed.get(each.command_id, 0), each.command_id), default=None)
    if command is None:
        return None
    return LatestCommand(command.command_id, command.kind, command.state, decline_of(command, operations))


def decline_of(command: Command, operations: Iterable[Operation]) -> Decline | None:
    """Why `command` failed, where it did."""
    if command.state is not CommandState.FAILED:
        return None
    own = [each for each in operations if each.command_id == command.command_id and each.decline]
    return max(own, key=lambda each: each.step).decline if own else None


def view_of(
    command: Command, operations: Iterable[Operation], payment: Payment, refunds: Iterable[Refund]
) -> CommandView:
    """The command's reply as of `payment`: its own state and decline, whatever else is under way."""
    decline = decline_of(command, operations)
    latest = LatestCommand(command.command_id, command.kind, command.state, decline)
    return CommandView(
        rpc=command.rpc,
        command_id=command.command_id,
        kind=command.kind,
        state=command.state,
        decline=decline,
        payment=payment if payment.latest_command == latest else replace(payment, latest_command=latest),
        refund=next((refund for refund in refunds if refund.refund_id == command.refund_id), None),
    )


def _command_changes(
    aggregate: Aggregate,
    commands: list[Command],
    operations: list[Operation],
    payment: Payment,
    refunds: list[Refund],
    codec: ReplyCodec,
) -> Iterable[CommandChange]:
    known = {refund.refund_id: refund for refund in (*aggregate.refunds, *refunds)}
    for before, after in zip(aggregate.commands, commands, strict=True):
        if before.state is after.state:
            continue
        reply = before.reply
        if reply is None and after.state in FINAL_COMMAND_STATES:
            reply = codec.encode(view_of(after, operations, payment, known.values()))
        yield CommandChange(after.command_id, after.state, reply)


def _operation_change(each: _Judged, lesson: Lesson, settings: EngineSettings) -> OperationChange:
    before, after = each.before, each.after
    if before.operation_id != lesson.operation_id and before.state is not after.state:
        # Somebody else may be holding this one: what it learned is older than what is written here.
        after = replace(after, epoch=before.epoch + 1)
    return OperationChange(after, before.epoch, next_attempt_s(after, settings))


def next_attempt_s(operation: Operation, settings: EngineSettings) -> float | None:
    """When recovery should look at `operation` again, from now; None where it has ended."""
    if operation.state not in LIVE_COMMAND_STATES:
        return None
    doubled = 2.0 ** min(operation.recoveries, 20)
    if operation.state in RESERVING_STATES:
        return min(settings.unknown_check_s_max, settings.unknown_check_first_s * doubled)
    return min(settings.pending_check_s_max, settings.pending_check_first_s * doubled)


def _transitions(
    before: Payment,
    after: Payment,
    moved: list[_Judged],
    aggregate: Aggregate,
    commands: list[Command],
    refunds: list[Refund],
) -> tuple[Transition, ...]:
    edges = []
    if before.state is not after.state:
        check_edge(before.state, after.state)
        edges.append(Transition(Entity.PAYMENT, after.payment_id, before.state, after.state))
    if before.dispute_state is not after.dispute_state:
        check_edge(before.dispute_state, after.dispute_state)
        edges.append(Transition(Entity.DISPUTE, after.payment_id, before.dispute_state, after.dispute_state))
    for old, new in zip(aggregate.commands, commands, strict=True):
        if old.state is not new.state:
            check_edge(old.state, new.state)
            edges.append(Transition(Entity.COMMAND, new.command_id, old.state, new.state))
    edges.extend(
        Transition(Entity.OPERATION, each.after.operation_id, each.before.state, each.after.state) for each in moved
    )
    known = {refund.refund_id: refund.state for refund in aggregate.refunds}
    edges.extend(
        Transition(Entity.REFUND, refund.refund_id, known.get(refund.refund_id, ""), refund.state)
        for refund in refunds
        if known.get(refund.refund_id) is not refund.state
    )
    return tuple(edges)
