"""The reckoning: the gateway's books against the provider's, one by one. Each disagreement is one line.

A rule is a function from both books to what disagrees; an empty answer is agreement.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from gateway.demo.figures import Books, Effect, MovementRow, OperationRow
from gateway.domain.commands import CommandKind
from gateway.domain.money import Money
from gateway.domain.movements import MovementKind, MovementStatus
from gateway.domain.observations import ObservationKind
from gateway.domain.payments import ConfirmationMethod
from gateway.domain.states import FINAL_COMMAND_STATES, CommandState, PaymentState

VOID, REVERSAL = "VOID", "REVERSAL"
CAUSES: Mapping[str, frozenset[str]] = {
    CommandKind.CREATE: frozenset({MovementKind.AUTHORIZATION, MovementKind.CAPTURE}),
    CommandKind.CONFIRM: frozenset({MovementKind.AUTHORIZATION, MovementKind.CAPTURE}),
    CommandKind.CAPTURE: frozenset({MovementKind.CAPTURE}),
    CommandKind.CANCEL: frozenset({VOID}),
    CommandKind.REFUND: frozenset({MovementKind.REFUND}),
    CommandKind.ADJUST: frozenset({MovementKind.AUTHORIZATION}),
    # What a completion moves is booked under the create that it completes.
    CommandKind.COMPLETE: frozenset(),
}
"""What an operation may do to money."""

HAPPENED = frozenset({CommandState.SUCCEEDED, CommandState.REVERSED})
UNCERTAIN = frozenset({CommandState.SENDING, CommandState.UNKNOWN})
UNMOVED = frozenset(
    {MovementStatus.PENDING, MovementStatus.FAILED, MovementStatus.INQUIRY, MovementStatus.INQUIRY_CLOSED}
)
"""A movement in one of these may have moved nothing yet, or never."""


@dataclass(frozen=True, slots=True)
class Accounts:
    """Both sides' books. `seen` are the ids of the observations that `consumer` got on its stream."""

    books: Books
    effects: tuple[Effect, ...]
    consumer: str
    seen: frozenset[str]

    @property
    def ours(self) -> tuple[Effect, ...]:
        """The effects that an operation asked for."""
        return tuple(effect for effect in self.effects if effect.operation_id is not None)

    @property
    def operations(self) -> Mapping[str, OperationRow]:
        """Operations by id."""
        return {operation.operation_id: operation for operation in self.books.operations}

    @property
    def movements(self) -> Mapping[tuple[str, str], MovementRow]:
        """Movements by kind and provider's id."""
        return {(movement.kind, movement.provider_movement_id): movement for movement in self.books.movements}


@dataclass(frozen=True, slots=True)
class Reckoning:
    """The figures, and what disagrees."""

    payments: int
    effects: int
    observations: int
    accepted: int
    unknown: int
    violations: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether nothing is unknown and nothing disagrees."""
        return not self.unknown and not self.violations

    def __str__(self) -> str:
        return (
            f"payments={self.payments} effects={self.effects} observations={self.observations} "
            f"accepted={self.accepted} unknown={self.unknown} violations={len(self.violations)}"
        )


def reckon(
    books: Books, effects: tuple[Effect, ...], *, consumer: str, seen: Collection[str], seen_otherwise: tuple[str, ...]
) -> Reckoning:
    """Compare everything. `seen_otherwise` are disagreements that were noticed on the way here."""
    accounts = Accounts(books, effects, consumer, frozenset(seen))
    return Reckoning(
        payments=len(books.payments),
        effects=len(effects),
        observations=len(books.observations),
        accepted=len(books.accepted(consumer)),
        unknown=unknown(books),
        violations=(*seen_otherwise, *(found for rule in RULES for found in rule(accounts))),
    )


def unknown(books: Books) -> int:
    """How many payments have something about them that is not known."""
    uncertain = {command.payment_id for command in books.commands if command.state in UNCERTAIN}
    return len(uncertain | {each.payment_id for each in books.payments if each.state == PaymentState.UNKNOWN})


def each_effect_of_ours_belongs_to_one_operation(accounts: Accounts) -> Iterator[str]:
    """An effect names an operation that exists, of its kind and amount, which says that it happened.

    A success that was taken back before the gateway saw it is told as a failure: no money stayed moved.
    """
    taken_back = {effect.movement_id for effect in accounts.effects if effect.kind == REVERSAL}
    operations, tenants = accounts.operations, {each.payment_id: each.tenant_id for each in accounts.books.payments}
    for effect in accounts.ours:
        operation = operations.get(str(effect.operation_id))
        if operation is None:
            yield f"{_named(effect)} belongs to operation {effect.operation_id}, which the database does not have"
            continue
        if effect.kind not in CAUSES.get(operation.kind, frozenset()):
            yield f"{_named(effect)} cannot come from {_of(operation)}"
        if effect.kind != VOID and _amount(effect) != _amount(operation):
            yield f"{_named(effect)} is {_amount(effect)}, but {_of(operation)} asked for {_amount(operation)}"
        if (effect.account_id, effect.tenant_id) != (operation.account_id, tenants.get(operation.payment_id)):
            yield f"{_named(effect)} is of another account or tenant than {_of(operation)}"
        if operation.state not in HAPPENED | UNCERTAIN and effect.movement_id not in taken_back:
            yield f"{_named(effect)} happened, but {_of(operation)} is {operation.state}"


def no_operation_has_two_effects(accounts: Accounts) -> Iterator[str]:
    """An operation reached the provider's books at most once."""
    for operation_id, count in Counter(effect.operation_id for effect in accounts.ours).items():
        if count > 1:
            yield f"operation {operation_id} has {count} effects: it was charged {count} times"


def each_success_has_its_effect(accounts: Accounts) -> Iterator[str]:
    """What is said to have succeeded is on the provider's books."""
    later = {
        each.payment_id for each in accounts.books.payments if each.confirmation_method == ConfirmationMethod.MANUAL
    }
    done = {effect.operation_id for effect in accounts.ours}
    for operation in accounts.books.operations:
        # Neither of these need move money.
        if operation.kind in (CommandKind.CANCEL, CommandKind.COMPLETE) or (
            operation.kind == CommandKind.CREATE and operation.payment_id in later
        ):
            continue
        if operation.state in HAPPENED and operation.operation_id not in done:
            yield f"{_of(operation)} is {operation.state}, but the provider did nothing"


def each_effect_is_a_movement(accounts: Accounts) -> Iterator[str]:
    """The gateway knows each movement by its id and amount; what is not ours it has adopted as the provider's."""
    movements = accounts.movements
    for effect in accounts.effects:
        if effect.kind in (VOID, REVERSAL):
            continue
        movement = movements.get((effect.kind, effect.movement_id))
        if movement is None:
            adopted = "recorded" if effect.operation_id else "adopted"
            yield f"{_named(effect)} was not {adopted}: the database has no such movement"
        elif (_amount(movement), movement.operation_id) != (_amount(effect), effect.operation_id):
            yield (
                f"{_named(effect)} is {_amount(effect)} of {effect.operation_id}, but the database has "
                f"{_amount(movement)} of {movement.operation_id}"
            )


def each_movement_is_an_effect(accounts: Accounts) -> Iterator[str]:
    """Money that the gateway believes to have moved did move."""
    happened = {(effect.kind, effect.movement_id) for effect in accounts.effects}
    for movement in accounts.books.movements:
        # A fee is taken off a payout and is no movement between payer and merchant.
        if movement.kind == MovementKind.FEE or movement.status in UNMOVED:
            continue
        if (movement.kind, movement.provider_movement_id) not in happened:
            yield f"movement {movement.kind} {movement.provider_movement_id} is not on the provider's books"


def sums_are_equal(accounts: Accounts) -> Iterator[str]:
    """For each payment, both sides add up to the same."""
    sums: Counter[tuple[str, str, str]] = Counter()
    kinds = {effect.movement_id: effect.kind for effect in accounts.effects if effect.kind not in (VOID, REVERSAL)}
    for effect in accounts.effects:
        sign, kind = (-1, kinds.get(effect.movement_id, "")) if effect.kind == REVERSAL else (1, effect.kind)
        sums[effect.account_id, effect.provider_payment_id, kind] += sign * effect.amount_minor
    known = {(payment.account_id, str(payment.provider_payment_id)) for payment in accounts.books.payments}
    moved_at = {(effect.account_id, effect.provider_payment_id) for effect in accounts.effects}
    for _, stray in sorted(moved_at - known):
        yield f"the provider's payment {stray} is no payment of the database"
    for payment in accounts.books.payments:
        for kind, believed in (
            (MovementKind.CAPTURE, payment.captured_minor),
            (MovementKind.REFUND, payment.refunded_minor - payment.refund_pending_minor),
            (MovementKind.DISPUTE, payment.disputed_minor),
        ):
            moved = sums[payment.account_id, str(payment.provider_payment_id), kind]
            if moved != believed:
                yield (
                    f"payment {payment.payment_id}: {kind} sums to {Money(believed, payment.currency)} in the "
                    f"database, to {moved} minor units at the provider"
                )


def each_answer_is_told_once(accounts: Accounts) -> Iterator[str]:
    """A command that came to its final answer has exactly one observation that concludes it."""
    told = Counter(
        each.command_id for each in accounts.books.observations if each.kind == ObservationKind.COMMAND_CONCLUDED
    )
    for command in accounts.books.commands:
        wanted = int(command.state in FINAL_COMMAND_STATES)
        if told[command.command_id] != wanted:
            yield (
                f"command {command.command_id} ({command.kind} {command.state}) is concluded by "
                f"{told[command.command_id]} observations, not by {wanted}"
            )


def billing_has_it_all(accounts: Accounts) -> Iterator[str]:
    """Each observation has its number, came to the consumer, and is a fact now; and nothing else came."""
    stored = {each.observation_id for each in accounts.books.observations}
    accepted = accounts.books.accepted(accounts.consumer)
    for observation in accounts.books.observations:
        if observation.sequence is None:
            yield f"observation {observation.observation_id} has no place in the order"
        if observation.observation_id not in accounts.seen:
            yield f"observation {observation.observation_id} never came to {accounts.consumer}"
        if observation.observation_id not in accepted:
            yield f"observation {observation.observation_id} is not accepted"
    for stray in sorted(accounts.seen - stored):
        yield f"observation {stray} came to {accounts.consumer}, but the database does not have it"


RULES: tuple[Callable[[Accounts], Iterator[str]], ...] = (
    each_effect_of_ours_belongs_to_one_operation,
    no_operation_has_two_effects,
    each_success_has_its_effect,
    each_effect_is_a_movement,
    each_movement_is_an_effect,
    sums_are_equal,
    each_answer_is_told_once,
    billing_has_it_all,
)


def _amount(of: Effect | OperationRow | MovementRow) -> Money:
    return Money(of.amount_minor, of.currency)


def _named(effect: Effect) -> str:
    return f"effect {effect.number} ({effect.kind.lower()} {effect.movement_id})"


def _of(operation: OperationRow) -> str:
    return f"operation {operation.operation_id} ({operation.kind})"
