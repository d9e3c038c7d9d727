"""From a caller's wish to a plan: the account, the exact request, the reservation. Reads nothing, sends nothing."""

import hashlib
from dataclasses import replace
from functools import cache
from typing import TypeGuard

from gateway.app.engine import Plan
from gateway.app.identity import Identity, Wish
from gateway.app.requests import CancelPayment, CapturePayment, ConfirmPayment, CreatePayment, RefundPayment
from gateway.domain.commands import Command, Operation, PreparedRequest
from gateway.domain.derivation import MoneySums
from gateway.domain.errors import InvalidRequest, ObolError, Precondition, Reason, Sent
from gateway.domain.movements import Facts, MovementKind, Origin
from gateway.domain.payments import LatestCommand, Payment, PaymentTerms, Refund
from gateway.domain.providers import (
    Account,
    Cancels,
    Captures,
    Completes,
    Confirms,
    OperationReference,
    ProviderAdapter,
    Refunds,
    TakesPayments,
)
from gateway.domain.routes import Route
from gateway.domain.states import CommandState, DisputeState, PaymentState
from gateway.domain.storage import Aggregate


def plan_create(
    wish: Wish, request: CreatePayment, account: Account, identity: Identity, route: Route | None = None
) -> Plan:
    """A new payment at `account`. Raises Precondition(CAPABILITY_MISSING) for what the account cannot do."""
    adapter = account.adapter
    terms = _terms(request, wish.now_us)
    if not _takes_payments(adapter):
        raise missing(account, "payments")
    _check_terms(account, terms)
    reference = reference_of(wish, identity, account)
    prepared = adapter.prepare_create(reference, terms)
    operation = _operation(wish, identity, account, prepared, terms.amount_minor, terms.currency)
    payment = Payment(
        payment_id=identity.payment_id,
        tenant_id=wish.caller.tenant_id,
        organization_id=wish.caller.organization_id,
        correlation_id=wish.caller.correlation_id,
        terms=terms,
        provider=account.provider,
        account_id=account.account_id,
        facts=Facts(),
        sums=MoneySums(),
        state=PaymentState.CREATED,
        dispute_state=DisputeState.NONE,
        version=1,
        created_time_us=wish.now_us,
        updated_time_us=wish.now_us,
        latest_command=LatestCommand(identity.command_id, wish.kind, CommandState.SENDING),
        route=route,
    )
    return Plan(_command(wish, identity), operation, account, payment=payment)


def plan_create_again(
    wish: Wish, base: Aggregate, account: Account, identity: Identity, route: Route | None = None
) -> Plan:
    """The create of a payment whose first try provably had no effect, by the terms that were recorded then.

    The payment moves to `account`, which need not be the one of the first try.
    """
    if not isinstance(account.adapter, TakesPayments):
        raise missing(account, "payments")
    terms = base.payment.terms
    _check_terms(account, terms)
    prepared = account.adapter.prepare_create(reference_of(wish, identity, account), terms)
    operation = _operation(wish, identity, account, prepared, terms.amount_minor, terms.currency)
    moved = replace(base.payment, provider=account.provider, account_id=account.account_id, route=route)
    return Plan(
        _command(wish, identity),
        operation,
        account,
        # Without a route to tell, and at the same account, there is nothing to write of it.
        payment=moved if moved != base.payment else None,
        base=base,
        expected_version=base.payment.version,
        reopen=True,
    )


def plan_confirm(wish: Wish, request: ConfirmPayment, base: Aggregate, account: Account, identity: Identity) -> Plan:
    """Another try to confirm. Raises Precondition(PAYMENT_NOT_CONFIRMABLE)."""
    payment = base.payment
    confirmable = (PaymentState.CREATED, PaymentState.FAILED, PaymentState.REQUIRES_ACTION)
    if payment.state not in confirmable or payment.provider_payment_id is None:
        raise forbidden(Reason.PAYMENT_NOT_CONFIRMABLE, payment, "confirmed")
    if not isinstance(account.adapter, Confirms):
        raise missing(account, "confirmation")
    prepared = account.adapter.prepare_confirm(
        reference_of(wish, identity, account),
        payment,
        payment_method=request.payment_method,
        return_url=request.return_url,
    )
    return exclusive(base, wish, identity, account, prepared, payment.terms.amount_minor)


def plan_capture(wish: Wish, request: CapturePayment, base: Aggregate, account: Account, identity: Identity) -> Plan:
    """A capture of what is held. Raises Precondition(PAYMENT_NOT_CAPTURABLE, AMOUNT_EXCEEDS_CAPTURABLE)."""
    payment = base.payment
    if payment.capturable_minor == 0 or payment.provider_payment_id is None:
        raise forbidden(Reason.PAYMENT_NOT_CAPTURABLE, payment, "captured")
    amount_minor = _amount(
        request.amount_minor, request.currency, payment, payment.capturable_minor, Reason.AMOUNT_EXCEEDS_CAPTURABLE
    )
    able = account.adapter.capabilities
    if amount_minor < payment.sums.authorized_open_minor and not able.partial_capture:
        raise missing(account, "partial capture")
    if not request.final and not able.multiple_capture:
        raise missing(account, "multiple captures")
    if not isinstance(account.adapter, Captures):
        raise missing(account, "captures")
    prepared = account.adapter.prepare_capture(
        reference_of(wish, identity, account), payment, amount_minor=amount_minor, final=request.final
    )
    operation = _operation(
        wish,
        identity,
        account,
        prepared,
        amount_minor,
        payment.terms.currency,
        payment,
        reserved_minor=amount_minor,
        final_capture=request.final,
    )
    return _on(base, wish, identity, account, operation, as_read=True)


def plan_cancel(wish: Wish, request: CancelPayment, base: Aggregate, account: Account, identity: Identity) -> Plan:
    """A cancellation of what is not captured. Raises Precondition(PAYMENT_NOT_CANCELLABLE)."""
    payment = base.payment
    cancellable = (
        PaymentState.CREATED,
        PaymentState.REQUIRES_ACTION,
        PaymentState.PROCESSING,
        PaymentState.AUTHORIZED,
        PaymentState.FAILED,
    )
    if payment.state not in cancellable or payment.provider_payment_id is None:
        raise forbidden(Reason.PAYMENT_NOT_CANCELLABLE, payment, "cancelled")
    if not isinstance(account.adapter, Cancels):
        raise missing(account, "cancellation")
    prepared = account.adapter.prepare_cancel(reference_of(wish, identity, account), payment, reason=request.reason)
    return exclusive(base, wish, identity, account, prepared, payment.terms.amount_minor)


def plan_complete(wish: Wish, base: Aggregate, account: Account, identity: Identity) -> Plan:
    """The completion of what the payer has approved. Raises Precondition(PAYMENT_NOT_CONFIRMABLE)."""
    payment = base.payment
    if payment.state is not PaymentState.REQUIRES_ACTION or payment.provider_payment_id is None:
        raise forbidden(Reason.PAYMENT_NOT_CONFIRMABLE, payment, "completed")
    if not isinstance(account.adapter, Completes):
        raise missing(account, "completion")
    prepared = account.adapter.prepare_complete(reference_of(wish, identity, account), payment)
    return exclusive(base, wish, identity, account, prepared, payment.terms.amount_minor)


def plan_refund(wish: Wish, request: RefundPayment, base: Aggregate, account: Account, identity: Identity) -> Plan:
    """A refund of captured money. Raises Precondition(PAYMENT_NOT_REFUNDABLE, AMOUNT_EXCEEDS_REFUNDABLE)."""
    payment = base.payment
    if payment.refundable_minor == 0 or payment.provider_payment_id is None:
        raise forbidden(Reason.PAYMENT_NOT_REFUNDABLE, payment, "refunded")
    amount_minor = _amount(
        request.amount_minor, request.currency, payment, payment.refundable_minor, Reason.AMOUNT_EXCEEDS_REFUNDABLE
    )
    if not isinstance(account.adapter, Refunds):
        raise missing(account, "refunds")
    if amount_minor < payment.sums.captured_minor and not account.adapter.capabilities.partial_refund:
        raise missing(account, "partial refunds")
    prepared = account.adapter.prepare_refund(
        reference_of(wish, identity, account), payment, amount_minor=amount_minor, reason=request.reason
    )
    operation = _operation(
        wish,
        identity,
        account,
        prepared,
        amount_minor,
        payment.terms.currency,
        payment,
        reserved_minor=amount_minor,
        refund_id=identity.refund_id,
    )
    refund = Refund(
        refund_id=identity.refund_id,
        tenant_id=wish.caller.tenant_id,
        payment_id=payment.payment_id,
        origin=Origin.OBOL,
        amount_minor=amount_minor,
        currency=payment.terms.currency,
        state=CommandState.SENDING,
        reason=request.reason,
        created_time_us=wish.now_us,
        updated_time_us=wish.now_us,
        command_id=identity.command_id,
    )
    # One of several captures may have been chosen, by what was read: two that read the same would choose the same.
    captures = [m for m in payment.facts.movements if m.kind is MovementKind.CAPTURE]
    return _on(base, wish, identity, account, operation, as_read=len(captures) > 1, refund=refund)


def exclusive(
    base: Aggregate, wish: Wish, identity: Identity, account: Account, prepared: PreparedRequest, amount_minor: int
) -> Plan:
    """A command that keeps others off the payment, of `amount_minor`, and reserves nothing."""
    currency = base.payment.terms.currency
    operation = _operation(wish, identity, account, prepared, amount_minor, currency, base.payment)
    return _on(base, wish, identity, account, operation, as_read=True)


def _takes_payments(adapter: ProviderAdapter) -> TypeGuard[TakesPayments]:
    # One that stands before another, and hands its verbs on, offers them by instance.
    return _is_for_payments(type(adapter)) or isinstance(adapter, TakesPayments)


@cache
def _is_for_payments(kind: type) -> bool:
    # Asking whether an object fits a protocol costs more than the rest of a create's plan.
    return issubclass(kind, TakesPayments)


def missing(account: Account, what: str) -> Precondition:
    """The error for what the account's adapter does not offer."""
    return Precondition(
        Reason.CAPABILITY_MISSING,
        f"account {account.account_id} ({account.provider}) does not offer {what}",
        details={"provider": account.provider, "account_id": account.account_id},
    )


def _terms(request: CreatePayment, now_us: int) -> PaymentTerms:
    expire_us = None if request.expire_after_s is None else now_us + request.expire_after_s * 1_000_000
    return PaymentTerms(
        amount_minor=request.amount_minor,
        currency=request.currency,
        capture_method=request.capture_method,
        confirmation_method=request.confirmation_method,
        payment_method=request.payment_method,
        customer_reference=request.customer_reference,
        description=request.description,
        statement_descriptor=request.statement_descriptor,
        return_url=request.return_url,
        metadata=request.metadata,
        order_reference=request.order_reference,
        order_reference_unique=request.order_reference_unique,
        connected_account=request.connected_account,
        expire_time_us=expire_us,
    )


def _check_terms(account: Account, terms: PaymentTerms) -> None:
    able = account.adapter.capabilities
    if able.currencies and terms.currency not in able.currencies:
        raise missing(account, f"payments in {terms.currency}")
    if terms.capture_method not in able.capture_methods:
        raise missing(account, f"{terms.capture_method} capture")
    if terms.confirmation_method not in able.confirmation_methods:
        raise missing(account, f"{terms.confirmation_method} confirmation")
    if able.amount_minor_max is not None and terms.amount_minor > able.amount_minor_max:
        raise InvalidRequest(
            Reason.FIELD_INVALID,
            f"amount: account {account.account_id} takes at most {able.amount_minor_max} minor units",
            field="amount.amount_minor",
        )


def _amount(wished: int | None, currency: str, payment: Payment, available_minor: int, over: Reason) -> int:
    if wished is None:
        return available_minor
    if currency != payment.terms.currency:
        raise InvalidRequest(
            Reason.FIELD_INVALID,
            f"amount.currency_code: the payment is in {payment.terms.currency}, not {currency}",
            field="amount.currency_code",
        )
    if wished > available_minor:
        raise exceeds(over, payment, wished, available_minor)
    return wished


def exceeds(reason: Reason, payment: Payment, wished_minor: int, available_minor: int) -> Precondition:
    """The error for an amount that does not fit, with what would."""
    return Precondition(
        reason,
        f"{wished_minor} is more than the {available_minor} minor units of {payment.terms.currency} that are left",
        field="amount.amount_minor",
        details={"payment_id": payment.payment_id, "available_minor": str(available_minor)},
    )


def forbidden(reason: Reason, payment: Payment, verb: str) -> ObolError:
    """The error for what the payment's state does not allow."""
    return Precondition(
        reason,
        f"a payment in {payment.state} cannot be {verb}; read it to see what it can take",
        details={"payment_id": payment.payment_id, "state": payment.state},
    )


def reference_of(wish: Wish, identity: Identity, account: Account) -> OperationReference:
    """What the provider knows the operation by."""
    # A function of (command, step, account): whoever sends it again, the provider sees the same key.
    source = f"{identity.command_id}/{identity.step}/{account.account_id}"
    return OperationReference(
        operation_id=identity.operation_id,
        command_id=identity.command_id,
        payment_id=identity.payment_id,
        caller=identity.caller or wish.caller,
        idempotency_key=f"obol-{hashlib.sha256(source.encode()).hexdigest()[:40]}",
    )


def _command(wish: Wish, identity: Identity, refund_id: str | None = None) -> Command:
    return Command(
        command_id=identity.command_id,
        kind=wish.kind,
        rpc=wish.rpc,
        idempotency_key=wish.idempotency_key,
        request_hash=wish.request_hash,
        caller=wish.caller,
        payment_id=identity.payment_id,
        state=CommandState.SENDING,
        created_time_us=wish.now_us,
        refund_id=refund_id,
    )


def _operation(
    wish: Wish,
    identity: Identity,
    account: Account,
    prepared: PreparedRequest,
    amount_minor: int,
    currency: str,
    payment: Payment | None = None,
    *,
    reserved_minor: int = 0,
    refund_id: str | None = None,
    final_capture: bool = True,
) -> Operation:
    return Operation(
        operation_id=identity.operation_id,
        command_id=identity.command_id,
        payment_id=identity.payment_id,
        tenant_id=wish.caller.tenant_id,
        step=identity.step,
        kind=wish.kind,
        provider=account.provider,
        account_id=account.account_id,
        amount_minor=amount_minor,
        currency=currency,
        prepared=prepared,
        state=CommandState.SENDING,
        sent=Sent.NO,
        epoch=0,
        claimed_time_us=0,
        lease_until_us=None,
        next_attempt_us=None,
        reserved_minor=reserved_minor,
        refund_id=refund_id,
        provider_payment_id=payment.provider_payment_id if payment else None,
        final_capture=final_capture,
    )


def _on(
    base: Aggregate,
    wish: Wish,
    identity: Identity,
    account: Account,
    operation: Operation,
    *,
    as_read: bool,
    refund: Refund | None = None,
) -> Plan:
    return Plan(
        command=_command(wish, identity, refund.refund_id if refund else None),
        operation=operation,
        account=account,
        base=base,
        # Refunds of one capture run side by side: only the amount guards them. The rest depend on what was read.
        expected_version=base.payment.version if as_read else None,
        refund=refund,
        reopen=identity.reopen,
    )
