"""What a PayPal account can do through this adapter, as data."""

from gateway.domain.adjustments import AdjustmentTerms
from gateway.domain.payments import CaptureMethod, ConfirmationMethod
from gateway.domain.providers import Capabilities

API_VERSION = "v2"

ORDERS_KEY_WINDOW_S = 6 * 3600
"""How long PayPal keeps a PayPal-Request-Id of the Orders API."""

PAYMENTS_KEY_WINDOW_S = 45 * 24 * 3600
"""How long it keeps one of the Payments API: captures of authorizations, and refunds."""

UNPAID_KEPT_S = 3 * 3600
"""How long PayPal keeps an order at least that nobody pays; merchants can have it longer."""

ADJUSTMENT = AdjustmentTerms(
    raises_amount=True,
    extends_validity=True,
    # And in the USA by 75 USD at most; elsewhere it depends.
    total_percent_max=115,
    # One that was re-authorized is not again.
    times_max=1,
    from_s=3 * 24 * 3600,
    until_s=29 * 24 * 3600,
)
"""Re-authorization: after the three days for which PayPal honors the first one, within its 29."""

_CODES = "AUD BRL CAD CHF CNY CZK DKK EUR GBP HKD HUF ILS JPY MXN MYR NOK NZD PHP PLN SEK SGD THB TWD USD"
CURRENCIES = frozenset(_CODES.split())

CAPABILITIES = Capabilities(
    provider="paypal",
    currencies=CURRENCIES,
    capture_methods=frozenset(CaptureMethod),
    # An order is created for a payer or for a vaulted source: there is no create that leaves the choice for later.
    confirmation_methods=frozenset({ConfirmationMethod.AUTOMATIC}),
    partial_capture=True,
    multiple_capture=True,
    refunds=True,
    partial_refund=True,
    key_window_s=ORDERS_KEY_WINDOW_S,
    # PayPal promises of no read that it sees every earlier write.
    absence_is_consistent=False,
    # Its transaction search has our ids, of what was paid, and late: good to find something, and for nothing else.
    finds_by_reference=True,
    unpaid_kept_s=UNPAID_KEPT_S,
    adjustment=ADJUSTMENT,
    flight_s_max=120,
)
