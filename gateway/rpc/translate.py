"""Domain to proto: payments, refunds and commands, with one total table for each enum.

The tables are total in both directions: every domain member has its proto value, and every proto value but
`_UNSPECIFIED` its member. A test says so, so that a state cannot come to be without its place in the contract.
"""

from collections.abc import Mapping
from types import MappingProxyType

from google.protobuf.timestamp_pb2 import Timestamp

from gateway.domain.commands import CommandKind
from gateway.domain.declines import Decline, DeclineReason, RetryAdvice
from gateway.domain.movements import Origin
from gateway.domain.observations import ObservationKind, Source
from gateway.domain.payments import CaptureMethod, ConfirmationMethod, LatestCommand, NextAction, Payment, Refund
from gateway.domain.risk import RiskLevel, RiskSignal
from gateway.domain.states import CommandState, DisputeState, PaymentState
from obol.v1 import money_pb2, observation_pb2, payment_pb2

PAYMENT_STATES: Mapping[PaymentState, payment_pb2.PaymentState.ValueType] = MappingProxyType(
    {
        PaymentState.CREATED: payment_pb2.PAYMENT_STATE_CREATED,
        PaymentState.REQUIRES_ACTION: payment_pb2.PAYMENT_STATE_REQUIRES_ACTION,
        PaymentState.PROCESSING: payment_pb2.PAYMENT_STATE_PROCESSING,
        PaymentState.AUTHORIZED: payment_pb2.PAYMENT_STATE_AUTHORIZED,
        PaymentState.PARTIALLY_CAPTURED: payment_pb2.PAYMENT_STATE_PARTIALLY_CAPTURED,
        PaymentState.CAPTURED: payment_pb2.PAYMENT_STATE_CAPTURED,
        PaymentState.PARTIALLY_REFUNDED: payment_pb2.PAYMENT_STATE_PARTIALLY_REFUNDED,
        PaymentState.REFUNDED: payment_pb2.PAYMENT_STATE_REFUNDED,
        PaymentState.CANCELLED: payment_pb2.PAYMENT_STATE_CANCELLED,
        PaymentState.EXPIRED: payment_pb2.PAYMENT_STATE_EXPIRED,
        PaymentState.FAILED: payment_pb2.PAYMENT_STATE_FAILED,
        PaymentState.UNKNOWN: payment_pb2.PAYMENT_STATE_UNKNOWN,
    }
)

COMMAND_STATES: Mapping[CommandState, payment_pb2.CommandState.ValueType] = MappingProxyType(
    {
        CommandState.SENDING: payment_pb2.COMMAND_STATE_SENDING,
        CommandState.SUCCEEDED: payment_pb2.COMMAND_STATE_SUCCEEDED,
        CommandState.FAILED: payment_pb2.COMMAND_STATE_FAILED,
        CommandState.PENDING: payment_pb2.COMMAND_STATE_PENDING,
        CommandState.REQUIRES_ACTION: payment_pb2.COMMAND_STATE_REQUIRES_ACTION,
        CommandState.UNKNOWN: payment_pb2.COMMAND_STATE_UNKNOWN,
        CommandState.NOT_SENT: payment_pb2.COMMAND_STATE_NOT_SENT,
        CommandState.REVERSED: payment_pb2.COMMAND_STATE_REVERSED,
    }
)

COMMAND_KINDS: Mapping[CommandKind, payment_pb2.CommandKind.ValueType] = MappingProxyType(
    {
        CommandKind.CREATE: payment_pb2.COMMAND_KIND_CREATE,
        CommandKind.CONFIRM: payment_pb2.COMMAND_KIND_CONFIRM,
        CommandKind.CAPTURE: payment_pb2.COMMAND_KIND_CAPTURE,
        CommandKind.CANCEL: payment_pb2.COMMAND_KIND_CANCEL,
        CommandKind.REFUND: payment_pb2.COMMAND_KIND_REFUND,
        CommandKind.COMPLETE: payment_pb2.COMMAND_KIND_COMPLETE,
        CommandKind.ADJUST: payment_pb2.COMMAND_KIND_ADJUST,
    }
)

DISPUTE_STATES: Mapping[DisputeState, payment_pb2.DisputeState.ValueType] = MappingProxyType(
    {
        DisputeState.NONE: payment_pb2.DISPUTE_STATE_NONE,
        DisputeState.INQUIRY: payment_pb2.DISPUTE_STATE_INQUIRY,
        DisputeState.OPEN: payment_pb2.DISPUTE_STATE_OPEN,
        DisputeState.WON: payment_pb2.DISPUTE_STATE_WON,
        DisputeState.LOST: payment_pb2.DISPUTE_STATE_LOST,
    }
)

CAPTURE_METHODS: Mapping[CaptureMethod, payment_pb2.CaptureMethod.ValueType] = MappingProxyType(
    {
        CaptureMethod.AUTOMATIC: payment_pb2.CAPTURE_METHOD_AUTOMATIC,
        CaptureMethod.MANUAL: payment_pb2.CAPTURE_METHOD_MANUAL,
    }
)

CONFIRMATION_METHODS: Mapping[ConfirmationMethod, payment_pb2.ConfirmationMethod.ValueType] = MappingProxyType(
    {
        ConfirmationMethod.AUTOMATIC: payment_pb2.CONFIRMATION_METHOD_AUTOMATIC,
        ConfirmationMethod.MANUAL: payment_pb2.CONFIRMATION_METHOD_MANUAL,
    }
)

ORIGINS: Mapping[Origin, payment_pb2.Origin.ValueType] = MappingProxyType(
    {Origin.OBOL: payment_pb2.ORIGIN_OBOL, Origin.PROVIDER: payment_pb2.ORIGIN_PROVIDER}
)

DECLINE_REASONS: Mapping[DeclineReason, payment_pb2.DeclineReason.ValueType] = MappingProxyType(
    {
        DeclineReason.INSUFFICIENT_FUNDS: payment_pb2.DECLINE_REASON_INSUFFICIENT_FUNDS,
        DeclineReason.DECLINED: payment_pb2.DECLINE_REASON_DECLINED,
        DeclineReason.EXPIRED_METHOD: payment_pb2.DECLINE_REASON_EXPIRED_METHOD,
        DeclineReason.INVALID_METHOD: payment_pb2.DECLINE_REASON_INVALID_METHOD,
        DeclineReason.LOST_OR_STOLEN: payment_pb2.DECLINE_REASON_LOST_OR_STOLEN,
        DeclineReason.SUSPECTED_FRAUD: payment_pb2.DECLINE_REASON_SUSPECTED_FRAUD,
        DeclineReason.AUTHENTICATION_FAILED: payment_pb2.DECLINE_REASON_AUTHENTICATION_FAILED,
        DeclineReason.LIMIT_EXCEEDED: payment_pb2.DECLINE_REASON_LIMIT_EXCEEDED,
        DeclineReason.NOT_SUPPORTED: payment_pb2.DECLINE_REASON_NOT_SUPPORTED,
        DeclineReason.REFUSED_BY_PROVIDER: payment_pb2.DECLINE_REASON_REFUSED_BY_PROVIDER,
        DeclineReason.NEVER_EXECUTED: payment_pb2.DECLINE_REASON_NEVER_EXECUTED,
        DeclineReason.SUPERSEDED: payment_pb2.DECLINE_REASON_SUPERSEDED,
        DeclineReason.UNMAPPED: payment_pb2.DECLINE_REASON_UNMAPPED,
    }
)

RETRY_ADVICES: Mapping[RetryAdvice, payment_pb2.RetryAdvice.ValueType] = MappingProxyType(
    {
        # No advice is the absence of advice: here, and here alone, the contract's zero has a meaning.
        RetryAdvice.NONE: payment_pb2.RETRY_ADVICE_UNSPECIFIED,
        RetryAdvice.RETRY_LATER: payment_pb2.RETRY_ADVICE_RETRY_LATER,
        RetryAdvice.TRY_ANOTHER_METHOD: payment_pb2.RETRY_ADVICE_TRY_ANOTHER_METHOD,
        RetryAdvice.DO_NOT_RETRY: payment_pb2.RETRY_ADVICE_DO_NOT_RETRY,
    }
)

RISK_LEVELS: Mapping[RiskLevel, payment_pb2.RiskLevel.ValueType] = MappingProxyType(
    {
        RiskLevel.NOT_ASSESSED: payment_pb2.RISK_LEVEL_NOT_ASSESSED,
        RiskLevel.NORMAL: payment_pb2.RISK_LEVEL_NORMAL,
        RiskLevel.ELEVATED: payment_pb2.RISK_LEVEL_ELEVATED,
        RiskLevel.HIGHEST: payment_pb2.RISK_LEVEL_HIGHEST,
    }
)

OBSERVATION_KINDS: Mapping[ObservationKind, observation_pb2.ObservationKind.ValueType] = MappingProxyType(
    {
        ObservationKind.PAYMENT_CHANGED: observation_pb2.OBSERVATION_KIND_PAYMENT_CHANGED,
        ObservationKind.COMMAND_CONCLUDED: observation_pb2.OBSERVATION_KIND_COMMAND_CONCLUDED,
        ObservationKind.COMMAND_REVERSED: observation_pb2.OBSERVATION_KIND_COMMAND_REVERSED,
        ObservationKind.REFUND_CHANGED: observation_pb2.OBSERVATION_KIND_REFUND_CHANGED,
        ObservationKind.DISPUTE_CHANGED: observation_pb2.OBSERVATION_KIND_DISPUTE_CHANGED,
        ObservationKind.CONTRADICTION: observation_pb2.OBSERVATION_KIND_CONTRADICTION,
    }
)

OBSERVATION_SOURCES: Mapping[Source, observation_pb2.ObservationSource.ValueType] = MappingProxyType(
    {
        Source.API_REPLY: observation_pb2.OBSERVATION_SOURCE_API_REPLY,
        Source.CALLBACK: observation_pb2.OBSERVATION_SOURCE_CALLBACK,
        Source.RECOVERY: observation_pb2.OBSERVATION_SOURCE_RECOVERY,
        Source.RECONCILIATION: observation_pb2.OBSERVATION_SOURCE_RECONCILIATION,
        Source.MANUAL: observation_pb2.OBSERVATION_SOURCE_MANUAL,
    }
)


def payment_to_proto(payment: Payment) -> payment_pb2.Payment:
    """A payment as it stands, with its latest command; a reply's payment carries the command that it answers."""
    terms = payment.terms
    message = payment_pb2.Payment(
        payment_id=payment.payment_id,
        amount=money_to_proto(terms.amount_minor, terms.currency),
        state=PAYMENT_STATES[payment.state],
        dispute_state=DISPUTE_STATES[payment.dispute_state],
        latest_command=None if payment.latest_command is None else command_to_proto(payment.latest_command),
        money=_money_facts(payment),
        provider_reference=provider_reference_to_proto(
            payment.provider, payment.account_id, payment.provider_payment_id
        ),
        capture_method=CAPTURE_METHODS[terms.capture_method],
        confirmation_method=CONFIRMATION_METHODS[terms.confirmation_method],
        payment_method=terms.payment_method,
        customer_reference=terms.customer_reference,
        description=terms.description,
        statement_descriptor=terms.statement_descriptor,
        return_url=terms.return_url,
        metadata=terms.metadata,
        order_reference=terms.order_reference,
        order_reference_unique=terms.order_reference_unique,
        connected_account=terms.connected_account,
        expire_time=None if terms.expire_time_us is None else time_to_proto(terms.expire_time_us),
        create_time=time_to_proto(payment.created_time_us),
        update_time=time_to_proto(payment.updated_time_us),
        version=payment.version,
        risk=None if payment.risk is None else risk_to_proto(payment.risk),
    )
    # A client secret that nobody needs any more is not given out.
    if payment.next_action is not None and payment.state is PaymentState.REQUIRES_ACTION:
        message.next_action.CopyFrom(_next_action(payment.next_action))
    if payment.decline is not None:
        message.decline.CopyFrom(decline_to_proto(payment.decline))
    return message


def risk_to_proto(risk: RiskSignal) -> payment_pb2.RiskSignal:
    """A provider's assessment."""
    return payment_pb2.RiskSignal(level=RISK_LEVELS[risk.level], score=risk.score)


def refund_to_proto(refund: Refund) -> payment_pb2.Refund:
    """A refund, ours or adopted."""
    return payment_pb2.Refund(
        refund_id=refund.refund_id,
        payment_id=refund.payment_id,
        amount=money_to_proto(refund.amount_minor, refund.currency),
        state=COMMAND_STATES[refund.state],
        origin=ORIGINS[refund.origin],
        reason=refund.reason,
        provider_refund_id=refund.provider_refund_id or "",
        decline=None if refund.decline is None else decline_to_proto(refund.decline),
        create_time=time_to_proto(refund.created_time_us),
        update_time=time_to_proto(refund.updated_time_us),
        command_id=refund.command_id or "",
    )


def command_to_proto(command: LatestCommand) -> payment_pb2.CommandSummary:
    """A command in short."""
    return payment_pb2.CommandSummary(
        command_id=command.command_id,
        kind=COMMAND_KINDS[command.kind],
        state=COMMAND_STATES[command.state],
        decline=None if command.decline is None else decline_to_proto(command.decline),
    )


def decline_to_proto(decline: Decline) -> payment_pb2.Decline:
    """A definite no."""
    return payment_pb2.Decline(
        reason=DECLINE_REASONS[decline.reason],
        provider_code=decline.provider_code,
        provider_message=decline.provider_message,
        advice=RETRY_ADVICES[decline.advice],
    )


def source_to_proto(source: str) -> observation_pb2.ObservationSource.ValueType:
    """How a step of a payment was seen; a claim was not seen anywhere, and is UNSPECIFIED."""
    by_text = {member.value: value for member, value in OBSERVATION_SOURCES.items()}
    return by_text.get(source, observation_pb2.OBSERVATION_SOURCE_UNSPECIFIED)


def provider_reference_to_proto(
    provider: str, account_id: str, provider_payment_id: str | None
) -> payment_pb2.ProviderReference:
    """Where a payment lives."""
    return payment_pb2.ProviderReference(
        provider=provider, account_id=account_id, provider_payment_id=provider_payment_id or ""
    )


def money_to_proto(amount_minor: int, currency: str) -> money_pb2.Money:
    """An amount in minor units."""
    return money_pb2.Money(amount_minor=amount_minor, currency_code=currency)


def time_to_proto(time_us: int) -> Timestamp:
    """Unix microseconds as a Timestamp."""
    seconds, microseconds = divmod(time_us, 1_000_000)
    return Timestamp(seconds=seconds, nanos=microseconds * 1_000)


def _money_facts(payment: Payment) -> payment_pb2.MoneyFacts:
    sums, currency = payment.sums, payment.terms.currency
    return payment_pb2.MoneyFacts(
        authorized=money_to_proto(sums.authorized_minor, currency),
        captured=money_to_proto(sums.captured_minor, currency),
        refunded=money_to_proto(sums.refunded_minor, currency),
        disputed=money_to_proto(sums.disputed_minor, currency),
        fees=money_to_proto(sums.fee_minor, currency),
        capturable=money_to_proto(payment.capturable_minor, currency),
        refundable=money_to_proto(payment.refundable_minor, currency),
    )


def _next_action(action: NextAction) -> payment_pb2.NextAction:
    if action.redirect_url:
        return payment_pb2.NextAction(redirect_url=action.redirect_url)
    return payment_pb2.NextAction(client_secret=action.client_secret)
