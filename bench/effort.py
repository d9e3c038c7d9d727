"""How much a run does: all of it, or enough to see that the bench itself works."""

from dataclasses import dataclass

from simulators.faults import FAULTS


@dataclass(frozen=True, slots=True)
class Effort:
    """Rounds, their lengths in seconds, and the sizes of what is filled."""

    callers: tuple[int, ...]
    rounds: int
    round_s: float
    side_rounds: int
    side_round_s: float
    open_s: float
    watched_s: float
    waiting_calls: int
    bursts: int
    growth_rows: int
    growth_rounds: int
    faults: tuple[str, ...] = tuple(FAULTS)


FULL = Effort(
    callers=(1, 16, 64),
    rounds=7,
    round_s=2.0,
    side_rounds=3,
    side_round_s=1.5,
    open_s=5.0,
    watched_s=3.0,
    waiting_calls=1_000,
    bursts=5,
    growth_rows=1_000_000,
    growth_rounds=7,
)
QUICK = Effort(
    callers=(1, 16, 64),
    rounds=2,
    round_s=0.5,
    side_rounds=1,
    side_round_s=0.5,
    open_s=1.0,
    watched_s=0.5,
    waiting_calls=200,
    bursts=1,
    growth_rows=10_000,
    growth_rounds=2,
)
RATIO_CALLERS = 16
"""Where the ratio is taken, and the callers of every measurement that has one number of them."""
