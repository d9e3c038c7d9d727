"""Amounts: PayPal's decimal strings and whole minor units. HUF, JPY and TWD take no decimals."""

from __future__ import annotations

import re
from typing import Any

from simulators.paypal.refusals import refused

WITHOUT_DECIMALS = frozenset({"HUF", "JPY", "TWD"})
CURRENCIES = frozenset(
    "AUD BRL CAD CHF CNY CZK DKK EUR GBP HKD HUF ILS JPY MXN MYR NOK NZD PHP PLN SEK SGD THB TWD USD".split()  # noqa: SIM905  one line reads better
)
_VALUE = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,2}))?\Z")
Money = dict[str, str]


def read(money: Any) -> tuple[int, str]:
    """(units, currency) of a money object: hundredths, or whole ones of a currency without decimals. Raises Refusal."""
    if not isinstance(money, dict) or money.get("currency_code") not in CURRENCIES:
        raise refused("INVALID_CURRENCY_CODE")
    currency = money["currency_code"]
    found = _VALUE.match(str(money.get("value", "")))
    if found is None:
        raise refused(
            "DECIMAL_PRECISION", "If the currency supports decimals, only two decimal place precision is supported."
        )
    whole, fraction = int(found[1]), (found[2] or "").ljust(2, "0")
    if currency in WITHOUT_DECIMALS:
        if fraction != "00":
            raise refused("DECIMAL_PRECISION")
        units = whole
    else:
        units = whole * 100 + int(fraction)
    if units == 0:
        raise refused("CANNOT_BE_ZERO_OR_NEGATIVE")
    return units, currency


def units(money: Money) -> int:
    """The units of a money object of our own."""
    return read(money)[0]


def written(amount: int, currency: str) -> Money:
    """Units as a money object."""
    value = str(amount) if currency in WITHOUT_DECIMALS else f"{amount // 100}.{amount % 100:02d}"
    return {"currency_code": currency, "value": value}


def minor(amount: int, currency: str) -> int:
    """Units in the minor units of ISO 4217, which gives HUF and TWD two decimals that PayPal does not take."""
    return amount * 100 if currency in WITHOUT_DECIMALS - {"JPY"} else amount
