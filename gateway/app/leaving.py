"""When a payment leaves an account that declined it, and when it stays: pure rules over its facts and operations.

A create may be tried at a further account only after a definite soft decline, where its route says so, and only once
the declining account's object is confirmed cancelled. From the decline until then the command is not over: it keeps its
state, has no reply, and the payment is what it was before. What the account that is being left knows decides nothing
any more, except that money is money.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from gateway.domain.commands import ENTRY_KINDS, Command, CommandKind, Operation
from gateway.domain.declines import is_soft
from gateway.domain.movements import Closure, Facts, MovementStatus
from gateway.domain.payments import Payment
from gateway.domain.routes import FailoverOn, Route
from gateway.domain.states import CommandState

SYSTEM_KEY_PREFIX = "system:"
"""What the keys of commands in the gateway's own name begin with."""

ALONE = "no rule chose the account; a restore leaves open whether one did in the time that was lost"

_FAILOVER_KEY_PREFIX = f"{SYSTEM_KEY_PREFIX}failover:"
_DOUBTFUL = (CommandState.SENDING, CommandState.UNKNOWN, CommandState.NOT_SENT)
_MONEY = frozenset({MovementStatus.PENDING, MovementStatus.SUCCEEDED})


def failover_key(operation_id: str) -> str:
    """The key of the cancellation of what a declined operation left open: one, whoever begins it how often."""
    return f"{_FAILOVER_KEY_PREFIX}{operation_id}"


def is_of_failover(command: Command) -> bool:
    """Whether the command is a failover's own cancellation, which no caller asked for."""
    return command.idempotency_key.startswith(_FAILOVER_KEY_PREFIX)


def last_operation(command_id: str, operations: Iterable[Operation]) -> Operation:
    """The operation by which a command stands: its last step. A command has one at least."""
    return max((each for each in operations if each.command_id == command_id), key=lambda each: each.step)


def accounts_left(route: Route | None) -> Collection[str]:
    """The accounts that the payment has left, or is leaving."""
    return route.left if route is not None else ()


def failing_over(payment: Payment) -> bool:
    """Whether the payment is on its way from an account that declined it to the next one."""
    return payment.route is not None and payment.route.failing_over


def entry_states(operations: Iterable[Operation], route: Route | None) -> list[CommandState]:
    """The states of the create and confirm operations that the payment's state is derived from."""
    left = accounts_left(route)
    return [each.state for each in operations if each.kind in ENTRY_KINDS and each.account_id not in left]


def facts_that_speak(facts: Facts, route: Route | None) -> Facts:
    """The facts without the objects and attempts of accounts that were left; every movement of money stays."""
    left = accounts_left(route)
    if not left:
        return facts
    return replace(
        facts,
        attempts=tuple(each for each in facts.attempts if each.account_id not in left),
        objects=tuple(each for each in facts.objects if each.account_id not in left),
    )


def command_state(command: Command, own: Sequence[Operation], route: Route | None) -> CommandState:
    """A command stands where its first operation stands that has not succeeded; with all done, it has succeeded.

    Operations at accounts that were left do not decide it, and while nothing else does it stays as it is. Only where
    one of them turns out to have moved money after all, a command that says that nothing happened is wrong.
    """
    left = accounts_left(route)
    standing = [each for each in own if each.account_id not in left or each.kind is not CommandKind.CREATE]
    if not standing:
        return command.state
    unfinished = [each.state for each in standing if each.state is not CommandState.SUCCEEDED]
    state = unfinished[0] if unfinished else CommandState.SUCCEEDED
    if state is CommandState.SENDING and command.state is CommandState.UNKNOWN:
        # A step that was taken up after a restore: what the caller was told stands until recovery has looked.
        state = CommandState.UNKNOWN
    late = any(each.state is CommandState.SUCCEEDED for each in own if each not in standing)
    return CommandState.SUCCEEDED if late and state in (CommandState.FAILED, CommandState.NOT_SENT) else state


def route_after(
    payment: Payment,
    facts: Facts,
    commands: Iterable[Command],
    operations: Sequence[Operation],
    *,
    ends: str,
    now_us: int,
    doubted: bool = False,
) -> Route | None:
    """The payment's route by what was learned: a failover that begins, goes on, or ends where it was (`ends`: why).

    `doubted`: a restore leaves open whether the payment has gone on from here, so that its decline here ends nothing.
    """
    route = payment.route
    if route is None and not doubted:
        return None
    command = next((each for each in commands if each.kind is CommandKind.CREATE), None)
    if command is None:
        return route
    last = last_operation(command.command_id, operations)
    if route is not None and route.failing_over:
        under_way = command.state in _DOUBTFUL and last.state is CommandState.FAILED
        return route if under_way and not ends else _stays(route)
    if not _may_leave(payment, command, last, facts, doubted=doubted):
        return route
    # Without rules there is no way on from here. But there may have been rules in the time that was lost.
    route = route or Route("", (ALONE,), (last.account_id,))
    return route.declined_by(last.account_id, _words(last), now_us)


def cancelled_at(facts: Facts, account_id: str) -> bool:
    """Whether every object of the payment at the account is confirmed cancelled, and there is one."""
    closures = {each.closure for each in facts.objects if each.account_id == account_id}
    return closures == {Closure.CANCELLED} and not _money_at(facts, account_id)


def open_at(facts: Facts, account_id: str) -> bool:
    """Whether the payment has an object at the account that is still open."""
    return any(each.account_id == account_id and each.closure is Closure.OPEN for each in facts.objects)


def would_fail(payment: Payment, commands: Iterable[Command], after: Mapping[str, CommandState]) -> bool:
    """Whether the payment's create fails by what commands come to: a lost step may hide behind it.

    A restore takes its command back to SENDING, or to NOT_SENT, and a look at a provider that does not answer makes it
    UNKNOWN. What its route says now, if it has one, does not tell where it went: a create that is tried again takes a
    new one.
    """
    create = next((each for each in commands if each.kind is CommandKind.CREATE), None)
    if create is None or failing_over(payment) or create.state not in _DOUBTFUL:
        return False
    return after.get(create.command_id) is CommandState.FAILED


def _may_leave(payment: Payment, command: Command, last: Operation, facts: Facts, *, doubted: bool) -> bool:
    route = payment.route
    if last.state is not CommandState.FAILED or _money_at(facts, last.account_id):
        return False
    if last.account_id != payment.account_id or last.account_id in accounts_left(route):
        return False
    if doubted:
        # What went on in the time that a restore lost has gone on, whatever the decline looks like now and whatever its
        # caller was told: it waits until that is known. Nothing is sent by this: see `Failover`.
        return command.state in _DOUBTFUL
    return (
        # Not after an answer that the caller has had: it may have acted on that.
        route is not None
        and command.state is CommandState.SENDING
        and is_soft(last.decline)
        # Without an object there is nothing whose cancellation could be confirmed.
        and (open_at(facts, last.account_id) or cancelled_at(facts, last.account_id))
        and route.next_account(FailoverOn.SOFT_DECLINE, {last.account_id}) is not None
    )


def _stays(route: Route) -> Route:
    return replace(route, left=route.left[:-1], failing_over=False)


def _money_at(facts: Facts, account_id: str) -> bool:
    return any(each.account_id == account_id and each.status in _MONEY for each in facts.movements)


def _words(operation: Operation) -> str:
    decline = operation.decline
    return f"{decline.reason} {decline.provider_code}".strip() if decline else ""
