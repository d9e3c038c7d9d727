"""What imitations heard and said, a JSON line each, for whoever holds both sides to the providers' own documents.

Off, unless the environment names a file in SIMULATORS_HEARD: then every imitation that starts under it, in whatever
process, adds its lines to that file. No credential is written, only its scheme.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

VARIABLE = "SIMULATORS_HEARD"
HEARD_BYTES_MAX = 256 * 1024 * 1024
"""Past it one line says that it was cut off, `{"cut": true}`, and no more are written."""

UNANSWERED = 0
"""The status of an exchange of which only the request is told: a fault took the answer's place, or it is a replay."""


class Exchange(Protocol):
    """One exchange as it was meant, before a fault spoils it on the wire. The document is the provider's own."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def query(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def body(self) -> bytes: ...
    @property
    def status(self) -> int: ...
    @property
    def answer(self) -> str | bytes: ...


def as_told(provider: str) -> Callable[[Exchange], None] | None:
    """What writes down each exchange of `provider`'s imitation; None where the environment asks for nothing."""
    told = os.environ.get(VARIABLE, "")
    return partial(write_down, Path(told), provider) if told else None


def write_down(file: Path, provider: str, exchange: Exchange) -> None:
    """Add a line to the file, whole, whoever else writes to it. Raises OSError where the file cannot be written."""
    answer = exchange.answer
    line = {
        "provider": provider,
        "method": exchange.method,
        "path": exchange.path,
        "query": exchange.query,
        "headers": {name.lower(): _told(name, value) for name, value in exchange.headers.items()},
        "body": exchange.body.decode("utf-8", "backslashreplace"),
        "status": exchange.status,
        "answer": answer if isinstance(answer, str) else answer.decode("utf-8", "backslashreplace"),
    }
    with file.open("ab", buffering=0) as appending:
        size = appending.seek(0, os.SEEK_END)
        if size < HEARD_BYTES_MAX:
            appending.write(json.dumps(line).encode() + b"\n")
        elif not _is_cut(file, size):
            appending.write(b'{"cut": true}\n')


def _is_cut(file: Path, size: int) -> bool:
    with file.open("rb") as reading:
        reading.seek(size - 14)
        return reading.read() == b'{"cut": true}\n'


def _told(name: str, value: str) -> str:
    return value.partition(" ")[0] + " -" if name.lower() == "authorization" else value
