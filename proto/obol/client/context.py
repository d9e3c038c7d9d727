"""Who is asking: the metadata that every call carries."""

import re
import uuid
from dataclasses import dataclass

CHARACTERS_MAX = 128
_VISIBLE = re.compile(rf"[\x21-\x7e]{{1,{CHARACTERS_MAX}}}")

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True)
class Caller:
    """In whose name a call is made: 1 to 128 visible ASCII characters each. Raises ValueError for anything else.

    Without `correlation_id` each call gets one of its own; with it all calls of one business act share it.
    """

    tenant: str
    organization: str
    actor: str
    correlation_id: str | None = None

    def __post_init__(self) -> None:
        for name in ("tenant", "organization", "actor"):
            _check(name, getattr(self, name))
        if self.correlation_id is not None:
            _check("correlation_id", self.correlation_id)

    def metadata(self, correlation_id: str) -> Metadata:
        """The metadata of one call."""
        return (
            ("obol-tenant", self.tenant),
            ("obol-organization", self.organization),
            ("obol-actor", self.actor),
            ("obol-correlation-id", correlation_id),
        )


@dataclass(frozen=True, slots=True)
class Operator:
    """In whose name an operator's call is made: 1 to 128 visible ASCII characters. Raises ValueError for anything else.

    Operators work across tenants: the tenant is a field of each request.
    """

    actor: str
    correlation_id: str | None = None

    def __post_init__(self) -> None:
        _check("actor", self.actor)
        if self.correlation_id is not None:
            _check("correlation_id", self.correlation_id)

    def metadata(self, correlation_id: str) -> Metadata:
        """The metadata of one call."""
        return (("obol-actor", self.actor), ("obol-correlation-id", correlation_id))


def new_correlation_id() -> str:
    """A fresh one: 36 characters."""
    return str(uuid.uuid4())


def _check(name: str, value: str) -> None:
    if not _VISIBLE.fullmatch(value):
        # gRPC would refuse it later, with words about metadata and not about the caller.
        raise ValueError(f"{name} must be 1 to {CHARACTERS_MAX} visible ASCII characters")
