"""The error tree: what the gateway says stands, and silence is not a failure."""

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, RetryInfo

from gateway.domain.errors import InvalidRequest as Raised
from gateway.domain.errors import Reason
from gateway.rpc.errors import STATUS_CODES, rich_status
from obol.client import FieldViolation, GatewayError, InvalidRequest, OutcomeUnknown, Sent
from obol.client.errors import CLASS_BY_CODE, NO_HANDLER_RAN
from obol.v1.payment_gateway_pb2 import CreatePaymentRequest, GetPaymentRequest
from tests.client.asking import Metadata, told, wired

ERRORS = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
COMMAND = CreatePaymentRequest(idempotency_key="k")


def of_a_command(code: grpc.StatusCode, trailing: Metadata = (), text: str = "words") -> GatewayError:
    """What a command raises for that answer."""
    with wired() as wire:
        error = wire.ask("CreatePayment", wire.payments.create_payment, COMMAND).refuse(code, text, trailing)
    assert isinstance(error, GatewayError)
    return error


def of_a_read(code: grpc.StatusCode, trailing: Metadata = ()) -> GatewayError:
    """What a read raises for that answer."""
    with wired() as wire:
        error = wire.ask("GetPayment", wire.payments.get_payment, GetPaymentRequest()).refuse(code, "words", trailing)
    assert isinstance(error, GatewayError)
    return error


def test_every_status_has_its_class() -> None:
    """No gRPC status but OK is missing in the table."""
    assert set(CLASS_BY_CODE) == set(ERRORS)


def test_every_status_of_the_gateway_has_a_class_of_its_own() -> None:
    """Two classes of the gateway's errors never become one here."""
    classes = [CLASS_BY_CODE[code] for code in STATUS_CODES.values()]
    assert len(set(classes)) == len(classes)


@pytest.mark.parametrize("code", ERRORS)
def test_a_command_without_the_gateways_word_is_an_unknown_outcome(code: grpc.StatusCode) -> None:
    """Whatever the channel says, a command may have been sent, and the same key may come again."""
    error = of_a_command(code)
    if code in NO_HANDLER_RAN:
        assert (error.sent, error.safe_to_retry) == (Sent.NO, False)
        return
    assert type(error) is OutcomeUnknown
    assert (error.sent, error.safe_to_retry, error.reason, error.code) == (Sent.MAYBE, True, "", code)
    assert "same idempotency key" in str(error)
    assert "new key could do it twice" in str(error)


@pytest.mark.parametrize("code", ERRORS)
def test_a_read_without_an_answer_changed_nothing(code: grpc.StatusCode) -> None:
    """A read is never an unknown outcome."""
    error = of_a_read(code)
    assert type(error) is CLASS_BY_CODE[code]
    assert error.sent is Sent.NO


@pytest.mark.parametrize("code", ERRORS)
def test_what_the_gateway_says_stands(code: grpc.StatusCode) -> None:
    """With an ErrorInfo that says NO, the class follows the status and everything else the ErrorInfo."""
    trailing = told(code, "words", reason="A_REASON", sent="NO", safe_to_retry="true", payment_id="pay_1")
    error = of_a_command(code, trailing)
    assert type(error) is CLASS_BY_CODE[code]
    assert (error.reason, error.message, error.sent, error.safe_to_retry) == ("A_REASON", "words", Sent.NO, True)
    assert error.details["payment_id"] == "pay_1"


@pytest.mark.parametrize(("sent", "safe"), [("MAYBE", "true"), ("YES", "false")])
def test_a_command_that_the_gateway_lost_sight_of_is_an_unknown_outcome(sent: str, safe: str) -> None:
    """A lost database after the send is OutcomeUnknown, with the gateway's own advice."""
    trailing = told(grpc.StatusCode.UNAVAILABLE, reason="DATABASE_UNAVAILABLE", sent=sent, safe_to_retry=safe)
    error = of_a_command(grpc.StatusCode.UNAVAILABLE, trailing)
    assert type(error) is OutcomeUnknown
    assert (error.sent, error.safe_to_retry) == (Sent(sent), safe == "true")


@pytest.mark.parametrize("sent", ["", "PERHAPS"])
def test_an_unknown_word_about_sending_is_maybe(sent: str) -> None:
    """A `sent` that this kit does not know is never taken for NO."""
    error = of_a_command(grpc.StatusCode.INTERNAL, told(grpc.StatusCode.INTERNAL, sent=sent))
    assert error.sent is Sent.MAYBE


def test_fields_at_fault_and_the_time_to_wait_are_read() -> None:
    """BadRequest and RetryInfo come through."""
    trailing = told(
        grpc.StatusCode.INVALID_ARGUMENT,
        "words",
        BadRequest(field_violations=[BadRequest.FieldViolation(field="amount.currency_code", description="none")]),
        RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000)),
        sent="NO",
    )
    error = of_a_command(grpc.StatusCode.INVALID_ARGUMENT, trailing)
    assert type(error) is InvalidRequest
    assert error.field_violations == (FieldViolation("amount.currency_code", "none"),)
    assert error.retry_after_s == 1.5


@pytest.mark.parametrize(
    "trailing",
    [
        told(grpc.StatusCode.UNAVAILABLE, sent="NO", domain="somebody.else"),
        told(grpc.StatusCode.NOT_FOUND, sent="NO"),
        told(grpc.StatusCode.UNAVAILABLE, "other words", sent="NO"),
        [("grpc-status-details-bin", b"\xff\xff\xff")],
    ],
)
def test_details_that_are_not_the_gateways_prove_nothing(trailing: Metadata) -> None:
    """A foreign domain, a contradiction, or bytes that are no message leave the outcome unknown."""
    error = of_a_command(grpc.StatusCode.UNAVAILABLE, trailing)
    assert type(error) is OutcomeUnknown
    assert error.sent is Sent.MAYBE


def test_the_gateways_own_table_is_understood() -> None:
    """What gateway.rpc.errors writes is what this kit reads."""
    raised = Raised(Reason.FIELD_INVALID, "too much", field="amount", retry_after_s=2.0)
    status = rich_status(raised)
    error = of_a_command(status.code, tuple(status.trailing_metadata), text="too much")
    assert (error.reason, error.message, error.retry_after_s) == ("FIELD_INVALID", "too much", 2.0)
    assert error.field_violations[0].field == "amount"


def test_a_lost_answer_is_no_failure_even_to_a_careless_caller() -> None:
    """OutcomeUnknown is caught by none of the classes that say that nothing happened."""
    for certain in {*CLASS_BY_CODE.values()}:
        assert not issubclass(OutcomeUnknown, certain)
