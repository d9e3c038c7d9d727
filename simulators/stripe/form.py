"""Form-encoded parameters: `a[b][0]=c` as nested values, read by type and bound, nothing unknown. Raises Refusal."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import parse_qsl

from simulators.stripe.refusals import invalid

FIELDS_MAX = 500
DEPTH_MAX = 5
AMOUNT_MAX = 99_999_999
TEXT_CHARS_MAX = 5_000
METADATA_ENTRIES_MAX = 50
METADATA_NAME_CHARS_MAX = 40
METADATA_VALUE_CHARS_MAX = 500
CURRENCY = re.compile(r"[a-z]{3}")
WHOLE = re.compile(r"[0-9]{1,12}")
_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")


def parsed(text: str, known: Collection[str]) -> Params:
    """The parameters of a body or a query. Raises Refusal `parameter_unknown`."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS_MAX, strict_parsing=bool(text))
    except ValueError:
        raise invalid(None, "Invalid request: the parameters cannot be parsed.", "body") from None
    root: dict[str, Any] = {}
    for name, value in pairs:
        read = _NAME.fullmatch(name)
        path = [] if read is None else [read[1], *re.findall(r"\[([^\[\]]*)\]", read[2])]
        if not path or len(path) > DEPTH_MAX:
            raise invalid(None, "Invalid request: a parameter's name cannot be parsed.", name[:64])
        if path[0] not in known:
            raise invalid("parameter_unknown", f"Received unknown parameter: {path[0][:64]}", path[0][:64])
        _place(root, path, value)
    return Params(root)


def _place(root: dict[str, Any], path: list[str], value: str) -> None:
    node = root
    for part in path[:-1]:
        found = node.setdefault(part, {})
        if not isinstance(found, dict):
            raise invalid(None, f"Invalid request: {path[0][:64]} is both a value and a hash.", path[0][:64])
        node = found
    # `expand[]=a&expand[]=b` has one name for two values.
    node[path[-1] or str(len(node))] = value


class Params:
    """The parameters of one request."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields

    def has(self, name: str) -> bool:
        """Whether it was given at all."""
        return name in self._fields

    def text(self, name: str, chars_max: int = TEXT_CHARS_MAX) -> str | None:
        """A text; None where it is missing or empty (which unsets a value)."""
        value = self._fields.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, str) or len(value) > chars_max:
            raise invalid("parameter_invalid_string_blank", f"Invalid string: {name}", name)
        return value

    def choice(self, name: str, choices: Collection[str], default: str) -> str:
        """One of `choices`."""
        value = self.text(name) or default
        if value not in choices:
            raise invalid(None, f"Invalid {name}: must be one of {', '.join(choices)}", name)
        return value

    def flag(self, name: str, default: bool) -> bool:
        """`true` or `false`."""
        value = self.text(name)
        if value is None:
            return default
        if value not in ("true", "false"):
            raise invalid(None, f"Invalid boolean: {value[:16]}", name)
        return value == "true"

    def whole(self, name: str) -> int | None:
        """A whole number of 0 or more."""
        value = self.text(name)
        if value is None:
            return None
        if not WHOLE.fullmatch(value):
            raise invalid("parameter_invalid_integer", f"Invalid integer: {value[:16]}", name)
        return int(value)

    def amount(self, name: str) -> int | None:
        """A positive amount in Stripe's units."""
        value = self.whole(name)
        if value is not None and not 0 < value <= AMOUNT_MAX:
            code = "parameter_invalid_integer" if value == 0 else "amount_too_large"
            raise invalid(code, f"Invalid {name}: must be from 1 to {AMOUNT_MAX}", name)
        return value

    def nested(self, name: str) -> Params:
        """A hash; an empty one where it is missing."""
        value = self._fields.get(name, {})
        if not isinstance(value, dict):
            raise invalid(None, f"Invalid object: {name}", name)
        return Params(value)

    def listed(self, name: str) -> list[str]:
        """A list of texts."""
        return [value for value in self.nested(name)._fields.values() if isinstance(value, str)]

    def metadata(self) -> dict[str, str]:
        """Texts by name; an empty text unsets its entry."""
        value = self.nested("metadata")._fields
        if len(value) > METADATA_ENTRIES_MAX:
            raise invalid(None, f"You can have up to {METADATA_ENTRIES_MAX} metadata keys.", "metadata")
        for name, text in value.items():
            fits = isinstance(text, str) and len(text) <= METADATA_VALUE_CHARS_MAX
            if not fits or len(name) > METADATA_NAME_CHARS_MAX:
                raise invalid(None, f"Metadata {name[:METADATA_NAME_CHARS_MAX]} is too long.", "metadata")
        return dict(value)
