"""What a Stripe account can do, as data."""

from gateway.domain.adjustments import AdjustmentTerms
from gateway.domain.payments import CaptureMethod, ConfirmationMethod
from gateway.domain.providers import Capabilities
from providers.stripe.currencies import AMOUNT_MINOR_MAX, CURRENCIES

PROVIDER = "stripe"

API_VERSION = "2026-10-28.endive"
"""The version that every request asks for; the SDK's own, which a test holds."""

BASE_URL = "https://api.stripe.com"

KEY_WINDOW_S = 24 * 3600
"""Keys may be removed "after they're at least 24 hours old": https://docs.stripe.com/api/idempotent_requests"""


ADJUSTMENT = AdjustmentTerms(raises_amount=True, extends_validity=False, times_max=10)
"""An increment is no new authorization: how long the first one is valid stays."""


def capabilities(*, multicapture: bool, incremental: bool, absence_is_consistent: bool) -> Capabilities:
    """`multicapture`, `incremental`: the account's pricing has it, as Stripe does not tell by its API before a payment.

    `absence_is_consistent`: reads by id and lists are not the search, of which alone Stripe says that it lags
    (https://docs.stripe.com/search#data-freshness); that they never do is written nowhere. What is built on it
    bears a doubt: absence ends nothing before the same key was sent again for `resend_age_s_max`, and Stripe answers a
    key that it has executed with that execution's result.
    """
    return Capabilities(
        provider=PROVIDER,
        currencies=CURRENCIES,
        capture_methods=frozenset(CaptureMethod),
        confirmation_methods=frozenset(ConfirmationMethod),
        partial_capture=True,
        multiple_capture=multicapture,
        refunds=True,
        partial_refund=True,
        key_window_s=KEY_WINDOW_S,
        absence_is_consistent=absence_is_consistent,
        flight_s_max=120,
        amount_minor_max=AMOUNT_MINOR_MAX,
        adjustment=ADJUSTMENT if incremental else None,
    )
