"""Amounts as PayPal writes them: decimal strings, computed from whole minor units and back, never through a float.

PayPal takes no decimals for HUF, JPY and TWD; ISO 4217 gives two of them minor units all the same. What a string cannot
say exactly is refused before anything is sent.
"""

import re

from gateway.domain.errors import InvalidRequest, Reason
from gateway.domain.money import CURRENCY_EXPONENTS, Money
from providers.fields import Fields, UnreadableAnswer

WITHOUT_DECIMALS = frozenset({"HUF", "JPY", "TWD"})

_VALUE = re.compile(r"(?P<major>[0-9]{1,12})(?:\.(?P<minor>[0-9]{1,6}))?\Z")


def value_of(amount_minor: int, currency: str) -> str:
    """`amount_minor` as PayPal's decimal string. Raises InvalidRequest(FIELD_INVALID) where it cannot be said so."""
    exponent = CURRENCY_EXPONENTS[currency]
    major, minor = divmod(amount_minor, 10**exponent)
    if currency in WITHOUT_DECIMALS:
        if minor:
            raise InvalidRequest(
                Reason.FIELD_INVALID,
                f"amount: PayPal takes whole {currency} only, and {amount_minor} minor units are none",
                field="amount.amount_minor",
            )
        return str(major)
    return f"{major}.{minor:0{exponent}d}" if exponent else str(major)


def money_of(amount_minor: int, currency: str) -> dict[str, str]:
    """PayPal's money object. Raises as `value_of`."""
    return {"currency_code": currency, "value": value_of(amount_minor, currency)}


def currency_of(money: Fields) -> str:
    """The currency of a money object. Raises UnreadableAnswer where it is none that ISO 4217 has."""
    currency = money.text("currency_code")
    if currency not in CURRENCY_EXPONENTS:
        raise UnreadableAnswer(f"{money.where}.currency_code: not an ISO 4217 code")
    return currency


def minor_of(money: Fields) -> int:
    """A money object in minor units of its currency. Raises UnreadableAnswer for what is no amount of it."""
    currency = currency_of(money)
    read = _VALUE.match(money.text("value"))
    if read is None:
        raise UnreadableAnswer(f"{money.where}.value: not an amount")
    exponent = CURRENCY_EXPONENTS[currency]
    fraction = (read["minor"] or "").ljust(exponent, "0")
    if fraction[exponent:].strip("0"):
        raise UnreadableAnswer(f"{money.where}.value: finer than {currency} is")
    try:
        return Money(int(read["major"] + fraction[:exponent]), currency).amount_minor
    except ValueError as error:
        raise UnreadableAnswer(f"{money.where}.value: {type(error).__name__}") from None
