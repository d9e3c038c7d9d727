"""The event list: whatever the window holds, every event is found, in order, once."""

import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.errors import InvalidRequest, Reason, Unavailable
from providers.http import Exchange, Lost
from providers.paypal import event_list
from providers.paypal.event_list import EVENTS_PATH, EventList
from providers.paypal.times import spelled
from tests.unit.providers.paypal_objects import error, received

START_US = 1_772_359_200_000_000


class Listed:
    """Events by their second, listed newest first in pages of the size that is asked for."""

    def __init__(self, seconds: list[int]) -> None:
        self.events = [
            {"id": f"WH-{number}", "event_type": "X", "create_time": spelled(START_US + second * 1_000_000)}
            for number, second in enumerate(sorted(seconds))
        ]
        self.reads = 0

    @property
    def ids(self) -> list[str]:
        return [each["id"] for each in self.events]

    async def read(self, path: str, timeout_s: float) -> Exchange:
        self.reads += 1
        parts = urlsplit(path)
        if parts.path != EVENTS_PATH:
            wanted = parts.path.rpartition("/")[2]
            found = [each for each in self.events if each["id"] == wanted]
            return received(200, found[0]) if found else received(404, error("RESOURCE_NOT_FOUND"))
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        begin, end = query.get("start_time", ""), query.get("end_time", "9")
        inside = [each for each in self.events if begin <= each["create_time"] <= end][::-1]
        skip, size = int(query.get("start_index", "0")), int(query["page_size"])
        page = {"events": inside[skip : skip + size], "links": []}
        if skip + size < len(inside):
            more = "&".join(f"{k}={v}" for k, v in {**query, "start_index": str(skip + size)}.items())
            page["links"] = [{"rel": "next", "href": f"https://api.paypal.com{EVENTS_PATH}?{more}"}]
        return received(200, page)


async def walked(listed: Listed, limit: int) -> list[str]:
    """Every event, step by step from the oldest."""
    subject, seen = EventList(listed.read), list[str]()
    while True:
        page = await subject.after(seen[-1] if seen else "", limit=limit, timeout_s=60, now=lambda: 0.0)
        if not page:
            return seen
        seen += [each.event_id for each in page]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 20 * 24 * 3600), max_size=25, unique=True), st.integers(4, 50))
async def test_every_event_is_found_once_in_order(seconds: list[int], limit: int) -> None:
    """However they lie, and though a window holds more than is read at a time."""
    listed = Listed(seconds)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_list, "PAGE", 3)
        patch.setattr(event_list, "PAGES_MAX", 4)
        assert await walked(listed, limit) == listed.ids


async def test_events_of_one_second_are_told_apart() -> None:
    """Several in a second: the known one's own second is read again, and only what came after it is given."""
    listed = Listed([5, 5, 5, 6, 6])
    assert await walked(listed, 2) == listed.ids


async def test_a_moment_with_too_many_is_no_empty_list() -> None:
    """What cannot be read whole raises: missed events must not look like none."""
    listed = Listed([5] * 50)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_list, "PAGE", 3)
        patch.setattr(event_list, "PAGES_MAX", 4)
        with pytest.raises(Unavailable):
            await EventList(listed.read).after("", limit=10, timeout_s=60, now=lambda: 0.0)


@pytest.mark.parametrize("known", ["WH-nowhere", "../x", "a?b"])
async def test_an_event_that_is_not_kept_is_a_bad_cursor(known: str) -> None:
    """CURSOR_INVALID, so that whoever asks begins anew."""
    with pytest.raises(InvalidRequest) as refused:
        await EventList(Listed([1]).read).after(known, limit=10, timeout_s=60, now=lambda: 0.0)
    assert refused.value.reason is Reason.CURSOR_INVALID


@pytest.mark.parametrize(
    "told",
    [Lost("reset"), received(500, {}), received(200, {"events": [{"id": "W"}]}), received(200, {"events": 7})],
)
async def test_a_list_that_fails_raises(told: Exchange) -> None:
    """Unavailable, and nothing else."""

    async def read(path: str, timeout_s: float) -> Exchange:
        return told

    reading: Callable[[str, float], Awaitable[Exchange]] = read
    with pytest.raises(Unavailable):
        await EventList(reading).after("", limit=10, timeout_s=60, now=lambda: 0.0)


def test_the_window_is_spelled_in_whole_seconds() -> None:
    """As PayPal compares them."""
    assert datetime.fromisoformat(spelled(START_US)).timestamp() * 1_000_000 == START_US
    assert json.dumps(spelled(START_US + 999_999)) == json.dumps(spelled(START_US))
