"""Stripe's vocabulary and ours, as tables: all that is known of it. docs/stripe.md shows them to people.

A value that a table does not have is told in `Snapshot.unmapped`, or as a decline with reason UNMAPPED, and counted.
"""

from collections.abc import Mapping
from types import MappingProxyType

from gateway.domain.declines import DeclineReason, RetryAdvice
from gateway.domain.movements import Closure, MovementStatus
from gateway.domain.payments import NextAction
from gateway.domain.risk import RiskLevel
from providers.fields import Fields

_S = MovementStatus

CLOSURES: Mapping[str, Closure] = MappingProxyType(
    {
        "requires_payment_method": Closure.OPEN,
        "requires_confirmation": Closure.OPEN,
        "requires_action": Closure.OPEN,
        "processing": Closure.OPEN,
        "requires_capture": Closure.OPEN,
        "succeeded": Closure.OPEN,
        "canceled": Closure.CANCELLED,
    }
)
"""A PaymentIntent's status to whether it takes further commands."""

EXPIRIES = frozenset({"automatic", "expired"})
"""Reasons of a cancellation that Stripe gives by itself, when a hold or a PaymentIntent has become too old."""

CHARGE_STATUSES = frozenset({"pending", "succeeded", "failed"})

REFUNDS: Mapping[str, MovementStatus] = MappingProxyType(
    {
        "pending": _S.PENDING,
        "requires_action": _S.PENDING,
        "succeeded": _S.SUCCEEDED,
        "failed": _S.FAILED,
        "canceled": _S.FAILED,
    }
)

DISPUTES: Mapping[str, MovementStatus] = MappingProxyType(
    {
        "warning_needs_response": _S.INQUIRY,
        "warning_under_review": _S.INQUIRY,
        "warning_closed": _S.INQUIRY_CLOSED,
        "prevented": _S.INQUIRY_CLOSED,
        "needs_response": _S.OPEN,
        "under_review": _S.OPEN,
        # Appealed is not decided; what was won or lost before stays so by its rank, until it is decided otherwise.
        "appeal_needs_response": _S.OPEN,
        "appeal_under_review": _S.OPEN,
        "won": _S.WON,
        "lost": _S.LOST,
    }
)

_R, _A = DeclineReason, RetryAdvice

DECLINES: Mapping[str, tuple[DeclineReason, RetryAdvice]] = MappingProxyType(
    {
        "approve_with_id": (_R.DECLINED, _A.RETRY_LATER),
        "authentication_required": (_R.AUTHENTICATION_FAILED, _A.TRY_ANOTHER_METHOD),
        "authentication_not_handled": (_R.AUTHENTICATION_FAILED, _A.TRY_ANOTHER_METHOD),
        "payment_intent_authentication_failure": (_R.AUTHENTICATION_FAILED, _A.TRY_ANOTHER_METHOD),
        "call_issuer": (_R.DECLINED, _A.TRY_ANOTHER_METHOD),
        "card_declined": (_R.DECLINED, _A.TRY_ANOTHER_METHOD),
        "card_not_supported": (_R.NOT_SUPPORTED, _A.TRY_ANOTHER_METHOD),
        "card_velocity_exceeded": (_R.LIMIT_EXCEEDED, _A.RETRY_LATER),
        "charge_exceeds_source_limit": (_R.LIMIT_EXCEEDED, _A.RETRY_LATER),
        "currency_not_supported": (_R.NOT_SUPPORTED, _A.TRY_ANOTHER_METHOD),
        "debit_not_authorized": (_R.DECLINED, _A.TRY_ANOTHER_METHOD),
        "do_not_honor": (_R.DECLINED, _A.TRY_ANOTHER_METHOD),
        "do_not_try_again": (_R.DECLINED, _A.DO_NOT_RETRY),
        "duplicate_transaction": (_R.DECLINED, _A.RETRY_LATER),
        "elevated_risk_level": (_R.SUSPECTED_FRAUD, _A.TRY_ANOTHER_METHOD),
        "expired_card": (_R.EXPIRED_METHOD, _A.TRY_ANOTHER_METHOD),
        "fraudulent": (_R.SUSPECTED_FRAUD, _A.DO_NOT_RETRY),
        "generic_decline": (_R.DECLINED, _A.TRY_ANOTHER_METHOD),
        "highest_risk_level": (_R.SUSPECTED_FRAUD, _A.DO_NOT_RETRY),
        "incorrect_address": (_R.INVALID_METHOD, _A.TRY_ANOTHER_METHOD),
        "incorrect_cvc": (_R.INVALID_METHOD, _A.TRY_ANOTHER_METHOD),
        "incorrect_number": (_R.INVALID_METHOD, _A.TRY_ANOTHER_METHOD),
        "incorrect_pin": (_R.INVALID_METHOD, _A.TRY_ANOTHER_METHOD),
        "incorrect_zip": (_R.INVALID_METHOD, _A.TRY_ANOTHER_METHOD),
        "insufficient_funds": (_R.INSUFFICIENT_FUNDS, _A.RETRY_LATER),
        "invalid_account": (_R.INVALID_METHOD, _A.TRY_ANOTHER_METHOD),
        "invalid_amount": (_R.LIMIT_EXCEEDED, _A.TRY_ANOTHER_METHOD),
        "invalid_cvc": (_R.INVALID_METHOD, _A.TRY_ANOTHER_METHOD),
        "invalid_expiry_month": (_R.INVALID_METHOD, _A.TRY_ANOTHER_METHOD),
        "invalid_expiry_year": (_R.INVALID_METHOD, _A.TRY_ANOTHER_METHOD),
        "invalid_number": (_R.INVALID_METHOD, _A.TRY_ANOTHER_METHOD),
        "invalid_pin": (_R.INVALID_METHOD, _A.TRY_ANOTHER_METHOD),
        "issuer_not_available": (_R.DECLINED, _A.RETRY_LATER),
        "lost_card": (_R.LOST_OR_STOLEN, _A.DO_NOT_RETRY),
        "merchant_blacklist": (_R.SUSPECTED_FRAUD, _A.DO_NOT_RETRY),
        "mobile_device_authentication_required": (_R.AUTHENTICATION_FAILED, _A.TRY_ANOTHER_METHOD),
        "new_account_information_available": (_R.INVALID_METHOD, _A.TRY_ANOTHER_METHOD),
        "no_action_taken": (_R.DECLINED, _A.TRY_ANOTHER_METHOD),
        "not_permitted": (_R.NOT_SUPPORTED, _A.TRY_ANOTHER_METHOD),
        "offline_pin_required": (_R.AUTHENTICATION_FAILED, _A.TRY_ANOTHER_METHOD),
        "online_or_offline_pin_required": (_R.AUTHENTICATION_FAILED, _A.TRY_ANOTHER_METHOD),
        "payment_intent_payment_attempt_expired": (_R.DECLINED, _A.TRY_ANOTHER_METHOD),
        "payment_intent_payment_attempt_failed": (_R.DECLINED, _A.TRY_ANOTHER_METHOD),
        "payment_method_customer_decline": (_R.DECLINED, _A.TRY_ANOTHER_METHOD),
        "payment_method_provider_decline": (_R.DECLINED, _A.TRY_ANOTHER_METHOD),
        "payment_method_provider_timeout": (_R.DECLINED, _A.RETRY_LATER),
        "pickup_card": (_R.LOST_OR_STOLEN, _A.DO_NOT_RETRY),
        "pin_try_exceeded": (_R.LIMIT_EXCEEDED, _A.TRY_ANOTHER_METHOD),
        "processing_error": (_R.DECLINED, _A.RETRY_LATER),
        "reenter_transaction": (_R.DECLINED, _A.RETRY_LATER),
        "restricted_card": (_R.LOST_OR_STOLEN, _A.DO_NOT_RETRY),
        "revocation_of_all_authorizations": (_R.DECLINED, _A.DO_NOT_RETRY),
        "revocation_of_authorization": (_R.DECLINED, _A.DO_NOT_RETRY),
        "rule": (_R.SUSPECTED_FRAUD, _A.DO_NOT_RETRY),
        "security_violation": (_R.DECLINED, _A.TRY_ANOTHER_METHOD),
        "service_not_allowed": (_R.NOT_SUPPORTED, _A.TRY_ANOTHER_METHOD),
        "stolen_card": (_R.LOST_OR_STOLEN, _A.DO_NOT_RETRY),
        "stop_payment_order": (_R.DECLINED, _A.DO_NOT_RETRY),
        "testmode_decline": (_R.DECLINED, _A.TRY_ANOTHER_METHOD),
        "transaction_not_allowed": (_R.NOT_SUPPORTED, _A.TRY_ANOTHER_METHOD),
        "try_again_later": (_R.DECLINED, _A.RETRY_LATER),
        "withdrawal_count_limit_exceeded": (_R.LIMIT_EXCEEDED, _A.RETRY_LATER),
    }
)
"""A decline code, else the error's own code, to our reason and advice. https://docs.stripe.com/declines/codes"""

ADVICE: Mapping[str, RetryAdvice] = MappingProxyType(
    {
        "confirm_card_data": _A.TRY_ANOTHER_METHOD,
        "do_not_try_again": _A.DO_NOT_RETRY,
        "try_again_later": _A.RETRY_LATER,
    }
)
"""What the card networks advise, where they do: it goes before what we would advise for the code."""

RISKS: Mapping[str, RiskLevel] = MappingProxyType(
    {
        "normal": RiskLevel.NORMAL,
        "elevated": RiskLevel.ELEVATED,
        "highest": RiskLevel.HIGHEST,
        "not_assessed": RiskLevel.NOT_ASSESSED,
        "unknown": RiskLevel.NOT_ASSESSED,
    }
)
"""Radar's `outcome.risk_level`."""

NEXT_ACTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "redirect_to_url": ("redirect_to_url", "url"),
        "use_stripe_sdk": (),
        "alipay_handle_redirect": ("alipay_handle_redirect", "url"),
        "blik_authorize": (),
        "boleto_display_details": ("boleto_display_details", "hosted_voucher_url"),
        "card_await_notification": (),
        "cashapp_handle_redirect_or_display_qr_code": (
            "cashapp_handle_redirect_or_display_qr_code",
            "hosted_instructions_url",
        ),
        "display_bank_transfer_instructions": ("display_bank_transfer_instructions", "hosted_instructions_url"),
        "klarna_display_qr_code": (),
        "konbini_display_details": ("konbini_display_details", "hosted_voucher_url"),
        "multibanco_display_details": ("multibanco_display_details", "hosted_voucher_url"),
        "oxxo_display_details": ("oxxo_display_details", "hosted_voucher_url"),
        "paynow_display_qr_code": ("paynow_display_qr_code", "hosted_instructions_url"),
        "pix_display_qr_code": ("pix_display_qr_code", "hosted_instructions_url"),
        "promptpay_display_qr_code": ("promptpay_display_qr_code", "hosted_instructions_url"),
        "swish_handle_redirect_or_display_qr_code": (
            "swish_handle_redirect_or_display_qr_code",
            "hosted_instructions_url",
        ),
        "upi_handle_redirect_or_display_qr_code": ("upi_handle_redirect_or_display_qr_code", "hosted_instructions_url"),
        "verify_with_microdeposits": ("verify_with_microdeposits", "hosted_verification_url"),
        "wechat_pay_display_qr_code": ("wechat_pay_display_qr_code", "hosted_instructions_url"),
        "wechat_pay_redirect_to_android_app": (),
        "wechat_pay_redirect_to_ios_app": ("wechat_pay_redirect_to_ios_app", "native_url"),
    }
)
"""The type of a next action to where its URL is; without one, Stripe's own library finishes in the payer's browser."""


def next_action_of(intent: Fields) -> NextAction | str | None:
    """What the payer must do, None for nothing, or the type that the table does not have."""
    action = intent.optional("next_action")
    if action is None or intent.text("status") != "requires_action":
        return None
    kind = action.text("type")
    if kind not in NEXT_ACTIONS:
        return kind
    at = NEXT_ACTIONS[kind]
    inner = action.optional(at[0]) if at else None
    url = inner.optional_text(at[1]) if inner is not None else ""
    # Only the payer's browser needs the secret, and only where it has no address to go to.
    return NextAction(url, "" if url else intent.optional_text("client_secret"))
