"""Who is asking, and for how long: the call's metadata as a `Caller`, and the deadline that is left."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from gateway.domain.commands import Caller
from gateway.domain.errors import InvalidRequest, Reason

TENANT = "obol-tenant"
ORGANIZATION = "obol-organization"
ACTOR = "obol-actor"
CORRELATION_ID = "obol-correlation-id"
REPLAYED = "obol-replayed"

CONTEXT_CHARACTERS_MAX = 128

_VISIBLE = re.compile(r"[\x21-\x7e]+")


class Context(Enum):
    """Which metadata a service must be given. A correlation id may always be left out."""

    TENANT = (TENANT, ORGANIZATION, ACTOR)
    GATEWAY = (ACTOR,)


@dataclass(frozen=True, slots=True)
class Call:
    """One call as a servicer sees it: the caller, and the seconds until its deadline (None where it has none)."""

    caller: Caller
    deadline_s: float | None


Metadata = Iterable[tuple[str, str | bytes]]


def read_caller(metadata: Metadata, needed: Context) -> Caller:
    """The caller by the call's metadata; its correlation id is empty where none was sent.

    Raises InvalidRequest, CONTEXT_INVALID, for a value that is missing, sent twice, longer than 128 characters or not
    visible ASCII. What `needed` does not name stays empty, whatever was sent: nobody vouches for it.
    """
    sent: dict[str, str] = {}
    for key, value in metadata:
        if key.startswith("obol-"):
            if key in sent:
                raise _invalid(key, "was sent more than once")
            sent[key] = _checked(key, value)
    for key in needed.value:
        if key not in sent:
            raise _invalid(key, "is required")
    known = {key: sent[key] for key in needed.value}
    return Caller(
        tenant_id=known.get(TENANT, ""),
        organization_id=known.get(ORGANIZATION, ""),
        actor=known[ACTOR],
        correlation_id=sent.get(CORRELATION_ID, ""),
    )


def _checked(key: str, value: str | bytes) -> str:
    if not isinstance(value, str) or not _VISIBLE.fullmatch(value) or len(value) > CONTEXT_CHARACTERS_MAX:
        raise _invalid(key, f"must be 1 to {CONTEXT_CHARACTERS_MAX} visible ASCII characters")
    return value


def _invalid(key: str, message: str) -> InvalidRequest:
    return InvalidRequest(Reason.CONTEXT_INVALID, f"metadata {key}: {message}", field=key)
