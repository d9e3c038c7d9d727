"""Completing what a payer has approved, in the gateway's own name, where the provider leaves that to us. ADR 0015."""

import structlog

from gateway.app.identity import Wish
from gateway.app.leaving import SYSTEM_KEY_PREFIX
from gateway.app.requests import CompletePayment, request_hash
from gateway.domain.commands import Caller, CommandKind
from gateway.domain.states import FINAL_COMMAND_STATES, CommandState, PaymentState
from gateway.domain.storage import Aggregate

COMPLETIONS_MAX = 5

_NOT_SENT = CommandState.NOT_SENT
_log = structlog.get_logger(__name__)


def completion_of(base: Aggregate, now_us: int) -> Wish | None:
    """The next completion of the payment; None where one is done or under way, or the payment waits for nobody.

    At most COMPLETIONS_MAX for a payment: after that many declines it waits for a person.
    """
    payment = base.payment
    made = [c.state for c in base.commands if c.kind is CommandKind.COMPLETE and c.state is not _NOT_SENT]
    if payment.state is not PaymentState.REQUIRES_ACTION or not FINAL_COMMAND_STATES.issuperset(made):
        return None
    if len(made) >= COMPLETIONS_MAX:
        _log.error("completions used up", payment_id=payment.payment_id, completions=len(made))
        return None
    caller = Caller(payment.tenant_id, payment.organization_id, "system:completion", payment.correlation_id)
    key = f"{SYSTEM_KEY_PREFIX}complete:{payment.payment_id}:{len(made) + 1}"
    request = CompletePayment(key, payment.payment_id)
    return Wish(caller, "CompletePayment", CommandKind.COMPLETE, key, request_hash(request), now_us)
