"""Hearing a callback out: what it comes to, by the provider's own object. Reads, and writes nothing.

A callback is a hint: which payment it is about is found first, the payment is read, and then the provider is asked.
What the provider says is a lesson for the payment as it was read; whoever asked commits it, or only looks at it.
"""

from dataclasses import dataclass, replace

from gateway.app.clock import Clock, jitter, new_id
from gateway.app.leaving import accounts_left
from gateway.app.reading import Reading
from gateway.app.settings import EngineSettings
from gateway.app.settling import Lesson
from gateway.app.verdicts import mismatch
from gateway.domain.commands import Caller
from gateway.domain.observations import Source
from gateway.domain.providers import Absent, Account, Accounts, CallbackHint, ReadsCallbacks, Snapshot, Unreadable
from gateway.domain.states import CommandState
from gateway.domain.storage import Aggregate, AuditRecord, CallbackChange, CallbackState, Store, TakenCallback

IN_FLIGHT_DEFERRALS_MAX = 3
NOTE_CHARACTERS_MAX = 500
COMPLETED = "the payer approved; completed"
AGE_PARTS = 8
"""Of what is not shown: the next look comes after this part of its age, some fifty times in three days."""
NOT_SHOWN = "the provider does not show it yet"
"""Where its absence proves nothing: what a verified event tells of may only be late."""


@dataclass(frozen=True, slots=True)
class LessonFor:
    """A lesson, and the payment as it was read for it; it carries the callback's change, but before a completion."""

    aggregate: Aggregate
    lesson: Lesson


@dataclass(frozen=True, slots=True)
class Heard:
    """What is to become of the callback, and what it teaches, where it teaches something.

    `completes`: the payer has approved, and the callback becomes what `change` says once the payment is completed. Its
    lesson leaves it as it is, so that whoever dies on the way is followed by another under the same key.
    """

    change: CallbackChange
    lesson: LessonFor | None = None
    completes: bool = False


class Hearing:
    """Hears callbacks out."""

    def __init__(
        self, store: Store, accounts: Accounts, reading: Reading, settings: EngineSettings, clock: Clock
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._reading = reading
        self._settings = settings
        self._clock = clock

    async def hear(self, taken: TakenCallback, *, known_lie: str = "") -> Heard:
        """What `taken` comes to. Raises Unavailable where the database is lost.

        `known_lie` is a contradiction that was told when the callback was quarantined before.
        """
        account = self._accounts.get(taken.callback.account_id)
        if account is None or not isinstance(account.adapter, ReadsCallbacks):
            return _rest(taken, CallbackState.QUARANTINED, "the account is not configured for callbacks any more")
        try:
            hint = account.adapter.interpret(taken.callback.body, taken.callback.headers)
        except ValueError as error:
            return _rest(taken, CallbackState.QUARANTINED, f"unreadable: {error}")
        if hint.provider_payment_id is None:
            note = "of no payment" if hint.known_type else "unknown type"
            return _rest(taken, CallbackState.IGNORED, f"{note}: {hint.event_type}")
        return await self._hear_hint(taken, account, hint, known_lie)

    async def _hear_hint(self, taken: TakenCallback, account: Account, hint: CallbackHint, known_lie: str) -> Heard:
        # Which payment it is must be known before the object is read, so that the version read stands before it.
        tenant_id, payment_id = hint.tenant_id, hint.payment_id
        if not (tenant_id and payment_id):
            lookup = await self._reading.look(account, "", hint.provider_payment_id)
            if isinstance(lookup, Unreadable):
                return self._later(taken, lookup.failure)
            if isinstance(lookup, Absent):
                if not lookup.consistent:
                    return self._later(taken, NOT_SHOWN)
                return _rest(taken, CallbackState.IGNORED, "the provider does not have the object")
            tenant_id, payment_id = lookup.snapshot.tenant_id, lookup.snapshot.payment_id
            if not (tenant_id and payment_id):
                return _rest(taken, CallbackState.IGNORED, "not of this gateway: it carries no reference of ours")
        aggregate = await self._store.load(tenant_id, payment_id)
        if aggregate is None:
            return self._later(taken, "its payment is not here yet", tenant_id, payment_id)
        payment = aggregate.payment
        if account.account_id not in (payment.account_id, *accounts_left(payment.route)):
            return _rest(
                taken, CallbackState.QUARANTINED, "it names a payment of another account", tenant_id, payment_id
            )
        in_flight = any(o.state is CommandState.SENDING for o in aggregate.operations)
        if in_flight and taken.tries <= IN_FLIGHT_DEFERRALS_MAX:
            # Our own call is about to bring the same news, and it holds the lease.
            return self._later(taken, "a call of ours is in flight", tenant_id, payment_id)
        lookup = await self._reading.look(account, payment_id, hint.provider_payment_id)
        if isinstance(lookup, Unreadable):
            return self._later(taken, lookup.failure, tenant_id, payment_id)
        if isinstance(lookup, Absent):
            if not lookup.consistent:
                return self._later(taken, NOT_SHOWN, tenant_id, payment_id)
            return _rest(taken, CallbackState.QUARANTINED, "the provider has no such object", tenant_id, payment_id)
        return self._by_snapshot(taken, aggregate, lookup.snapshot, hint, known_lie)

    def _by_snapshot(
        self, taken: TakenCallback, aggregate: Aggregate, snapshot: Snapshot, hint: CallbackHint, known_lie: str
    ) -> Heard:
        payment = aggregate.payment
        tenant_id, payment_id = payment.tenant_id, payment.payment_id
        foreign = (snapshot.tenant_id, snapshot.payment_id) != (tenant_id, payment_id)
        lie = mismatch(payment, payment.terms, snapshot, aggregate.operations)
        if foreign:
            lie = "mismatch: the provider's object carries another payment's reference"
        if snapshot.unmapped and not lie:
            return self._later(taken, f"unmapped: {', '.join(snapshot.unmapped)}", tenant_id, payment_id)
        state = CallbackState.QUARANTINED if lie else CallbackState.APPLIED
        change = _change(taken, state, lie, tenant_id, payment_id)
        caller = Caller(
            tenant_id, payment.organization_id, f"callback:{taken.callback.provider}", payment.correlation_id
        )
        completes = snapshot.completion_due and not lie and snapshot.account_id == payment.account_id
        told_us = hint.provider_time_us or snapshot.provider_time_us
        lesson = Lesson(
            source=Source.CALLBACK,
            # One that asks for a completion may be taken up several times.
            causation_id=f"{taken.callback.callback_id}{'/completion' if completes else ''}",
            snapshot=None if lie else replace(snapshot, provider_time_us=told_us),
            callback=None if completes else change,
            contradiction="" if lie[:NOTE_CHARACTERS_MAX] == known_lie else lie,
            audit=(
                AuditRecord(
                    audit_id=new_id("aud"),
                    caller=caller,
                    action="CALLBACK.APPLY",
                    result=change.state,
                    failure=lie,
                    provider=taken.callback.provider,
                    account_id=taken.callback.account_id,
                    payment_id=payment_id,
                    detail=f"{taken.callback.event_type} {taken.callback.event_id}",
                ),
            ),
        )
        if completes:
            change = replace(change, note=COMPLETED)
        return Heard(change, LessonFor(aggregate, lesson), completes)

    def wait(self, taken: TakenCallback, note: str, tenant_id: str = "", payment_id: str = "") -> CallbackChange:
        """Try again later; past `callback_give_up_s` it rests in quarantine, where a person can replay it.

        What the provider does not show is asked for ever more rarely: it may never have been ours.
        """
        age_s = (self._clock.now_us() - taken.callback.received_time_us) / 1_000_000
        if age_s > self._settings.callback_give_up_s:
            return _change(taken, CallbackState.QUARANTINED, f"given up: {note}", tenant_id, payment_id)
        doubled = 2.0 ** min(taken.tries - 1, 20)
        pause_s = min(self._settings.callback_wait_s_max, self._settings.callback_wait_first_s * doubled)
        if note == NOT_SHOWN:
            pause_s = max(pause_s, age_s / AGE_PARTS)
        return replace(
            _change(taken, CallbackState.WAITING, note, tenant_id, payment_id), next_attempt_s=jitter(pause_s)
        )

    def _later(self, taken: TakenCallback, note: str, tenant_id: str = "", payment_id: str = "") -> Heard:
        return Heard(self.wait(taken, note, tenant_id, payment_id))


def _rest(taken: TakenCallback, state: CallbackState, note: str, tenant_id: str = "", payment_id: str = "") -> Heard:
    return Heard(_change(taken, state, note, tenant_id, payment_id))


def _change(taken: TakenCallback, state: CallbackState, note: str, tenant_id: str, payment_id: str) -> CallbackChange:
    return CallbackChange(
        callback_id=taken.callback.callback_id,
        expected_epoch=taken.epoch,
        state=state,
        note=note[:NOTE_CHARACTERS_MAX],
        tenant_id=tenant_id,
        payment_id=payment_id,
    )
