"""What must never be at rest is seen wherever it stands, and what only looks like it a little is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.leaks import leaks

CARD = "4242424242424242"

HELD = {
    "a card number": [
        CARD,
        "4242 4242 4242 4242",
        "pan=5555-5555-5555-4444;",
        '{"n":"378282246310005"}',
        "6011111111111117",
    ],
    "a secret key": ["key sk_" + "live_abcdef0123", "whsec" + "_abcdefgh", "sandbox-key-main", "sandbox-signing-main"],
    "an access token": ["Authorization: Bearer abcdefghijklmnop1234", "A21AA" + "x" * 30],
    "a private key": ["-----BEGIN EC PRIVATE " + "KEY-----"],
    "a client secret": ["pi_123456_secret_abcdef", '{"client_secret": "x1y2"}', "ssec_0123456789"],
}
FREE = [
    "",
    "4242424242424243",  # no check digit
    "1763000000000000",  # microseconds
    "order-4242424242424242",
    "4242424242424242.5",
    "pay_0193a8f04242424242424242",
    "9999999999999995",  # a check digit, and nobody's prefix
    '{"client_secret": ""}',
    '{"client_secret":"sealed:1:k:abc"}',
    "a secret that nobody tells",
    "obol-1f3a",
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in HELD.items() for text in texts])
def test_what_must_not_be_there_is_seen(kind: str, text: str) -> None:
    """Alone, and in the middle of other text."""
    assert list(leaks(text)) == [kind]
    assert list(leaks(f"before {text} after")) == [kind]


@pytest.mark.parametrize("text", FREE)
def test_what_is_none_is_not_held_for_it(text: str) -> None:
    """Times, ids, amounts and words."""
    assert list(leaks(text)) == []


@given(before=st.text(max_size=20), after=st.text(max_size=20))
def test_any_text_can_be_looked_at(before: str, after: str) -> None:
    """Never raises, and sees a card number between spaces in whatever surrounds it."""
    list(leaks(before + after))
    assert "a card number" in list(leaks(f"{before} | {CARD} | {after}"))
