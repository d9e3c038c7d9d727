"""Strict JSON: what two parsers could read differently, or one could choke on, is refused with one error."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.strict_json import DEPTH_MAX, StrictJsonError, parse_object


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"a"',
        b"1",
        b"{",
        b"{}{}",
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":1,"a":2}',
        b'{"b":{"a":1,"a":1}}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":-1e999}',
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b'{"\\udfff":1}',
        b'{"a":' + b"9" * 5000 + b"}",
        b"[" * 500_000,
        b'{"a":' * 500_000,
        b'{"a":' * (DEPTH_MAX + 1) + b"1" + b"}" * (DEPTH_MAX + 1),
        b'{"a":' + b"[" * DEPTH_MAX + b"]" * DEPTH_MAX + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_not_strictly_json_is_refused(body: bytes) -> None:
    """One error for everything, which quotes nothing of the document."""
    with pytest.raises(StrictJsonError) as refused:
        parse_object(body)
    assert len(str(refused.value)) < 60


def test_the_allowed_depth_is_read() -> None:
    """The bound itself is still inside."""
    body = b'{"a":' * DEPTH_MAX + b"1" + b"}" * DEPTH_MAX
    assert parse_object(body) == json.loads(body)


def test_whole_surrogate_pairs_are_read() -> None:
    """An escaped character outside the basic plane is a character like any other."""
    assert parse_object(b'{"a":"\\ud83d\\ude00"}') == {"a": "\U0001f600"}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


# No deadline: the promise is about what is read; a busy machine takes longer to make up the documents.
@settings(deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_strict_json_is_read_like_anybody_reads_it(value: dict[str, object]) -> None:
    """What is within the bounds comes out as the standard library reads it."""
    try:
        body = json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return
    assert parse_object(body) == value
