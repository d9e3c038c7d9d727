"""What a place in the observation log means once a database was restored from a backup. ADR 0021 has the reasons.

A restore takes the log's numbers back to where the backup was, and what comes after it gets numbers that other
observations had. So a place is a number and its era: the time since which restore the number was given in.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Era:
    """The time since a restore. `generation` 0 is the time before the first.

    `raised_time_us` tells two restores of one generation apart: a database that is restored from an older backup
    forgets a restore, and gives its generation again. Up to `shared_through` the log is the same before and after
    every restore that the database knows of.
    """

    generation: int = 0
    raised_time_us: int = 0
    shared_through: int = 0

    def is_of(self, other: "Era") -> bool:
        """Whether both name one time."""
        return (self.generation, self.raised_time_us) == (other.generation, other.raised_time_us)


@dataclass(frozen=True, slots=True)
class LogEnd:
    """The log as of now: its last number, 0 where it is empty, and the era in which numbers are given."""

    last_sequence: int
    era: Era = Era()


@dataclass(frozen=True, slots=True)
class Turn:
    """A restore as the log knows it: up to `resume_after` it is as it was before."""

    generation: int
    raised_time_us: int
    resume_after: int


@dataclass(frozen=True, slots=True)
class Place:
    """All up to number `sequence` of `era` was read."""

    sequence: int
    era: Era = Era()


def resumed(place: Place, end: LogEnd, turns: Sequence[Turn]) -> int | None:
    """The number of today's log after which whoever stands at `place` reads on without missing anything.

    What is read on may come twice. None where the place is of no time that this database can have had: of one that
    nobody declared to it as lost, or past its end. `turns` are all of its restores.
    """
    if place.era.is_of(end.era):
        return place.sequence if place.sequence <= end.last_sequence else None
    known = {(turn.generation, turn.raised_time_us) for turn in turns}
    if place.era.generation == 0 or (place.era.generation, place.era.raised_time_us) in known:
        later = [turn.resume_after for turn in turns if turn.generation > place.era.generation]
        return min(place.sequence, *later) if later else None
    # Of a time that was lost with the database that lived it: it parted from ours before the first of our restores
    # that it did not know, and after what it shares with all of its own.
    return min(place.sequence, place.era.shared_through, *(turn.resume_after for turn in turns)) if turns else None
