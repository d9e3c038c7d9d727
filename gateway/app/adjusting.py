"""Planning an adjustment: a hold of which nothing is captured gets a higher total, or is valid anew. ADR 0018."""

from gateway.app.engine import Plan
from gateway.app.identity import Identity, Wish
from gateway.app.planning import exclusive, forbidden, missing, reference_of
from gateway.app.requests import AdjustAuthorization
from gateway.domain.adjusting import Adjusts
from gateway.domain.errors import InvalidRequest, Precondition, Reason
from gateway.domain.payments import Payment
from gateway.domain.providers import Account
from gateway.domain.states import PaymentState
from gateway.domain.storage import Aggregate


def plan_adjust(
    wish: Wish, request: AdjustAuthorization, base: Aggregate, account: Account, identity: Identity
) -> Plan:
    """An adjustment of what is held. Raises Precondition(PAYMENT_NOT_ADJUSTABLE, AMOUNT_BELOW_AUTHORIZED)."""
    payment, sums = base.payment, base.payment.sums
    captured = sums.captured_minor or sums.capture_pending_minor or payment.reserved_capture_minor
    if payment.state is not PaymentState.AUTHORIZED or payment.provider_payment_id is None or captured:
        raise forbidden(Reason.PAYMENT_NOT_ADJUSTABLE, payment, "adjusted")
    adapter, able = account.adapter, account.adapter.capabilities.adjustment
    if able is None or not isinstance(adapter, Adjusts):
        raise missing(account, "adjusting authorizations")
    total_minor = _total(request, payment, account)
    if total_minor > sums.authorized_open_minor and not able.raises_amount:
        raise missing(account, "raising the amount of an authorization")
    if total_minor == sums.authorized_open_minor and not able.extends_validity:
        raise missing(account, "extending the validity of an authorization")
    reference = reference_of(wish, identity, account)
    prepared = adapter.prepare_adjust(reference, payment, total_minor=total_minor)
    return exclusive(base, wish, identity, account, prepared, total_minor)


def _total(request: AdjustAuthorization, payment: Payment, account: Account) -> int:
    held_minor = payment.sums.authorized_open_minor
    if request.amount_minor is None:
        return held_minor
    if request.currency != payment.terms.currency:
        raise InvalidRequest(
            Reason.FIELD_INVALID,
            f"amount.currency_code: the payment is in {payment.terms.currency}, not {request.currency}",
            field="amount.currency_code",
        )
    if request.amount_minor < held_minor:
        raise Precondition(
            Reason.AMOUNT_BELOW_AUTHORIZED,
            f"{request.amount_minor} is less than the {held_minor} minor units of {payment.terms.currency} that are "
            "authorized: an adjustment names the new total and never lowers it; capture less, or cancel",
            field="amount.amount_minor",
            details={"payment_id": payment.payment_id, "authorized_minor": str(held_minor)},
        )
    amount_minor_max = account.adapter.capabilities.amount_minor_max
    if amount_minor_max is not None and request.amount_minor > amount_minor_max:
        raise InvalidRequest(
            Reason.FIELD_INVALID,
            f"amount: account {account.account_id} takes at most {amount_minor_max} minor units",
            field="amount.amount_minor",
        )
    return request.amount_minor
