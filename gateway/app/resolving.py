"""Resolving what no evidence will end: one operator proposes, a second one approves, and the provider is asked twice.

A proposal is bound to what its maker saw: the payment's version and the operation's last send. The approval takes the
operation as recovery does (its epoch rises, so that whoever held it before changes nothing any more), looks again, and
settles in one transaction with the approval, the history, the observation, the stored reply and the audit. Nothing here
sends anything to a provider.
"""

import contextlib
from dataclasses import replace

import structlog

from gateway.app.clock import jitter, new_id
from gateway.app.elsewhere import gone_elsewhere
from gateway.app.learning import Learning
from gateway.app.proposing import (
    APPROVE,
    PROPOSE,
    Resolved,
    Wish,
    approval_of,
    audit_of,
    check_result,
    command_of,
    is_stale,
    is_too_old,
    lesson_of,
    repeats,
    stale,
    told,
    unknown_operation,
)
from gateway.app.reading import Reading
from gateway.app.settings import EngineSettings
from gateway.app.settling import next_attempt_s
from gateway.app.vouching import RESULT_KINDS, Contradicted, executed, not_executed
from gateway.domain.commands import Caller, Command, CommandKind, Operation
from gateway.domain.errors import Busy, NotFound, ObolError, Precondition, Reason, Unavailable
from gateway.domain.movements import MovementKind
from gateway.domain.payments import CaptureMethod
from gateway.domain.providers import Accounts, Lookup, Snapshot, Unreadable
from gateway.domain.resolutions import Proposal, Resolution
from gateway.domain.storage import Aggregate, AuditRecord, Store

FLIGHT_S_UNKNOWN = 24 * 3600
"""How long a request may be in flight to an account that is not configured any more."""

_log = structlog.get_logger(__name__)


class Resolving:
    """The use case behind ResolveCommand."""

    def __init__(
        self, store: Store, accounts: Accounts, reading: Reading, learning: Learning, settings: EngineSettings
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._reading = reading
        self._learning = learning
        self._settings = settings

    async def resolve(self, caller: Caller, wish: Wish) -> Resolved:
        """Propose, or approve. Raises ObolError as the contract says."""
        command, aggregate = await self._find(wish)
        if wish.approve_proposal_id:
            return await self._approve(caller, wish, command, aggregate)
        return await self._propose(caller, wish, command, aggregate)

    async def _find(self, wish: Wish) -> tuple[Command, Aggregate]:
        command = await self._store.get_command(wish.tenant_id, wish.command_id)
        aggregate = await self._store.load(wish.tenant_id, command.payment_id) if command else None
        if command is None or aggregate is None:
            message = f"there is no command {wish.command_id} for tenant {wish.tenant_id}"
            raise NotFound(Reason.COMMAND_NOT_FOUND, message, field="command_id")
        return command_of(aggregate, wish.command_id), aggregate

    async def _propose(self, caller: Caller, wish: Wish, command: Command, aggregate: Aggregate) -> Resolved:
        operation = unknown_operation(command, aggregate)
        latest, now_us = await self._store.latest_proposal(wish.tenant_id, wish.command_id)
        proposal = Proposal(
            proposal_id=new_id("prp"),
            tenant_id=wish.tenant_id,
            payment_id=command.payment_id,
            command_id=command.command_id,
            operation_id=operation.operation_id,
            resolution=wish.resolution,
            reason=wish.reason,
            actor=caller.actor,
            correlation_id=caller.correlation_id,
            version=aggregate.payment.version,
            last_send_us=operation.last_send_us or 0,
            provider_result_id=wish.provider_result_id,
            provider_movement_id=wish.provider_movement_id,
        )
        check_result(proposal, operation)
        if latest is not None and repeats(proposal, latest) and not is_too_old(latest, now_us):
            return Resolved(latest, False, command, aggregate)
        audit = audit_of(PROPOSE, proposal.resolution, caller, aggregate, operation, told(proposal))
        try:
            self._check_flight(proposal, operation, now_us)
            await self._vouched(proposal, operation, aggregate)
        except Precondition as refused:
            await self._store.append_audit([replace(audit, result="REFUSED", failure=refused.reason)])
            raise
        kept = await self._store.propose(proposal, audit)
        _log.info("resolution proposed", command_id=command.command_id, resolution=proposal.resolution)
        return Resolved(kept, False, command, aggregate)

    async def _approve(self, caller: Caller, wish: Wish, command: Command, aggregate: Aggregate) -> Resolved:
        found = await self._store.get_proposal(wish.tenant_id, wish.approve_proposal_id)
        if found is None or found[0].command_id != wish.command_id:
            message = f"there is no proposal {wish.approve_proposal_id} for command {wish.command_id}"
            raise NotFound(Reason.PROPOSAL_NOT_FOUND, message, field="approve_proposal_id")
        proposal, approval = found
        if approval is not None:
            return Resolved(proposal, True, command, aggregate)
        operation = unknown_operation(command, aggregate)
        latest, now_us = await self._store.latest_proposal(wish.tenant_id, wish.command_id)
        if latest is None or latest.proposal_id != proposal.proposal_id:
            raise stale("a later proposal for this command came")
        if is_stale(proposal, operation, aggregate.payment.version, now_us):
            raise stale("the command or its payment has moved since it was proposed, or a week went by")
        audit = audit_of(APPROVE, proposal.resolution, caller, aggregate, operation, told(proposal, wish))
        try:
            if wish.resolution is not proposal.resolution:
                message = f"the proposal is {proposal.resolution}, not {wish.resolution}"
                raise Precondition(Reason.PROPOSAL_DIFFERS, message, field="resolution")
            # By name as people read it: "Ann" and "ann" are one person.
            if caller.actor.casefold() == proposal.actor.casefold():
                message = f"{proposal.actor} proposed it: another operator must approve"
                raise Precondition(Reason.APPROVAL_NEEDS_ANOTHER, message)
            return await self._carry_out(caller, wish, proposal, operation, audit)
        except Precondition as refused:
            await self._store.append_audit([replace(audit, result="REFUSED", failure=refused.reason)])
            raise

    async def _carry_out(
        self, caller: Caller, wish: Wish, proposal: Proposal, operation: Operation, audit: AuditRecord
    ) -> Resolved:
        held, now_us = await self._store.take_operation(operation, lease_s=self._settings.lease_s)
        if held is None:
            raise Busy(
                Reason.COMMAND_BUSY,
                "recovery is looking at this command right now; repeat the call in a moment",
                safe_to_retry=True,
                retry_after_s=1.0,
            )
        try:
            # Read under the lease: what anybody learned or sent before it shows here, and nobody sends during it.
            aggregate = await self._store.load(proposal.tenant_id, proposal.payment_id)
            if aggregate is None or is_stale(proposal, held, aggregate.payment.version, now_us):
                raise stale("the command or its payment has moved since it was proposed")
            self._check_flight(proposal, held, now_us)
            snapshot = await self._vouched(proposal, held, aggregate)
            lesson = lesson_of(proposal, held, snapshot, audit, approval_of(proposal, caller, wish))
            learned = await self._learning.learn(aggregate, lesson)
            if learned is None:
                raise stale("the command or its payment moved while it was approved")
        except ObolError as error:
            evidence = error.reason is Reason.EVIDENCE_CONTRADICTS
            await self._give_back(held, 0.0 if evidence else jitter(next_attempt_s(held, self._settings) or 0.0))
            raise
        _log.warning(
            "resolved by operators",
            command_id=proposal.command_id,
            resolution=proposal.resolution,
            proposed_by=proposal.actor,
            approved_by=caller.actor,
        )
        return Resolved(proposal, True, command_of(learned.aggregate, proposal.command_id), learned.aggregate)

    async def _give_back(self, held: Operation, pause_s: float) -> None:
        # Where the database is lost the lease ends by itself.
        with contextlib.suppress(Unavailable):
            await self._store.reschedule(held, next_attempt_s=pause_s, failure=held.failure)

    async def _vouched(self, proposal: Proposal, operation: Operation, aggregate: Aggregate) -> Snapshot | None:
        """The evidence for what is proposed. Raises Precondition(EVIDENCE_CONTRADICTS), Unavailable."""
        lookup = await self._look(proposal, operation, aggregate)
        try:
            if proposal.resolution is Resolution.NOT_EXECUTED:
                await self._check_not_elsewhere(operation, aggregate)
                return not_executed(operation, aggregate.payment, lookup)
            await self._check_holder(proposal, operation, aggregate)
            return executed(proposal, operation, aggregate.payment, lookup)
        except Contradicted as shown:
            raise Precondition(
                Reason.EVIDENCE_CONTRADICTS,
                f"{shown}: what the provider shows outranks a resolution, and recovery follows it",
                details={"command_id": operation.command_id},
            ) from None

    async def _check_not_elsewhere(self, operation: Operation, aggregate: Aggregate) -> None:
        """What its own account shows is not all of a create that a restore took back. Raises Contradicted."""
        if operation.kind is CommandKind.CREATE:
            known = (each.account_id for each in self._accounts.all())
            left_open = await gone_elsewhere(self._store, aggregate.payment, known)
            if left_open:
                raise Contradicted(left_open)

    async def _look(self, proposal: Proposal, operation: Operation, aggregate: Aggregate) -> Lookup | None:
        """The provider's object; None where nobody can ever read it here."""
        account = self._accounts.get(operation.account_id)
        if account is None:
            return None
        known_id = aggregate.payment.provider_payment_id or operation.provider_payment_id
        named_id = proposal.provider_result_id if operation.kind is CommandKind.CREATE else ""
        lookup = await self._reading.look(account, operation.payment_id, known_id or named_id or None)
        if isinstance(lookup, Unreadable):
            raise Unavailable(
                Reason.PROVIDER_UNAVAILABLE,
                f"account {account.account_id} could not be read ({lookup.failure}); repeat the call when it can, or "
                "take the account out of the settings if it never will",
                safe_to_retry=True,
                retry_after_s=1.0,
            )
        return lookup

    async def _check_holder(self, proposal: Proposal, operation: Operation, aggregate: Aggregate) -> None:
        """The result must be of no other payment. Raises Contradicted."""
        kind = RESULT_KINDS.get(operation.kind)
        movement_id = proposal.provider_result_id if kind else proposal.provider_movement_id
        if kind is None:
            automatic = aggregate.payment.terms.capture_method is CaptureMethod.AUTOMATIC
            kind = MovementKind.CAPTURE if automatic else MovementKind.AUTHORIZATION
        holders = []
        if movement_id:
            tenant_id, account_id = operation.tenant_id, operation.account_id
            holders.append(await self._store.movement_holder(tenant_id, account_id, kind, movement_id))
        if operation.kind is CommandKind.CREATE:
            holders += await self._store.find_payments(
                operation.tenant_id, account_id=operation.account_id, provider_payment_id=proposal.provider_result_id
            )
        for holder in holders:
            if holder not in ("", operation.payment_id):
                raise Contradicted(f"{movement_id or proposal.provider_result_id} is of payment {holder}")

    def _check_flight(self, proposal: Proposal, operation: Operation, now_us: int) -> None:
        """NOT_EXECUTED only when no send can be under way any more."""
        if proposal.resolution is not Resolution.NOT_EXECUTED:
            return
        account = self._accounts.get(operation.account_id)
        flight_s = account.adapter.capabilities.flight_s_max if account else FLIGHT_S_UNKNOWN
        sent_us = operation.last_send_us or operation.claimed_time_us
        over_us = sent_us + int((flight_s + self._settings.provider_timeout_s) * 1_000_000)
        if now_us <= over_us:
            wait_s = (over_us - now_us) / 1_000_000
            raise Precondition(
                Reason.SEND_MAY_BE_IN_FLIGHT,
                f"the last send may still take effect for {wait_s:.0f} s; repeat the call after that",
                retry_after_s=wait_s,
            )
