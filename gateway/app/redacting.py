"""Redaction: a provider's exact request as it may be shown to a person.

Headers are shown by an allow-list. Of a body every name is shown, and its value unless the name is one that secrets and
card data go by; then every text is searched for what looks like a secret, whatever it is called. A body that is neither
JSON nor a form is not shown at all.
"""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

REDACTED = "[redacted]"
CARD_NUMBER = "[card number]"
BODY_CHARACTERS_MAX = 4_000
DEPTH_MAX = 20

HEADERS_SHOWN = frozenset(
    {
        *("accept", "content-type", "idempotency-key", "prefer", "stripe-account", "stripe-version", "user-agent"),
        *("paypal-request-id", "paypal-partner-attribution-id"),
    }
)

_SECRET_NAMES = re.compile(
    r"secret|token|passw|pwd|authori[sz]ation|api_?key|private|credential|signature|cookie|session|bearer|jwt|assertion"
    r"|cvc|cvv|csc|security_code|verification_value|card_?number|^number$|^pan$|^card$|^expiry$|^exp_|track_?data|^pin$"
    r"|cryptogram|eci$|iban|account_number|routing_number|sort_code|^ssn$|tax_id|birth"
)
"""A part of a name, in lower case with underscores; redacted with everything below it."""

_SECRET_TEXTS = (
    re.compile(r"\b(?:bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE),
    re.compile(r"\b(?:sk|rk|pk)_(?:live|test)_\w+|\bwhsec_[\w+/=]+"),
    re.compile(r"\b\w+_secret_\w+"),
    re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"),
    re.compile(r"-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|$)", re.DOTALL),
    re.compile(r"\bA21AA[\w-]{20,}"),
    re.compile(r"(?<=://)[^\s/@\"]+@"),
)
_QUERY = re.compile(r"(https?://[^\s\"?#]+)[?#][^\s\"]*")
_DIGITS = re.compile(r"(?<![\w])\d(?:[ .-]?\d){12,18}(?![\w])")


def redact_headers(headers: Mapping[str, str]) -> str:
    """The headers that may be shown, "name: value" each; of the rest only that they were there."""
    told = [
        f"{name}: {redact_text(value) if name.lower() in HEADERS_SHOWN else REDACTED}"
        for name, value in sorted(headers.items())
    ]
    return "; ".join(told)


def redact_body(body: str) -> str:
    """A JSON or form body without secrets and card data, at most BODY_CHARACTERS_MAX characters."""
    if not body:
        return ""
    try:
        shown = json.dumps(_redacted(json.loads(body)), sort_keys=True, ensure_ascii=False)
    except (ValueError, RecursionError):
        shown = _redacted_form(body)
    return shown if len(shown) <= BODY_CHARACTERS_MAX else f"{shown[:BODY_CHARACTERS_MAX]}… ({len(shown)} characters)"


def redact_path(path: str) -> str:
    """A request's path; of its query the names alone."""
    parts = urlsplit(path)
    names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    query = "&".join(f"{name}={REDACTED}" for name in names)
    return redact_text(parts.path) + (f"?{query}" if query else "")


def redact_text(text: str) -> str:
    """`text` without what looks like a secret or a card number."""
    for pattern in _SECRET_TEXTS:
        text = pattern.sub(REDACTED, text)
    text = _QUERY.sub(rf"\1?{REDACTED}", text)
    return _DIGITS.sub(lambda found: CARD_NUMBER if _is_card_number(found.group()) else found.group(), text)


def _redacted(value: Any, name: str = "", depth: int = 0) -> Any:
    if depth > DEPTH_MAX or _is_secret(name):
        return REDACTED
    match value:
        case dict():
            return {redact_text(str(key)): _redacted(each, str(key), depth + 1) for key, each in value.items()}
        case list():
            return [_redacted(each, name, depth + 1) for each in value]
        case str():
            return redact_text(value)
        case bool() | None:
            return value
        case _:
            told = redact_text(str(value))
            return value if told == str(value) else told


def _redacted_form(body: str) -> str:
    try:
        pairs = parse_qsl(body, keep_blank_values=True, strict_parsing=True, max_num_fields=1_000)
    except ValueError:
        return f"[{len(body)} characters, neither JSON nor a form: not shown]"
    told = []
    for name, value in pairs:
        # card[number], metadata[order]: any part of the path can be the telling one.
        parts = re.split(r"[\[\]]+", name)
        secret = any(_is_secret(part) for part in parts if part)
        told.append(f"{redact_text(name)}={REDACTED if secret else redact_text(value)}")
    return "&".join(told)


def _is_secret(name: str) -> bool:
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("-", "_")
    return bool(_SECRET_NAMES.search(snake))


def _is_card_number(text: str) -> bool:
    """By the check digit that every card number has (Luhn's)."""
    digits = [int(each) for each in text if each.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
