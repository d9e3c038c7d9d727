"""JSON from outside, read strictly: what two parsers could read differently is refused, and every bound has a name.

Light on purpose (the standard library alone): the sidecar reads callbacks with it.
"""

import json
from typing import Any

DEPTH_MAX = 32
"""Levels of nesting; deeper is no provider's object and would make later walks recurse."""


class StrictJsonError(ValueError):
    """The bytes are not one JSON object in UTF-8 within the bounds; the message says which rule, never the content."""


def parse_object(body: bytes) -> dict[str, Any]:
    """The one JSON object that `body` holds.

    Raises StrictJsonError for bad UTF-8, a byte order mark, anything that is no object, a duplicate key, NaN or
    Infinity, more than DEPTH_MAX levels, an integer too long to convert, or half of a surrogate pair.
    """
    try:
        value = json.loads(
            body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refused, parse_float=_finite
        )
    except StrictJsonError:
        raise
    except RecursionError:
        raise StrictJsonError("nested too deep") from None
    except UnicodeDecodeError:
        raise StrictJsonError("not UTF-8") from None
    except ValueError:
        # JSONDecodeError quotes its document; the caller's log must not.
        raise StrictJsonError("not JSON") from None
    if not isinstance(value, dict):
        raise StrictJsonError("not an object")
    _check_depth(value)
    if b"\\u" in body:
        _check_surrogates(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise StrictJsonError("a key twice in one object")
    return found


def _refused(constant: str) -> Any:
    raise StrictJsonError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    # 1e999 is valid JSON and becomes infinity.
    if number in (float("inf"), float("-inf")):
        raise StrictJsonError("a number out of range")
    return number


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEPTH_MAX:
            raise StrictJsonError("nested too deep")
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]


def _check_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        # Neither a database nor a protobuf string could hold it.
        raise StrictJsonError("half of a surrogate pair") from None
