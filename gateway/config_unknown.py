"""Names that are no setting: an error, unless a release that is older than its settings is told to pass over them.

Strict is the default, because a misspelt setting that changes nothing is worse than a process that does not start. But
a release that is rolled back meets the settings of the newer one: with OBOL_SETTINGS_UNKNOWN=warn it starts without
them, and names each at every start.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError
from pydantic_settings import EnvSettingsSource

UNKNOWN_ENV = "OBOL_SETTINGS_UNKNOWN"
REFUSE, WARN = "refuse", "warn"
_EXTRA = "extra_forbidden"
_NO_SUCH = "no_such_setting"

Location = tuple[int | str, ...]


def passes_over() -> bool:
    """Whether unknown names are passed over. Raises ValueError for a word that is none."""
    word = os.environ.get(UNKNOWN_ENV, REFUSE)
    if word not in (REFUSE, WARN):
        raise ValueError(f"{UNKNOWN_ENV} (from the environment): must be {REFUSE} or {WARN}, not {word!r}")
    return word == WARN


def unknown_in(error: ValidationError) -> Sequence[Location]:
    """The places of names that are no setting."""
    found: list[Location] = []
    for each in error.errors(include_input=False):
        if each["type"] == _EXTRA:
            found.append(each["loc"])
        elif each["type"] == _NO_SUCH:
            found += [(*each["loc"], name) for name in each["ctx"]["names"].split(", ")]
    return found


def no_such_setting(names: Sequence[str]) -> PydanticCustomError:
    """The error for names that a section does not have."""
    return PydanticCustomError(_NO_SUCH, "there is no setting {names}", {"names": ", ".join(names)})


def without(given: Any, unknown: Collection[Location]) -> Any:
    """`given` without what lies at these places."""
    if isinstance(given, Mapping):
        kept = {name: each for name, each in given.items() if (name,) not in unknown}
        return {name: without(each, _below(name, unknown)) for name, each in kept.items()}
    if isinstance(given, list | tuple):
        return [without(each, _below(number, unknown)) for number, each in enumerate(given)]
    return given


class EnvironmentWithout(EnvSettingsSource):
    """The environment, without what lies at some places."""

    unknown: Collection[Location] = ()

    def __call__(self) -> dict[str, Any]:
        found: dict[str, Any] = without(super().__call__(), self.unknown)
        return found


def _below(name: int | str, unknown: Collection[Location]) -> list[Location]:
    return [place[1:] for place in unknown if place[:1] == (name,)]
