"""Logs: one JSON object a line on standard error, with what the call is about, and without its secrets or its bodies.

Modules log through `structlog` (or the standard library's `logging`, as libraries do); this is where both are set up,
once, by a process's root. `rpc`, `tenant` and `correlation_id` come from context variables that the edge binds.
"""

import json
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any, Literal, TextIO

import structlog

HIDDEN = "[hidden]"
TEXT_CHARACTERS_MAX = 4_096
NESTING_MAX = 4

_SECRET_NAME = re.compile(
    r"secret|password|passwd|api_?key|authorization|credential|cookie|signature|private_key|token$|^token|^(?:pan|cvc|cvv)$",
    re.IGNORECASE,
)
_BODY_NAME = re.compile(r"(?:^|_)(?:body|payload|raw|headers)$", re.IGNORECASE)

_OURS = frozenset({"timestamp", "level", "logger", "code", "rpc"})
"""Names whose values we make ourselves, call by call: nothing to hide, and looking costs more than the line."""

# What a secret looks like wherever it stands: the user part of a URL, a bearer header, a key or signing secret by its
# prefix, a client secret, and a card number with or without its spaces.
_SECRET_TEXT = re.compile(
    r"(?<=://)[^/@\s:]+:[^/@\s]+(?=@)"
    r"|(?i:bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"
    r"|\b(?:sk|rk|pk|whsec|sandbox-key|sandbox-signing)[_-][A-Za-z0-9_-]{3,}"
    r"|\b\w+_secret_\w+"
    r"|(?<![\w.-])(?:\d[ -]?){13,18}\d(?![\w.-])"
)

# Made once: `json.dumps` with any option makes another one for each line.
_ENCODER = json.JSONEncoder(default=str)

Level = Literal["debug", "info", "warning", "error"]
Event = MutableMapping[str, Any]


def set_up(level: Level, shape: Literal["json", "console"], stream: TextIO | None = None) -> None:
    """Log from now on at `level`, to `stream` (standard error unless given). Called once, by a process's root."""
    target = stream or sys.stderr
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    ends: list[Any] = (
        [structlog.processors.format_exc_info, redact, structlog.processors.JSONRenderer(_json)]
        if shape == "json"
        # Plain tracebacks: the rich ones show local variables, and a local variable can be a secret.
        else [structlog.processors.format_exc_info, redact, structlog.dev.ConsoleRenderer(colors=target.isatty())]
    )
    structlog.configure(
        processors=[*shared, *ends],
        wrapper_class=structlog.make_filtering_bound_logger(_number(level)),
        logger_factory=structlog.WriteLoggerFactory(target),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ends],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_number(level))
    for chatty in ("aiosqlite", "asyncio", "sqlalchemy", "alembic", "grpc", "aiohttp.access", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def redact(_logger: object, _name: str, event: Event) -> Event:
    """Hide every value whose name or look is a secret's, and leave bodies out; a structlog processor."""
    return {key: _redacted(key, value, NESTING_MAX) for key, value in event.items()}


def _json(event: Event, **_options: object) -> str:
    return _ENCODER.encode(event)


def _redacted(name: str, value: object, nesting: int) -> object:
    if name in _OURS:
        return value
    secret, body = _verdict(name)
    if secret:
        return HIDDEN
    if body:
        return f"[{len(value)} long]" if isinstance(value, bytes | str | Mapping) else HIDDEN
    if isinstance(value, str):
        return _hidden(value[:TEXT_CHARACTERS_MAX])
    if isinstance(value, int | float | None):
        return value
    if nesting == 0 or isinstance(value, bytes | bytearray):
        return HIDDEN
    if isinstance(value, Mapping):
        return {str(key): _redacted(str(key), each, nesting - 1) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(name, each, nesting - 1) for each in value]
    return _hidden(str(value)[:TEXT_CHARACTERS_MAX])


@lru_cache(maxsize=1_024)
def _verdict(name: str) -> tuple[bool, bool]:
    """Whether a name is a secret's, and whether it is a body's."""
    return bool(_SECRET_NAME.search(name)), bool(_BODY_NAME.search(name))


def _hidden(text: str) -> str:
    return _SECRET_TEXT.sub(HIDDEN, text)


def _number(level: Level) -> int:
    return logging.getLevelNamesMapping()[level.upper()]
