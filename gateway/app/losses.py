"""What a restore lost and a person has handled: two operators say what became of it, and the provider is asked twice.

A payment that providers carried out and this database forgot is refused to whoever repeats it, and its order to whoever
pays it again (ADR 0009). Somebody then books it by hand, or gives the money back at the provider. Here that is said:
STANDS, and the refusals say so from now on; or UNDONE, and the order is free for a new command. Nothing is sent, and
the lost commands themselves are never sent again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from gateway.app.clock import new_id
from gateway.app.comparing import shown, still_stands
from gateway.app.proposing import REASON_CHARACTERS_MAX
from gateway.app.queries import page_size_of
from gateway.app.reading import Reading
from gateway.app.requests import check_id
from gateway.app.tokens import page_token_of, position_of
from gateway.domain.commands import Caller
from gateway.domain.errors import InvalidRequest, NotFound, Precondition, Reason, Unavailable
from gateway.domain.lost import LostOutcome, LostPayment, LostProposal
from gateway.domain.operating import OPERATOR_ACTION
from gateway.domain.providers import Accounts, Found, Unreadable
from gateway.domain.storage import AuditRecord, Store

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 200
OBJECTS_MAX = 8
"""Objects of one lost payment that are read: a failover makes one at each account. Of more nobody can vouch here."""

PROPOSE = f"{OPERATOR_ACTION}LOST_PROPOSE"
APPROVE = f"{OPERATOR_ACTION}LOST_APPROVE"
_SEPARATOR = " "
"""No tenant has one in its name: they are of visible characters."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Word:
    """SettleLostPayment as asked. Raises InvalidRequest for what can never be right."""

    tenant_id: str
    payment_id: str
    outcome: LostOutcome
    reason: str
    approve_proposal_id: str = ""

    def __post_init__(self) -> None:
        check_id("tenant_id", self.tenant_id)
        check_id("payment_id", self.payment_id)
        if len(self.reason) > REASON_CHARACTERS_MAX or not self.reason.strip() or not self.reason.isprintable():
            message = f"reason: must be 1 to {REASON_CHARACTERS_MAX} characters in one line: what was done where"
            raise InvalidRequest(Reason.FIELD_INVALID, message, field="reason")
        if self.approve_proposal_id:
            check_id("approve_proposal_id", self.approve_proposal_id)


class Losses:
    """The use cases behind ListLostPayments and SettleLostPayment."""

    def __init__(self, store: Store, accounts: Accounts, reading: Reading) -> None:
        self._store = store
        self._accounts = accounts
        self._reading = reading

    async def list(
        self, tenant_id: str, page_size: int, page_token: str, *, with_settled: bool
    ) -> tuple[Sequence[LostPayment], str]:
        """A page of lost payments, of all tenants where none is named, and the token of the next."""
        limit = page_size_of(page_size, default=PAGE_SIZE_DEFAULT, most=PAGE_SIZE_MAX)
        question = f"lost:{tenant_id}:{with_settled}"
        after_tenant, _, after_payment = position_of(question, page_token).partition(_SEPARATOR)
        found = await self._store.list_lost(
            tenant_id, after=(after_tenant, after_payment), limit=limit + 1, with_settled=with_settled
        )
        page = found[:limit]
        if len(found) <= limit:
            return page, ""
        return page, page_token_of(question, f"{page[-1].tenant_id}{_SEPARATOR}{page[-1].payment_id}")

    async def settle(self, caller: Caller, word: Word) -> LostPayment:
        """Propose, or approve; the payment as it stands then. Raises ObolError as the contract says."""
        lost = await self._store.get_lost(word.tenant_id, word.payment_id)
        if lost is None:
            message = f"no operation of payment {word.payment_id} of tenant {word.tenant_id} was found lost"
            raise NotFound(Reason.PAYMENT_NOT_FOUND, message, field="payment_id")
        if word.approve_proposal_id:
            return await self._approve(caller, word, lost)
        return await self._propose(caller, word, lost)

    async def _propose(self, caller: Caller, word: Word, lost: LostPayment) -> LostPayment:
        same = lost.proposal
        if same and (same.actor, same.outcome, same.reason) == (caller.actor, word.outcome, word.reason):
            return lost
        proposal = LostProposal(
            proposal_id=new_id("prp"),
            tenant_id=lost.tenant_id,
            payment_id=lost.payment_id,
            order_reference=lost.order_reference,
            outcome=word.outcome,
            reason=word.reason,
            shown="",
            actor=caller.actor,
            correlation_id=caller.correlation_id,
        )
        audit = _audit(PROPOSE, caller, proposal, proposal.reason)
        try:
            _check_not_undone(lost)
            proposal = replace(proposal, shown=await self._vouched(proposal, lost))
        except Precondition as refused:
            await self._store.append_audit([replace(audit, result="REFUSED", failure=refused.reason)])
            raise
        await self._store.propose_lost(proposal, replace(audit, detail=f"{audit.detail} | {proposal.shown}"[:1_000]))
        return await self._again(lost)

    async def _approve(self, caller: Caller, word: Word, lost: LostPayment) -> LostPayment:
        said = lost.settlement
        if said is not None and said.proposal.proposal_id == word.approve_proposal_id:
            return lost
        proposal = lost.proposal
        if proposal is None or proposal.proposal_id != word.approve_proposal_id:
            message = f"{word.approve_proposal_id} is not the latest proposal for lost payment {word.payment_id}"
            raise NotFound(Reason.PROPOSAL_NOT_FOUND, message, field="approve_proposal_id")
        audit = _audit(APPROVE, caller, proposal, f"{proposal.reason} | {word.reason}")
        try:
            _check_not_undone(lost)
            if word.outcome is not proposal.outcome:
                message = f"the proposal is {proposal.outcome}, not {word.outcome}"
                raise Precondition(Reason.PROPOSAL_DIFFERS, message, field="outcome")
            # By name as people read it: "Ann" and "ann" are one person.
            if caller.actor.casefold() == proposal.actor.casefold():
                message = f"{proposal.actor} proposed it: another operator must approve"
                raise Precondition(Reason.APPROVAL_NEEDS_ANOTHER, message)
            await self._vouched(proposal, lost)
        except Precondition as refused:
            await self._store.append_audit([replace(audit, result="REFUSED", failure=refused.reason)])
            raise
        if await self._store.settle_lost(proposal, caller, word.reason, audit) is None:
            message = "another proposal came, more was found lost, or a week went by: look again, and propose anew"
            raise Precondition(Reason.PROPOSAL_STALE, message)
        _log.warning(
            "lost payment settled by operators",
            payment_id=lost.payment_id,
            outcome=proposal.outcome,
            proposed_by=proposal.actor,
            approved_by=caller.actor,
        )
        return await self._again(lost)

    async def _vouched(self, proposal: LostProposal, lost: LostPayment) -> str:
        """How the payment's objects stand at their providers, in words.

        Raises Precondition(EVIDENCE_CONTRADICTS), Unavailable.
        """
        words, stands, read = [], False, 0
        if len(lost.objects) > OBJECTS_MAX:
            raise Precondition(
                Reason.EVIDENCE_CONTRADICTS,
                f"{len(lost.objects)} objects carry its reference, and no more than {OBJECTS_MAX} can be read for a "
                "word: whether something of it stands is not for one word to say; see the accounts' reconciliations",
                details={"payment_id": lost.payment_id},
            )
        for account_id, provider_payment_id in lost.objects:
            account = self._accounts.get(account_id)
            if account is None:
                words.append(f"{provider_payment_id}: account {account_id} is not configured")
                continue
            lookup = await self._reading.look(account, "", provider_payment_id)
            if isinstance(lookup, Unreadable) or (isinstance(lookup, Found) and lookup.snapshot.unmapped):
                why = lookup.failure if isinstance(lookup, Unreadable) else "it says what nobody here understands"
                raise Unavailable(
                    Reason.PROVIDER_UNAVAILABLE,
                    f"{provider_payment_id} at account {account_id} could not be read ({why}); repeat the call when it "
                    "can, or take the account out of the settings if it never will",
                    safe_to_retry=True,
                    retry_after_s=1.0,
                )
            if not isinstance(lookup, Found):
                words.append(f"{provider_payment_id}: not there any more")
                continue
            read += 1
            stands = stands or still_stands(lookup.snapshot.facts)
            words.append(f"{provider_payment_id}: {shown(lookup.snapshot)}")
        told = "; ".join(words)
        if (stands and proposal.outcome is LostOutcome.UNDONE) or (
            not stands and read and proposal.outcome is LostOutcome.STANDS
        ):
            has = "something of it stands, or can still be paid" if stands else "nothing of it stands"
            raise Precondition(
                Reason.EVIDENCE_CONTRADICTS,
                f"the provider shows that {has} ({told}): that outranks operators",
                details={"payment_id": lost.payment_id},
            )
        return told

    async def _again(self, lost: LostPayment) -> LostPayment:
        return await self._store.get_lost(lost.tenant_id, lost.payment_id) or lost


def _check_not_undone(lost: LostPayment) -> None:
    """Its order may be paid anew since: that it stands after all is no longer for operators to say."""
    if lost.settlement is not None and lost.settlement.proposal.outcome is LostOutcome.UNDONE:
        raise Precondition(
            Reason.PROPOSAL_STALE, f"lost payment {lost.payment_id} is UNDONE, by two operators: that is final"
        )


def _audit(action: str, caller: Caller, proposal: LostProposal, said: str) -> AuditRecord:
    return AuditRecord(
        audit_id=new_id("aud"),
        caller=replace(caller, tenant_id=proposal.tenant_id),
        action=action,
        result=proposal.outcome,
        payment_id=proposal.payment_id,
        detail=f"{proposal.proposal_id} {proposal.outcome} by {proposal.actor}: {said}",
    )
