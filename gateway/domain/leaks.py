"""What must never be at rest: card numbers, credentials and client secrets, as they look in any text.

`leaks` names what a text holds and never repeats it. It is right about keys and client secrets, which say what they
are; a number with a card's length, prefix and check digit is a card number until somebody has looked: one in a few
hundred of a caller's order numbers may look like one, too.
"""

import re
from collections.abc import Iterator

_SECRETS = (
    ("a secret key", re.compile(r"\b(?:[sr]k_(?:live|test)_|whsec_|sandbox-(?:key|signing)-)[A-Za-z0-9]{4,}")),
    ("an access token", re.compile(r"\bA21AA[\w-]{20,}|\b(?i:bearer)\s+[A-Za-z0-9._~+/-]{16,}")),
    ("a private key", re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----")),
    (
        "a client secret",
        re.compile(
            r'\b(?:pi|seti|src|cs)_\w{4,}_secret_\w{4,}|\bssec_\w{4,}|"client_secret"\s*:\s*"(?!sealed:)[^"]', re.A
        ),
    ),
)
_NUMBER = re.compile(r"(?<![\w.+-])\d(?:[ -]?\d){12,18}(?![\w.-])", re.A)
# The prefixes and lengths that schemes issue; every other run of digits is no card.
_CARD = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"
    r"|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"
    r"|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}"
    r"|6(?:011|5\d\d|4[4-9]\d)\d{12}|62\d{14,17}",
    re.A,
)
_WORDS = ("secret", "sk_", "rk_", "whsec", "sandbox-", "A21AA", "PRIVATE", "ssec_", "earer", "EARER")
"""One of them is in every text that _SECRETS finds something in. Asked for one by one: that is ten times as quick."""

_LONG_NUMBER = re.compile(r"[0-9][0-9 -]{11,}[0-9]")
"""Every text in which _NUMBER finds something has one."""


def is_suspect(text: str) -> bool:
    """Whether it is worth looking closer; several texts may be asked of at once, parted by NUL."""
    return _has_word(text) or _LONG_NUMBER.search(text) is not None


def leaks(text: str) -> Iterator[str]:
    """What `text` holds that must not be there, each kind once."""
    if _has_word(text):
        for kind, pattern in _SECRETS:
            if pattern.search(text):
                yield kind
    if _LONG_NUMBER.search(text) is None:
        return
    if any(_is_card(re.sub(r"[ -]", "", number.group())) for number in _NUMBER.finditer(text)):
        yield "a card number"


def _has_word(text: str) -> bool:
    return any(word in text for word in _WORDS)


def _is_card(digits: str) -> bool:
    return _CARD.fullmatch(digits) is not None and _luhn(digits)


def _luhn(digits: str) -> bool:
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (doubled + sum(int(digit) for digit in digits[-1::-2])) % 10 == 0
