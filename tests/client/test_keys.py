"""Keys that dedupe."""

import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obol.client import key_for, new_key

PARTS = st.lists(st.text(min_size=1), min_size=1, max_size=4)


@settings(deadline=None)
@given(PARTS, PARTS)
def test_a_key_is_of_its_parts_and_of_no_others(one: list[str], other: list[str]) -> None:
    """Equal parts give equal keys, different parts different ones, also where they read the same when joined."""
    assert (key_for(*one) == key_for(*other)) is (one == other)


def test_boundaries_between_parts_count() -> None:
    """("a", "bc") is not ("ab", "c")."""
    assert key_for("a", "bc") != key_for("ab", "c") != key_for("abc")


def test_a_number_is_its_text() -> None:
    """An attempt that was read from a database as text has the key that it had as a number."""
    assert key_for("in_42", 7) == key_for("in_42", "7")


def test_a_key_survives_the_process() -> None:
    """Another process with another hash seed computes the same key."""
    code = "from obol.client import key_for; print(key_for('invoice', 'in_42', 1), end='')"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert printed.stdout == key_for("invoice", "in_42", 1)


@pytest.mark.parametrize("parts", [(), ("",), ("in_42", "")])
def test_a_missing_identifier_gives_no_key(parts: tuple[str, ...]) -> None:
    """Nothing to tell one payment from another: no key."""
    with pytest.raises(ValueError, match="identifier"):
        key_for(*parts)


@pytest.mark.parametrize("part", [None, 1.5, True, b"x"])
def test_only_text_and_whole_numbers_identify(part: object) -> None:
    """None would be every missing identifier's key; a float has more than one text."""
    with pytest.raises(TypeError):
        key_for(part)  # type: ignore[arg-type]  # what a careless caller passes


def test_keys_fit_the_contract() -> None:
    """1 to 255 visible ASCII characters, and random ones differ."""
    keys = [new_key() for _ in range(100)] + [key_for("ключ", "x" * 10_000)]
    assert len(set(keys)) == 101
    assert all(key.isascii() and key.isprintable() and " " not in key and len(key) <= 255 for key in keys)
