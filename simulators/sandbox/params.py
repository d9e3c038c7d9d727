"""A request's body, read by type and bound, nothing unknown. Raises Refusal `invalid_request` with `param`."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from simulators.sandbox.refusals import invalid

AMOUNT_MAX = 999_999_999_999
TEXT_CHARS_MAX = 1_000
METADATA_ENTRIES_MAX = 50
METADATA_NAME_CHARS_MAX = 40
METADATA_VALUE_CHARS_MAX = 500
CURRENCY = re.compile(r"[A-Za-z]{3}")


def parsed(body: bytes, known: Collection[str]) -> Params:
    """The body's fields. An empty body has none."""
    try:
        fields = json.loads(body) if body else {}
    except (ValueError, RecursionError):
        raise invalid("body", "The body is not JSON.") from None
    if not isinstance(fields, dict):
        raise invalid("body", "The body is not a JSON object.")
    for name in fields:
        if name not in known:
            raise invalid(name[:64], "Unknown parameter.")
    return Params(fields)


class Params:
    """The fields of one request. A field that is null counts as not given."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields

    def text(self, name: str, chars_max: int = TEXT_CHARS_MAX) -> str | None:
        """A text of 1 to `chars_max` characters, or None."""
        value = self._fields.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not 0 < len(value) <= chars_max:
            raise invalid(name, f"A text of 1 to {chars_max} characters.")
        return value

    def choice(self, name: str, choices: Collection[str], default: str | None = None) -> str:
        """One of `choices`."""
        value = self._fields.get(name, default)
        if not isinstance(value, str) or value not in choices:
            raise invalid(name, f"One of {', '.join(choices)}.")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """A boolean."""
        value = self._fields.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise invalid(name, "true or false.")
        return value

    def amount(self, name: str) -> int | None:
        """A positive whole number of minor units, or None."""
        value = self._fields.get(name)
        if value is None:
            return None
        # bool is an int in Python, not in JSON.
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= AMOUNT_MAX:
            raise invalid(name, f"A whole number of minor units from 1 to {AMOUNT_MAX}.")
        return value

    def required_amount(self, name: str) -> int:
        """A positive whole number of minor units."""
        value = self.amount(name)
        if value is None:
            raise invalid(name, "Required.")
        return value

    def whole(self, name: str, default: int, most: int) -> int:
        """A whole number from 0 to `most`."""
        value = self._fields.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            raise invalid(name, f"A whole number from 0 to {most}.")
        return value

    def currency(self, name: str) -> str:
        """A currency code, in upper case."""
        value = self._fields.get(name)
        if not isinstance(value, str) or not CURRENCY.fullmatch(value):
            raise invalid(name, "An ISO 4217 code of three letters.")
        return value.upper()

    def metadata(self) -> dict[str, str]:
        """The caller's texts by name; empty when not given."""
        value = self._fields.get("metadata")
        if value is None:
            return {}
        if not isinstance(value, dict) or len(value) > METADATA_ENTRIES_MAX:
            raise invalid("metadata", f"An object of at most {METADATA_ENTRIES_MAX} texts.")
        for name, text in value.items():
            fits = isinstance(text, str) and len(text) <= METADATA_VALUE_CHARS_MAX
            if not fits or len(name) > METADATA_NAME_CHARS_MAX:
                raise invalid("metadata", f"{name[:METADATA_NAME_CHARS_MAX]}: a text within bounds.")
        return value
