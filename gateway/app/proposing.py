"""A resolution's parts as values and pure functions: what is asked, what may be asked, and how it is told.

`gateway.app.resolving` puts them together.
"""

from dataclasses import dataclass, replace

from gateway.app.clock import new_id
from gateway.app.requests import check_id
from gateway.app.settling import Lesson
from gateway.app.verdicts import Verdict
from gateway.app.vouching import RESULT_KINDS
from gateway.domain.commands import ENTRY_KINDS, Caller, Command, CommandKind, Operation
from gateway.domain.declines import Decline, DeclineReason
from gateway.domain.errors import InvalidRequest, Precondition, Reason
from gateway.domain.observations import Source
from gateway.domain.operating import OPERATOR_ACTION
from gateway.domain.providers import Snapshot
from gateway.domain.resolutions import PROPOSAL_AGE_S_MAX, Approval, Proposal, Resolution
from gateway.domain.states import CommandState
from gateway.domain.storage import Aggregate, AuditRecord

REASON_CHARACTERS_MAX = 500

PROPOSE = f"{OPERATOR_ACTION}RESOLVE_PROPOSE"
APPROVE = f"{OPERATOR_ACTION}RESOLVE_APPROVE"

HELD_FOR_NEVER_EXECUTED = Decline(
    DeclineReason.NEVER_EXECUTED, provider_message="Two operators hold it for never executed."
)


@dataclass(frozen=True, slots=True)
class Wish:
    """ResolveCommand as asked. Raises InvalidRequest for what can never be right."""

    tenant_id: str
    command_id: str
    resolution: Resolution
    reason: str
    provider_result_id: str = ""
    provider_movement_id: str = ""
    approve_proposal_id: str = ""

    def __post_init__(self) -> None:
        check_id("tenant_id", self.tenant_id)
        check_id("command_id", self.command_id)
        if len(self.reason) > REASON_CHARACTERS_MAX or not self.reason.strip() or not self.reason.isprintable():
            raise _invalid(
                "reason", f"must be 1 to {REASON_CHARACTERS_MAX} characters in one line: what was seen where"
            )
        for name in ("provider_result_id", "provider_movement_id"):
            value = getattr(self, name)
            if value:
                check_id(name, value)
            if value and (self.resolution is Resolution.NOT_EXECUTED or self.approve_proposal_id):
                raise _invalid(name, "belongs to a proposal of EXECUTED")
        if self.approve_proposal_id:
            check_id("approve_proposal_id", self.approve_proposal_id)


@dataclass(frozen=True, slots=True)
class Resolved:
    """What came of it: the proposal, whether it is carried out, and the command as it stands in its payment."""

    proposal: Proposal
    resolved: bool
    command: Command
    aggregate: Aggregate


def is_stale(proposal: Proposal, operation: Operation, version: int, now_us: int) -> bool:
    """Whether the operation is not as it was when the proposal was made, or that is too long ago."""
    return (
        operation.state is not CommandState.UNKNOWN
        or version != proposal.version
        or (operation.last_send_us or 0) != proposal.last_send_us
        or is_too_old(proposal, now_us)
    )


def is_too_old(proposal: Proposal, now_us: int) -> bool:
    """Whether what was seen for the proposal was seen too long ago."""
    return now_us - proposal.proposed_time_us > PROPOSAL_AGE_S_MAX * 1_000_000


def lesson_of(
    proposal: Proposal, held: Operation, snapshot: Snapshot | None, audit: AuditRecord, approval: Approval
) -> Lesson:
    """What the payment is taught: facts for EXECUTED, a definite no for NOT_EXECUTED."""
    if proposal.resolution is Resolution.EXECUTED:
        result_id = proposal.provider_result_id if held.kind in RESULT_KINDS else None
        verdict = Verdict(held.state, held.sent, snapshot=snapshot, result_id=result_id)
    else:
        verdict = Verdict(
            CommandState.FAILED,
            held.sent,
            decline=HELD_FOR_NEVER_EXECUTED,
            failure="held for never executed by two operators",
            snapshot=snapshot,
        )
    return Lesson(
        source=Source.MANUAL,
        causation_id=proposal.proposal_id,
        snapshot=snapshot,
        operation_id=held.operation_id,
        epoch=held.epoch,
        verdict=verdict,
        audit=(audit,),
        approval=approval,
    )


def approval_of(proposal: Proposal, caller: Caller, wish: Wish) -> Approval:
    """The second operator's yes."""
    return Approval(
        proposal_id=proposal.proposal_id,
        tenant_id=proposal.tenant_id,
        proposed_by=proposal.actor,
        actor=caller.actor,
        correlation_id=caller.correlation_id,
        reason=wish.reason,
    )


def unknown_operation(command: Command, aggregate: Aggregate) -> Operation:
    """The operation that the command waits for. Raises Precondition(COMMAND_NOT_UNKNOWN)."""
    own = [o for o in aggregate.operations if o.command_id == command.command_id]
    waiting = next((o for o in own if o.state is CommandState.UNKNOWN), None)
    if command.state is not CommandState.UNKNOWN or waiting is None:
        raise Precondition(
            Reason.COMMAND_NOT_UNKNOWN,
            f"command {command.command_id} is {command.state}: only an UNKNOWN one is resolved by operators",
            field="command_id",
            details={"payment_id": command.payment_id, "state": command.state},
        )
    return waiting


def command_of(aggregate: Aggregate, command_id: str) -> Command:
    """The command as it stands."""
    return next(each for each in aggregate.commands if each.command_id == command_id)


def check_result(proposal: Proposal, operation: Operation) -> None:
    """Raise InvalidRequest unless the ids fit what the operation does."""
    if proposal.resolution is Resolution.EXECUTED and operation.kind is not CommandKind.CANCEL:
        if not proposal.provider_result_id:
            raise _invalid("provider_result_id", "is required for EXECUTED: the provider's id of what it made")
    elif proposal.provider_result_id:
        raise _invalid("provider_result_id", "a cancellation makes nothing at the provider: leave it empty")
    if proposal.provider_movement_id and operation.kind not in ENTRY_KINDS:
        raise _invalid("provider_movement_id", "is for a create, a confirm or a completion")


def repeats(proposal: Proposal, latest: Proposal) -> bool:
    """Whether the same operator proposes the same thing of the same state again."""
    same = replace(
        proposal,
        proposal_id=latest.proposal_id,
        correlation_id=latest.correlation_id,
        proposed_time_us=latest.proposed_time_us,
    )
    return same == latest


def told(proposal: Proposal, wish: Wish | None = None) -> str:
    """The proposal in words, and the approver's."""
    result = f" result {proposal.provider_result_id}" if proposal.provider_result_id else ""
    said = f"{proposal.proposal_id} {proposal.resolution}{result} by {proposal.actor}: {proposal.reason}"
    return said if wish is None else f"{said} | {wish.reason}"


def audit_of(
    action: str, result: str, caller: Caller, aggregate: Aggregate, operation: Operation, detail: str
) -> AuditRecord:
    """The operator's act for the audit, among the records of the payment."""
    payment = aggregate.payment
    return AuditRecord(
        audit_id=new_id("aud"),
        caller=replace(caller, tenant_id=payment.tenant_id, organization_id=payment.organization_id),
        action=action,
        result=result,
        provider=operation.provider,
        account_id=operation.account_id,
        payment_id=payment.payment_id,
        command_id=operation.command_id,
        detail=detail,
    )


def stale(why: str) -> Precondition:
    """The error for a proposal that can not be approved any more."""
    return Precondition(Reason.PROPOSAL_STALE, f"{why}; look at the command again, and propose anew if it is UNKNOWN")


def _invalid(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(Reason.FIELD_INVALID, f"{field}: {message}", field=field)
