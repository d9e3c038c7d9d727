"""Money is whole minor units of a known currency, and stays so."""

from decimal import Decimal
from typing import Any

import iso4217
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.money import CURRENCY_EXPONENTS, Money, MoneyError, amount_minor_max
from gateway.domain.movements import FactError, Movement, MovementKind, MovementStatus

ISO_4217 = {currency.code: currency.exponent for currency in iso4217.Currency}
NO_INTEGERS = [True, False, 1.0, 0.0, float("nan"), float("inf"), Decimal(1), "1", None]


def test_exponents_are_those_of_iso_4217() -> None:
    """Where the package knows a currency, our table says the same, and nothing that has no minor unit is money."""
    ours = {code: CURRENCY_EXPONENTS.get(code) for code in ISO_4217}
    assert ours == ISO_4217


@pytest.mark.parametrize(
    ("currency", "exponent", "shown"),
    [
        ("JPY", 0, "5000 JPY"),
        ("ISK", 0, "5000 ISK"),
        ("USD", 2, "50.00 USD"),
        ("KWD", 3, "5.000 KWD"),
        ("CLF", 4, "0.5000 CLF"),
    ],
)
def test_an_amount_is_read_with_its_currencys_own_exponent(currency: str, exponent: int, shown: str) -> None:
    """JPY is not multiplied by 100, and KWD not by 10 (Paymenter #1258, woocommerce-gateway-stripe #2720)."""
    assert CURRENCY_EXPONENTS[currency] == exponent
    assert str(Money(5_000, currency)) == shown


@pytest.mark.parametrize("withdrawn", ["DEM", "HRK", "ITL", "VEF", "ZWL"])
def test_a_withdrawn_currency_can_still_be_refunded(withdrawn: str) -> None:
    """A refund can outlive its currency."""
    assert Money(1, withdrawn).currency == withdrawn


@pytest.mark.parametrize("amount", NO_INTEGERS, ids=repr)
def test_only_an_integer_is_an_amount(amount: Any) -> None:
    """No bool, float, Decimal or text becomes money or a movement of it."""
    with pytest.raises(MoneyError):
        Money(amount, "USD")
    with pytest.raises(FactError):
        Movement("acct", MovementKind.CAPTURE, "mov", amount, "USD", MovementStatus.SUCCEEDED)


@given(currency=st.sampled_from(sorted(CURRENCY_EXPONENTS)))
def test_an_amount_is_within_its_currencys_bound(currency: str) -> None:
    """From 0 to ten billion major units less one minor unit; one step outside is refused."""
    most = amount_minor_max(currency)
    assert most == 10 ** (10 + CURRENCY_EXPONENTS[currency]) - 1
    assert type(most) is int
    assert most < 2**63
    assert Money(0, currency).amount_minor == 0
    assert Money(most, currency).amount_minor == most
    for outside in (-1, most + 1):
        with pytest.raises(MoneyError):
            Money(outside, currency)


@given(
    amount=st.integers(0, 10**10 - 1),
    currency=st.sampled_from(sorted(CURRENCY_EXPONENTS)),
)
def test_what_people_read_is_the_exact_amount(amount: int, currency: str) -> None:
    """The text of an amount, read back as a decimal, is the amount: nothing is rounded."""
    shown, _, code = str(Money(amount, currency)).partition(" ")
    assert code == currency
    assert Decimal(shown).scaleb(CURRENCY_EXPONENTS[currency]) == amount


@pytest.mark.parametrize("currency", ["", "usd", "US", "USDX", "XXX", "XAU", "BTC", " USD", "USD\n"])
def test_an_unknown_currency_is_no_money(currency: str) -> None:
    """Codes that ISO 4217 does not have, gold and testing codes included, are refused."""
    with pytest.raises(MoneyError):
        Money(1, currency)


def test_a_refusal_repeats_no_more_than_a_codes_worth() -> None:
    """A megabyte in the currency field does not come back in the error."""
    with pytest.raises(MoneyError) as refused:
        Money(1, "X" * 1_000_000)
    assert len(str(refused.value)) < 100
