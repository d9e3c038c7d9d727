"""Reading a provider's JSON defensively: each field by type and bound, and one error for what is not as it must be."""

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.domain.money import Money

TEXT_CHARACTERS_MAX = 1000
ENTRIES_MAX = 1000


class UnreadableAnswer(ValueError):
    """A field is missing or has the wrong type or size. The message names the field, never its value."""


class Fields:
    """One JSON object of an answer; `where` is its path, for messages."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise UnreadableAnswer(f"{where}: not an object")
        self._value: Mapping[str, Any] = value
        self.where = where

    @property
    def raw(self) -> Mapping[str, Any]:
        """The object itself."""
        return self._value

    def text(self, name: str) -> str:
        """A text that is not empty."""
        value = self.optional_text(name)
        if not value:
            raise UnreadableAnswer(f"{self.where}.{name}: missing")
        return value

    def optional_text(self, name: str) -> str:
        """A text; empty where the field is missing or null."""
        value = self._value.get(name)
        if value is None:
            return ""
        if not isinstance(value, str) or len(value) > TEXT_CHARACTERS_MAX:
            raise UnreadableAnswer(f"{self.where}.{name}: not a text within bounds")
        return value

    def whole(self, name: str) -> int:
        """A whole number of 0 or more; a bool is none."""
        value = self._value.get(name)
        if type(value) is not int or value < 0:
            raise UnreadableAnswer(f"{self.where}.{name}: not a whole number")
        return value

    def flag(self, name: str) -> bool:
        """A boolean."""
        value = self._value.get(name)
        if not isinstance(value, bool):
            raise UnreadableAnswer(f"{self.where}.{name}: not a flag")
        return value

    def money(self, name: str, currency: str) -> int:
        """An amount in minor units that is money in `currency`."""
        try:
            return Money(self.whole(name), currency).amount_minor
        except ValueError as error:
            raise UnreadableAnswer(f"{self.where}.{name}: {type(error).__name__}") from None

    def time_us(self, name: str) -> int:
        """A time of whole unix seconds, as microseconds; within the years that databases hold."""
        seconds = self.whole(name)
        if seconds > 32_503_680_000:
            raise UnreadableAnswer(f"{self.where}.{name}: not a time")
        return seconds * 1_000_000

    def optional(self, name: str) -> "Fields | None":
        """An object, or None where the field is missing or null."""
        value = self._value.get(name)
        return None if value is None else Fields(value, f"{self.where}.{name}")

    def objects(self, name: str) -> Iterator["Fields"]:
        """A list of objects; the field must be there."""
        value = self._value.get(name)
        if not isinstance(value, list) or len(value) > ENTRIES_MAX:
            raise UnreadableAnswer(f"{self.where}.{name}: not a list within bounds")
        for place, entry in enumerate(value):
            yield Fields(entry, f"{self.where}.{name}[{place}]")

    def texts(self, name: str) -> Mapping[str, str]:
        """An object of texts, such as metadata; empty where it is missing or null."""
        own = self.optional(name)
        return {} if own is None else {key: own.optional_text(key) for key in own._value}


def bounded(text: str, characters_max: int) -> str:
    """A provider's own words, made safe to keep: no control characters, at most `characters_max`."""
    return "".join(character if character.isprintable() else " " for character in text[:characters_max])
