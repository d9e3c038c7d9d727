"""A request is within its bounds or is refused before anything begins, and its hash is its wish."""

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.app.requests import (
    EXPIRE_AFTER_S_MAX,
    EXPIRE_AFTER_S_MIN,
    CancelPayment,
    CapturePayment,
    CommandRequest,
    ConfirmPayment,
    CreatePayment,
    RefundPayment,
    check_id,
    request_hash,
)
from gateway.domain.errors import InvalidRequest, Reason
from gateway.domain.money import amount_minor_max
from gateway.domain.payments import CaptureMethod, ConfirmationMethod

LEAST: list[CommandRequest] = [
    CreatePayment("key", 100, "USD"),
    ConfirmPayment("key", "pay_1"),
    CapturePayment("key", "pay_1", 100, "USD"),
    CancelPayment("key", "pay_1"),
    RefundPayment("key", "pay_1", 100, "USD"),
]
CREATE = CreatePayment("key", 100, "USD")


def name_of(request: CommandRequest) -> str:
    """The RPC."""
    return type(request).__name__


def changed(request: CommandRequest, **changes: Any) -> Any:
    """The request with other values, validated anew."""
    return replace(request, **changes)


def refusal(request: CommandRequest, **changes: Any) -> InvalidRequest:
    """The refusal that `changes` to `request` meet."""
    with pytest.raises(InvalidRequest) as refused:
        replace(request, **changes)
    assert not refused.value.safe_to_retry
    return refused.value


@pytest.mark.parametrize("request_", LEAST, ids=name_of)
@pytest.mark.parametrize(
    "key", ["", " ", "a b", "tab\t", "line\n", "line\r", "nul\x00", "é", "\u200b", "k" * 256], ids=ascii
)
def test_an_idempotency_key_is_visible_ascii_within_its_bound(request_: CommandRequest, key: str) -> None:
    """Missing, oversized or invisible, a key is refused for every command."""
    error = refusal(request_, idempotency_key=key)
    assert (error.reason, error.field) == (Reason.IDEMPOTENCY_KEY_INVALID, "idempotency_key")


@pytest.mark.parametrize("request_", LEAST, ids=name_of)
def test_the_longest_key_is_taken(request_: CommandRequest) -> None:
    """255 characters of any visible ASCII."""
    visible = "".join(chr(code) for code in range(0x21, 0x7F))
    longest = (visible * 3)[:255]
    assert replace(request_, idempotency_key=longest).idempotency_key == longest


AMOUNTED = [request for request in LEAST if hasattr(request, "amount_minor")]


@pytest.mark.parametrize("request_", AMOUNTED, ids=name_of)
@pytest.mark.parametrize(
    ("amount", "currency"),
    [
        (0, "USD"),
        (-1, "USD"),
        (10**12, "USD"),
        (10**10, "JPY"),
        (10**13, "KWD"),
        (100, ""),
        (100, "usd"),
        (100, "XXX"),
        (True, "USD"),
        (1.0, "USD"),
    ],
)
def test_an_amount_is_more_than_zero_and_within_its_currencys_bound(
    request_: CommandRequest, amount: Any, currency: str
) -> None:
    """Zero, negative, over the bound, of no currency or no integer: refused, naming the amount."""
    error = refusal(request_, amount_minor=amount, currency=currency)
    assert error.reason is Reason.FIELD_INVALID
    assert error.field.startswith("amount")


@pytest.mark.parametrize("request_", AMOUNTED, ids=name_of)
@pytest.mark.parametrize("currency", ["JPY", "USD", "KWD", "CLF"])
def test_the_bounds_of_an_amount_are_taken(request_: CommandRequest, currency: str) -> None:
    """One minor unit, and the most of a currency."""
    for amount in (1, amount_minor_max(currency)):
        assert changed(request_, amount_minor=amount, currency=currency).amount_minor == amount


def test_all_that_is_left_needs_no_amount() -> None:
    """A capture or refund without an amount takes all, and only they may leave it out."""
    assert CapturePayment("key", "pay_1").amount_minor is None
    assert RefundPayment("key", "pay_1").amount_minor is None


@pytest.mark.parametrize("request_", LEAST[1:], ids=name_of)
@pytest.mark.parametrize("payment_id", ["", "p" * 256, "pay_\n", "pay_\x7f"], ids=ascii)
def test_a_command_names_its_payment(request_: CommandRequest, payment_id: str) -> None:
    """A missing, oversized or unprintable id is refused."""
    assert refusal(request_, payment_id=payment_id).field == "payment_id"


TEXTS = [
    (CREATE, "payment_method", 255, "payment_method"),
    (CREATE, "customer_reference", 255, "customer_reference"),
    (CREATE, "order_reference", 255, "order_reference"),
    (CREATE, "connected_account", 255, "connected_account"),
    (CREATE, "provider", 255, "provider_preference.provider"),
    (CREATE, "account_id", 255, "provider_preference.account_id"),
    (CREATE, "description", 500, "description"),
    (CREATE, "statement_descriptor", 22, "statement_descriptor"),
    (LEAST[1], "payment_method", 255, "payment_method"),
    (LEAST[3], "reason", 255, "reason"),
    (LEAST[4], "reason", 255, "reason"),
]


@pytest.mark.parametrize(("request_", "name", "most", "told"), TEXTS, ids=lambda value: str(value)[:20])
def test_a_text_is_within_its_bound(request_: CommandRequest, name: str, most: int, told: str) -> None:
    """The longest is taken, one character more is refused under the field's name in the contract."""
    assert getattr(changed(request_, **{name: "é" * most}), name) == "é" * most
    error = refusal(request_, **{name: "x" * (most + 1)})
    assert (error.reason, error.field) == (Reason.FIELD_INVALID, told)
    for control in "\x00\x1b\n\x7f":
        assert refusal(request_, **{name: f"a{control}b"}).field == told


def test_every_text_of_a_create_has_a_bound() -> None:
    """A field that is added without a bound is found here."""
    bounded = {name for request, name, _, _ in TEXTS if request is CREATE}
    elsewhere = {"idempotency_key", "currency", "return_url", "capture_method", "confirmation_method", "payer_country"}
    texts = {item.name for item in fields(CREATE) if isinstance(getattr(CREATE, item.name), str)}
    assert texts == bounded | elsewhere


@pytest.mark.parametrize("request_", LEAST[:2], ids=name_of)
@pytest.mark.parametrize(
    "url",
    ["shop.example", "/return", "ftp://shop.example", "javascript:alert(1)", "https://", "https://[::1", "data:,x"],
)
def test_a_return_url_is_absolute_and_of_the_web(request_: CommandRequest, url: str) -> None:
    """Anything but an http or https address with a host is refused."""
    assert refusal(request_, return_url=url).field == "return_url"


@pytest.mark.parametrize("request_", LEAST[:2], ids=name_of)
def test_a_return_url_is_within_its_bound(request_: CommandRequest) -> None:
    """2,048 characters, and not one more."""
    base = "https://shop.example/"
    assert len(changed(request_, return_url=base + "x" * (2_048 - len(base))).return_url) == 2_048
    assert refusal(request_, return_url=base + "x" * (2_049 - len(base))).field == "return_url"


@pytest.mark.parametrize(
    "metadata",
    [
        {f"k{n}": "v" for n in range(21)},
        {"k" * 41: "v"},
        {"": "v"},
        {"a b": "v"},
        {"é": "v"},
        {"k\n": "v"},
        {"k": "v" * 501},
        {"k": "v\x00"},
        {"obol_payment": "pay_2"},
        {"OBOL_operation": "op_2"},
    ],
    ids=lambda value: str(value)[:24],
)
def test_metadata_is_within_its_bounds_and_not_ours(metadata: dict[str, str]) -> None:
    """Entries, keys and values have bounds, and the gateway's own references cannot be forged."""
    error = refusal(CREATE, metadata=metadata)
    assert error.reason is Reason.FIELD_INVALID
    assert error.field.startswith("metadata")


def test_the_most_metadata_is_taken() -> None:
    """20 entries of 40 and 500 characters."""
    most = {f"{n:02}".ljust(40, "k"): "v" * 500 for n in range(20)}
    assert replace(CREATE, metadata=most).metadata == most


def test_a_unique_order_has_a_reference() -> None:
    """Uniqueness of nothing is refused."""
    assert refusal(CREATE, order_reference_unique=True).field == "order_reference"


@pytest.mark.parametrize("seconds", [0, -1, EXPIRE_AFTER_S_MIN - 1, EXPIRE_AFTER_S_MAX + 1])
def test_an_expiry_is_within_its_bounds(seconds: int) -> None:
    """From a minute to 30 days, or never."""
    assert refusal(CREATE, expire_after_s=seconds).field == "expire_after"
    for taken in (None, EXPIRE_AFTER_S_MIN, EXPIRE_AFTER_S_MAX):
        assert replace(CREATE, expire_after_s=taken).expire_after_s == taken


def with_luhn(digits: str) -> str:
    """The digits and their check digit."""
    for check in "0123456789":
        doubled = [int(d) * (2 if index % 2 else 1) for index, d in enumerate(reversed(digits + check))]
        if sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0:
            return digits + check
    raise AssertionError("one of ten digits checks")


@given(
    body=st.text("0123456789", min_size=12, max_size=18),
    separator=st.sampled_from(["", " ", "-", ".", "  ", "\u00a0"]),
    padding=st.sampled_from(["", " ", "-"]),
    request_=st.sampled_from(LEAST[:2]),
)
def test_a_card_number_never_enters(body: str, separator: str, padding: str, request_: CommandRequest) -> None:
    """A number that passes Luhn is refused however it is spaced, and the refusal does not repeat it."""
    number = with_luhn(body)
    written = padding + separator.join(number[at : at + 4] for at in range(0, len(number), 4)) + padding
    error = refusal(request_, payment_method=written)
    assert error.field == "payment_method"
    for shown in (str(error), error.message, repr(error.details)):
        assert number not in shown
        assert written not in shown
        assert number[:6] not in shown


@pytest.mark.parametrize("reference", ["pm_4242424242424242", "4242424242424241", "123456789012", "pm_card_visa"])
def test_a_providers_reference_is_no_card_number(reference: str) -> None:
    """What fails Luhn, is too short or has letters is a reference."""
    assert replace(CREATE, payment_method=reference).payment_method == reference


def test_a_refusal_repeats_no_endless_input() -> None:
    """Whatever is sent, the error stays small enough for a trailer."""
    endless = "x" * 100_000
    for changes in (
        {"currency": endless},
        {"idempotency_key": endless},
        {"description": endless},
        {"return_url": endless},
        {"metadata": {endless: "v"}},
        {"metadata": {"k": endless}},
    ):
        assert len(str(refusal(CREATE, **changes))) < 300


@pytest.mark.parametrize("payment_id", ["", "p" * 256, "a\tb"], ids=ascii)
def test_an_id_that_was_never_issued_is_refused(payment_id: str) -> None:
    """Also for what is no command."""
    with pytest.raises(InvalidRequest):
        check_id("payment_id", payment_id)


# The hash

LABELS = st.text("abcdef", max_size=2)
METADATA = st.dictionaries(st.text("abc", min_size=1, max_size=2), LABELS, max_size=3)


@st.composite
def wishes(draw: st.DrawFn) -> CommandRequest:
    """A request out of so few values that two are often equal."""
    key = draw(st.sampled_from(["key_1", "key_2"]))
    payment_id = draw(st.sampled_from(["pay_1", "pay_2"]))
    amount = draw(st.sampled_from([None, 1, 11]))
    currency = "" if amount is None else draw(st.sampled_from(["USD", "EUR"]))
    text = draw(LABELS)
    match draw(st.sampled_from([CreatePayment, ConfirmPayment, CapturePayment, CancelPayment, RefundPayment])):
        case kind if kind is CreatePayment:
            return CreatePayment(
                key,
                amount or 2,
                currency or "USD",
                capture_method=draw(st.sampled_from(CaptureMethod)),
                confirmation_method=draw(st.sampled_from(ConfirmationMethod)),
                description=text,
                customer_reference=draw(LABELS),
                metadata=draw(METADATA),
                expire_after_s=draw(st.sampled_from([None, 60])),
            )
        case kind if kind is ConfirmPayment:
            return ConfirmPayment(key, payment_id, text, "")
        case kind if kind is CapturePayment:
            return CapturePayment(key, payment_id, amount, currency, final=draw(st.booleans()))
        case kind if kind is CancelPayment:
            return CancelPayment(key, payment_id, text)
        case _:
            return RefundPayment(key, payment_id, amount, currency, text)


def without_key(request: CommandRequest) -> CommandRequest:
    """The wish of a request."""
    return replace(request, idempotency_key="key")


@given(one=wishes(), other=wishes())
def test_hashes_are_equal_for_equal_wishes_and_no_others(one: CommandRequest, other: CommandRequest) -> None:
    """The key is no part of the wish; everything else is."""
    same = without_key(one) == without_key(other)
    assert (request_hash(one) == request_hash(other)) == same
    assert request_hash(one) == request_hash(without_key(one))


@pytest.mark.parametrize("item", [item.name for item in fields(CreatePayment)])
def test_every_field_of_a_create_but_its_key_is_in_the_hash(item: str) -> None:
    """A field that the hash forgets would let a changed request pass as a repetition."""
    full = CreatePayment("key", 100, "USD", order_reference="o")
    other: dict[str, Any] = {
        "idempotency_key": "another",
        "amount_minor": 101,
        "currency": "EUR",
        "capture_method": CaptureMethod.MANUAL,
        "confirmation_method": ConfirmationMethod.MANUAL,
        "return_url": "https://shop.example/",
        "metadata": {"k": "v"},
        "order_reference_unique": True,
        "expire_after_s": 60,
        "payer_country": "DE",
    }
    altered = changed(full, **{item: other.get(item, "other")})
    assert (request_hash(altered) != request_hash(full)) == (item != "idempotency_key")


@given(metadata=METADATA, data=st.data())
def test_the_order_of_metadata_is_no_part_of_the_wish(metadata: dict[str, str], data: st.DataObject) -> None:
    """Maps have no order on the wire."""
    assume(len(metadata) > 1)
    shuffled = dict(data.draw(st.permutations(list(metadata.items()))))
    assert request_hash(replace(CREATE, metadata=metadata)) == request_hash(replace(CREATE, metadata=shuffled))


def test_two_rpcs_with_the_same_fields_are_two_wishes() -> None:
    """A cancellation is not a confirmation."""
    assert len({request_hash(without_key(request)) for request in LEAST}) == len(LEAST)


@pytest.mark.parametrize("country", ["de", "DEU", "D", "D1", "ÄÖ"])
def test_a_country_is_two_capital_letters(country: str) -> None:
    """A rule compares it letter by letter: what could never match is refused."""
    error = refusal(CREATE, payer_country=country)
    assert (error.reason, error.field) == (Reason.FIELD_INVALID, "payer_country")


def test_a_field_that_came_later_leaves_older_hashes_alone() -> None:
    """A key that the release before this one claimed still fits its request."""
    before = "d6a0c2fce6eda7467be35726"
    assert request_hash(CreatePayment("key", 100, "USD")).hex()[:24] == before
