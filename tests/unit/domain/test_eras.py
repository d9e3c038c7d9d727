"""Whoever stands at a place in the log misses nothing of a log that was restored, whatever was restored how often."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.eras import Era, LogEnd, Place, Turn, resumed


@dataclass
class Database:
    """A log and the restores that it knows of; `copy` is a backup."""

    log: list[int] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)

    def copy(self) -> "Database":
        return Database(list(self.log), list(self.turns))

    def end(self) -> LogEnd:
        era = Era()
        if self.turns:
            shared = min(turn.resume_after for turn in self.turns)
            era = Era(self.turns[-1].generation, self.turns[-1].raised_time_us, shared)
        return LogEnd(len(self.log), era)


@dataclass
class Consumer:
    """Holds a place, and everything that it has seen: the entries of the log are told apart for ever."""

    place: Place
    seen: set[int]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 4)),
        st.tuples(st.just("read"), st.integers(0, 2)),
        st.tuples(st.just("back up"), st.just(0)),
        st.tuples(st.just("restore"), st.integers(0, 5)),
    ),
    max_size=40,
)


@given(steps=STEPS)
def test_nothing_is_missed_whatever_is_restored(steps: Sequence[tuple[str, int]]) -> None:
    """Backups of any age are restored, twice and again, each declared before anything comes: all there is is seen."""
    database = Database()
    backups = [database.copy()]
    consumers = [Consumer(Place(0), set()) for _ in range(3)]

    def read(consumer: Consumer) -> None:
        end = database.end()
        after = resumed(consumer.place, end, database.turns)
        assert after is not None, "a place that was issued is understood"
        consumer.seen.update(database.log[after:])
        consumer.place = Place(end.last_sequence, end.era)
        assert set(database.log) <= consumer.seen

    for now, (step, number) in enumerate(steps, start=1):
        if step == "append":
            database.log += [now * 10 + each for each in range(number)]
        elif step == "read":
            read(consumers[number])
        elif step == "back up":
            backups.append(database.copy())
        else:
            database = backups[number % len(backups)].copy()
            database.turns.append(Turn(len(database.turns) + 1, now, len(database.log)))
    for consumer in consumers:
        read(consumer)


def test_a_place_of_the_same_time_is_where_it_is() -> None:
    """Without a restore nothing comes twice, and what was never there is refused."""
    end = LogEnd(9, Era())
    assert resumed(Place(5), end, []) == 5
    assert resumed(Place(10), end, []) is None, "past the end"
    end = replace(end, era=Era(2, 77, 3))
    assert resumed(Place(9, end.era), end, [Turn(1, 50, 3), Turn(2, 77, 4)]) == 9


@pytest.mark.parametrize(("place", "after"), [(2, 2), (6, 6), (7, 6), (900, 6)])
def test_a_place_from_before_a_restore_goes_back_to_where_it_parted(place: int, after: int) -> None:
    """And not to the beginning: what both have is not sent again."""
    assert resumed(Place(place), LogEnd(8, Era(1, 50, 6)), [Turn(1, 50, 6)]) == after


def test_a_place_of_a_lost_restore_goes_back_to_where_both_are_one() -> None:
    """The wrong backup was restored, consumers read on, then the right one was: no restore knows the other."""
    wrong = Era(1, 50, 4)
    right = [Turn(1, 60, 6)]
    assert resumed(Place(20, wrong), LogEnd(9, Era(1, 60, 6)), right) == 4
    assert resumed(Place(20, Era(1, 50, 8)), LogEnd(9, Era(1, 60, 6)), right) == 6


def test_a_place_of_a_lost_time_is_refused_until_the_restore_is_declared() -> None:
    """Where it parted is not known: reading on from anywhere might skip."""
    assert resumed(Place(3, Era(1, 50, 3)), LogEnd(9), []) is None
