"""Tokens go back where they came from, and nowhere else."""

import base64

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.app import tokens
from gateway.app.tokens import TOKEN_CHARACTERS_MAX, cursor_of, page_token_of, place_of, position_of
from gateway.domain.eras import Era, Place
from gateway.domain.errors import InvalidRequest, Reason

TENANTS = st.text(min_size=1, max_size=30)
SEQUENCES = st.integers(0, 2**63 - 1)
URL_SAFE = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def refuses_cursor(tenant: str, cursor: str) -> None:
    """The cursor is the caller's error."""
    with pytest.raises(InvalidRequest) as refused:
        place_of(tenant, cursor)
    assert (refused.value.reason, refused.value.field) == (Reason.CURSOR_INVALID, "cursor")


def refuses_page(question: str, token: str) -> None:
    """The page token is the caller's error."""
    with pytest.raises(InvalidRequest) as refused:
        position_of(question, token)
    assert (refused.value.reason, refused.value.field) == (Reason.PAGE_TOKEN_INVALID, "page_token")


@given(tenant=TENANTS, sequence=SEQUENCES, era=st.one_of(st.just(Era()), st.builds(Era, *[st.integers(1, 2**62)] * 3)))
def test_a_cursor_comes_back(tenant: str, sequence: int, era: Era) -> None:
    """What was issued is understood with the era that it was issued in, and fits into an address without escaping."""
    cursor = cursor_of(tenant, sequence, era)
    assert place_of(tenant, cursor) == Place(sequence, era)
    assert set(cursor) <= URL_SAFE
    assert len(cursor) <= TOKEN_CHARACTERS_MAX


@given(question=st.text(max_size=60), position=st.text(max_size=60))
def test_a_page_token_comes_back(question: str, position: str) -> None:
    """A page's position is understood with the question that it belongs to."""
    token = page_token_of(question, position)
    assert position_of(question, token) == position
    assert set(token) <= URL_SAFE


def test_no_token_begins_at_the_beginning() -> None:
    """An empty cursor is sequence 0, an empty page token the first page."""
    assert place_of("tenant_1", "") == Place(0)
    assert position_of("payments", "") == ""


@given(tenant=TENANTS, other=TENANTS, sequence=SEQUENCES)
def test_another_tenants_cursor_is_refused(tenant: str, other: str, sequence: int) -> None:
    """A cursor never jumps into another tenant's log."""
    assume(tenant != other)
    refuses_cursor(other, cursor_of(tenant, sequence))


@given(question=st.text(max_size=40), other=st.text(max_size=40), position=st.text(max_size=40))
def test_another_filters_page_token_is_refused(question: str, other: str, position: str) -> None:
    """A token used with other arguments is INVALID_ARGUMENT, not a silent jump."""
    assume(question != other)
    refuses_page(other, page_token_of(question, position))


def test_a_cursor_is_no_page_token() -> None:
    """Tokens of one kind are not of the other."""
    refuses_page("tenant_1", cursor_of("tenant_1", 7))
    refuses_cursor("tenant_1", page_token_of("tenant_1", "7"))


@given(data=st.data(), sequence=SEQUENCES)
def test_a_garbled_cursor_is_refused(data: st.DataObject, sequence: int) -> None:
    """One character replaced, inserted or taken away, any character: refused, and never an error of ours."""
    cursor = cursor_of("tenant_1", sequence)
    at = data.draw(st.integers(0, len(cursor) - 1), label="at")
    strange = data.draw(st.sampled_from(sorted(URL_SAFE | set("!=*\n\x00 é😀"))), label="character")
    for garbled in (
        cursor[:at] + strange + cursor[at + 1 :],
        cursor[:at] + strange + cursor[at:],
        cursor[:at] + cursor[at + 1 :],
    ):
        assume(garbled not in (cursor, ""))
        refuses_cursor("tenant_1", garbled)


@given(garbage=st.one_of(st.text(min_size=1, max_size=80), st.binary(min_size=1, max_size=80).map(str)))
def test_garbage_is_refused(garbage: str) -> None:
    """Whatever a caller makes up is a refusal."""
    refuses_cursor("tenant_1", garbage)
    refuses_page("payments", garbage)


def test_an_endless_token_is_refused() -> None:
    """A token longer than any that was issued is not even decoded."""
    refuses_cursor("tenant_1", "A" * (TOKEN_CHARACTERS_MAX + 1))
    refuses_page("payments", page_token_of("payments", "x" * TOKEN_CHARACTERS_MAX))


@pytest.mark.parametrize("sequence", [0, 7, 2**63 - 1])
def test_a_cursor_from_before_any_restore_is_what_it_always_was(sequence: int) -> None:
    """Consumers hold cursors of releases that knew no eras, and those releases read ours while nothing was restored."""
    assert cursor_of("tenant_1", sequence) == cursor_of("tenant_1", sequence, Era()) == _resealed(str(sequence))


@pytest.mark.parametrize(
    "forged", ["", "-1", "²", "x", "1e3", " 7", "7.1", "7.1.2", "7.1.2.", "7.1.2.3.4", "7.-1.2.3", "1" * 20]
)
def test_a_well_sealed_value_that_is_no_sequence_is_refused(forged: str) -> None:
    """Whoever makes a seal of their own gets a refusal, not an error of ours."""
    token = _resealed(forged)
    refuses_cursor("tenant_1", token)


def _resealed(value: str) -> str:
    """A cursor of `value`, sealed as ours are: by the page token's seal, of another kind."""
    digest = tokens._digest("cursor", "tenant_1", value)
    return base64.urlsafe_b64encode(digest + value.encode()).decode().rstrip("=")
