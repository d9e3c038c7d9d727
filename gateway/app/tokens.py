"""Opaque tokens: cursors of the observation log and page tokens, bound to their tenant and to their question.

They are no secrets and guard nothing: the digest tells a token that was issued for this tenant and filter from one that
was not, so that a mistake is an error and not a silent jump.
"""

import base64
import binascii
import hashlib
import re

from gateway.domain.eras import Era, Place
from gateway.domain.errors import InvalidRequest, Reason

DIGEST_BYTES = 8
TOKEN_CHARACTERS_MAX = 512
FIRST = Era()
"""The time before any restore."""

_SEPARATOR = "."
_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)


def cursor_of(tenant_id: str, sequence: int, era: Era = FIRST) -> str:
    """The cursor after which all with a greater sequence follows; before any restore it holds the bare number."""
    numbers = (sequence,) if era.generation == 0 else (sequence, *_parts(era))
    return _seal("cursor", tenant_id, _SEPARATOR.join(map(str, numbers)))


def place_of(tenant_id: str, cursor: str) -> Place:
    """The place that `cursor` names, the beginning for an empty one.

    Raises InvalidRequest(CURSOR_INVALID) for one never issued.
    """
    if not cursor:
        return Place(0)
    value = _open("cursor", tenant_id, cursor)
    numbers = [] if value is None else value.split(_SEPARATOR)
    if len(numbers) not in (1, 1 + len(_parts(FIRST))) or not all(_NUMBER.fullmatch(each) for each in numbers):
        raise no_such_cursor()
    sequence, *era = map(int, numbers)
    return Place(sequence, Era(*era))


def no_such_cursor() -> InvalidRequest:
    """The error for a cursor that was never issued."""
    return InvalidRequest(
        Reason.CURSOR_INVALID,
        "this cursor was never issued to this tenant; pass one as it came, or none to begin at the beginning",
        field="cursor",
    )


def page_token_of(question: str, position: str) -> str:
    """The token of the page that follows `position` in the answer to `question`."""
    return _seal("page", question, position)


def position_of(question: str, page_token: str) -> str:
    """The position in `page_token`, empty for none. Raises InvalidRequest(PAGE_TOKEN_INVALID) otherwise."""
    if not page_token:
        return ""
    position = _open("page", question, page_token)
    if position is None:
        raise InvalidRequest(
            Reason.PAGE_TOKEN_INVALID,
            "this page_token belongs to another filter, tenant or list; begin again without it",
            field="page_token",
        )
    return position


def _seal(kind: str, scope: str, value: str) -> str:
    return base64.urlsafe_b64encode(_digest(kind, scope, value) + value.encode()).decode().rstrip("=")


def _open(kind: str, scope: str, token: str) -> str | None:
    if len(token) > TOKEN_CHARACTERS_MAX or not token.isascii():
        return None
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        value = raw[DIGEST_BYTES:].decode()
    except (binascii.Error, ValueError):
        return None
    # Sealed again rather than compared by digest alone: base64 decodes one value from many spellings.
    return value if _seal(kind, scope, value) == token else None


def _digest(kind: str, scope: str, value: str) -> bytes:
    return hashlib.sha256("\x00".join((kind, scope, value)).encode()).digest()[:DIGEST_BYTES]


def _parts(era: Era) -> tuple[int, int, int]:
    return era.generation, era.raised_time_us, era.shared_through
