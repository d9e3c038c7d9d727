"""Money as integers: an amount in minor units and an ISO 4217 currency.

The exponent of a currency says how many minor units make one major unit (JPY 0, USD 2, KWD 3). Codes that were
withdrawn stay in the table, since a refund can outlive its currency. Providers that count otherwise keep their
exceptions beside their adapters.
"""

from dataclasses import dataclass
from types import MappingProxyType

_CODES_BY_EXPONENT = {
    0: "ADP AFA BEF BIF BYB BYR CLP DJF ESP GNF GRD ISK ITL JPY KMF KRW LUF MGF PTE PYG ROL RWF TPE TRL UGX UYI "
    "VND VUV XAF XOF XPF",
    2: "AED AFN ALL AMD ANG AOA ARS ATS AUD AWG AZM AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD "
    "CDF CHE CHF CHW CNY COP COU CRC CSD CUC CUP CVE CYP CZK DEM DKK DOP DZD ECS EEK EGP ERN ETB EUR FIM FJD FKP FRF "
    "GBP GEL GHC GHS GIP GMD GTQ GWP GYD HKD HNL HRK HTG HUF IDR IEP ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP "
    "LKR LRD LSL LTL LVL MAD MDL MGA MKD MMK MNT MOP MRO MRU MTL MUR MVR MWK MXN MXV MYR MZM MZN NAD NGN NIO NLG NOK "
    "NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDD SDG SEK SGD SHP SIT SKK SLE SLL SOS SRD SRG SSP "
    "STD STN SVC SYP SZL THB TJS TMM TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VEB VEF VES WST XAD XCD XCG YER "
    "YUM ZAR ZMK ZMW ZWD ZWG ZWL",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}

CURRENCY_EXPONENTS = MappingProxyType(
    {code: exponent for exponent, codes in _CODES_BY_EXPONENT.items() for code in codes.split()}
)
"""ISO 4217 code to exponent, withdrawn codes included."""

MAJOR_UNITS_DIGITS_MAX = 10


class MoneyError(ValueError):
    """An amount or a currency that is no money; the message names which and why."""


def amount_minor_max(currency: str) -> int:
    """The largest amount of one payment in `currency`, in minor units: below ten billion major units."""
    return int(10 ** (MAJOR_UNITS_DIGITS_MAX + CURRENCY_EXPONENTS[currency])) - 1


@dataclass(frozen=True, slots=True)
class Money:
    """`amount_minor` minor units of `currency`; never negative, never a fraction.

    Raises MoneyError for a bool or non-int amount, an unknown currency, or an amount outside 0 to the currency's bound.
    """

    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        if type(self.amount_minor) is not int:
            raise MoneyError(f"amount_minor must be an integer, not {type(self.amount_minor).__name__}")
        if self.currency not in CURRENCY_EXPONENTS:
            raise MoneyError(f"currency {self.currency[:8]!r} is not an ISO 4217 code")
        if not 0 <= self.amount_minor <= amount_minor_max(self.currency):
            raise MoneyError(
                f"amount_minor {self.amount_minor} is outside 0 to {amount_minor_max(self.currency)} {self.currency}"
            )

    def __str__(self) -> str:
        exponent = CURRENCY_EXPONENTS[self.currency]
        if exponent == 0:
            return f"{self.amount_minor} {self.currency}"
        major, minor = divmod(self.amount_minor, 10**exponent)
        return f"{major}.{minor:0{exponent}d} {self.currency}"
