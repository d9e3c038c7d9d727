"""A plan is what the caller wished, as the payment can take it, and no more."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.app.identity import Identity, identity_of
from gateway.app.planning import plan_create, plan_create_again, plan_refund
from gateway.app.requests import RefundPayment
from gateway.domain.commands import CommandKind
from gateway.domain.derivation import MoneySums
from gateway.domain.errors import InvalidRequest, Precondition, Reason, Sent
from gateway.domain.movements import AttemptStatus
from gateway.domain.payments import CaptureMethod, ConfirmationMethod, Payment
from gateway.domain.providers import Account, Capabilities
from gateway.domain.states import CommandState, PaymentState
from tests.unit.app.books import Books
from tests.unit.app.desk import ACCOUNT, CAPABILITIES, Desk, PaperAccount, PaperAdapter, creation, wish_of

C = CommandKind
IDENTITY = Identity("cmd_1", "op_1", "pay_1", "ref_1")


def able(**changes: object) -> Account:
    """An account with other capabilities."""
    capabilities: Capabilities = replace(CAPABILITIES, **changes)  # type: ignore[arg-type]  # a test's own words
    return PaperAccount(PaperAdapter(capabilities))


def paid(capture: CaptureMethod = CaptureMethod.AUTOMATIC) -> Desk:
    """100, captured or held."""
    desk = Desk(creation(capture_method=capture))
    desk.answered(desk.create, Books(desk.payment).execute(desk.create))
    return desk


def test_the_providers_key_is_a_function_of_command_step_and_account() -> None:
    """Whoever sends a command again, the provider sees the same key (akash console #3449)."""
    wish, request = wish_of(C.CREATE, creation()), creation()
    one = plan_create(wish, request, ACCOUNT, IDENTITY)
    again = plan_create(wish, request, ACCOUNT, replace(IDENTITY, operation_id="op_2"))
    elsewhere = plan_create(wish, request, PaperAccount(account_id="paper_2"), IDENTITY)
    other = plan_create(wish, request, ACCOUNT, identity_of(replace(wish, idempotency_key="another")))
    key = one.operation.prepared.idempotency_key
    assert key == again.operation.prepared.idempotency_key
    assert len({key, elsewhere.operation.prepared.idempotency_key, other.operation.prepared.idempotency_key}) == 3


def test_a_command_is_who_asked_for_what_under_which_key() -> None:
    """A database that has lost a command makes the same one of it again: same ids, same key at the provider."""
    wish = wish_of(C.CREATE, creation())
    one, again = identity_of(wish), identity_of(replace(wish, now_us=wish.now_us + 1, request_hash=b"other"))
    assert (one.command_id, one.operation_id) == (again.command_id, again.operation_id)
    assert one.payment_id != again.payment_id
    others = (
        replace(wish, idempotency_key="another"),
        replace(wish, rpc="RefundPayment"),
        replace(wish, caller=replace(wish.caller, tenant_id="tenant_2")),
    )
    ids = {each for wish in others for each in (identity_of(wish).command_id, identity_of(wish).operation_id)}
    assert len(ids | {one.command_id, one.operation_id}) == 8


def test_a_create_tried_again_is_the_same_command_by_the_same_terms() -> None:
    """What was recorded is sent again, under the same ids and the provider's same key."""
    desk = Desk(creation(description="recorded"))
    first = desk.create
    identity = Identity(first.command_id, first.operation_id, first.payment_id, "", reopen=True)
    plan = plan_create_again(wish_of(C.CREATE, creation()), desk.aggregate, ACCOUNT, identity)
    assert plan.reopen
    assert plan.payment is None
    assert plan.operation.prepared == first.prepared
    assert (plan.command.command_id, plan.operation.operation_id) == (first.command_id, first.operation_id)


def test_a_claim_begins_unsent_with_its_reservation() -> None:
    """Captures and refunds reserve their amount, nothing else does; exclusive commands depend on the version read."""
    desk, held = paid(), paid(CaptureMethod.MANUAL)
    refund, capture, cancel = desk.plan(C.REFUND, 60), held.plan(C.CAPTURE, 60), held.plan(C.CANCEL)
    assert [plan.operation.reserved_minor for plan in (refund, capture, cancel)] == [60, 60, 0]
    assert {plan.operation.state for plan in (refund, capture, cancel)} == {CommandState.SENDING}
    assert {plan.operation.sent for plan in (refund, capture, cancel)} == {Sent.NO}
    assert refund.expected_version is None
    assert capture.expected_version == cancel.expected_version == held.payment.version
    assert refund.refund is not None
    assert refund.refund.amount_minor == 60


@given(
    captured=st.integers(0, 200),
    refunded=st.integers(0, 200),
    reserved=st.integers(0, 200),
    disputed=st.integers(0, 200),
    wished=st.one_of(st.none(), st.integers(1, 250)),
)
def test_a_refund_is_planned_only_within_what_is_refundable(
    captured: int, refunded: int, reserved: int, disputed: int, wished: int | None
) -> None:
    """For whatever sums: the planned amount fits, and 'all' is all that is left."""
    desk = paid()
    payment = replace(
        desk.payment,
        sums=MoneySums(captured_minor=captured, refunded_minor=refunded, disputed_minor=disputed),
        reserved_refund_minor=reserved,
    )
    left = captured - refunded - reserved - disputed
    request = RefundPayment("key", payment.payment_id, wished, "" if wished is None else "USD")
    base = replace(desk.aggregate, payment=payment)
    wish = wish_of(C.REFUND, request)
    if left <= 0 or (wished or 0) > left:
        with pytest.raises(Precondition) as refused:
            plan_refund(wish, request, base, ACCOUNT, IDENTITY)
        over = Reason.PAYMENT_NOT_REFUNDABLE if left <= 0 else Reason.AMOUNT_EXCEEDS_REFUNDABLE
        assert refused.value.reason is over
    else:
        plan = plan_refund(wish, request, base, ACCOUNT, IDENTITY)
        assert plan.operation.amount_minor == (left if wished is None else wished)


@given(amounts=st.lists(st.integers(0, 2**40), min_size=8, max_size=8))
def test_what_is_left_is_never_below_zero(amounts: list[int]) -> None:
    """Capturable and refundable are amounts, also where the provider took more than there was."""
    payment: Payment = paid().payment
    payment = replace(
        payment, sums=MoneySums(*amounts), reserved_capture_minor=amounts[0], reserved_refund_minor=amounts[1]
    )
    assert payment.capturable_minor >= 0
    assert payment.refundable_minor >= 0


def test_an_amount_in_another_currency_is_refused() -> None:
    """100 euros are not taken out of 100 dollars."""
    desk = paid()
    request = RefundPayment("key", desk.payment.payment_id, 50, "EUR")
    with pytest.raises(InvalidRequest) as refused:
        plan_refund(wish_of(C.REFUND, request), request, desk.aggregate, ACCOUNT, IDENTITY)
    assert refused.value.field == "amount.currency_code"


@pytest.mark.parametrize(
    ("terms", "capabilities"),
    [
        ({}, {"currencies": frozenset({"EUR"})}),
        ({"capture_method": CaptureMethod.MANUAL}, {"capture_methods": frozenset({"AUTOMATIC"})}),
        ({"confirmation_method": ConfirmationMethod.MANUAL}, {"confirmation_methods": frozenset({"AUTOMATIC"})}),
    ],
)
def test_what_an_account_cannot_do_is_refused_before_it_is_asked(
    terms: dict[str, object], capabilities: dict[str, object]
) -> None:
    """Capabilities are data: a currency, a capture or a confirmation that is not among them is missing."""
    request = creation(**terms)
    with pytest.raises(Precondition) as refused:
        plan_create(wish_of(C.CREATE, request), request, able(**capabilities), IDENTITY)
    assert refused.value.reason is Reason.CAPABILITY_MISSING
    assert plan_create(wish_of(C.CREATE, request), request, ACCOUNT, IDENTITY).payment is not None


def test_an_account_has_its_own_most() -> None:
    """An amount that the account does not take is the request's fault."""
    with pytest.raises(InvalidRequest):
        plan_create(wish_of(C.CREATE, creation()), creation(), able(amount_minor_max=99), IDENTITY)


def states_of(kind: CommandKind) -> set[PaymentState]:
    """The states from which a command of `kind` can be planned, by walking all of them."""
    desk = paid(CaptureMethod.MANUAL)
    planned = set()
    for state in PaymentState:
        desk.aggregate = replace(desk.aggregate, payment=replace(desk.payment, state=state))
        try:
            desk.plan(kind)
        except Precondition:
            continue
        planned.add(state)
    return planned


def test_a_payment_is_confirmed_only_where_no_attempt_is_at_work() -> None:
    """Not while it is PROCESSING or UNKNOWN, nor when it is paid or closed: that would pay twice."""
    assert states_of(C.CONFIRM) == {PaymentState.CREATED, PaymentState.FAILED, PaymentState.REQUIRES_ACTION}


def test_a_payment_is_cancelled_only_before_money_moved() -> None:
    """What was captured is refunded, and what is UNKNOWN is waited for."""
    assert states_of(C.CANCEL) == {
        PaymentState.CREATED,
        PaymentState.REQUIRES_ACTION,
        PaymentState.PROCESSING,
        PaymentState.AUTHORIZED,
        PaymentState.FAILED,
    }


def test_nothing_is_planned_on_an_object_that_is_not_known() -> None:
    """Before the provider's id is known there is nothing to confirm, capture, cancel or refund."""
    desk = Desk()
    for kind in (C.CONFIRM, C.CAPTURE, C.CANCEL, C.REFUND):
        with pytest.raises(Precondition):
            desk.plan(kind)


def test_a_declined_payment_is_confirmable_with_another_method() -> None:
    """FAILED with an open object is not the end."""
    desk = Desk()
    desk.answered(desk.create, Books(desk.payment).execute(desk.create, AttemptStatus.FAILED))
    assert desk.payment.state is PaymentState.FAILED
    assert desk.plan(C.CONFIRM, payment_method="another").operation.kind is C.CONFIRM


def test_an_expiry_counts_from_the_wish() -> None:
    """A relative wish becomes a time once, in microseconds."""
    request = creation(expire_after_s=60)
    plan = plan_create(wish_of(C.CREATE, request), request, ACCOUNT, IDENTITY)
    assert plan.payment is not None
    assert plan.payment.terms.expire_time_us == wish_of(C.CREATE, request).now_us + 60_000_000
