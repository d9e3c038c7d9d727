"""What the sandbox can do, as data."""

from gateway.domain.adjustments import AdjustmentTerms
from gateway.domain.money import CURRENCY_EXPONENTS
from gateway.domain.payments import CaptureMethod, ConfirmationMethod
from gateway.domain.providers import Capabilities

API_VERSION = "v1"

CAPABILITIES = Capabilities(
    provider="sandbox",
    currencies=frozenset(CURRENCY_EXPONENTS),
    capture_methods=frozenset(CaptureMethod),
    confirmation_methods=frozenset(ConfirmationMethod),
    partial_capture=True,
    multiple_capture=True,
    refunds=True,
    partial_refund=True,
    key_window_s=24 * 3600,
    # Its lookups read the books that its writes change: what was answered, or booked at all, is found.
    absence_is_consistent=True,
    flight_s_max=120,
    amount_minor_max=999_999_999_999,
    adjustment=AdjustmentTerms(raises_amount=True, extends_validity=True),
)
