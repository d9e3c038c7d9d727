"""What the machine remembers: rows, the processes at work, what is on its way, and the provider's books.

Times are countdowns in ticks that stop at zero, and an epoch is no number but whether it still stands: so the machine
has finitely many states and needs no horizon.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from gateway.domain.states import CommandState


class Phase(StrEnum):
    """Where a process stands in its work on one operation."""

    IDLE = "idle"
    PLANNED = "planned"
    READY = "ready"
    CHECKED = "checked"
    WAITING = "waiting"
    ANSWERED = "answered"
    TAKEN = "taken"
    ABSENT = "absent"


class Outcome(StrEnum):
    """What a send or a look came to; the first five are the engine's `Outcome`."""

    ANSWERED = "Answered"
    DECLINED = "Declined"
    NOT_EXECUTED = "NotExecuted"
    NOT_SENT = "NotSent"
    AMBIGUOUS = "Ambiguous"
    FOUND = "Found"
    NEVER_EXECUTED = "NeverExecuted"
    NOTHING = "nothing new"


class Kind(StrEnum):
    """What the commands do: pay once for one intent, or move parts of one amount."""

    CREATE = "create"
    REFUND = "refund"
    CAPTURE = "capture"


class Row(NamedTuple):
    """A command with its operation, and what the provider's books and key memory hold of it.

    `state` is None where nothing is claimed. `lease`: ticks until it can be taken. `quiet`: until absence counts.
    `young`: while it may be resent. `effects`: booked. `memory`: ticks for which the provider still knows the key.
    """

    state: CommandState | None = None
    lease: int = 0
    quiet: int = 0
    young: int = 0
    effects: int = 0
    memory: int = 0


class Worker(NamedTuple):
    """One task of one process. `left`: ticks of its send window, or of its request's flight.

    `holds`: the epoch stands. `absence_counts` and `young` were judged when it took the operation. `seen`: which
    commands reserved when it read the payment (only where the version guard is off).
    """

    phase: Phase = Phase.IDLE
    row: int = -1
    holds: bool = True
    resend: bool = False
    left: int = 0
    absence_counts: bool = False
    young: bool = False
    outcome: Outcome = Outcome.NOTHING
    seen: int = 0


class Orphan(NamedTuple):
    """A request on its way that nobody waits for."""

    row: int
    left: int


class Sums(NamedTuple):
    """The payment row's own sums, written by whoever settles (only where the version guard is off)."""

    reserved: int = 0
    moved: int = 0


class State(NamedTuple):
    """The whole machine at one moment. `key` is the caller's current one; `stray`: a call with the first is out."""

    rows: tuple[Row, ...]
    workers: tuple[Worker, ...]
    orphans: tuple[Orphan, ...] = ()
    key: int = 0
    stray: bool = False
    sums: Sums = Sums()


IDLE = Worker()


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large the world is; durations in ticks.

    `waits`: a caller takes a fresh key after NOT_SENT only when no call of its is out. `order_unique`: the order was
    declared unique. `forgets`: the provider forgets a key `key_window` after the effect, else never; `key_window_said`
    is what it documents, where that is another. `consistent`: a look sees every earlier write, else it may miss any, or
    there is none. `amounts` of the commands out of `total` (refund, capture).
    `orphans`: requests on their way that nobody waits for; one more is lost. `faults`: whether any can happen.
    """

    kind: Kind = Kind.CREATE
    workers: int = 2
    commands: int = 2
    send_window: int = 1
    lease: int = 2
    flight: int = 1
    resend_age: int = 2
    key_window: int = 4
    key_window_said: int = 0
    pause: int = 1
    forgets: bool = True
    consistent: bool = True
    amounts: tuple[int, ...] = (60, 60)
    total: int = 100
    orphans: int = 2
    waits: bool = False
    order_unique: bool = False
    faults: bool = True

    def __post_init__(self) -> None:
        if not self.send_window < self.lease:
            raise ValueError("the send window is shorter than the lease")
        if self.key_window_said and not self.resend_age + self.margin <= self.key_window:
            raise ValueError(
                "where a provider forgets sooner than it says, the resend age alone keeps inside its window"
            )

    @property
    def margin(self) -> int:
        """The longest from a resend's being judged to its landing, plus one.

        At the latest: taken one tick before its age ends, start_resend at the lease's last tick, sent at the window's.
        """
        return (self.lease - 1) + (self.send_window - 1) + self.flight

    def young(self, *, by_age: bool, by_window: bool) -> int:
        """For how many ticks after its claim an operation may be sent again; 0 where nothing limits it."""
        limits = [self.resend_age] if by_age else []
        if by_window:
            limits.append((self.key_window_said or self.key_window) - self.margin)
        return min(limits, default=0)
