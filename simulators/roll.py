"""A roll: records by id, in the order in which they came, read in pages. Bounded: the oldest fall off."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")


class Roll(Generic[T]):
    """Keeps at most `records_max` records; with more, the oldest are dropped."""

    def __init__(self, records_max: int) -> None:
        self._records_max = records_max
        self._order: list[str] = []
        self._dropped = 0
        self._places: dict[str, int] = {}
        self._records: dict[str, T] = {}

    def put(self, record_id: str, record: T) -> None:
        """Add a record at the end, or replace the one with this id where it stands."""
        if record_id not in self._records:
            self._places[record_id] = self._dropped + len(self._order)
            self._order.append(record_id)
        self._records[record_id] = record
        # Dropped in blocks, because each drop moves the whole list.
        if len(self._order) > self._records_max + max(1, self._records_max // 16):
            self._drop(len(self._order) - self._records_max)

    def get(self, record_id: str) -> T | None:
        """The record, or None when it never was or has been dropped."""
        return self._records.get(record_id)

    def after(self, record_id: str | None) -> Iterator[T]:
        """The records that came after this one; all of them for None. Raises KeyError for an unknown id."""
        start = 0 if record_id is None else self._places[record_id] + 1 - self._dropped
        return (self._records[found] for found in islice(self._order, start, None))

    def since(self, when: Callable[[T], int], start: int) -> Iterator[T]:
        """The records for which `when` is at least `start`. `when` must never fall along the roll."""
        first = bisect_left(self._order, start, key=lambda found: when(self._records[found]))
        return (self._records[found] for found in islice(self._order, first, None))

    def __len__(self) -> int:
        return len(self._order)

    def _drop(self, count: int) -> None:
        for record_id in self._order[:count]:
            del self._records[record_id], self._places[record_id]
        del self._order[:count]
        self._dropped += count
