"""`python -m tests.model [--deep]`: every world searched, every rule missed once, as a report to read."""

import sys
import time

from tests.model.built import not_built
from tests.model.rules import PLACES, Assumption, Rule
from tests.model.scenarios import (
    CREATE,
    DEEP,
    HOLD_ALL_THE_SAME,
    SECOND_BELTS,
    STATES_MAX,
    STATES_MAX_DEEP,
    WORLDS,
    Scenario,
    dropped,
    switched_off,
)
from tests.model.search import Found


def main(arguments: list[str]) -> int:
    """Report; 1 where something was found with every rule on, as designed or as built."""
    faults = 0
    _say("## Every rule on: nothing may be found\n")
    for name, bounds in {**WORLDS, **(DEEP if "--deep" in arguments else {})}.items():
        faults += _report(name, Scenario(bounds), states_max=STATES_MAX if name in WORLDS else STATES_MAX_DEEP)
    for name, scenario in HOLD_ALL_THE_SAME.items():
        faults += _report(name, scenario)
    _say("\n## As built\n")
    missing = not_built()
    _say(f"not built: {', '.join(missing) or 'nothing'}")
    faults += _report("create, as built", Scenario(CREATE, missing))
    _say("\n## Without one rule\n")
    for rule in Rule:
        belt = "  (a second belt: nothing is missed)" if rule in SECOND_BELTS else ""
        _report(f"without: {rule}   [{PLACES[rule]}]{belt}", switched_off(rule))
    _say("\n## Without one assumption about the world\n")
    for assumption in Assumption:
        _report(f"not so: {assumption}", dropped(assumption))
    return 1 if faults else 0


def _report(name: str, scenario: Scenario, *, states_max: int = STATES_MAX) -> int:
    began = time.process_time()
    found = scenario.search(states_max=states_max)
    _say(f"{name}: {_counts(found)}, {time.process_time() - began:.1f} s")
    if found.complaint:
        for number, text in enumerate(found.trace, start=1):
            _say(f"    {number:2}  {text}")
        _say(f"    =>  {found.complaint}\n")
    return bool(found.complaint)


def _counts(found: Found) -> str:
    end = f"found after {len(found.trace)} steps" if found.complaint else f"nothing, to depth {found.depth}"
    return f"{found.states} states, {found.steps} steps, {end}"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
