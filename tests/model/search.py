"""An explicit-state search: breadth first, so that the first counterexample is a shortest one.

A machine says how it starts, what can come next, which states are alike, what is wrong with a state, and which states
are good to end in. Two questions are asked: is anything wrong within reach, and can every state reach a good one when
no more faults come.
"""

import gc
from array import array
from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)


class Step(NamedTuple, Generic[S]):
    """One thing that can happen: in words, whether it is a fault, and the state afterwards."""

    text: str
    fault: bool
    after: S


class Machine(Protocol[S]):
    """What can be searched."""

    def start(self) -> S: ...

    def steps(self, state: S) -> Iterator[Step[S]]: ...

    def plain(self, state: S) -> S:
        """The state without what can make no difference any more."""
        ...

    def likeness(self, state: S) -> Hashable:
        """Equal for states that behave alike."""
        ...

    def wrong(self, state: S) -> str:
        """What promise is broken; empty where none is."""
        ...

    def good(self, state: S) -> bool:
        """Whether everything is resolved."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to. `complaint` is empty where nothing was found; then `trace` is, too."""

    states: int
    steps: int
    depth: int
    complaint: str = ""
    trace: tuple[str, ...] = ()


class BoundExceeded(RuntimeError):
    """More states than were allowed: the search says nothing."""


def search(machine: Machine[S], *, states_max: int = 1_000_000, live: bool = True) -> Found:
    """Look at every state within reach. `live`: also ask whether each can reach a good one without further faults."""
    run = _Run(machine, states_max)
    collecting = gc.isenabled()
    gc.disable()  # states are tuples of tuples without a cycle, and there are many
    try:
        complaint, at = run.explore(live=live)
    finally:
        if collecting:
            gc.enable()
    if not complaint and live:
        complaint, at = run.stuck()
    trace = run.trace(at) if complaint else ()
    return Found(len(run.states), run.steps, run.depth, complaint, trace)


class _Run(Generic[S]):
    def __init__(self, machine: Machine[S], states_max: int) -> None:
        self._machine = machine
        self._states_max = states_max
        self.states: list[S] = []
        self._parents = array("l")
        self._texts: list[str] = []
        self._depths = array("l")
        # Steps without a fault, backwards: who leads here.
        self._sources = array("l")
        self._targets = array("l")
        self.steps = 0
        self.depth = 0

    def explore(self, *, live: bool) -> tuple[str, int]:
        machine, numbers = self._machine, dict[Hashable, int]()
        start = machine.start()
        numbers[machine.likeness(start)] = self._add(start, -1, "")
        pending = deque([0])
        while pending:
            number = pending.popleft()
            for text, fault, after in machine.steps(self.states[number]):
                self.steps += 1
                after = machine.plain(after)  # noqa: PLW2901 the step's own state is not needed
                alike = machine.likeness(after)
                known = numbers.get(alike)
                if known is None:
                    known = numbers[alike] = self._add(after, number, text)
                    complaint = machine.wrong(after)
                    if complaint:
                        return complaint, known
                    pending.append(known)
                if live and not fault:
                    self._sources.append(number)
                    self._targets.append(known)
        return "", -1

    def stuck(self) -> tuple[str, int]:
        """The first state from which no good one can be reached without a fault."""
        leading: list[list[int]] = [[] for _ in self.states]
        for source, target in zip(self._sources, self._targets, strict=True):
            leading[target].append(source)
        pending = [number for number, state in enumerate(self.states) if self._machine.good(state)]
        reaches = bytearray(len(self.states))
        for number in pending:
            reaches[number] = 1
        while pending:
            for source in leading[pending.pop()]:
                if not reaches[source]:
                    reaches[source] = 1
                    pending.append(source)
        number = reaches.find(0)
        return ("nothing leads from here to an end", number) if number >= 0 else ("", -1)

    def trace(self, number: int) -> tuple[str, ...]:
        texts = []
        while number > 0:
            texts.append(self._texts[number])
            number = self._parents[number]
        return tuple(reversed(texts))

    def _add(self, state: S, parent: int, text: str) -> int:
        if len(self.states) >= self._states_max:
            raise BoundExceeded(f"more than {self._states_max} states")
        self.states.append(state)
        self._parents.append(parent)
        self._texts.append(text)
        self._depths.append(self._depths[parent] + 1 if parent >= 0 else 0)
        self.depth = self._depths[-1]
        return len(self.states) - 1
