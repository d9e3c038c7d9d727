"""What rows are made of: texts that any engine can hold, documents in ASCII, bytes in either of their two forms."""

import json
from typing import Any, Protocol

from gateway.domain.declines import Decline, DeclineReason, RetryAdvice
from gateway.domain.risk import RiskLevel, RiskSignal

Row = dict[str, Any]


class Stored(Protocol):
    """A row as it was read: by column name, from a driver, from SQLAlchemy or from JSON."""

    def __getitem__(self, name: str, /) -> Any: ...


_ENCODER = json.JSONEncoder(separators=(",", ":"))


def clean(value: str) -> str:
    """`value` as any engine can hold it."""
    if value.isascii() and "\0" not in value:
        return value
    return value.replace("\0", "�").encode("utf-8", "replace").decode()


def document(value: object) -> str:
    """JSON in ASCII."""
    return _ENCODER.encode(value)


def stored_bytes(value: bytes | str | None) -> bytes | None:
    """Bytes as they were stored, in either form."""
    return bytes.fromhex(value[2:]) if isinstance(value, str) else value


def decline_document(decline: Decline | None) -> str | None:
    """A decline as a document, None where there is none."""
    if decline is None:
        return None
    return document([decline.reason, decline.provider_code, decline.provider_message, decline.advice])


def risk_document(risk: RiskSignal | None) -> str | None:
    """A provider's assessment as a document, None where there is none."""
    return None if risk is None else document([risk.level, risk.score])


def risk_from(value: str | None) -> RiskSignal | None:
    """An assessment from its document."""
    if value is None:
        return None
    level, score = json.loads(value)
    return RiskSignal(RiskLevel(level), score)


def decline_from(value: str | None) -> Decline | None:
    """A decline from its document."""
    if value is None:
        return None
    reason, code, message, advice = json.loads(value)
    return Decline(DeclineReason(reason), code, message, RetryAdvice(advice))
