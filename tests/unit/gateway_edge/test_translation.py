"""The tables of the edge are total: no domain member without its place in the contract, and none the other way."""

from collections.abc import Mapping
from dataclasses import fields, replace
from enum import StrEnum
from typing import Any

import grpc
import pytest

from gateway.app.replies import CommandView
from gateway.domain import errors as domain_errors
from gateway.domain.commands import CommandKind
from gateway.domain.declines import Decline, DeclineReason, RetryAdvice
from gateway.domain.derivation import MoneySums
from gateway.domain.errors import InvalidRequest, ObolError, Reason
from gateway.domain.modes import ProviderMode
from gateway.domain.movements import Attempt, AttemptStatus, Facts, Origin
from gateway.domain.observations import Observation, ObservationKind, Source
from gateway.domain.payments import (
    CaptureMethod,
    ConfirmationMethod,
    LatestCommand,
    NextAction,
    Payment,
    PaymentTerms,
    Refund,
)
from gateway.domain.providers import AccountHealth
from gateway.domain.resolutions import Resolution
from gateway.domain.risk import RiskLevel, RiskSignal
from gateway.domain.states import CommandState, DisputeState, PaymentState
from gateway.domain.storage import CallbackState
from gateway.rpc import errors, operations, providers, translate
from gateway.rpc.billing_observation import observation_to_proto
from gateway.rpc.codec import RESPONSES, ProtoReplyCodec
from gateway.rpc.reading import required_money
from obol.v1 import money_pb2, observation_pb2, operations_pb2, payment_gateway_pb2, payment_pb2

TABLES: list[tuple[Mapping[Any, int], type[StrEnum], Any]] = [
    (translate.PAYMENT_STATES, PaymentState, payment_pb2.PaymentState),
    (translate.COMMAND_STATES, CommandState, payment_pb2.CommandState),
    (translate.COMMAND_KINDS, CommandKind, payment_pb2.CommandKind),
    (translate.DISPUTE_STATES, DisputeState, payment_pb2.DisputeState),
    (translate.CAPTURE_METHODS, CaptureMethod, payment_pb2.CaptureMethod),
    (translate.CONFIRMATION_METHODS, ConfirmationMethod, payment_pb2.ConfirmationMethod),
    (translate.ORIGINS, Origin, payment_pb2.Origin),
    (translate.DECLINE_REASONS, DeclineReason, payment_pb2.DeclineReason),
    (translate.RISK_LEVELS, RiskLevel, payment_pb2.RiskLevel),
    (translate.OBSERVATION_KINDS, ObservationKind, observation_pb2.ObservationKind),
    (translate.OBSERVATION_SOURCES, Source, observation_pb2.ObservationSource),
    (providers.HEALTHS, AccountHealth, operations_pb2.ProviderHealth),
    (providers.MODES, ProviderMode, operations_pb2.ProviderMode),
    (operations.CALLBACK_STATES, CallbackState, operations_pb2.CallbackState),
    (operations.RESOLUTIONS, Resolution, operations_pb2.Resolution),
]


@pytest.mark.parametrize(("table", "domain", "contract"), TABLES, ids=[each[1].__name__ for each in TABLES])
def test_a_table_is_total_in_both_directions(
    table: Mapping[StrEnum, int], domain: type[StrEnum], contract: Any
) -> None:
    """Each domain member has the proto value of its own name, and each proto value but zero its member."""
    assert set(table) == set(domain)
    prefix = contract.Name(0).removesuffix("UNSPECIFIED")
    assert {member: contract.Name(value) for member, value in table.items()} == {
        member: f"{prefix}{member.name}" for member in domain
    }
    assert set(table.values()) == set(contract.values()) - {0}


def test_no_advice_is_the_contracts_zero() -> None:
    """RetryAdvice alone has a member for zero; the rest of the table is total all the same."""
    table = dict(translate.RETRY_ADVICES)
    assert table.pop(RetryAdvice.NONE) == payment_pb2.RETRY_ADVICE_UNSPECIFIED
    assert set(table) == set(RetryAdvice) - {RetryAdvice.NONE}
    assert set(table.values()) == set(payment_pb2.RetryAdvice.values()) - {0}


def classes_of_errors(base: type[ObolError] = ObolError) -> set[type[ObolError]]:
    """Every class of the domain's error tree below `base`."""
    below = set(base.__subclasses__())
    return below.union(*(classes_of_errors(each) for each in below)) if below else set()


def test_the_error_table_has_every_class_and_no_two_alike() -> None:
    """A class of errors that is new in the domain needs its status here, or this fails."""
    of_domain = {each for each in classes_of_errors() if each.__module__ == domain_errors.__name__}
    assert set(errors.STATUS_CODES) == of_domain
    assert len(set(errors.STATUS_CODES.values())) == len(errors.STATUS_CODES)


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("kind", sorted(classes_of_errors(), key=str))
def test_every_reason_reaches_the_wire_with_every_class(kind: type[ObolError], reason: Reason) -> None:
    """A rich status can be made of each, and its code is the table's."""
    assert errors.rich_status(kind(reason, "m")).code is errors.status_code(kind(reason, "m"))


def test_a_class_that_the_table_does_not_know_is_internal() -> None:
    """Nothing falls through to a status that a caller would act on."""
    unheard = type("Unheard", (ObolError,), {})
    assert errors.status_code(unheard(Reason.FIELD_INVALID, "m")) is grpc.StatusCode.INTERNAL


DECLINE = Decline(DeclineReason.INSUFFICIENT_FUNDS, "51", "no money", RetryAdvice.RETRY_LATER)
TERMS = PaymentTerms(
    amount_minor=1999,
    currency="EUR",
    capture_method=CaptureMethod.MANUAL,
    confirmation_method=ConfirmationMethod.AUTOMATIC,
    payment_method="pm",
    customer_reference="cu",
    description="de",
    statement_descriptor="sd",
    return_url="https://shop.example/back",
    metadata={f"key-{number}": "x" for number in range(20)},
    order_reference="or",
    order_reference_unique=True,
    connected_account="ca",
    expire_time_us=7_000_001,
)
RISK = RiskSignal(RiskLevel.HIGHEST, 95)
PAYMENT = Payment(
    payment_id="pay_1",
    tenant_id="t1",
    organization_id="o1",
    correlation_id="c1",
    terms=TERMS,
    provider="sandbox",
    account_id="acct_main",
    facts=Facts(attempts=(Attempt("acct_main", "sp_1", 1, AttemptStatus.FAILED, risk=RISK),)),
    sums=MoneySums(1999, 1999, 500, 0, 100, 0, 50, 7),
    state=PaymentState.REQUIRES_ACTION,
    dispute_state=DisputeState.OPEN,
    version=3,
    created_time_us=1_000_001,
    updated_time_us=2_500_000,
    provider_payment_id="sp_1",
    next_action=NextAction(client_secret="planted"),
    decline=DECLINE,
    latest_command=LatestCommand("cmd_1", CommandKind.CREATE, CommandState.FAILED, DECLINE),
)
REFUND = Refund(
    refund_id="ref_1",
    tenant_id="t1",
    payment_id="pay_1",
    origin=Origin.PROVIDER,
    amount_minor=5,
    currency="EUR",
    state=CommandState.PENDING,
    reason="why",
    created_time_us=1,
    updated_time_us=2,
    command_id="cmd_1",
    provider_refund_id="sr_1",
    decline=Decline(DeclineReason.DECLINED),
)
LATEST = LatestCommand("cmd_1", CommandKind.CREATE, CommandState.FAILED, PAYMENT.decline)
PAYMENT = replace(PAYMENT, latest_command=LATEST)
VIEW = CommandView("CreatePayment", "cmd_1", CommandKind.CREATE, CommandState.FAILED, DECLINE, PAYMENT, REFUND)


def unset(message: Any) -> set[str]:
    """The fields of `message` that are not set."""
    return {field.name for field in message.DESCRIPTOR.fields} - {field.name for field, _ in message.ListFields()}


def test_every_field_of_a_payment_and_a_refund_is_filled() -> None:
    """A field that is new in the contract is filled here, or this fails."""
    payment = translate.payment_to_proto(PAYMENT)
    assert unset(payment) == set()
    assert unset(payment.money) == set()
    assert unset(payment.latest_command) == set()
    assert unset(payment.decline) == set()
    assert unset(payment.risk) == set()
    assert unset(translate.refund_to_proto(REFUND)) == set()
    assert payment.create_time.ToMicroseconds() == 1_000_001
    assert payment.expire_time.ToMicroseconds() == 7_000_001
    assert payment.money.capturable.amount_minor == PAYMENT.capturable_minor == 1499
    assert payment.money.refundable.amount_minor == PAYMENT.refundable_minor == 350


def test_every_field_of_an_observation_is_filled() -> None:
    """A field that is new in the contract is filled here, or this fails."""
    texts: dict[str, Any] = {each.name: f"x-{each.name}" for each in fields(Observation)}
    numbers = {name: 5 for name in texts if name.endswith(("_minor", "_us", "version", "ordinal", "sequence"))}
    seen = Observation(
        **{
            **texts,
            **numbers,
            "kind": ObservationKind.COMMAND_CONCLUDED,
            "source": Source.CALLBACK,
            "payment_state": PaymentState.CAPTURED,
            "dispute_state": DisputeState.NONE,
            "command_kind": CommandKind.REFUND,
            "command_state": CommandState.SUCCEEDED,
            "decline": DECLINE,
            "risk": RISK,
        }
    )
    message = observation_to_proto(seen, "x-cursor")
    assert unset(message) == set()
    assert unset(message.command) == set()
    assert unset(message.money) == {"capturable", "refundable"}


def test_an_amount_that_is_missing_is_called_so() -> None:
    """Not an amount of zero, nor an empty currency."""
    with pytest.raises(InvalidRequest, match="amount: is required"):
        required_money(money_pb2.Money(), given=False)


@pytest.mark.parametrize("state", [state for state in PaymentState if state is not PaymentState.REQUIRES_ACTION])
def test_a_client_secret_is_given_out_only_while_it_is_needed(state: PaymentState) -> None:
    """Once the action is over, what it needed is not in the payment any more."""
    message = translate.payment_to_proto(replace(PAYMENT, state=state))
    assert not message.HasField("next_action")
    assert b"planted" not in message.SerializeToString()


def test_the_codec_knows_every_command_and_is_deterministic() -> None:
    """Each RPC with an idempotency key has its reply; equal views give equal bytes, whatever a map's order."""
    service = payment_gateway_pb2.DESCRIPTOR.services_by_name["PaymentGateway"]
    keyed = {each.name for each in service.methods if "idempotency_key" in each.input_type.fields_by_name}
    assert set(RESPONSES) == keyed
    other = replace(PAYMENT, terms=replace(TERMS, metadata=dict(reversed(list(TERMS.metadata.items())))))
    for rpc in keyed:
        body = ProtoReplyCodec().encode(replace(VIEW, rpc=rpc))
        assert body == ProtoReplyCodec().encode(replace(VIEW, rpc=rpc, payment=other))
        response: Any = getattr(payment_gateway_pb2, f"{rpc}Response").FromString(body)
        assert response.payment.latest_command.command_id == "cmd_1"


@pytest.mark.parametrize("view", [replace(VIEW, rpc="GetPayment"), replace(VIEW, rpc="RefundPayment", refund=None)])
def test_the_codec_refuses_what_has_no_reply(view: CommandView) -> None:
    """A read has no stored reply, and a refund without its refund is a defect: neither becomes bytes."""
    with pytest.raises(ValueError, match=r"no stored reply|has none"):
        ProtoReplyCodec().encode(view)
