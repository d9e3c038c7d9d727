"""A provider's books on paper: one payment object, written by our operations and by the provider's own side.

Each write is known by our operation id and done once; `snapshot` reads the object as an adapter would show it. What was
booked stays booked, so any earlier snapshot can be shown again, late.
"""

from dataclasses import dataclass, field, replace

from gateway.domain.commands import CommandKind, Operation
from gateway.domain.declines import Decline, DeclineReason
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
from gateway.domain.payments import CaptureMethod, ConfirmationMethod, NextAction, Payment
from gateway.domain.providers import Answered, Declined, Outcome, Snapshot

DECLINED = Decline(DeclineReason.DECLINED, "card_declined")
REFUSED = Decline(DeclineReason.REFUSED_BY_PROVIDER, "not_now")

K, S = MovementKind, MovementStatus


@dataclass
class Books:
    """The object that one payment has at the provider, once it was made."""

    payment: Payment
    made: bool = False
    closure: Closure = Closure.OPEN
    attempts: list[Attempt] = field(default_factory=list)
    movements: list[Movement] = field(default_factory=list)
    executed: set[str] = field(default_factory=set)
    decline: Decline = DECLINED
    completes: bool = False
    """Whether the provider leaves it to us to complete what the payer has approved."""
    approved: bool = False
    completed: bool = False
    """Whether the attempt has ever gone on from the payer's approval."""
    keeps_former: bool = False
    """Whether it goes on showing a hold as held in whose place an adjustment has put another."""

    @property
    def object_id(self) -> str:
        return f"obj_{self.payment.payment_id}"

    def total(self, kind: MovementKind, *statuses: MovementStatus) -> int:
        """The sum of the movements of `kind` at `statuses`."""
        return sum(m.amount_minor for m in self.movements if m.kind is kind and m.status in statuses)

    @property
    def refundable_minor(self) -> int:
        """What the provider would still give back."""
        return self.total(K.CAPTURE, S.SUCCEEDED) - self.total(K.REFUND, S.PENDING, S.SUCCEEDED)

    @property
    def capturable_minor(self) -> int:
        """What is held and was never taken."""
        if self.closure is not Closure.OPEN:
            return 0
        return self.held_minor - self.total(K.CAPTURE, S.SUCCEEDED, S.REVERSED)

    @property
    def held_minor(self) -> int:
        """What the holds that stand hold."""
        standing = Facts().merge(Facts(tuple(self.movements))).standing()
        return sum(m.amount_minor for m in standing if m.kind is K.AUTHORIZATION and m.status is S.SUCCEEDED)

    @property
    def taken_back(self) -> bool:
        """Whether all that was captured, by every try, was reversed: the object can be tried anew."""
        captured, held = self.total(K.CAPTURE, S.SUCCEEDED), self.capturable_minor
        return not captured and not held and self.total(K.CAPTURE, S.REVERSED) > 0

    @property
    def waits(self) -> bool:
        """Whether the payer must act."""
        return bool(self.attempts) and self.attempts[-1].status is AttemptStatus.REQUIRES_ACTION

    def snapshot(self) -> Snapshot:
        """The object as it is now."""
        account, terms = self.payment.account_id, self.payment.terms
        return Snapshot(
            account_id=account,
            provider_payment_id=self.object_id,
            amount_minor=terms.amount_minor,
            currency=terms.currency,
            facts=Facts().merge(
                Facts(
                    tuple(self.movements),
                    tuple(self.attempts),
                    (ProviderObject(account, self.object_id, self.closure),),
                )
            ),
            payment_id=self.payment.payment_id,
            tenant_id=self.payment.tenant_id,
            next_action=NextAction("https://bank.example/3ds") if self.waits else None,
            completion_due=self.approved,
        )

    def execute(self, operation: Operation, outcome: AttemptStatus = AttemptStatus.SUCCEEDED) -> Outcome:
        """Carry `operation` out, once; the provider's answer. `outcome` is what a confirmation comes to at first."""
        if operation.operation_id in self.executed:
            return Answered(self.snapshot())
        result_id: str | None = None
        match operation.kind:
            case CommandKind.CREATE:
                self.made = True
                if self.payment.terms.confirmation_method is ConfirmationMethod.AUTOMATIC:
                    self._attempt(operation, outcome)
            case CommandKind.CONFIRM:
                last = self.attempts[-1].status if self.attempts else AttemptStatus.FAILED
                paid = last is AttemptStatus.SUCCEEDED and not self.taken_back
                live = last is AttemptStatus.PENDING or paid
                if not self.made or live or self.closure is not Closure.OPEN:
                    return Declined(REFUSED)
                self._abandon()
                self._attempt(operation, outcome)
            case CommandKind.COMPLETE:
                if not self.approved or self.closure is not Closure.OPEN:
                    return Declined(REFUSED)
                self.approved = False
                if outcome in (AttemptStatus.FAILED, AttemptStatus.REQUIRES_ACTION):
                    # The payer has to choose another way to pay.
                    return Declined(DECLINED)
                self._finish(self.attempts[-1], outcome)
            case CommandKind.CAPTURE:
                if operation.amount_minor > self.capturable_minor:
                    return Declined(REFUSED)
                result_id = self._book(K.CAPTURE, operation.amount_minor, S.SUCCEEDED, operation.operation_id)
                if operation.final_capture and self.capturable_minor:
                    self._move_all(K.AUTHORIZATION, S.SUCCEEDED, S.RELEASED)
            case CommandKind.ADJUST:
                captured = self.total(K.CAPTURE, S.PENDING, S.SUCCEEDED, S.REVERSED)
                if captured or not 0 < self.held_minor <= operation.amount_minor or self.closure is not Closure.OPEN:
                    return Declined(REFUSED)
                if outcome is AttemptStatus.FAILED:
                    # The bank says no to more, and what is held stays held.
                    return Declined(DECLINED, self.snapshot())
                result_id = self._adjust(operation)
            case CommandKind.CANCEL:
                if not self.cancel():
                    return Declined(REFUSED)
            case CommandKind.REFUND:
                if operation.amount_minor > self.refundable_minor:
                    return Declined(REFUSED)
                result_id = self._book(K.REFUND, operation.amount_minor, S.PENDING, operation.operation_id)
        self.executed.add(operation.operation_id)
        own = [a for a in self.attempts if a.operation_id == operation.operation_id]
        if own and own[-1].status is AttemptStatus.FAILED:
            return Declined(self.decline, self.snapshot())
        return Answered(self.snapshot(), result_id)

    # What happens on the provider's own side. Each answers whether it could.

    def finish_attempt(self, *, succeeds: bool) -> bool:
        """The payer acts, or the bank answers."""
        if not self.attempts or self.closure is not Closure.OPEN:
            return False
        last = self.attempts[-1]
        if last.status not in (AttemptStatus.REQUIRES_ACTION, AttemptStatus.PENDING):
            return False
        self.approved = False
        self._finish(last, AttemptStatus.SUCCEEDED if succeeds else AttemptStatus.FAILED)
        return True

    def approve(self) -> bool:
        """The payer agrees, and the provider waits for us."""
        waits = bool(self.attempts) and self.attempts[-1].status is AttemptStatus.REQUIRES_ACTION
        if not (self.completes and waits and self.closure is Closure.OPEN) or self.approved:
            return False
        self.approved = True
        return True

    def cancel(self, closure: Closure = Closure.CANCELLED) -> bool:
        """Close the object; refused once something was captured or is under way."""
        if not self.made or self.closure is not Closure.OPEN or self.total(K.CAPTURE, S.SUCCEEDED, S.PENDING):
            return False
        self._abandon()
        self._move_all(K.AUTHORIZATION, S.SUCCEEDED, S.RELEASED if closure is Closure.CANCELLED else S.EXPIRED)
        self.closure = closure
        return True

    def refund_by_dashboard(self, amount_minor: int) -> bool:
        """A refund that we did not cause."""
        if not 0 < amount_minor <= self.refundable_minor:
            return False
        self._book(K.REFUND, amount_minor, S.SUCCEEDED, None)
        return True

    def dispute(self, amount_minor: int, status: MovementStatus) -> bool:
        """The payer's bank asks for money back, or asks about it."""
        if amount_minor > self.total(K.CAPTURE, S.SUCCEEDED):
            return False
        self._book(K.DISPUTE, amount_minor, status, None)
        return True

    def move(self, kind: MovementKind, before: MovementStatus, after: MovementStatus) -> bool:
        """The first movement of `kind` that stands at `before` goes on to `after`."""
        for index, movement in enumerate(self.movements):
            if movement.kind is kind and movement.status is before:
                self.movements[index] = replace(movement, status=after)
                return True
        return False

    def stands(self, operation: Operation) -> bool:
        """Whether an effect of `operation` is in the books and was not undone."""
        if operation.kind is CommandKind.CANCEL:
            return self.closure is Closure.CANCELLED  # by whomever: the wish is fulfilled
        if operation.kind is CommandKind.COMPLETE:
            return self.completed  # as with a cancellation
        if operation.operation_id not in self.executed:
            return False
        match operation.kind:
            case CommandKind.CREATE if self.payment.terms.confirmation_method is ConfirmationMethod.MANUAL:
                return True
            case CommandKind.CREATE | CommandKind.CONFIRM:
                own = [a for a in self.attempts if a.operation_id == operation.operation_id]
                taken = [m for m in self.movements if m.operation_id == operation.operation_id and m.kind is K.CAPTURE]
                undone = bool(taken) and all(m.status is S.REVERSED for m in taken)
                return own[0].status is AttemptStatus.SUCCEEDED and not undone
            case CommandKind.ADJUST:
                return True  # it was held, whatever came of the hold
            case _:
                status = next(m.status for m in self.movements if m.operation_id == operation.operation_id)
                return status is S.SUCCEEDED

    def _attempt(self, operation: Operation, outcome: AttemptStatus) -> None:
        attempt = Attempt(
            self.payment.account_id,
            self.object_id,
            len(self.attempts) + 1,
            AttemptStatus.PENDING,
            operation_id=operation.operation_id,
        )
        self.attempts.append(attempt)
        self._finish(attempt, outcome)

    def _finish(self, attempt: Attempt, status: AttemptStatus) -> None:
        self.completed |= status in (AttemptStatus.PENDING, AttemptStatus.SUCCEEDED)
        decline = self.decline if status is AttemptStatus.FAILED else None
        self.attempts[-1] = replace(attempt, status=status, decline=decline)
        if status is AttemptStatus.SUCCEEDED:
            manual = self.payment.terms.capture_method is CaptureMethod.MANUAL
            kind = K.AUTHORIZATION if manual else K.CAPTURE
            self._book(kind, self.payment.terms.amount_minor, S.SUCCEEDED, attempt.operation_id)

    def _adjust(self, operation: Operation) -> str:
        standing = Facts().merge(Facts(tuple(self.movements))).standing()
        (former,) = (m for m in standing if m.kind is K.AUTHORIZATION and m.status is S.SUCCEEDED)
        if not self.keeps_former:
            self._move_all(K.AUTHORIZATION, S.SUCCEEDED, S.RELEASED)
        made_id = self._book(K.AUTHORIZATION, operation.amount_minor, S.SUCCEEDED, operation.operation_id)
        self.movements[-1] = replace(self.movements[-1], parent_id=former.provider_movement_id)
        return made_id

    def _abandon(self) -> None:
        if self.attempts and self.attempts[-1].status is AttemptStatus.REQUIRES_ACTION:
            self.attempts[-1] = replace(self.attempts[-1], status=AttemptStatus.FAILED, decline=self.decline)

    def _book(self, kind: MovementKind, amount_minor: int, status: MovementStatus, operation_id: str | None) -> str:
        movement_id = f"{kind.lower()}_{len(self.movements) + 1}"
        account, currency = self.payment.account_id, self.payment.terms.currency
        self.movements.append(Movement(account, kind, movement_id, amount_minor, currency, status, operation_id))
        return movement_id

    def _move_all(self, kind: MovementKind, before: MovementStatus, after: MovementStatus) -> None:
        while self.move(kind, before, after):
            pass
