"""The design's invariants over one payment at a time: pure, so that a million payments take the memory of one page.

Each check yields what breaks it. `check_dossier` needs the database alone; `check_effects` compares a payment with the
effects that a provider's own log has for its operations.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from gateway.app.leaving import accounts_left, cancelled_at, entry_states, facts_that_speak
from gateway.app.verdicts import verdict_of_facts
from gateway.domain.commands import CommandKind, Operation
from gateway.domain.derivation import derive_dispute_state, derive_payment_state, derive_sums
from gateway.domain.dossier import Dossier, Effect, Invariant, Violation
from gateway.domain.movements import MovementKind, MovementStatus
from gateway.domain.observations import ObservationKind
from gateway.domain.payments import CaptureMethod, ConfirmationMethod
from gateway.domain.states import (
    FINAL_COMMAND_STATES,
    LIVE_COMMAND_STATES,
    RESERVING_STATES,
    CommandState,
    DisputeState,
    IllegalTransition,
    PaymentState,
    check_edge,
)
from gateway.domain.storage import Entity

CLOCK_SKEW_US_MAX = 5_000_000
"""How far the provider's clock may be behind the database's before an effect counts as earlier than its claim."""

_Found = Iterator[tuple[Invariant, str, str]]


def check_dossier(dossier: Dossier) -> Iterator[Violation]:
    """Every invariant that the database alone can break."""
    for check in _CHECKS:
        for invariant, row, message in check(dossier):
            yield _violation(dossier, invariant, row, message)


def check_effects(dossier: Dossier, effects: Mapping[str, Sequence[Effect]], *, healed: bool) -> Iterator[Violation]:
    """I1 to I3 and I12 of one payment; `effects` by operation id. `healed`: nothing is under way any more."""
    for operation in dossier.operations:
        own = effects.get(operation.operation_id, ())
        for invariant, message in _of_operation(dossier, operation, own, healed=healed):
            yield _violation(dossier, invariant, f"operations {operation.operation_id}", message)
    yield from (_violation(dossier, *found) for found in _one_account(dossier, effects))
    yield from (_violation(dossier, *found) for found in _sums(dossier, effects, healed=healed))


def _violation(dossier: Dossier, invariant: Invariant, row: str, message: str) -> Violation:
    return Violation(invariant, row, message, dossier.payment.tenant_id, dossier.payment.payment_id)


def _derived(dossier: Dossier) -> _Found:
    payment = dossier.payment
    row = f"payments {payment.payment_id}"
    entry = entry_states(dossier.operations, payment.route)
    state = derive_payment_state(facts_that_speak(payment.facts, payment.route), entry)
    if payment.state is not state:
        yield Invariant.STATE, row, f"is {payment.state}, and its facts say {state}"
    if payment.dispute_state is not derive_dispute_state(payment.facts):
        yield Invariant.STATE, row, f"dispute is {payment.dispute_state}, and its facts say otherwise"
    if payment.sums != derive_sums(payment.facts):
        yield Invariant.STATE, row, f"sums are {payment.sums}, and its movements sum to {derive_sums(payment.facts)}"
    for operation in dossier.operations:
        said = verdict_of_facts(operation, payment.facts, payment.terms.confirmation_method)
        if (
            said
            and said[0] is CommandState.SUCCEEDED
            and operation.state in (CommandState.FAILED, CommandState.NOT_SENT)
        ):
            yield (
                Invariant.I3,
                f"operations {operation.operation_id}",
                f"is {operation.state}, and the facts show it done",
            )
        elif said and operation.state is CommandState.NOT_SENT:
            yield Invariant.I3, f"operations {operation.operation_id}", f"is NOT_SENT, and the facts show it {said[0]}"


def _final_observations(dossier: Dossier) -> _Found:
    concluded = Counter(o.command_id for o in dossier.observations if o.kind is ObservationKind.COMMAND_CONCLUDED)
    for command in dossier.commands:
        wanted = 1 if command.state in FINAL_COMMAND_STATES else 0
        if concluded[command.command_id] != wanted:
            message = f"is {command.state} with {concluded[command.command_id]} final observations, not {wanted}"
            yield Invariant.I4, f"commands {command.command_id}", message


_GIVEN = (MovementStatus.SUCCEEDED, MovementStatus.PENDING)


def _amounts(dossier: Dossier) -> _Found:
    payment, row = dossier.payment, f"payments {dossier.payment.payment_id}"
    sums, asked = payment.sums, payment.terms.amount_minor
    ours = {o.operation_id for o in dossier.operations}
    captured = _total(dossier, MovementKind.CAPTURE, ours, MovementStatus.SUCCEEDED, MovementStatus.PENDING)
    limit = sums.authorized_minor or asked
    if captured > limit:
        yield Invariant.I5, row, f"our captures are {captured}, more than the {limit} authorized"
    refunded = _total(dossier, MovementKind.REFUND, ours, MovementStatus.SUCCEEDED, MovementStatus.PENDING)
    if refunded + payment.reserved_refund_minor > sums.captured_minor + _total(
        dossier, MovementKind.CAPTURE, None, MovementStatus.REVERSED
    ):
        yield (
            Invariant.I5,
            row,
            f"our refunds are {refunded} with {payment.reserved_refund_minor} reserved, over captured",
        )
    yield from _refunds_of_captures(dossier)
    for kind, reserved in (
        (CommandKind.CAPTURE, payment.reserved_capture_minor),
        (CommandKind.REFUND, payment.reserved_refund_minor),
    ):
        held = sum(o.reserved_minor for o in dossier.operations if o.kind is kind and o.state in RESERVING_STATES)
        if held != reserved:
            yield Invariant.I5, row, f"{reserved} is reserved for {kind}, and its operations hold {held}"


def _refunds_of_captures(dossier: Dossier) -> _Found:
    """Where a refund says which capture it is of, a capture gives back no more than it took."""
    movements = dossier.payment.facts.movements
    given: Counter[str] = Counter()
    for each in movements:
        if each.kind is MovementKind.REFUND and each.parent_id and each.status in _GIVEN:
            given[each.parent_id] += each.amount_minor
    for each in movements:
        refunded = given[each.provider_movement_id] if each.kind is MovementKind.CAPTURE else 0
        if refunded > each.amount_minor:
            row = f"payments {dossier.payment.payment_id}"
            yield Invariant.I5, row, f"capture {each.provider_movement_id} of {each.amount_minor} gave {refunded} back"


def _total(dossier: Dossier, kind: MovementKind, ours: set[str] | None, *statuses: MovementStatus) -> int:
    return sum(
        m.amount_minor
        for m in dossier.payment.facts.movements
        if m.kind is kind and m.status in statuses and (ours is None or m.operation_id in ours)
    )


def _replies(dossier: Dossier) -> _Found:
    """What a caller was told last is there until its key expires, and there only once it is the last word."""
    for command in dossier.commands:
        final = command.state in FINAL_COMMAND_STATES
        if final and not command.expired and command.reply is None:
            yield Invariant.I10, f"commands {command.command_id}", f"is {command.state} and has no stored reply"
        if not final and command.reply is not None:
            yield Invariant.I6, f"commands {command.command_id}", f"is {command.state} and has a final reply"


_STATE_TYPES = {
    Entity.PAYMENT: PaymentState,
    Entity.DISPUTE: DisputeState,
    Entity.COMMAND: CommandState,
    Entity.OPERATION: CommandState,
    Entity.REFUND: CommandState,
}


def _history(dossier: Dossier) -> _Found:
    versions = [entry.version for entry in dossier.history]
    row = f"history {dossier.payment.payment_id}"
    if versions != list(range(1, dossier.payment.version + 1)):
        yield Invariant.I7, row, f"has versions {_short(versions)}, and the payment is at {dossier.payment.version}"
    replayed: dict[tuple[Entity, str], str] = {(Entity.DISPUTE, dossier.payment.payment_id): DisputeState.NONE}
    for entry in dossier.history:
        for edge in entry.transitions:
            key = (edge.entity, edge.entity_id)
            if replayed.get(key, "") != edge.before:
                yield (
                    Invariant.I7,
                    f"{row} v{entry.version}",
                    f"{edge.entity} leaves {edge.before}, was {replayed.get(key)}",
                )
            replayed[key] = edge.after
            if edge.before and edge.entity is not Entity.REFUND:
                try:
                    check_edge(_STATE_TYPES[edge.entity](edge.before), _STATE_TYPES[edge.entity](edge.after))
                except IllegalTransition as error:
                    yield Invariant.I7, f"{row} v{entry.version}", str(error)
    for key, state in _rows_of(dossier):
        if replayed.get(key) != state:
            yield Invariant.I7, f"{key[0].lower()} {key[1]}", f"is {state}, and its history ends at {replayed.get(key)}"


def _rows_of(dossier: Dossier) -> Iterator[tuple[tuple[Entity, str], str]]:
    payment = dossier.payment
    yield (Entity.PAYMENT, payment.payment_id), payment.state
    yield (Entity.DISPUTE, payment.payment_id), payment.dispute_state
    for command in dossier.commands:
        yield (Entity.COMMAND, command.command_id), command.state
    for operation in dossier.operations:
        yield (Entity.OPERATION, operation.operation_id), operation.state
    for refund in dossier.refunds:
        yield (Entity.REFUND, refund.refund_id), refund.state


def _callbacks(dossier: Dossier) -> _Found:
    told = _contradictions_told(dossier)
    applied = Counter(
        e.causation_id
        for e in dossier.history
        # One that brings about a completion is applied by that; each look on the way may teach something.
        if e.causation_id.startswith("cbk_") and "/" not in e.causation_id and e.version not in told
    )
    for callback_id, times in applied.items():
        if times > 1:
            yield Invariant.I8, f"callbacks {callback_id}", f"was applied {times} times"


def _contradictions_told(dossier: Dossier) -> set[int]:
    """Versions that apply nothing and only say that something was not believed: such a callback can be replayed."""
    kinds: dict[int, set[ObservationKind]] = {}
    for observation in dossier.observations:
        kinds.setdefault(observation.version, set()).add(observation.kind)
    return {
        entry.version
        for entry in dossier.history
        if not entry.transitions and kinds.get(entry.version) == {ObservationKind.CONTRADICTION}
    }


def _order(dossier: Dossier) -> _Found:
    numbered = [o for o in dossier.observations if o.sequence]
    sequences = [o.sequence for o in sorted(numbered, key=lambda o: (o.version, o.ordinal))]
    if sequences != sorted(set(sequences)):
        yield Invariant.I9, f"observations of {dossier.payment.payment_id}", f"are numbered {_short(sequences)}"


def _tenants(dossier: Dossier) -> _Found:
    tenant_id = dossier.payment.tenant_id
    for command in dossier.commands:
        if command.caller.tenant_id != tenant_id:
            yield Invariant.I13, f"commands {command.command_id}", f"is of tenant {command.caller.tenant_id}"
    for operation in dossier.operations:
        if operation.tenant_id != tenant_id:
            yield Invariant.I13, f"operations {operation.operation_id}", f"is of tenant {operation.tenant_id}"
    known = {command.command_id for command in dossier.commands}
    for operation in dossier.operations:
        if operation.command_id not in known:
            yield Invariant.I13, f"operations {operation.operation_id}", f"has no command {operation.command_id}"


def _alive(dossier: Dossier) -> _Found:
    for operation in dossier.operations:
        live = operation.state in LIVE_COMMAND_STATES
        if live and operation.lease_until_us is None and operation.next_attempt_us is None:
            yield Invariant.I15, f"operations {operation.operation_id}", f"is {operation.state} and nobody will look"


def _failovers(dossier: Dossier) -> _Found:
    """A create goes on to another account only from one that declined it and holds nothing of it any more."""
    left = accounts_left(dossier.payment.route)
    for former, later in _steps(dossier):
        row = f"operations {later.operation_id}"
        if former.account_id not in left:
            yield Invariant.I1, row, f"was begun, and {former.account_id} was not left"
        elif former.state is not CommandState.FAILED:
            yield Invariant.I1, row, f"was begun, and {former.operation_id} at {former.account_id} is {former.state}"
        elif not cancelled_at(dossier.payment.facts, former.account_id):
            yield Invariant.I1, row, f"was begun, and the object at {former.account_id} is not cancelled"


def _steps(dossier: Dossier) -> Iterator[tuple[Operation, Operation]]:
    """Each create with the one at another account that followed it in the same command."""
    creates = [o for o in dossier.operations if o.kind is CommandKind.CREATE]
    creates.sort(key=lambda operation: operation.step)
    for former, later in itertools.pairwise(creates):
        if former.command_id == later.command_id and former.account_id != later.account_id:
            yield former, later


def _one_account(dossier: Dossier, effects: Mapping[str, Sequence[Effect]]) -> _Found:
    creates = [o for o in dossier.operations if o.kind is CommandKind.CREATE]
    paid_at = sorted({o.account_id for o in creates if effects.get(o.operation_id)})
    if len(paid_at) > 1:
        yield Invariant.I1, f"payments {dossier.payment.payment_id}", f"was paid at {', '.join(paid_at)}"


_CHECKS: tuple[Callable[[Dossier], _Found], ...] = (
    _derived,
    _final_observations,
    _amounts,
    _replies,
    _history,
    _callbacks,
    _order,
    _tenants,
    _alive,
    _failovers,
)


def _of_operation(
    dossier: Dossier, operation: Operation, effects: Sequence[Effect], *, healed: bool
) -> Iterator[tuple[Invariant, str]]:
    if len(effects) > 1:
        yield Invariant.I1, f"has {len(effects)} effects: {', '.join(e.effect_id for e in effects[:5])}"
    for effect in effects:
        if effect.time_us + CLOCK_SKEW_US_MAX < operation.claimed_time_us:
            yield Invariant.I2, f"effect {effect.effect_id} is earlier than its claim"
        undone = effect.taken_back or _taken_back(dossier, operation)
        if operation.state in (CommandState.FAILED, CommandState.NOT_SENT) and not undone:
            yield Invariant.I3, f"is {operation.state}, and effect {effect.effect_id} exists"
        if (effect.amount_minor, effect.currency) != (_amount_of(dossier, operation), operation.currency):
            yield (
                Invariant.I3,
                f"is of {operation.amount_minor}, and effect {effect.effect_id} of {effect.amount_minor}",
            )
    if healed and operation.state is CommandState.SUCCEEDED and not effects and _moves_money(dossier, operation):
        yield Invariant.I3, "is SUCCEEDED, and the provider has no effect of it"


def _taken_back(dossier: Dossier, operation: Operation) -> bool:
    """Whether the provider reversed it before anybody here saw it done: then it failed, and has an effect.

    As the facts say it, which may be later news than the log that was read. A refund that a bank sent back is FAILED at
    many providers, as one is that never went out: of that the log alone can tell (`Effect.taken_back`).
    """
    own = [m.status for m in dossier.payment.facts.movements if m.operation_id == operation.operation_id]
    return bool(own) and all(status is MovementStatus.REVERSED for status in own)


def _amount_of(dossier: Dossier, operation: Operation) -> int:
    if operation.kind is not CommandKind.CANCEL:
        return operation.amount_minor
    # A void gives back what was held.
    return dossier.payment.sums.authorized_minor or operation.amount_minor


def _moves_money(dossier: Dossier, operation: Operation) -> bool:
    terms = dossier.payment.terms
    if operation.kind is CommandKind.CREATE:
        return terms.confirmation_method is ConfirmationMethod.AUTOMATIC
    if operation.kind is CommandKind.COMPLETE:
        # What it moves is booked under the create that it completes.
        return False
    if operation.kind is CommandKind.CANCEL:
        # An account that was left, as it declined, held nothing that its cancellation could give back.
        is_there = operation.account_id == dossier.payment.account_id
        return is_there and terms.capture_method is CaptureMethod.MANUAL and dossier.payment.sums.authorized_minor > 0
    return True


def _sums(dossier: Dossier, effects: Mapping[str, Sequence[Effect]], *, healed: bool) -> _Found:
    if not healed:
        return
    own = [effect for operation in dossier.operations for effect in effects.get(operation.operation_id, ())]
    ours = {operation.operation_id for operation in dossier.operations}
    for kind, name in ((MovementKind.CAPTURE, "capture"), (MovementKind.REFUND, "refund")):
        # What stayed moved: one that was taken back sums to nothing on either side, by whichever name it goes here.
        here = _total(dossier, kind, ours, MovementStatus.SUCCEEDED)
        there = sum(effect.amount_minor for effect in own if effect.kind == name and not effect.taken_back)
        if here != there:
            row = f"payments {dossier.payment.payment_id}"
            yield Invariant.I12, row, f"our {name}s sum to {here} here and to {there} at the provider"


def _short(values: Iterable[int]) -> str:
    known = list(values)
    return f"{known[:20]}{' ...' if len(known) > 20 else ''}"
