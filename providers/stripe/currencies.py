"""Amounts: ISO 4217 minor units are ours, and Stripe counts three currencies otherwise and rounds five more.

https://docs.stripe.com/currencies, "zero-decimal", "three-decimal" and "special cases".
"""

from collections.abc import Mapping
from types import MappingProxyType

from gateway.domain.errors import InvalidRequest, Reason
from gateway.domain.money import CURRENCY_EXPONENTS
from providers.fields import UnreadableAnswer

_PRESENTED = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BWP BYN BZD "
    "CAD CDF CHF CLP CNY COP CRC CVE CZK DJF DKK DOP DZD EGP ETB EUR FJD FKP GBP GEL GIP GMD GNF GTQ "
    "GYD HKD HNL HTG HUF IDR ILS INR ISK JMD JOD JPY KES KGS KHR KMF KRW KWD KYD KZT LAK LBP LKR LRD "
    "LSL MAD MDL MGA MKD MMK MNT MOP MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK "
    "PHP PKR PLN PYG QAR RON RSD RWF SAR SBD SCR SEK SGD SHP SLE SOS SRD STD SZL THB TJS TND TOP TRY "
    "TTD TWD TZS UAH UGX USD UYU UZS VND VUV WST XAF XCD XOF XPF YER ZAR ZMW "
)

CURRENCIES = frozenset(_PRESENTED.split()) & frozenset(CURRENCY_EXPONENTS)
"""What Stripe presents to payers; what an account takes of it depends on its country."""

STRIPE_UNITS: Mapping[str, int] = MappingProxyType({"ISK": 100, "UGX": 100})
"""Stripe's units in one ISO minor unit: no decimals any more, and counted with two all the same."""

ISO_UNITS: Mapping[str, int] = MappingProxyType({"MGA": 100})
"""ISO minor units in one of Stripe's: two decimals by ISO 4217, none at Stripe."""

STEPS: Mapping[str, int] = MappingProxyType(dict.fromkeys(("BHD", "JOD", "KWD", "OMR", "TND"), 10))
"""The step of amounts in three decimals: the last digit is 0."""

AMOUNT_MINOR_MAX = 99_999_999
"""Eight digits, which Stripe allows in its own units."""


def to_stripe(amount_minor: int, currency: str) -> int:
    """ISO minor units as Stripe's. Raises InvalidRequest where Stripe cannot take such an amount."""
    step = STEPS.get(currency, 1) * ISO_UNITS.get(currency, 1)
    if amount_minor % step:
        raise InvalidRequest(
            Reason.FIELD_INVALID,
            f"amount: Stripe takes {currency} in steps of {step} minor units",
            field="amount.amount_minor",
        )
    amount = amount_minor // ISO_UNITS.get(currency, 1) * STRIPE_UNITS.get(currency, 1)
    if amount > AMOUNT_MINOR_MAX:
        raise InvalidRequest(
            Reason.FIELD_INVALID, "amount: Stripe takes at most eight digits", field="amount.amount_minor"
        )
    return amount


def to_minor(amount: int, currency: str) -> int:
    """Stripe's units as ISO minor units. Raises UnreadableAnswer for a part of one."""
    whole, rest = divmod(amount, STRIPE_UNITS.get(currency, 1))
    if rest:
        raise UnreadableAnswer(f"an amount in {currency} that is no whole unit")
    return whole * ISO_UNITS.get(currency, 1)
