"""A suspected break, looked at again: both sides are read anew, and only what still differs is one.

What the provider knows more is kept as a break and then merged by the usual settling, with source RECONCILIATION. The
rest is kept for a person, and a payment of ours says so in one CONTRADICTION, however often it is found.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.app.clock import new_id
from gateway.app.comparing import (
    Difference,
    break_of,
    differences,
    has_lapsed,
    is_mergeable,
    missing_here,
    missing_there,
    our_sums,
    stuck,
    summed,
    their_sums,
    unreadable,
)
from gateway.app.learning import Learning
from gateway.app.leaving import failing_over
from gateway.app.reading import Reading
from gateway.app.settings import ReconciliationSettings
from gateway.app.settling import Lesson
from gateway.app.telemetry import Telemetry
from gateway.domain.commands import Caller
from gateway.domain.movements import Facts
from gateway.domain.observations import Source
from gateway.domain.providers import Account, Accounts, Found, Lookup, Snapshot, Unreadable
from gateway.domain.reconciliation import Break, BreakType, OurRecord, Reconciliation, Sums
from gateway.domain.states import CommandState
from gateway.domain.storage import Aggregate, AuditRecord, Store

LOOKS_MAX = 8
IN_FLIGHT_WAITS_MAX = 3
IN_FLIGHT_WAIT_S = 0.5
OBJECTS_MAX = 8

Key = tuple[str, str]


class Unreachable(Exception):
    """The provider could not be read now: the job goes on later from the same place."""

    def __init__(self, failure: str, retry_after_s: float = 0.0) -> None:
        super().__init__(failure)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Examined:
    """What one look came to: what the pair adds to the sums, and whether no merge is left to be done."""

    key: Key
    sums: Sums = field(default_factory=dict)
    is_clean: bool = False
    lost_lease: bool = False


class Examination:
    """Looks at one payment at a time, for a job whose lease the caller holds."""

    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        learning: Learning,
        reading: Reading,
        telemetry: Telemetry,
        settings: ReconciliationSettings,
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._learning = learning
        self._reading = reading
        self._telemetry = telemetry
        self._settings = settings

    async def listed(self, job: Reconciliation, account: Account, listed: Snapshot) -> Examined:
        """An object of the provider's list, with our reference, that does not look like ours.

        Raises Unreachable.
        """
        key = (listed.tenant_id, listed.payment_id)
        for looks in range(LOOKS_MAX):
            aggregate = await self._store.load(*key)
            if aggregate is None:
                return await self._not_ours(job, account, listed)
            if await self._is_in_flight(aggregate, looks):
                continue
            lookup = await self._reading.look(account, "", listed.provider_payment_id)
            examined = await self._compare(job, account, aggregate, lookup, listed)
            if examined is not None:
                return examined
        raise Unreachable(f"payment {listed.payment_id} is changing too fast to compare")

    async def ours(self, job: Reconciliation, account: Account, record: OurRecord) -> Examined:
        """A payment of ours that the list has not shown, or one that is stuck. Raises Unreachable."""
        key = (record.tenant_id, record.payment_id)
        for looks in range(LOOKS_MAX):
            aggregate = await self._store.load(*key)
            if aggregate is None:
                return Examined(key, is_clean=True)
            if await self._is_in_flight(aggregate, looks):
                continue
            lookup = await self._reading.look(account, record.payment_id, aggregate.payment.provider_payment_id)
            examined = await self._compare(job, account, aggregate, lookup, None)
            if examined is None:
                continue
            if record.is_stuck and await self._is_stuck(key):
                theirs = "shows no trace of it" if not isinstance(lookup, Found) else "shows its object, without an end"
                kept = await self._keep(job, aggregate, "", [stuck(aggregate.payment, theirs)])
                return examined if kept else Examined(key, lost_lease=True)
            return examined
        raise Unreachable(f"payment {record.payment_id} is changing too fast to compare")

    async def _compare(
        self, job: Reconciliation, account: Account, aggregate: Aggregate, lookup: Lookup, listed: Snapshot | None
    ) -> Examined | None:
        """What differs between both, as read now; None where the payment moved on meanwhile."""
        payment = aggregate.payment
        key = (payment.tenant_id, payment.payment_id)
        if isinstance(lookup, Unreadable):
            return await self._unreadable(job, aggregate, lookup.failure)
        if not isinstance(lookup, Found):
            has_there = payment.provider_payment_id is not None or payment.sums.authorized_minor > 0
            has_there = has_there and not has_lapsed(payment)
            examined = Examined(key, our_sums(payment), is_clean=not has_there)
            if not has_there:
                return examined
            if not lookup.consistent:
                return await self._unreadable(job, aggregate, "a look that can miss writes did not find it")
            reference = payment.provider_payment_id or ""
            return await self._found(job, aggregate, reference, [missing_there(payment)], examined)
        snapshot = lookup.snapshot
        known = {(operation.account_id, operation.operation_id) for operation in aggregate.operations}
        others = await self._others(account, aggregate, snapshot)
        found = differences(payment, snapshot, known, others)
        # Of two that belong to each other once, each side is summed where it is walked.
        apart = any(each.type is BreakType.DUPLICATE for each in found)
        sides = (our_sums(payment), their_sums(snapshot))
        sums = summed(*sides) if not apart else sides[1] if listed else sides[0]
        if not found:
            return Examined(key, sums, is_clean=True)
        if not await self._keep(job, aggregate, snapshot.provider_payment_id, found, snapshot.facts):
            return Examined(key, lost_lease=True)
        if job.dry_run:
            return Examined(key, sums)
        after = await self._settle(job, aggregate, snapshot, found)
        if after is None:
            return None
        if not is_mergeable(found):
            return Examined(key, sums)
        left = differences(after.payment, snapshot, known, others)
        return Examined(
            key,
            summed(our_sums(after.payment), their_sums(snapshot)),
            is_clean=not any(each.mends for each in left),
        )

    async def _settle(
        self, job: Reconciliation, aggregate: Aggregate, snapshot: Snapshot | None, found: Sequence[Difference]
    ) -> Aggregate | None:
        """Merge what may be merged and say aloud what may not; None where the payment moved on meanwhile."""
        payment = aggregate.payment
        merged = snapshot if snapshot is not None and is_mergeable(found) else None
        detail = await self._new_contradiction(aggregate, found)
        if merged is None and not detail:
            return aggregate
        caller = Caller(payment.tenant_id, payment.organization_id, job.caller.actor, payment.correlation_id)
        record = AuditRecord(
            audit_id=new_id("aud"),
            caller=caller,
            action="RECONCILE.APPLY",
            result="CONTRADICTED" if detail else "MERGED",
            failure=detail,
            provider=payment.provider,
            account_id=job.account_id,
            payment_id=payment.payment_id,
            detail=job.reconciliation_id,
        )
        lesson = Lesson(
            source=Source.RECONCILIATION,
            causation_id=job.reconciliation_id,
            snapshot=merged,
            contradiction=detail,
            audit=(record,),
        )
        return await self._learning.settle_read(aggregate, lesson)

    async def _new_contradiction(self, aggregate: Aggregate, found: Sequence[Difference]) -> str:
        """What is to be said of the breaks that no merge removes; empty where it was said before."""
        payment = aggregate.payment
        for each in found:
            # An object elsewhere of a payment that is on its way is the step that a restore lost: it is taken up.
            expected = each.lost and (each.type is not BreakType.DUPLICATE or failing_over(payment))
            if each.mends or expected or each.type is BreakType.STUCK or each.theirs.startswith("unreadable"):
                continue
            detail = f"reconciliation, {each.type}: {each.ours}; the provider: {each.theirs}"[:500]
            if not await self._store.has_contradiction(payment.tenant_id, payment.payment_id, detail):
                return detail
        return ""

    async def _found(
        self, job: Reconciliation, aggregate: Aggregate, reference: str, found: list[Difference], examined: Examined
    ) -> Examined | None:
        """Breaks that only a person can end."""
        if not await self._keep(job, aggregate, reference, found):
            return Examined(examined.key, lost_lease=True)
        if not job.dry_run and await self._settle(job, aggregate, None, found) is None:
            return None
        return examined

    async def _keep(
        self,
        job: Reconciliation,
        aggregate: Aggregate,
        reference: str,
        found: Sequence[Difference],
        shows: Facts | None = None,
    ) -> bool:
        return await self._note(job, [break_of(aggregate.payment, reference, each, shows) for each in found])

    async def _note(self, job: Reconciliation, breaks: Sequence[Break]) -> bool:
        for each in breaks:
            self._telemetry.reconciliation_break(job.account_id, each.type, each.mends and not job.dry_run)
        return await self._store.note_breaks(job, breaks)

    async def _not_ours(self, job: Reconciliation, account: Account, listed: Snapshot) -> Examined:
        """Our reference, and no such payment here: a claim is committed before its send, so this database lost it."""
        key = (listed.tenant_id, listed.payment_id)
        lookup = await self._reading.look(account, "", listed.provider_payment_id)
        if isinstance(lookup, Unreadable) and job.postponed < self._settings.postponed_max // 2:
            raise Unreachable(lookup.failure)
        seen = lookup.snapshot if isinstance(lookup, Found) else listed
        kept = await self._note(job, [missing_here(seen)])
        return Examined(key, their_sums(seen), lost_lease=not kept)

    async def _unreadable(self, job: Reconciliation, aggregate: Aggregate, failure: str) -> Examined | None:
        """One object that cannot be read is tried again, and in the end kept as a break: the rest is not held up."""
        payment = aggregate.payment
        if job.postponed < self._settings.postponed_max // 2:
            raise Unreachable(failure)
        examined = Examined((payment.tenant_id, payment.payment_id), our_sums(payment))
        reference = payment.provider_payment_id or ""
        return await self._found(job, aggregate, reference, [unreadable(payment, failure)], examined)

    async def _others(self, account: Account, aggregate: Aggregate, snapshot: Snapshot) -> Facts | None:
        """The facts of the payment's other objects: after a failover it has one at each provider."""
        facts: Facts | None = None
        for view in aggregate.payment.facts.objects[:OBJECTS_MAX]:
            if view.key == (account.account_id, snapshot.provider_payment_id):
                continue
            where = self._accounts.get(view.account_id)
            lookup = await self._reading.look(where, "", view.provider_payment_id) if where else None
            if isinstance(lookup, Unreadable):
                raise Unreachable(lookup.failure)
            if isinstance(lookup, Found):
                facts = lookup.snapshot.facts if facts is None else facts.merge(lookup.snapshot.facts)
        return facts

    async def _is_in_flight(self, aggregate: Aggregate, looks: int) -> bool:
        """Our own call is about to bring the news; it is waited for, but not for long."""
        in_flight = any(operation.state is CommandState.SENDING for operation in aggregate.operations)
        if not in_flight or looks >= IN_FLIGHT_WAITS_MAX:
            return False
        await asyncio.sleep(IN_FLIGHT_WAIT_S)
        return True

    async def _is_stuck(self, key: Key) -> bool:
        """Whether an operation is still under way or unknown, after what the look has taught."""
        aggregate = await self._store.load(*key)
        live = (CommandState.SENDING, CommandState.UNKNOWN)
        return aggregate is not None and any(operation.state in live for operation in aggregate.operations)
