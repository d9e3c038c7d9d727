"""PayPal's times: Internet date and time (RFC 3339) to unix microseconds and back."""

import re
from datetime import UTC, datetime

from providers.fields import Fields, UnreadableAnswer

_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})\Z"
)


def time_us(fields: Fields, name: str) -> int | None:
    """A time; None where the field is missing. Raises UnreadableAnswer for what is none."""
    told = fields.optional_text(name)
    if not told:
        return None
    try:
        return parsed_us(told)
    except ValueError:
        raise UnreadableAnswer(f"{fields.where}.{name}: not a time") from None


def parsed_us(told: str) -> int:
    """A time in unix microseconds. Raises ValueError."""
    if not _TIME.match(told):
        raise ValueError("not a time")
    # A fraction of any length, which older Pythons refuse.
    whole, _, rest = told.partition(".")
    fraction = re.match(r"[0-9]*", rest)[0] if rest else ""  # type: ignore[index]  # an empty match is a match
    moment = datetime.fromisoformat((whole + rest[len(fraction) :]).upper())
    return int(moment.timestamp()) * 1_000_000 + int(fraction[:6].ljust(6, "0") or 0)


def spelled(time_us: int) -> str:
    """A time as PayPal reads it, in UTC and to the second."""
    return datetime.fromtimestamp(time_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
