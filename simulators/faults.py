"""Faults: what can go wrong between a provider and its caller, by name, drawn from a seed or queued one by one.

A fault happens before the request has an effect or after it. What it looks like on the wire is `wire.py`'s
business. The same seed and the same sequence of requests give the same faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

QUEUED_MAX = 10_000

Hold = Callable[[float], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """A way to fail. `before`: nothing is booked. `after`: the effect stands, the answer suffers."""

    name: str
    stage: Literal["before", "after"]
    explains: str


FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("timeout_before", "before", "nothing is booked; silence, then the connection closes"),
        Fault("timeout_after", "after", "booked; silence, then the connection closes"),
        Fault("http_500_before", "before", "nothing is booked; a 500 that is not stored"),
        Fault("http_500_after", "after", "booked; a 500, which is stored and replayed"),
        Fault("reset_before", "before", "nothing is booked; TCP reset"),
        Fault("reset_after", "after", "booked; TCP reset"),
        Fault("lost_before", "before", "nothing is booked; the connection closes without an answer"),
        Fault("lost_after", "after", "booked; the connection closes without an answer"),
        Fault("http_429", "before", "nothing is booked; 429 with Retry-After: 1"),
        Fault(
            "stall",
            "before",
            "held, its key in progress, until healed or for hang_seconds; then booked, however late",
        ),
        Fault("truncated", "after", "booked; half of the answer, then the connection closes"),
        Fault("malformed", "after", "booked; a 200 that is not JSON"),
        Fault("wrong_amount", "after", "booked; the answer (as stored, too) tells another amount"),
        Fault(
            "unknown_status",
            "after",
            "booked; the answer (as stored, too) has statuses that no mapping knows",
        ),
        Fault("slow_drip", "after", "booked; the answer comes a few bytes at a time"),
        Fault("huge_body", "after", "booked; a 200 with an endless field"),
    )
}


class FaultPlanInvalid(ValueError):
    """The plan names an unknown fault, or its rates are not probabilities. `args[0]` says which."""


@dataclass(frozen=True)
class Scope:
    """Which requests the rates apply to: a method ("any" for all) and a path prefix."""

    method: str = "POST"
    path_prefix: str = "/"

    def covers(self, method: str, path: str) -> bool:
        """Whether this request is in scope."""
        return self.method in (method, "any") and path.startswith(self.path_prefix)


class FaultPlan:
    """Decides which request fails and how, and counts what it has injected."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._rates: tuple[tuple[str, float], ...] = ()
        self._scope = Scope()
        self._queued: deque[tuple[str, str]] = deque()
        self._healed = asyncio.Event()
        self.injected: Counter[str] = Counter()

    def configure(self, plan: Mapping[str, Any]) -> None:
        """Take {"seed", "rates", "scope"} in place of the rates before, and add "next" to the queue.

        Without "rates" the rates stay as they are. Raises FaultPlanInvalid, and then changes nothing.
        """
        rates = _checked_rates(plan.get("rates", {}))
        scope = _checked_scope(plan.get("scope"))
        queued = _checked_queue(plan.get("next", []))
        if len(self._queued) + len(queued) > QUEUED_MAX:
            raise FaultPlanInvalid(f"next: more than {QUEUED_MAX} queued")
        if "rates" in plan:
            self._random = random.Random(int(plan.get("seed", 0)))
            self._rates, self._scope = rates, scope
        self._queued.extend(queued)

    def heal(self) -> None:
        """No more faults, and everything that hangs or stalls goes on at once. The counts stay."""
        self._rates, self._scope = (), Scope()
        self._queued.clear()
        self._healed.set()
        self._healed = asyncio.Event()

    def draw(self, method: str, path: str, verb: str) -> Fault | None:
        """The fault for this request, if it gets one. `verb` is what a queued fault is matched with.

        A queued fault takes the first request that matches ("any": any POST), ahead of the rates.
        """
        for place, (name, match) in enumerate(self._queued):
            if match == verb or (match == "any" and method == "POST"):
                del self._queued[place]
                return self.count(name)
        if not self._rates or not self._scope.covers(method, path):
            return None
        drawn = self._random.random()
        for name, rate in self._rates:
            drawn -= rate
            if drawn < 0:
                return self.count(name)
        return None

    def count(self, name: str) -> Fault:
        """The fault of this name, counted as injected."""
        self.injected[name] += 1
        return FAULTS[name]

    def holding(self) -> Hold:
        """A wait for some seconds that a healing from now on ends. Taken with the draw, so that none is missed."""
        healed = self._healed

        async def held(seconds: float) -> None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(healed.wait(), seconds)

        return held

    def shown(self) -> dict[str, Any]:
        """The plan and its counts, as JSON."""
        return {
            "rates": dict(self._rates),
            "scope": vars(self._scope),
            "next": [{"fault": name, "match": match} for name, match in self._queued],
            "injected": dict(self.injected),
        }


def _checked_rates(rates: object) -> tuple[tuple[str, float], ...]:
    if not isinstance(rates, dict):
        raise FaultPlanInvalid("rates: an object of probabilities by fault name")
    for name, rate in rates.items():
        if name not in FAULTS:
            raise FaultPlanInvalid(f"rates: no fault named {name}")
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
            raise FaultPlanInvalid(f"rates: {name} is not a probability")
    if sum(rates.values()) > 1 + 1e-9:
        raise FaultPlanInvalid("rates: more than 1 in sum")
    # Sorted, so that the same rates draw the same faults whatever order they were written in.
    return tuple(sorted(rates.items()))


def _checked_scope(scope: object) -> Scope:
    if scope is None:
        return Scope()
    if not isinstance(scope, dict) or not all(isinstance(value, str) for value in scope.values()):
        raise FaultPlanInvalid("scope: {method, path_prefix}")
    if scope.keys() - {"method", "path_prefix"}:
        raise FaultPlanInvalid("scope: {method, path_prefix}")
    return Scope(**scope)


def _checked_queue(queued: Sequence[Any]) -> list[tuple[str, str]]:
    checked = []
    for entry in queued:
        if not isinstance(entry, dict) or entry.get("fault") not in FAULTS:
            raise FaultPlanInvalid("next: each is {fault, match} with a known fault")
        checked.append((str(entry["fault"]), str(entry.get("match", "any"))))
    return checked
