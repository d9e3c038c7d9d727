"""Redaction: secrets and card data are nowhere in what is shown, and what explains a payment still is."""

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.app.redacting import (
    BODY_CHARACTERS_MAX,
    CARD_NUMBER,
    REDACTED,
    redact_body,
    redact_headers,
    redact_path,
    redact_text,
)

SECRET = "planted" + "Zq7"


@pytest.mark.parametrize(
    "name",
    [
        *("client_secret", "clientSecret", "api_key", "apiKey", "access_token", "Authorization", "password", "cvc"),
        *("cvv", "securityCode", "number", "card", "card_number", "pan", "iban", "account_number", "webhook-secret"),
        *("exp_month", "id_token", "assertion", "private_key", "x-signature", "set_cookie", "session_id", "cryptogram"),
    ],
)
def test_a_secret_by_its_name_is_hidden_wherever_it_stands(name: str) -> None:
    """At the top, nested, in a list, as an object, and in a form."""
    body = {"amount": 5, name: SECRET, "a": {"b": [{name: {"deep": SECRET}}]}}
    shown = redact_body(json.dumps(body))
    assert SECRET not in shown
    assert json.loads(shown)["amount"] == 5
    form = redact_body(f"amount=5&{name}={SECRET}&source[{name}]={SECRET}&source[{name}][x]={SECRET}")
    assert SECRET not in form
    assert "amount=5" in form


@pytest.mark.parametrize(
    "text",
    [
        f"Bearer {SECRET}",
        f"basic {SECRET}==",
        f"pi_3_secret_{SECRET}",
        f"https://user:{SECRET}@host/path",
        f"https://host/return?token={SECRET}&a=1",
        f"https://host/return#{SECRET}",
        f"eyJ{SECRET}.{SECRET}.{SECRET}",
    ],
)
def test_a_secret_by_its_look_is_hidden_under_any_name(text: str) -> None:
    """In free text, and as the value of a field that nobody suspects."""
    assert SECRET not in redact_text(f"seen: {text} .")
    assert SECRET not in redact_body(json.dumps({"description": text, "metadata": {"note": text}}))


@given(
    digits=st.text(string.digits, min_size=12, max_size=18),
    separator=st.sampled_from(["", " ", "-"]),
    before=st.sampled_from(["", "card ", "(", '"']),
)
def test_any_card_number_is_hidden_however_it_is_grouped(digits: str, separator: str, before: str) -> None:
    """Every number that has a card's check digit, in text, as a JSON string and as a JSON number."""
    number = with_check_digit(digits)
    grouped = separator.join(number[i : i + 4] for i in range(0, len(number), 4))
    assert redact_text(f"{before}{grouped} end") == f"{before}{CARD_NUMBER} end"
    assert number not in redact_body(json.dumps({"note": number}))
    if not number.startswith("0"):
        assert number not in redact_body(json.dumps({"note": int(number)}))


@pytest.mark.parametrize(
    "text",
    [
        "amount 1000 EUR",
        "pay_01a212f8934875ebafcbc53d22cf8553",
        "sp_9 refunded 400",
        "2026-11-25T13:50:30Z",
        "999999999999",
    ],
)
def test_what_explains_a_payment_stays(text: str) -> None:
    """Ids, amounts and times are no secrets."""
    assert redact_text(text) == text


def test_headers_are_shown_by_an_allow_list() -> None:
    """A header that nobody has thought of is there by name alone."""
    shown = redact_headers({"Content-Type": "application/json", "X-New-Thing": SECRET, "Authorization": SECRET})
    assert shown == f"Authorization: {REDACTED}; Content-Type: application/json; X-New-Thing: {REDACTED}"


def test_a_query_is_shown_by_its_names() -> None:
    """The path stays, the values go."""
    assert redact_path(f"/v1/payments?reference={SECRET}&limit=2") == (
        f"/v1/payments?reference={REDACTED}&limit={REDACTED}"
    )


@pytest.mark.parametrize("body", [f"<xml>{SECRET}</xml>", f"{SECRET}", "[" * 100_000, f'{{"a": "{SECRET}'])
def test_a_body_that_cannot_be_read_is_not_shown(body: str) -> None:
    """Neither JSON nor a form: its size alone."""
    assert SECRET not in redact_body(body)
    assert "not shown" in redact_body(body)


def test_a_body_is_bounded_in_size_and_depth() -> None:
    """However large or deep, what is shown stays small."""
    assert len(redact_body(json.dumps({"a": "x" * 100_000}))) < BODY_CHARACTERS_MAX + 100
    deep = json.loads('{"a":' * 40 + '"deep"' + "}" * 40)
    assert "deep" not in redact_body(json.dumps(deep))


def with_check_digit(digits: str) -> str:
    """`digits` and the digit that makes them a card number."""
    total = 0
    for place, each in enumerate(reversed(digits)):
        value = int(each) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return digits + str(-total % 10)
