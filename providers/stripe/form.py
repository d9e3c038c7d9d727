"""Form encoding as Stripe reads it: nested values under `a[b][0]`, in the order in which they were given.

The official SDK encodes so; a test holds the two together. What is kept is the text, and it is sent as it stands.
"""

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import parse_qsl, urlencode

FIELDS_MAX = 500

Value = str | int | bool | None | Sequence["Value"] | Mapping[str, "Value"]
Values = Mapping[str, Value]


def encode(values: Values) -> str:
    """The values as form text. None is left out."""
    text = urlencode([pair for name, value in values.items() for pair in _pairs(name, value)])
    return text.replace("%5B", "[").replace("%5D", "]")


def decode(text: str) -> dict[str, str]:
    """Form text as flat names to texts, in its order. Raises ValueError."""
    return dict(parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=FIELDS_MAX))


def _pairs(name: str, value: Value) -> Iterator[tuple[str, str]]:
    match value:
        case None:
            return
        case bool():
            yield name, "true" if value else "false"
        case str() | int():
            yield name, str(value)
        case Mapping():
            for key, each in value.items():
                yield from _pairs(f"{name}[{key}]", each)
        case _:
            for place, each in enumerate(value):
                yield from _pairs(f"{name}[{place}]", each)
