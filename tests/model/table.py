"""The engine's own classification, asked and not copied: which outcome of a send leaves an operation in which state."""

from collections.abc import Mapping
from types import MappingProxyType

from gateway.app.verdicts import classify
from gateway.domain.commands import CommandKind, Operation, PreparedRequest
from gateway.domain.declines import Decline, DeclineReason
from gateway.domain.errors import Sent
from gateway.domain.payments import CaptureMethod, ConfirmationMethod, PaymentTerms
from gateway.domain.providers import Ambiguous, Declined, NotExecuted, NotSent
from gateway.domain.providers import Outcome as Answer
from gateway.domain.states import CommandState
from tests.model.state import Outcome

_TERMS = PaymentTerms(
    amount_minor=100,
    currency="EUR",
    capture_method=CaptureMethod.AUTOMATIC,
    confirmation_method=ConfirmationMethod.AUTOMATIC,
    payment_method="",
    customer_reference="",
    description="",
    statement_descriptor="",
    return_url="",
    metadata={},
    order_reference="",
    order_reference_unique=False,
    connected_account="",
    expire_time_us=None,
)
OPERATION = Operation(
    operation_id="op",
    command_id="cmd",
    payment_id="pay",
    tenant_id="t",
    step=1,
    kind=CommandKind.CREATE,
    provider="p",
    account_id="a",
    amount_minor=100,
    currency="EUR",
    prepared=PreparedRequest("POST", "/", "", "key", "v1", 86_400),
    state=CommandState.SENDING,
    sent=Sent.NO,
    epoch=1,
    claimed_time_us=0,
    lease_until_us=None,
    next_attempt_us=None,
)
_ANSWERS: Mapping[Outcome, Answer] = MappingProxyType(
    {
        Outcome.DECLINED: Declined(Decline(DeclineReason.REFUSED_BY_PROVIDER)),
        Outcome.NOT_EXECUTED: NotExecuted("429"),
        Outcome.NOT_SENT: NotSent("late"),
        Outcome.AMBIGUOUS: Ambiguous("no answer"),
    }
)


def classified() -> Mapping[tuple[Outcome, bool], CommandState]:
    """(outcome, whether of a resend) to the state it leaves. What shows the effect succeeds, by the facts."""
    table = {
        (outcome, resend): classify(OPERATION, _TERMS, answer, resend=resend).state
        for outcome, answer in _ANSWERS.items()
        for resend in (False, True)
    }
    for resend in (False, True):
        table[Outcome.ANSWERED, resend] = CommandState.SUCCEEDED
        table[Outcome.FOUND, resend] = CommandState.SUCCEEDED
        table[Outcome.NEVER_EXECUTED, resend] = CommandState.FAILED
        table[Outcome.NOTHING, resend] = CommandState.UNKNOWN
    return MappingProxyType(table)
